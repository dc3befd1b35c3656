"""How long videos are cut into parts: ``--split``, and the default on a cluster."""

from __future__ import annotations

from dataclasses import dataclass

from ..durations import parse_duration

AUTOMATIC_S = 300.0
"""Length of the parts of long videos on a cluster, in seconds."""

AUTOMATIC_ABOVE_S = 600.0
"""Length in seconds above which a video is long, on a cluster."""


@dataclass(frozen=True)
class Split:
    """How long videos are cut into parts."""

    seconds: float
    """Maximum length of a part."""
    longer_than_s: float
    """Length up to which a video is processed in one piece."""
    keep: bool
    """Whether to use finished parts of an earlier run, and keep those of a video that fails."""
    is_automatic: bool = False
    """Whether videos are cut without having been asked."""


def lengths_of(split: str | None, on_cluster: bool, *, keep: bool) -> Split | None:
    """Return how long videos are cut, or None.

    Args:
        split: value of ``--split``.
        on_cluster: whether a cluster does the work, which cuts very long videos by itself.
        keep: see :class:`Split`.

    Raises:
        UsageError: the value is not a length of time.
    """
    if split is not None:
        seconds = parse_duration(split, "--split")
        return Split(seconds, longer_than_s=seconds, keep=keep)
    return Split(AUTOMATIC_S, AUTOMATIC_ABOVE_S, keep, is_automatic=True) if on_cluster else None
