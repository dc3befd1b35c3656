"""The gaze of all observers on a video, and the part of it that falls into one frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Track:
    """The fixations, or the valid samples, of one observer: seconds of the video, and pixels of its frames."""

    start_s: Numbers
    end_s: Numbers
    """Equal to ``start_s`` for samples."""
    x: Numbers
    y: Numbers


@dataclass(frozen=True)
class Points:
    """Gaze positions in one frame: pixel (row, column) covers ``row <= y < row + 1`` and ``column <= x < column + 1``.

    Attributes:
        observer: number of each point's observer, ``(n,)``.
        x: pixels from the left edge of the frame, ``(n,)``.
        y: pixels from the upper edge, ``(n,)``.
    """

    observer: Indices
    x: Numbers
    y: Numbers

    def __len__(self) -> int:
        return len(self.observer)

    def inside(self, width: int, height: int) -> Points:
        """Return the points on a frame of this size."""
        kept = (self.x >= 0) & (self.x < width) & (self.y >= 0) & (self.y < height)
        return self if kept.all() else Points(self.observer[kept], self.x[kept], self.y[kept])

    @property
    def rows(self) -> Indices:
        """Rows of the points' pixels."""
        return np.floor(self.y).astype(np.int64)

    @property
    def columns(self) -> Indices:
        """Columns of the points' pixels."""
        return np.floor(self.x).astype(np.int64)


class Gaze:
    """The gaze of several observers.

    Args:
        tracks: the gaze of each observer, by name.

    Attributes:
        observers: names, in the order of their numbers.
    """

    def __init__(self, tracks: Mapping[str, Track]) -> None:
        self.observers = tuple(tracks)
        self._tracks = tuple(tracks.values())
        self._latest_ends = tuple(latest(track.end_s) for track in self._tracks)
        owner = np.repeat(np.arange(len(tracks)), [len(track.x) for track in self._tracks])
        start, end, x, y = (
            np.concatenate([np.zeros(0), *(getattr(track, name) for track in self._tracks)])
            for name in ("start_s", "end_s", "x", "y")
        )
        order = np.argsort(start, kind="stable")
        self._start, self._end, self._owner = start[order], end[order], owner[order]
        self._x, self._y = x[order], y[order]

    @cached_property
    def _latest_end(self) -> Numbers:
        """The latest end of each entry and all earlier ones."""
        return latest(self._end)

    @property
    def end_s(self) -> float:
        """The time at which the last fixation or sample ends; 0 without any."""
        return float(self._latest_end[-1]) if len(self._end) else 0.0

    def between(self, start_s: float, end_s: float) -> Points:
        """Return the gaze during a frame that is shown from ``start_s`` until just before ``end_s``.

        A fixation belongs to every frame that is shown during a part of it, a sample to the frame shown at its time.
        """
        first = int(np.searchsorted(self._latest_end, start_s, side="left"))
        window = slice(first, max(first, int(np.searchsorted(self._start, end_s, side="left"))))
        kept = (self._end[window] > start_s) | (self._start[window] >= start_s)
        return Points(self._owner[window][kept], self._x[window][kept], self._y[window][kept])

    def trail(self, observer: int, start_s: float, end_s: float) -> NDArray[np.float64]:
        """Return the positions ``(n, 2)``, x and y, of one observer during an interval, in order."""
        track = self._tracks[observer]
        first = int(np.searchsorted(self._latest_ends[observer], start_s, side="left"))
        window = slice(first, max(first, int(np.searchsorted(track.start_s, end_s, side="left"))))
        kept = track.end_s[window] >= start_s
        return np.stack([track.x[window][kept], track.y[window][kept]], axis=1)


def latest(ends_s: Numbers) -> Numbers:
    """Return the latest end of each entry and all earlier ones."""
    ends: Numbers = np.maximum.accumulate(ends_s) if len(ends_s) else ends_s
    return ends
