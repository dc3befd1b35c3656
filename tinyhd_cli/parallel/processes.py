"""Work on many items in several processes. A process that is killed fails its item only.

Each process has its own pipe, because a process that is killed while it holds the lock of a shared queue would stop all
others. Messages that are logged about an item come back with its result, so that those of different items do not mix.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

from ..errors import TinyhdError, describe_unexpected
from ..log_text import text_of
from ..system import engine_threads, limit_threads
from .events import Event, Finished, Message, Progress, Ready, Report, Work
from .interrupts import interrupts_blocked, unblock_interrupts

PRELOADED = [
    "matplotlib",
    "tinyhd_cli.engines.openvino",
    "tinyhd_cli.inference.outputs",
    "tinyhd_cli.inference.predict",
]
"""Modules that are imported once and shared by all processes, on Linux: PyTorch among them takes a second."""

PROGRESS_INTERVAL_S = 0.1
"""Seconds between progress reports of one item."""

STOP_TIMEOUT_S = 15.0
"""Time that processes have for removing their temporary files and stopping; then they are killed."""


@dataclass(frozen=True)
class Unusable:
    """No process can work, because of this error."""

    error: TinyhdError


# ------------------------------------------------------------------------------------------------- in each process


class Channel(logging.Handler):
    """The way to the main process; as a log handler, it sends messages."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self._sending = threading.Lock()

    def send(self, entry: object) -> None:
        """Send an entry; raises ``OSError`` if the main process has ended or has stopped listening."""
        with self._sending:
            self._connection.send(entry)

    def emit(self, record: logging.LogRecord) -> None:
        """Send a message."""
        with contextlib.suppress(OSError):
            self.send(Message(record.levelno, text_of(record)))

    def reporter(self, number: int) -> Report:
        """Return the function that reports progress of an item."""
        sent_s, sent_phase = 0.0, ""

        def report(phase: str, done: int, total: int | None) -> None:
            nonlocal sent_s, sent_phase
            now = time.monotonic()
            if now - sent_s >= PROGRESS_INTERVAL_S or phase != sent_phase or done == total:
                sent_s, sent_phase = now, phase
                self.send(Progress(number, phase, done, total))

        return report


def interrupt(number: int, frame: FrameType | None) -> None:
    """Handle the signal that stops a process like Ctrl-C, so that it removes its temporary files."""
    raise KeyboardInterrupt


