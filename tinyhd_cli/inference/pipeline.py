"""Run the stages of a computation concurrently: one thread per stage, with a bounded queue to the next stage."""

from __future__ import annotations

import atexit
import queue
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import ClassVar, TypeVar

Item = TypeVar("Item")

POLL_S = 0.1
"""Poll interval for the cancellation flag, in seconds."""

JOIN_TIMEOUT_S = 10.0
"""Join timeout at shutdown, in seconds; a stage may be blocked reading from a pipe without data."""


class End:
    """The last entry of a queue: all items have been produced, or an error was raised."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class Pipeline:
    """Consecutive stages that run concurrently. Leaving the context manager stops all stages."""

    _running: ClassVar[weakref.WeakSet[Pipeline]] = weakref.WeakSet()

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Pipeline:
        self._running.add(self)
        return self

    def __exit__(self, *details: object) -> None:
        self.stop()
        self._running.discard(self)

    def stop(self) -> None:
        """Stop all stages and wait for them."""
        self._cancelled.set()
        for thread in self._threads:
            thread.join(JOIN_TIMEOUT_S)

    @classmethod
    def stop_all(cls) -> None:
        """Stop the pipelines of iterators that are not exhausted, at the end of the program.

        A thread that computes in PyTorch while Python shuts down would abort the program.
        """
        for pipeline in list(cls._running):
            pipeline.stop()

    def prefetch(self, items: Iterable[Item], limit: int, group: int = 1) -> Iterator[Item]:
        """Iterate over ``items`` in a new thread and yield them; errors are raised in the consumer.

        Args:
            items: the output of the stage.
            limit: maximum number of items in the queue.
            group: number of items that pass through the queue together, because each access takes about 20 us.
        """
        waiting: queue.Queue[list[Item] | End] = queue.Queue(max(1, limit // group))
        thread = threading.Thread(target=self._produce, args=(items, waiting, group), name="tinyhd-stage", daemon=True)
        self._threads.append(thread)
        thread.start()
        return self._consume(waiting)

    def _produce(self, items: Iterable[Item], waiting: queue.Queue[list[Item] | End], group: int) -> None:
        """Put all items into the queue; runs in the stage's thread."""
        end, collected = End(), list[Item]()
        try:
            for item in items:
                collected.append(item)
                if len(collected) == group:
                    self._put(collected, waiting)
                    collected = []
                    if self._cancelled.is_set():
                        return
        except BaseException as error:
            end = End(error)
        self._put(collected, waiting)
        self._put(end, waiting)

    def _put(self, entry: list[Item] | End, waiting: queue.Queue[list[Item] | End]) -> None:
        while not self._cancelled.is_set():
            try:
                waiting.put(entry, timeout=POLL_S)
                return
            except queue.Full:
                continue

    def _consume(self, waiting: queue.Queue[list[Item] | End]) -> Iterator[Item]:
        while not self._cancelled.is_set():
            try:
                entry = waiting.get(timeout=POLL_S)
            except queue.Empty:
                continue
            if isinstance(entry, End):
                if entry.error is not None:
                    raise entry.error
                return
            yield from entry


atexit.register(Pipeline.stop_all)
