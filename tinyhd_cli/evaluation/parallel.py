"""The same work for many videos, in several processes, that can be stopped at any moment."""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import TinyhdError
from ..system import keep_freed_memory

KEPT = 512 << 20
"""Bytes of free memory that a process holds on to."""

POLL_S = 0.2
"""How often progress is looked at."""


class Done(Protocol):
    """Called by work after each frame."""

    def __call__(self) -> None: ...


class Work(Protocol):
    """What is done for one video: its result, from its number and something to call after each frame."""

    def __call__(self, index: int, done: Done) -> Any: ...


class Stopped(Exception):
    """The main process told this one to stop."""


@dataclass
class Process:
    """What a worker process keeps from one video to the next."""

    work: Work
    frames: Any
    stop: Any

    def done(self) -> None:
        """Count a frame, and end the video here if the whole run ends."""
        with self.frames.get_lock():
            self.frames.value += 1
        if self.stop.is_set():
            raise Stopped


this_process: Process | None = None


def start(make_work: Callable[[], Work], frames: Any, stop: Any, threads: int) -> None:
    """Set a worker process up: once, before its first video."""
    global this_process
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the main one decides
    parent = multiprocessing.parent_process()
    if parent is not None:
        # Without this, a worker whose main process was killed would wait for videos for ever.
        threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, "blas")
    keep_freed_memory(KEPT)
    this_process = Process(make_work(), frames, stop)
    if "torch" in sys.modules:  # where a network is at work; maps from files do without
        sys.modules["torch"].set_num_threads(threads)


def end_with(parent: multiprocessing.process.BaseProcess) -> None:
    """End this process as soon as another one has ended."""
    parent.join()
    os._exit(1)


def one(index: int) -> Any:
    """Do the work of one video, in a worker process."""
    assert this_process is not None
    return this_process.work(index, this_process.done)


def run(
    make_work: Callable[[], Work],
    indices: Sequence[int],
    workers: int,
    threads: int,
    progress: Callable[[int], None],
) -> Iterator[tuple[int, Any]]:
    """Do some work for each video and yield numbers and results as they come.

    Args:
        make_work: makes the work in each process, where it is called once; it is sent there, so it must be picklable.
        indices: the videos' numbers.
        workers: processes; 1 for this one alone.
        threads: threads of PyTorch in each of several processes.
        progress: called now and then with the number of frames done.

    Raises:
        TinyhdError: a process died, for want of memory perhaps.
    """
    if workers <= 1:
        yield from run_here(make_work(), indices, progress)
        return
    context = multiprocessing.get_context("spawn")
    frames, stop = context.Value("q", 0), context.Event()
    pool = ProcessPoolExecutor(workers, context, start, (make_work, frames, stop, threads))
    try:
        pending: dict[Future[Any], int] = {pool.submit(one, index): index for index in indices}
        while pending:
            finished, _ = wait(pending, POLL_S, FIRST_COMPLETED)
            progress(frames.value)
            for future in finished:
                yield pending.pop(future), future.result()
    except BrokenProcessPool as error:
        raise TinyhdError("a worker process was killed, perhaps for want of memory: try fewer --workers") from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def run_here(work: Work, indices: Sequence[int], progress: Callable[[int], None]) -> Iterator[tuple[int, Any]]:
    """The same in this process."""
    count = 0

    def done() -> None:
        nonlocal count
        count += 1
        progress(count)

    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):  # the products that resize maps are too small for more
        for index in indices:
            yield index, work(index, done)
