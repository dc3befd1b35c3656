"""Work on many items at the same time: in processes of this machine, or by the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from . import processes
from .events import Event, Finished, Message, Progress, Ready, Report, Work

__all__ = ["Event", "Finished", "Message", "Processes", "Progress", "Ready", "Report", "Where", "Work", "run"]


@dataclass(frozen=True)
class Processes:
    """Processes of this machine."""

    count: int
    option: str = "--jobs"
    """The option that gives the number, for messages."""


Where = Processes


def run(make_work: Callable[[], Work], items: Sequence[object], where: Where) -> Generator[Event]:
    """Work on items; yield what happens, in the order in which it happens. Closing the iterator stops the work.

    Args:
        make_work: picklable; called once in each process, and returns the function that works on an item.
        items: picklable.
        where: the processes that work.

    Raises:
        TinyhdError: raised by ``make_work``.
    """
    return processes.run(make_work, items, where.count, where.option)
