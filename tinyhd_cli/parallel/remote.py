"""The side of a cluster's worker: work on one item after the other with one loaded model, and send what happens.

A worker process keeps its last work, with the loaded model, for further items and for later runs with equal settings.
It works on one item at a time even if Dask gave it several threads, because the current folder, the log, and the model
belong to the process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import TinyhdError, describe_unexpected
from ..log_text import text_of
from ..storage import named
from ..system import limit_threads
from ..version import __version__
from .events import Finished, Message, Progress, Report, Work

PROGRESS_INTERVAL_S = 1.0
"""Seconds between progress reports of one item: each passes through the scheduler."""

CANCEL_INTERVAL_S = 0.25
"""Seconds between two looks whether the work on an item has been canceled."""

SEND_S = 0.1
"""Seconds in which an event leaves the process."""

_one_at_a_time = threading.Lock()

_kept: tuple[str, Work] | None = None
"""Digest of the settings, and the work that was made with them."""

_checked = ""
"""Digest of the settings with which this worker was checked last."""


@dataclass(frozen=True)
class Order:
    """The settings of a run that are equal for all items."""

    topic: str
    """Name of the run's events at the scheduler."""
    digest: str
    """Digest of the settings: work with equal ones is kept."""
    folder: str
    """Current folder of the client."""
    shared_folder: bool
    level: int
    """Level of the client's log."""
    threads: int | None
    check: bytes
    """The pickled ``Cluster.check``."""


@dataclass(frozen=True)
class Started:
    """A worker has started to work on an item."""

    number: int
    worker: str


@dataclass(frozen=True)
class Stopped:
    """A worker has stopped the canceled work on an item, and has removed its temporary files."""

    number: int


@dataclass(frozen=True)
class Unusable:
    """A worker cannot work, because of this error."""

    number: int
    error: TinyhdError


class Canceled(OSError):
    """The client no longer wants the work on an item."""


