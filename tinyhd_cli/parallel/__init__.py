"""Work on many items at the same time: in processes of this machine, or by the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from .description import Cluster, ClusterOptions
from .events import Again, Event, Finished, Message, Progress, Ready, Report, Work

__all__ = [
    "Again",
    "Cluster",
    "ClusterOptions",
    "Event",
    "Finished",
    "Message",
    "Processes",
    "Progress",
    "Ready",
    "Report",
    "Where",
    "Work",
    "run",
]


@dataclass(frozen=True)
class Processes:
    """Processes of this machine."""

    count: int
    option: str = "--jobs"
    """The option that gives the number, for messages."""
    threads: int | None = None
    """CPU threads of each process; None: its share of the cores."""


Where = Processes | Cluster


def run(make_work: Callable[[], Work], items: Sequence[object], where: Where) -> Generator[Event]:
    """Work on items; yield what happens, in the order in which it happens. Closing the iterator stops the work.

    Args:
        make_work: picklable; called once in each process, whose number of threads is limited before, and returns the
            function that works on an item. Workers of a cluster keep this function for runs with equal settings and an
            equal ``Cluster.check``.
        items: picklable.
        where: the processes that work.

    Raises:
        TinyhdError: raised by ``make_work``, or a cluster cannot be used.
    """
    if isinstance(where, Cluster):
        from . import cluster

        return cluster.run(make_work, items, where)
    from . import processes

    return processes.run(make_work, items, where.count, where.option, where.threads)
