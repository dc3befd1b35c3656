"""Gaze and fixations of one observer, as arrays. Needs NumPy alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]
Pixels = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Samples:
    """Gaze samples in the order of time."""

    time_s: Seconds
    """Time of each sample in seconds; 0 is the start of the video, or of the recording."""
    x: Pixels
    """Pixels from the left edge of the screen; NaN where invalid."""
    y: Pixels
    """Pixels from the upper edge of the screen; NaN where invalid."""
    valid: NDArray[np.bool_]
    """Whether the sample is valid."""

    def __len__(self) -> int:
        return len(self.time_s)


@dataclass(frozen=True, eq=False)
class FixationTable:
    """Fixations in the order of their start."""

    start_s: Seconds
    """Time of the first sample of each fixation in seconds."""
    end_s: Seconds
    """Time of the last sample of each fixation in seconds."""
    x: Pixels
    """Mean position in pixels from the left edge of the screen."""
    y: Pixels
    """Mean position in pixels from the upper edge of the screen."""

    def __len__(self) -> int:
        return len(self.start_s)


@dataclass(frozen=True, eq=False)
class Recording:
    """The recording of one observer."""

    observer: str
    path: Path
    """File that it was read from."""
    samples: Samples | None
    """None if the file has fixations alone."""
    fixations: FixationTable | None
    """Fixations that the file states; None if it has samples alone."""
    screen: tuple[int, int] | None
    """Width and height of the screen in pixels; None if neither the file nor the options state it."""
    notes: tuple[str, ...] = ()
    """Assumptions that were made while reading, such as the unit of the time."""


def outside_fraction(x: Pixels, y: Pixels, screen: tuple[int, int] | None) -> float | None:
    """Return the fraction of the finite positions outside the screen; None if its size is unknown."""
    if screen is None:
        return None
    seen = np.isfinite(x) & np.isfinite(y)
    inside = (x >= 0) & (y >= 0) & (x <= screen[0]) & (y <= screen[1])
    return float((seen & ~inside).sum() / seen.sum()) if seen.any() else 0.0


@dataclass(frozen=True)
class Problem:
    """A problem with a file or with one observer in it; ``str`` gives the line for the user."""

    path: Path
    observer: str | None
    """None: the problem concerns the whole file."""
    message: str
    lost: bool
    """Whether the recording is left out; otherwise it is used in spite of the problem."""

    def __str__(self) -> str:
        return f"{self.path}{f' ({self.observer})' if self.observer else ''}: {self.message}"


OnProblem = Callable[[Problem], None]
"""Called with each problem; the other recordings are read."""
