"""Measure how much of a saliency map is inside a polygon."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .windows import Map

Points = NDArray[np.float64]
"""Corners of a polygon, ``(n, 2)``: x and y from the top left corner of the frame, in shares of its width and height or
in pixels."""

ROWS_A_CELL = 4
"""Lines through each row of a map along which areas are measured. Along a line they are exact."""

CROSSINGS_AT_ONCE = 1 << 20
"""Limit on the crossings of lines and sides in memory at a time."""


class Attention:
    """The attention of one frame, to be measured in any area.

    Args:
        saliency: map ``(H, W)``, not negative.
        width: of the video, in pixels.
        height: likewise.
    """

    def __init__(self, saliency: Map, width: int, height: int) -> None:
        self._rows, self._columns = saliency.shape
        self._scale = (self._columns / width, self._rows / height)
        self._cells = saliency.astype(np.float64)
        along = np.cumsum(self._cells, axis=1)
        self._before = np.hstack([np.zeros((self._rows, 1)), along])
        self._total = float(along[:, -1].sum())
        row, column = divmod(int(np.argmax(saliency)), self._columns)
        self.peak = ((column + 0.5) / self._scale[0], (row + 0.5) / self._scale[1])
        """The most salient point, x and y in pixels."""

    def share(self, corners: Points) -> float:
        """The share of the frame's attention inside a polygon, 0..1.

        Polygons that tile the frame have shares that sum to 1. Where a polygon crosses itself, what it encloses an even
        number of times is outside.
        """
        if self._total <= 0:
            return 0.0
        corners = corners * self._scale
        lines = (np.arange(self._rows * ROWS_A_CELL) + 0.5) / ROWS_A_CELL
        at_once = max(1, CROSSINGS_AT_ONCE // len(corners))
        inside = sum(self._inside(corners, lines[at : at + at_once]) for at in range(0, len(lines), at_once))
        return inside / ROWS_A_CELL / self._total

    def _inside(self, corners: Points, lines: NDArray[np.float64]) -> float:
        """Return the sum of the map along the parts of ``lines`` inside a polygon, in units of cells."""
        line, x = crossings_of(corners, lines)
        x = np.clip(x, 0, self._columns)
        row, column = lines[line].astype(np.int64), np.minimum(x.astype(np.int64), self._columns - 1)
        before = self._before[row, column] + (x - column) * self._cells[row, column]
        return float((before[1::2] - before[::2]).sum())  # each line crosses a closed polygon an even number of times

    def has_peak(self, corners: Points) -> bool:
        """Whether the most salient point is inside a polygon."""
        x, y = self.peak
        _, crossings = crossings_of(corners, np.array([y]))
        return int((crossings > x).sum()) % 2 == 1


def covered(corners: Points, width: int, height: int) -> float:
    """The share of a picture that a polygon covers, 0..1."""
    return EVEN.share(corners * (EVEN_SIDE / width, EVEN_SIDE / height))


def crossings_of(corners: Points, lines: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the crossings of a polygon's sides with horizontal lines.

    A side belongs to the lines from its upper end on, without its lower end, and is followed downwards: so both
    polygons beside a common side find the very same crossings.

    Args:
        corners: ``(n, 2)``.
        lines: y of each line, ascending.

    Returns:
        Index of the line and x of each crossing, sorted by line, then by x.
    """
    ends = np.stack([corners, np.roll(corners, -1, axis=0)])  # (2, n, 2)
    downwards = np.argsort(ends[..., 1], axis=0, kind="stable")
    (x_top, x_end), (y_top, y_end) = np.moveaxis(np.take_along_axis(ends, downwards[..., np.newaxis], axis=0), 2, 0)
    slope = (x_end - x_top) / np.where(y_end > y_top, y_end - y_top, 1)
    first = np.searchsorted(lines, y_top)
    counts = np.searchsorted(lines, y_end) - first
    side = np.repeat(np.arange(len(corners)), counts)
    line = np.arange(len(side)) + np.repeat(first - (np.cumsum(counts) - counts), counts)
    x = x_top[side] + (lines[line] - y_top[side]) * slope[side]
    order = np.lexsort((x, line))
    return line[order], x[order]


EVEN_SIDE = 64
EVEN = Attention(np.ones((EVEN_SIDE, EVEN_SIDE), np.float32), EVEN_SIDE, EVEN_SIDE)
"""The same attention everywhere."""
