"""Types of the callbacks that report progress. The library prints nothing; commands decide how to show it."""

from __future__ import annotations

from collections.abc import Callable

OnProgress = Callable[[int, int | None], None]
"""Called with the number of finished items (usually frames) and their total, None if unknown."""

StartPhase = Callable[[str], OnProgress]
"""Called with the name of a phase when it starts; returns the callback for the progress of that phase."""


def no_phases(name: str) -> OnProgress:
    """Report nothing; the default if the caller passes no callback."""
    return lambda done, total: None