def serve(
    connection: Connection,
    make_work: Callable[[], Work],
    folder: str,
    environment: dict[str, str],
    level: int,
    threads: int | None,
    processes: int,
) -> None:
    """Work on items from the main process until it sends None."""
    # Ctrl-C reaches all processes of a terminal; the main process handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, interrupt)
    unblock_interrupts()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    limit_threads(threads or max(1, engine_threads() // processes))
    channel, logger = Channel(connection), logging.getLogger("tinyhd")
    logger.handlers, logger.propagate = [channel], False
    logger.setLevel(level)
    try:
        with contextlib.suppress(OSError, EOFError):  # the main process has ended
            work_on_items(channel, connection, make_work)
    except KeyboardInterrupt:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def work_on_items(channel: Channel, connection: Connection, make_work: Callable[[], Work]) -> None:
    """Prepare, then work on one item after the other."""
    try:
        work = make_work()
    except TinyhdError as error:
        channel.send(Unusable(error))
        return
    except Exception as error:
        logging.getLogger("tinyhd").debug("a worker process cannot start", exc_info=True)
        channel.send(Unusable(TinyhdError(describe_unexpected(error))))
        return
    channel.send(Ready())
    while (received := connection.recv()) is not None:
        number, item = received
        result = work(item, channel.reporter(number))
        try:
            channel.send(Finished(number, result))
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            channel.send(Finished(number, error=TinyhdError(describe_unexpected(error))))


# ------------------------------------------------------------------------------------------------ in the main process


class Worker:
    """One process, as seen by the main process."""

    def __init__(self, make_work: Callable[[], Work], processes: int, threads: int | None) -> None:
        # A fork of this process would inherit its threads' locks; a server that only imports modules has no threads.
        context: Any = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
        if sys.platform == "linux":
            context.set_forkserver_preload(PRELOADED)
        self.connection, theirs = context.Pipe()
        self.number: int | None = None
        """The item that it works on."""
        self.messages: list[Message] = []
        """Messages about that item."""
        self.stopping = False
        level = logging.getLogger("tinyhd").level
        arguments = (theirs, make_work, str(Path.cwd()), dict(os.environ), level, threads, processes)
        self.process = context.Process(target=serve, args=arguments, name="tinyhd-worker", daemon=True)
        with interrupts_blocked():
            self.process.start()
        theirs.close()  # so that this end reports the end of the process

    def proceed(self, waiting: deque[int], items: Sequence[object]) -> None:
        """Send the next item; without one, stop the process."""
        self.messages = []
        self.number = waiting.popleft() if waiting else None
        self.stopping = self.number is None
        with contextlib.suppress(OSError):  # it has ended, which is noticed when it is received from
            self.connection.send(None if self.number is None else (self.number, items[self.number]))

    def ended(self, option: str) -> TinyhdError:
        """Return the error for a process that has ended unexpectedly; ``option`` gives the number of processes."""
        self.process.join(STOP_TIMEOUT_S)
        code = self.process.exitcode
        if code is not None and code < 0:
            killed = f"a worker process was killed by signal {-code}, perhaps because memory ran out"
            return TinyhdError(f"{killed}; try a smaller {option}")
        return TinyhdError(f"a worker process ended unexpectedly (exit code {code}); try {option} 1")


def run(
    make_work: Callable[[], Work],
    items: Sequence[object],
    processes: int,
    option: str = "--jobs",
    threads: int | None = None,
) -> Generator[Event]:
    """Work on items in several processes; yield what happens. Closing the iterator stops all processes.

    Args:
        make_work: picklable; called once in each process, and returns the function that works on an item.
        items: picklable.
        processes: number of processes.
        option: the option that gives the number, for messages.
        threads: CPU threads of each process; None: its share of the cores.

    Raises:
        TinyhdError: raised by ``make_work``.
    """
    waiting = deque(range(len(items)))
    start = partial(Worker, make_work, processes, threads)
    workers: list[Worker] = []
    is_ready, known = False, set[Message]()
    try:
        for _ in range(min(processes, len(items))):
            workers.append(start())
        while workers:
            for worker in ready_to_read(workers):
                try:
                    entry = worker.connection.recv()
                except (OSError, EOFError):
                    yield from replace_worker(worker, workers, waiting, start, option)
                    continue
                match entry:
                    case Unusable():
                        raise entry.error
                    case Message() if worker.number is not None:
                        worker.messages.append(entry)
                    case Message():
                        if entry not in known:
                            known.add(entry)
                            yield entry
                    case Progress():
                        yield entry
                    case Finished():
                        messages = worker.messages
                        worker.proceed(waiting, items)
                        yield replace(entry, messages=messages)
                    case Ready():
                        worker.proceed(waiting, items)
                        if not is_ready:
                            is_ready = True
                            yield entry
    finally:
        stop(workers)


def ready_to_read(workers: Sequence[Worker]) -> list[Worker]:
    """Wait for entries, or for the end of a process."""
    found = multiprocessing.connection.wait([worker.connection for worker in workers])
    return [worker for worker in workers if worker.connection in found]


def replace_worker(
    worker: Worker, workers: list[Worker], waiting: deque[int], start: Callable[[], Worker], option: str
) -> Iterator[Finished]:
    """Fail the item of a process that has ended, and start another process for the items that are left."""
    workers.remove(worker)
    if worker.stopping:
        worker.process.join(STOP_TIMEOUT_S)
        return
    error = worker.ended(option)
    if worker.number is not None:
        yield Finished(worker.number, messages=worker.messages, error=error)
        if waiting:
            workers.append(start())
    elif not workers:  # it ended while it prepared, like all others
        while waiting:
            yield Finished(waiting.popleft(), error=error)


def stop(workers: Sequence[Worker]) -> None:
    """Interrupt processes, which then remove their temporary files, and wait for them."""
    for worker in workers:
        worker.connection.close()  # the next progress report fails and ends the work
        if sys.platform != "win32":  # there, it would end without removing files
            worker.process.terminate()
    deadline = time.monotonic() + STOP_TIMEOUT_S
    try:
        for worker in workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
    finally:
        for worker in workers:
            if worker.process.exitcode is None:
                worker.process.kill()
                worker.process.join(1.0)
