"""Stages that work at the same time: each in a thread of its own, with a bounded queue to the next."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

POLL_S = 0.1
"""How long a stage waits before it looks whether it is still wanted."""

PATIENCE_S = 10.0
"""How long stages that are no longer wanted may take: one may hang in a pipe that sends nothing."""


class End:
    """The last thing in a queue: there are no more items, or an error came up."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class Pipeline:
    """Stages one after the other. Use it as a context manager: at its end the stages have ended, too."""

    def __init__(self) -> None:
        self._unwanted = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *details: object) -> None:
        self._unwanted.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def ahead(self, items: Iterable[Item], most: int) -> Iterator[Item]:
        """The same items, made in a thread of their own; errors come up where the items are taken.

        Args:
            items: what is iterated over in the thread.
            most: items that wait to be taken, at most.
        """
        waiting: queue.Queue[Item | End] = queue.Queue(most)
        thread = threading.Thread(target=self._make, args=(items, waiting), name="tinyhd-stage", daemon=True)
        self._threads.append(thread)
        thread.start()
        return self._take(waiting)

    def _make(self, items: Iterable[Item], waiting: queue.Queue[Item | End]) -> None:
        """What the thread does."""
        end = End()
        try:
            for item in items:
                self._put(item, waiting)
                if self._unwanted.is_set():
                    return
        except BaseException as error:
            end = End(error)
        self._put(end, waiting)

    def _put(self, item: Item | End, waiting: queue.Queue[Item | End]) -> None:
        while not self._unwanted.is_set():
            try:
                waiting.put(item, timeout=POLL_S)
                return
            except queue.Full:
                continue

    def _take(self, waiting: queue.Queue[Item | End]) -> Iterator[Item]:
        while not self._unwanted.is_set():
            try:
                item = waiting.get(timeout=POLL_S)
            except queue.Empty:
                continue
            if isinstance(item, End):
                if item.error is not None:
                    raise item.error
                return
            yield item
