"""Events of work on many items, whether it is done in processes of this machine or by the workers of a cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import TinyhdError

Report = Callable[[str, int, "int | None"], None]
"""Reports progress of an item: name of its phase, finished frames, and total."""

Work = Callable[[Any, Report], Any]
"""Processes an item, and returns a picklable result. It must not raise any error."""


@dataclass(frozen=True)
class Message:
    """A logged message."""

    level: int
    text: str


@dataclass(frozen=True)
class Ready:
    """The first process can work."""


@dataclass(frozen=True)
class Again:
    """The work on an item starts again, because the worker of a cluster that did it was lost."""

    number: int
    reason: str


@dataclass(frozen=True)
class Progress:
    """Progress of an item."""

    number: int
    phase: str
    done: int
    total: int | None


@dataclass(frozen=True)
class Finished:
    """The end of an item."""

    number: int
    result: Any = None
    messages: list[Message] = field(default_factory=list)
    error: TinyhdError | None = None
    """Set if the process was killed, which leaves no result."""


Event = Message | Ready | Again | Progress | Finished
"""Messages are events if they are about no item; equal ones of several processes are one event."""
