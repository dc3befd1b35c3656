"""Work on many items by the workers of a Dask cluster.

Only a window of items is with the scheduler, so that the memory of this process does not grow with their number.
Results arrive as events, which Dask delivers in the order of a worker's other messages: fetching them takes no request.

A worker that ends has its items run again by Dask. This module adds what Dask leaves to its configuration, which may be
that of other users: the number of lost workers per item, and the replacement of a worker that shows no sign of life.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import pickle
import queue
import time
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import TinyhdError, one_line
from ..version import __version__
from ..wording import plural
from . import connect, remote
from .description import Cluster
from .events import Again, Event, Finished, Message, Progress, Ready, Work

LARGE_BYTES = 100_000
"""Size of the settings from which they are sent once to each worker, and not with each item."""

SILENT_S = 60.0
"""Time without a sign of life of a worker after which its items are given to others."""

LOOK_INTERVAL_S = 10.0
"""Seconds between two looks at the workers."""

LOOKS_ALONE = 3
"""Number of looks without a worker, after which that is reported: lost workers are replaced within seconds."""

STOP_TIMEOUT_S = 15.0
"""Time that workers have for stopping canceled work and removing its temporary files."""


def run(make_work: Callable[[], Work], items: Sequence[object], where: Cluster) -> Generator[Event]:
    """Work on items; see :func:`parallel.run`."""
    with connect.connected(where) as client:
        yield Message(logging.INFO, f"Dask dashboard: {client.dashboard_link}")
        noted = False
        for count in connect.wait_for_workers(client, where):
            if not noted:
                noted = True
                yield Message(logging.INFO, f"waiting for workers: {count} of {where.workers or where.local or 1}")
        connect.check_versions(client)
        packed, check = pickle.dumps(make_work), pickle.dumps(where.check)
        order = pickle.dumps(order_of(where, client.id, packed, check))
        connect.check_workers(client, order)
        run = Run(client, items, where, order, packed)
        try:
            yield from run.events()
        finally:
            run.stop()


def order_of(where: Cluster, topic: str, make_work: bytes, check: bytes) -> remote.Order:
    """Return the settings that are equal for all items.

    The check is one of them, because it has the digest of the weights: a file may have changed since another run.
    """
    folder, threads = str(Path.cwd()), where.threads
    digest = hashlib.sha256(pickle.dumps((folder, threads, make_work, check))).hexdigest()
    level = logging.getLogger("tinyhd").getEffectiveLevel()
    return remote.Order(topic, digest, folder, where.shared_folder, level, threads, check)


@dataclass
class Attempt:
    """An item that is with the scheduler."""

    future: Any
    count: int = 1
    """How often it was submitted."""
    starts: int = 0
    """How often a worker has started it."""
    losses: int = 0
    """How often that was repeated, as far as it was reported."""
    worker: str = ""
    """The last worker that has started it."""
    ended: bool = False
    """Whether its end was yielded."""


@dataclass(frozen=True)
class Done:
    """Dask's end of an attempt."""

    number: int
    count: int
    status: str


