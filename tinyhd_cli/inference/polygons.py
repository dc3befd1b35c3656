"""Measure how much of a saliency map is inside a polygon."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .windows import Map

Points = NDArray[np.float64]
"""Corners of a polygon, ``(n, 2)``: x and y from the top left corner of the frame, either as fractions of its width and
height or in pixels. Several rings are one polygon, see :func:`joined`."""

LINES_PER_ROW = 4
"""Scan lines through each row of a map. Along a line, areas are measured exactly."""

MAX_CROSSINGS = 1 << 20
"""Maximum number of crossings of scan lines and polygon sides in memory at a time."""


def joined(rings: Sequence[Points]) -> Points:
    """Return several rings as one polygon: a ring inside another is a hole, one next to it is another part.

    Each ring is connected to the start of the first by a side in both directions. The crossings of these two sides are
    equal, so that they enclose nothing; ``draw_outline`` omits them.
    """
    if len(rings) == 1:
        return rings[0]
    start = rings[0][:1]
    return np.vstack([part for ring in rings for part in (ring, ring[:1], start)])


class Attention:
    """The attention in one frame, which can be measured inside any polygon.

    Args:
        saliency: map ``(H, W)`` without negative values.
        width: width of the video in pixels.
        height: height of the video in pixels.
    """

    def __init__(self, saliency: Map, width: int, height: int) -> None:
        self._rows, self._columns = saliency.shape
        self._scale = (self._columns / width, self._rows / height)
        self._cells = saliency.astype(np.float64)
        sums = np.cumsum(self._cells, axis=1)
        self._before = np.hstack([np.zeros((self._rows, 1)), sums])
        self.total = float(sums[:, -1].sum())
        """Sum of the map."""
        row, column = divmod(int(np.argmax(saliency)), self._columns)
        self.peak = ((column + 0.5) / self._scale[0], (row + 0.5) / self._scale[1])
        """The most salient point: x and y in pixels."""

    def share(self, corners: Points) -> float:
        """Return the fraction of the frame's attention inside a polygon, 0 to 1.

        The fractions of polygons that tile the frame sum to 1. The even-odd rule applies to polygons that intersect
        themselves.
        """
        if self.total <= 0:
            return 0.0
        corners = corners * self._scale
        lines = (np.arange(self._rows * LINES_PER_ROW) + 0.5) / LINES_PER_ROW
        step = max(1, MAX_CROSSINGS // len(corners))
        inside = sum(self._inside(corners, lines[start : start + step]) for start in range(0, len(lines), step))
        return inside / LINES_PER_ROW / self.total

    def _inside(self, corners: Points, lines: NDArray[np.float64]) -> float:
        """Return the sum of the map along the parts of ``lines`` inside a polygon, in units of cells."""
        line, x = crossings_of(corners, lines)
        x = np.clip(x, 0, self._columns)
        row, column = lines[line].astype(np.int64), np.minimum(x.astype(np.int64), self._columns - 1)
        before = self._before[row, column] + (x - column) * self._cells[row, column]
        return float((before[1::2] - before[::2]).sum())  # each line crosses a closed polygon an even number of times

    def has_peak(self, corners: Points) -> bool:
        """Return whether the most salient point is inside a polygon."""
        return contains(corners, *self.peak)


def contains(corners: Points, x: float, y: float) -> bool:
    """Return whether a point is inside a polygon."""
    _, crossings = crossings_of(corners, np.array([y]))
    return int((crossings > x).sum()) % 2 == 1


def covered_fraction(corners: Points, width: int, height: int) -> float:
    """Return the fraction of the frame that a polygon covers, 0 to 1."""
    return UNIFORM.share(corners * (UNIFORM_COLUMNS / width, UNIFORM_ROWS / height))


def crossings_of(corners: Points, lines: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the crossings of a polygon's sides with horizontal lines.

    A side includes its upper end and excludes its lower end, and x is always computed from the upper end. Two polygons
    with a common side therefore have exactly the same crossings along it.

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


UNIFORM_ROWS, UNIFORM_COLUMNS = 512, 4
UNIFORM = Attention(np.ones((UNIFORM_ROWS, UNIFORM_COLUMNS), np.float32), UNIFORM_COLUMNS, UNIFORM_ROWS)
"""Uniform attention, with which a fraction of the attention is a fraction of the frame. It has many rows, because areas
are exact along rows only."""
