"""Run the same work on many videos in several processes; it can be canceled at any time."""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import TinyhdError
from ..system import keep_freed_memory, limit_threads

MALLOC_KEEP_BYTES = 512 << 20
"""Freed memory that a process keeps instead of returning it to the system."""

POLL_S = 0.2
"""Interval between progress reports, in seconds."""


class OnFrame(Protocol):
    """Callback that the work calls after each frame."""

    def __call__(self) -> None: ...


class Work(Protocol):
    """The work on one video: returns the result for the video with this number."""

    def __call__(self, index: int, on_frame: OnFrame) -> Any: ...


class Canceled(Exception):
    """The main process canceled the run."""


@dataclass
class WorkerState:
    """State that a worker process keeps between videos."""

    work: Work
    frames: Any
    """Number of finished frames, a value shared by all processes."""
    stop: Any
    """Event that cancels the run."""

    def on_frame(self) -> None:
        """Count a frame; raise ``Canceled`` if the run is canceled."""
        with self.frames.get_lock():
            self.frames.value += 1
        if self.stop.is_set():
            raise Canceled


worker: WorkerState | None = None
"""State of this process; None in the main process."""


def initialize_worker(make_work: Callable[[], Work], frames: Any, stop: Any, threads: int) -> None:
    """Set up a worker process, once, before its first video."""
    global worker
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches all processes of a terminal; the main process handles it
    parent = multiprocessing.parent_process()
    if parent is not None:
        # Without this, a worker whose main process was killed would wait for videos forever.
        threading.Thread(target=exit_with, args=(parent,), daemon=True).start()
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, "blas")
    keep_freed_memory(MALLOC_KEEP_BYTES)
    limit_threads(threads)
    worker = WorkerState(make_work(), frames, stop)


def exit_with(parent: multiprocessing.process.BaseProcess) -> None:
    """Wait for the end of the parent process, then end this process."""
    parent.join()
    os._exit(1)


def run_video(index: int) -> Any:
    """Run the work on one video in a worker process."""
    assert worker is not None
    return worker.work(index, worker.on_frame)


def run(
    make_work: Callable[[], Work],
    indices: Sequence[int],
    workers: int,
    threads: int,
    progress: Callable[[int], None],
) -> Iterator[tuple[int, Any]]:
    """Run the work on each video; yield numbers and results in the order in which they are finished.

    Args:
        make_work: picklable function that is called once in each process and returns the work.
        indices: numbers of the videos.
        workers: number of processes; 1 to run in this process.
        threads: number of PyTorch threads in each worker process.
        progress: called regularly with the number of finished frames.

    Raises:
        TinyhdError: a worker process was killed, for example because memory ran out.
    """
    if workers <= 1:
        yield from run_here(make_work(), indices, progress)
        return
    context = multiprocessing.get_context("spawn")
    frames, stop = context.Value("q", 0), context.Event()
    pool = ProcessPoolExecutor(workers, context, initialize_worker, (make_work, frames, stop, threads))
    try:
        pending: dict[Future[Any], int] = {pool.submit(run_video, index): index for index in indices}
        while pending:
            finished, _ = wait(pending, POLL_S, FIRST_COMPLETED)
            progress(frames.value)
            for future in finished:
                yield pending.pop(future), future.result()
    except BrokenProcessPool as error:
        raise TinyhdError("a worker process was killed, perhaps because memory ran out: try fewer --workers") from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def run_here(work: Work, indices: Sequence[int], progress: Callable[[int], None]) -> Iterator[tuple[int, Any]]:
    """Run the work in this process; yield numbers and results."""
    count = 0

    def on_frame() -> None:
        nonlocal count
        count += 1
        progress(count)

    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):  # the matrix products that resize maps are too small for several threads
        for index in indices:
            yield index, work(index, on_frame)