class Collector(logging.Handler):
    """Keeps the messages that are logged."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[Message] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self.messages.append(Message(record.levelno, text_of(record)))

    def take(self) -> list[Message]:
        """Return the messages since the last call."""
        taken, self.messages = self.messages, []
        return taken


class Item:
    """One item on this worker, as a task of Dask.

    Args:
        order: the settings of the run.
        number: the item's number.
    """

    def __init__(self, order: Order, number: int) -> None:
        from distributed import get_worker

        self._order, self._number = order, number
        self._worker: Any = get_worker()
        self._key = self._worker.get_current_task()
        self._log = Collector()

    def is_canceled(self) -> bool:
        """Return whether the client has canceled this task or has gone, or the scheduler has lost this worker."""
        task = self._worker.state.tasks.get(self._key)
        return task is None or task.state != "executing" or self._worker.status.name not in ("running", "paused")

    def send(self, event: object) -> None:
        """Send an event to the client."""
        self._worker.log_event(self._order.topic, pickle.dumps(event))

    def report(self) -> Report:
        """Return the function that reports progress; it raises ``Canceled`` if the task is canceled."""
        sent_s = looked_s = time.monotonic()
        sent_phase = ""

        def report(phase: str, done: int, total: int | None) -> None:
            nonlocal sent_s, sent_phase, looked_s
            now = time.monotonic()
            if now - looked_s >= CANCEL_INTERVAL_S:
                looked_s = now
                if self.is_canceled():
                    raise Canceled("canceled")
            if now - sent_s >= PROGRESS_INTERVAL_S or phase != sent_phase:
                sent_s, sent_phase = now, phase
                self.send(Progress(self._number, phase, done, total))

        return report

    def do(self, item: bytes, make_work: bytes, is_repeated: bool) -> bytes:
        """Work on the item, and return its end, which is also sent."""
        with serving(self._order, self._log):
            self.send(Started(self._number, self._worker.address))
            if is_repeated:
                time.sleep(SEND_S)  # so that this is known of an item that ends its process at once
            try:
                work = self._prepared(make_work)
            except TinyhdError as error:
                return self._end(Unusable(self._number, sendable(error)))
            except Exception as error:
                logging.getLogger("tinyhd").debug("a worker cannot start", exc_info=True)
                return self._end(Unusable(self._number, TinyhdError(named(describe_unexpected(error)))))
            try:
                result = work(pickle.loads(item), self.report())
            except Exception as error:
                return self._end(self._failed(TinyhdError(named(describe_unexpected(error)))))
            try:
                return self._end(Finished(self._number, result, self._log.take()))
            except (TypeError, AttributeError, pickle.PicklingError) as error:
                return self._end(self._failed(TinyhdError(named(describe_unexpected(error)))))

    def _failed(self, error: TinyhdError) -> Finished:
        return Finished(self._number, messages=self._log.take(), error=error)

    def _prepared(self, make_work: bytes) -> Work:
        """Return the work of the run: that of the last item if it had the same settings."""
        global _kept
        if _kept is None or _kept[0] != self._order.digest:
            _kept = None  # before another model is loaded
            if _checked != self._order.digest:  # this worker has joined after the others were checked
                run_check(self._order)
            limit_threads(self._order.threads or self._worker.state.nthreads)
            _kept = self._order.digest, pickle.loads(make_work)()
        for message in self._log.take():
            self.send(message)
        return _kept[1]

    def _end(self, event: Finished | Unusable) -> bytes:
        if self.is_canceled():
            self.send(Stopped(self._number))
            return b""
        packed = pickle.dumps(event)
        self._worker.log_event(self._order.topic, packed)
        return packed


def do(version: str, order: bytes, number: int, item: bytes, make_work: bytes, is_repeated: bool = False) -> bytes:
    """Work on one item as a task of Dask.

    Args:
        version: the client's version of tinyhd; it is compared before the other arguments are unpickled.
        order: the settings of the run.
        number: the item's number.
        item: the item.
        make_work: the function that makes the work.
        is_repeated: whether the item was lost with another worker before.
    """
    if version != __version__:
        raise RuntimeError(different_version(version))
    task = Item(pickle.loads(order), number)
    with _one_at_a_time:
        return b"" if task.is_canceled() else task.do(item, make_work, is_repeated)


def different_version(client: str) -> str:
    """Return the message for a client of another version."""
    return f"has tinyhd {__version__}, but the client has {client}; install the same version on both"


def keep(blob: bytes) -> bytes:
    """Return bytes, as a task on which others depend: Dask sends them once to each worker."""
    return blob


def check(version: str, order: bytes) -> TinyhdError | None:
    """Return the error of this worker that prevents the work of a run; None if it can work."""
    if version != __version__:
        return TinyhdError(different_version(version))
    settings: Order = pickle.loads(order)
    if settings.shared_folder and not Path(settings.folder).is_dir():
        advice = "give workers the same shared file system, or use URLs, such as s3://"
        return TinyhdError(f"has no folder {settings.folder}; {advice}")
    try:
        with _one_at_a_time, serving(settings, Collector()):
            run_check(settings)
    except TinyhdError as error:
        return sendable(error)
    except Exception as error:
        return TinyhdError(named(describe_unexpected(error)))
    return None


def run_check(order: Order) -> None:
    """Raise ``TinyhdError`` if this worker cannot do the work of a run."""
    global _checked
    run: Callable[[], None] | None = pickle.loads(order.check)
    if run is not None:
        run()
    _checked = order.digest


def sendable(error: TinyhdError) -> TinyhdError:
    """Return an error for another machine, with URLs instead of the files of this one that stand for them."""
    return type(error)(named(str(error)))


@contextlib.contextmanager
def serving(order: Order, collector: Collector) -> Iterator[None]:
    """Work in the client's folder, and collect messages; other users of this worker process see no change later."""
    logger = logging.getLogger("tinyhd")
    before = logger.handlers, logger.propagate, logger.level
    folder = Path.cwd()
    if os.path.isdir(order.folder):  # noqa: PTH112  (no exception for a folder that is not allowed)
        os.chdir(order.folder)
    logger.handlers, logger.propagate = [collector], False
    logger.setLevel(order.level)
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before[0], before[1]
        logger.setLevel(before[2])
        with contextlib.suppress(OSError):
            os.chdir(folder)
