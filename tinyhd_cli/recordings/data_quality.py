"""Quality of a recording: what was recorded, and how much of it was lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .fixations import sampling_rate
from .recording import FixationTable, Recording, outside_fraction


@dataclass(frozen=True)
class Quality:
    """Quality of one observer's recording; None where the file does not state it."""

    observer: str
    duration_s: float
    """From the first to the last sample or fixation."""
    rate: float | None
    """Samples per second, by the median interval."""
    valid: float | None
    """Fraction of the samples that are valid."""
    lost: float | None
    """Fraction of the expected samples that are missing or invalid; above ``1 - valid`` if there are gaps."""
    longest_gap_s: float | None
    """Longest time without valid gaze."""
    outside: float | None
    """Fraction of the valid gaze outside the screen; None if the screen is unknown."""
    fixations: int | None
    fixation_s: float | None
    """Median duration of the fixations."""


def quality(recording: Recording, fixations: FixationTable | None = None) -> Quality:
    """Return the quality of a recording.

    Args:
        recording: a recording.
        fixations: detected fixations; None: those that the file states.
    """
    table = fixations if fixations is not None else recording.fixations
    lengths = table.end_s - table.start_s if table is not None and len(table) else None
    samples = recording.samples
    points = samples or table
    assert points is not None, "a recording has samples, fixations, or both"
    rate = valid = lost = gap = None
    if samples is not None:
        duration = float(samples.time_s[-1] - samples.time_s[0])
        rate = sampling_rate(samples.time_s) or None
        valid = float(samples.valid.mean())
        expected = max(round(duration * rate) + 1, len(samples)) if rate else len(samples)
        lost = 1 - float(samples.valid.sum()) / expected
        seen = samples.time_s[samples.valid]
        gap = float(np.diff(np.concatenate([samples.time_s[:1], seen, samples.time_s[-1:]])).max())
    elif table is not None and len(table):
        duration = float(table.end_s.max() - table.start_s.min())
    else:
        duration = 0.0
    return Quality(
        recording.observer,
        duration,
        rate,
        valid,
        lost,
        gap,
        outside_fraction(points.x, points.y, recording.screen),
        len(table) if table is not None else None,
        float(np.median(lengths)) if lengths is not None else None,
    )
