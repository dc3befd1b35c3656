"""Run the stages of a computation concurrently: one thread per stage, with a bounded queue to the next stage."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

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

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *details: object) -> None:
        self._cancelled.set()
        for thread in self._threads:
            thread.join(JOIN_TIMEOUT_S)

    def prefetch(self, items: Iterable[Item], limit: int) -> Iterator[Item]:
        """Iterate over ``items`` in a new thread and yield them; errors are raised in the consumer.

        Args:
            items: the output of the stage.
            limit: maximum number of items in the queue.
        """
        waiting: queue.Queue[Item | End] = queue.Queue(limit)
        thread = threading.Thread(target=self._produce, args=(items, waiting), name="tinyhd-stage", daemon=True)
        self._threads.append(thread)
        thread.start()
        return self._consume(waiting)

    def _produce(self, items: Iterable[Item], waiting: queue.Queue[Item | End]) -> None:
        """Put all items into the queue; runs in the stage's thread."""
        end = End()
        try:
            for item in items:
                self._put(item, waiting)
                if self._cancelled.is_set():
                    return
        except BaseException as error:
            end = End(error)
        self._put(end, waiting)

    def _put(self, item: Item | End, waiting: queue.Queue[Item | End]) -> None:
        while not self._cancelled.is_set():
            try:
                waiting.put(item, timeout=POLL_S)
                return
            except queue.Full:
                continue

    def _consume(self, waiting: queue.Queue[Item | End]) -> Iterator[Item]:
        while not self._cancelled.is_set():
            try:
                item = waiting.get(timeout=POLL_S)
            except queue.Empty:
                continue
            if isinstance(item, End):
                if item.error is not None:
                    raise item.error
                return
            yield item