class Run:
    """The items of one run.

    Args:
        client: Dask's client.
        items: the items.
        where: the cluster.
        order: the settings of the run.
        make_work: the pickled function that makes the work.
    """

    def __init__(self, client: Any, items: Sequence[object], where: Cluster, order: bytes, make_work: bytes) -> None:
        self._client, self._items, self._where, self._order = client, items, where, order
        self._make_work: Any = make_work
        self._entries: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._attempts: dict[int, Attempt] = {}
        self._next = 0
        self._is_ready = False
        self._known: set[Message] = set()
        self._seen: dict[str, tuple[float, float]] = {}
        """Last sign of life of each worker, by the scheduler's clock, and when it was first seen, by this one's."""
        self._looked_s = time.monotonic()
        self._window = 0
        self._healthy: list[str] | None = None
        """Workers that show signs of life, if there are others: those get no items. None: no restriction."""
        self._alone = 0
        """Number of looks since the last worker was seen."""
        client.subscribe_topic(client.id, self._receive)

    def _receive(self, event: tuple[float, object]) -> None:
        if isinstance(event[1], bytes):  # Dask's own events about this client are dicts
            self._entries.put(pickle.loads(event[1]))

    def events(self) -> Iterator[Event]:
        """Yield what happens until all items have ended."""
        yield from self._look()
        if len(self._make_work) > LARGE_BYTES:
            self._make_work = self._client.submit(remote.keep, self._make_work, pure=False)
            self._client.replicate([self._make_work])
        self._submit()
        # Dask's end of an attempt that was replaced may never come, if its workers have gone.
        while self._next < len(self._items) or any(not attempt.ended for attempt in self._attempts.values()):
            timeout = self._looked_s + LOOK_INTERVAL_S - time.monotonic()
            try:
                entry = self._entries.get(timeout=max(0.0, timeout))
            except queue.Empty:
                yield from self._look()
                continue
            yield from self._handle(entry)
            if timeout < 0:
                yield from self._look()

    def _handle(self, entry: object) -> Iterator[Event]:
        match entry:
            case Message():
                if entry not in self._known:
                    self._known.add(entry)
                    yield entry
            case Progress():
                if self._is_open(entry.number):
                    yield from self._ready()
                    yield entry
            case remote.Started():
                yield from self._started(entry)
            case remote.Unusable():
                if not self._is_ready:
                    self._attempts[entry.number].ended = True
                    raise entry.error
                yield from self._lost(entry.number, str(entry.error))
            case Finished():
                if self._is_open(entry.number):
                    yield from self._ready()
                    yield from self._end(entry)
            case Done():
                yield from self._done(entry)

    def _ready(self) -> Iterator[Ready]:
        """Yield the event for the first worker that works."""
        if not self._is_ready:
            self._is_ready = True
            yield Ready()

    def _is_open(self, number: int) -> bool:
        return number in self._attempts and not self._attempts[number].ended

    # ------------------------------------------------------------------------------------------ items and the scheduler

    def _submit(self) -> None:
        """Submit items until the window is full; several at once, because each request costs the scheduler as much."""
        free = self._window - len(self._attempts)
        if free < self._window // 4:
            return
        numbers = range(self._next, min(len(self._items), self._next + free))
        if not numbers:
            return
        self._next = numbers.stop
        keys = [(f"tinyhd-{self._client.id}", number, 1) for number in numbers]
        packed = [pickle.dumps(self._items[number]) for number in numbers]
        futures = self._client.map(
            remote.do,
            [__version__] * len(keys),
            [self._order] * len(keys),
            list(numbers),
            packed,
            [self._make_work] * len(keys),
            key=keys,
            pure=False,
            workers=self._healthy,
        )
        for number, future in zip(numbers, futures, strict=True):
            self._attempts[number] = Attempt(future)
            self._watch(number, self._attempts[number])

    def _again(self, number: int) -> None:
        """Submit an item again."""
        attempt = self._attempts[number]
        self._client.cancel([attempt.future], force=True)
        attempt.count += 1
        attempt.future = self._client.submit(
            remote.do,
            __version__,
            self._order,
            number,
            pickle.dumps(self._items[number]),
            self._make_work,
            True,
            key=(f"tinyhd-{self._client.id}", number, attempt.count),
            pure=False,
            workers=self._healthy,
        )
        self._watch(number, attempt)

    def _watch(self, number: int, attempt: Attempt) -> None:
        count = attempt.count
        attempt.future.add_done_callback(lambda future: self._entries.put(Done(number, count, future.status)))

    # -------------------------------------------------------------------------------------------- ends and lost workers

    def _started(self, entry: remote.Started) -> Iterator[Event]:
        if not self._is_open(entry.number):
            return
        attempt = self._attempts[entry.number]
        attempt.starts += 1
        before, attempt.worker = attempt.worker, entry.worker
        if attempt.starts > self._where.retries:
            self._client.cancel([attempt.future], force=True)
            ended = plural(self._where.retries, "worker")
            yield from self._end(self._failed(entry.number, f"{ended} ended during the work on it", True))
        elif attempt.starts > attempt.losses + 1:  # Dask itself has submitted it again
            attempt.losses += 1
            yield Again(entry.number, f"its worker {before} was lost")

    def _lost(self, number: int, reason: str, died: bool = False) -> Iterator[Event]:
        """Submit an item again whose attempt has ended without a result, unless this happened too often.

        Args:
            number: the item's number.
            reason: the reason, for messages.
            died: whether its worker has ended.
        """
        if not self._is_open(number):
            return
        attempt = self._attempts[number]
        if attempt.starts >= self._where.retries or attempt.count > 2 * self._where.retries:
            yield from self._end(self._failed(number, reason, died))
            return
        if attempt.starts:  # otherwise, it only waited at a worker
            attempt.losses += 1
            yield Again(number, reason)
        self._again(number)

    def _failed(self, number: int, reason: str, died: bool) -> Finished:
        worker = self._attempts[number].worker
        last = f", the last one {worker}" if worker else ""
        return Finished(number, error=TinyhdError(f"{reason}{last}{'; perhaps memory ran out' if died else ''}"))

    def _end(self, event: Finished) -> Iterator[Event]:
        attempt = self._attempts[event.number]
        attempt.ended = True
        yield event
        if attempt.count > 1:  # the result may be that of an earlier attempt
            self._client.cancel([attempt.future], force=True)
            self._attempts.pop(event.number, None)
            self._submit()

    def _done(self, entry: Done) -> Iterator[Event]:
        attempt = self._attempts.get(entry.number)
        if attempt is None or attempt.count != entry.count:
            return
        if not attempt.ended:
            match entry.status:
                case "finished":
                    yield from self._fetch(entry.number, attempt)
                case "error":
                    yield from self._erred(entry.number, attempt.future.exception())
                case _:  # canceled or lost, but not by this run
                    self._require_scheduler()
                    yield from self._lost(entry.number, "Dask has canceled the work")
        if attempt.ended:
            self._attempts.pop(entry.number, None)  # the scheduler forgets it
            self._submit()

    def _fetch(self, number: int, attempt: Attempt) -> Iterator[Event]:
        """Handle the result of an attempt whose last event did not arrive."""
        packed = attempt.future.result()
        if packed:
            yield from self._handle(pickle.loads(packed))
        else:
            yield from self._lost(number, "the worker has stopped the work")

    def _erred(self, number: int, error: BaseException) -> Iterator[Event]:
        from distributed import KilledWorker

        if isinstance(error, KilledWorker):
            starts = self._attempts[number].starts
            yield from self._lost(number, f"{plural(max(1, starts), 'worker')} ended during the work on it", True)
        else:
            yield from self._lost(number, one_line(error))

    def _require_scheduler(self) -> None:
        if self._client.status != "running":
            address = self._where.address
            raise TinyhdError(f"the scheduler of --cluster {address} is gone; run again with --skip-existing")

    def _look(self) -> Iterator[Event]:
        """Look at the workers: fit the window to their number, and replace those that show no sign of life."""
        self._looked_s = now = time.monotonic()
        self._require_scheduler()
        workers = connect.workers_of(self._client)
        self._alone = 0 if workers else self._alone + 1
        if self._alone == LOOKS_ALONE:
            yield Message(logging.WARNING, f"no worker is connected to {self._where.address}; waiting for one")
        self._window = 4 * sum(facts["nthreads"] for facts in workers.values()) + 16
        self._seen = {
            address: seen
            if (seen := self._seen.get(address)) and seen[0] == facts["last_seen"]
            else (facts["last_seen"], now)
            for address, facts in workers.items()
        }
        silent = [address for address in workers if now - self._seen[address][1] >= SILENT_S]
        others = [address for address in workers if address not in silent]
        before, self._healthy = self._healthy, others if silent and others else None
        if silent or before != self._healthy:
            yield from self._replace(silent if others else [], workers, is_new=before != self._healthy)
        self._submit()

    def _replace(self, silent: list[str], workers: Collection[str], is_new: bool) -> Iterator[Event]:
        """Give the items of silent workers to others; if the healthy ones have changed, also items that only wait."""
        found = self._client.processing(silent) if silent else {}
        keys = [key for some in found.values() for key in some if isinstance(key, tuple)]
        stuck = {key[1] for key in keys if key[0] == f"tinyhd-{self._client.id}"}
        for number in filter(self._is_open, list(self._attempts)):
            attempt = self._attempts[number]
            if number in stuck:
                attempt.losses += 1
                yield Again(number, f"its worker has shown no sign of life for {SILENT_S:.0f} s ({', '.join(silent)})")
                self._again(number)
            elif is_new and (not attempt.starts or attempt.worker not in workers):
                self._again(number)

    # -------------------------------------------------------------------------------------------------------------- end

    def stop(self) -> None:
        """Cancel what has not ended, and wait until its workers have stopped."""
        open_ones = [attempt for attempt in self._attempts.values() if not attempt.ended]
        if open_ones and self._client.status == "running":
            running = {number for number, attempt in self._attempts.items() if attempt.starts and not attempt.ended}
            self._client.cancel([attempt.future for attempt in open_ones], force=True)
            deadline = time.monotonic() + STOP_TIMEOUT_S
            with contextlib.suppress(queue.Empty):
                while running:
                    entry = self._entries.get(timeout=max(0.0, deadline - time.monotonic()))
                    if isinstance(entry, remote.Stopped | Finished | remote.Unusable):
                        running.discard(entry.number)
        self._attempts.clear()
