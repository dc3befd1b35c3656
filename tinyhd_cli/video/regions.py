"""Attach regions of interest to frames, which make an encoder spend more or fewer bits there.

FFmpeg passes the regions of each frame to x264 and x265. PyAV cannot attach them; FFmpeg's filter ``addroi`` can.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
from numpy.typing import NDArray

ROI_ENCODERS = ("libx264", "libx265")
"""Encoders that support regions of interest."""

QP_RANGE = 51
"""Offset of the quantization parameter that FFmpeg represents as 1, for 8 bits; 6 more for each additional bit."""

QpOffsets = NDArray[np.float64]
"""Offset of the quantization parameter in each cell of a grid over the frame, ``(rows, columns)``. Negative offsets
improve quality."""

Edges = NDArray[np.int64]
"""Edges of the n cells along one side of the frame, in pixels, including both ends, ``(n + 1,)``."""


@dataclass(frozen=True)
class Grid:
    """Cells of a frame."""

    rows: Edges
    """Upper edges of the rows of cells, and the lower edge of the last one."""
    columns: Edges
    """Left edges of the columns, and the right edge of the last one."""

    @classmethod
    def blocks(cls, width: int, height: int, size: int) -> Grid:
        """Return square blocks, from the top left of the frame; those at the right and the bottom may be cut."""
        rows, columns = (np.minimum(np.arange(-(-side // size) + 1) * size, side) for side in (height, width))
        return cls(rows, columns)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        return len(self.rows) - 1, len(self.columns) - 1

    def means(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the mean in each cell, ``(rows, columns)``, of an array ``(h, w)`` of any resolution."""
        found = mean_between(values.astype(np.float64), self.rows)
        return mean_between(found.T, self.columns).T

    def pixels(self, cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the value of each pixel's cell, ``(height, width)``, from those of the cells, ``(rows, columns)``."""
        return cells.repeat(np.diff(self.rows), axis=0).repeat(np.diff(self.columns), axis=1)


def mean_between(values: NDArray[np.float64], edges: Edges) -> NDArray[np.float64]:
    """Return the means of an array's rows between edges, which need not be edges of its elements."""
    sums = np.concatenate([np.zeros((1, values.shape[1])), values.cumsum(axis=0)])
    position = edges * (len(values) / edges[-1])
    before = np.minimum(position.astype(np.int64), len(values) - 1)
    at_edges = sums[before] + (position - before)[:, None] * values[before]
    means: NDArray[np.float64] = np.diff(at_edges, axis=0) / np.diff(position)[:, None]
    return means


@dataclass(frozen=True)
class QpMap:
    """Offsets of the quantization parameter in the cells of a grid."""

    grid: Grid
    offsets: QpOffsets

    def rectangles(self) -> Iterator[tuple[int, int, int, int, float]]:
        """Yield x, y, width and height in pixels and the offset of each region; see :func:`rectangles`."""
        for top, left, bottom, right, value in rectangles(self.offsets):
            x, y = int(self.grid.columns[left]), int(self.grid.rows[top])
            yield x, y, int(self.grid.columns[right]) - x, int(self.grid.rows[bottom]) - y, value


def rectangles(offsets: QpOffsets) -> Iterator[tuple[int, int, int, int, float]]:
    """Yield rectangles that set the offset of each cell; where they overlap, the first one counts, as in FFmpeg.

    Rectangles may cover cells of earlier ones, so that there are fewer: a third fewer for attention.

    Yields:
        First row, first column, end row (exclusive), end column (exclusive), and the offset. Nothing if all are 0.
    """
    *lower, highest = np.unique(offsets)
    for value in lower:
        for top, left, bottom, right in covering(offsets <= value, offsets == value):
            yield top, left, bottom, right, float(value)
    if lower or highest:
        yield 0, 0, *offsets.shape, float(highest)


def covering(allowed: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> Iterator[tuple[int, int, int, int]]:
    """Yield rectangles of allowed cells that together cover all wanted cells."""
    left = wanted.copy()
    for row, column in np.argwhere(wanted):
        if not left[row, column]:
            continue
        end_column = column + 1
        while end_column < allowed.shape[1] and allowed[row, end_column]:
            end_column += 1
        end_row = row + 1
        while end_row < len(allowed) and allowed[end_row, column:end_column].all():
            end_row += 1
        left[row:end_row, column:end_column] = False
        yield int(row), int(column), int(end_row), int(end_column)


class RegionMarker:
    """Attaches regions of interest to frames of one size and format."""

    def __init__(self) -> None:
        self._graph: av.filter.Graph | None = None
        self._offsets: QpOffsets | None = None

    def mark(self, av_frame: av.VideoFrame, regions: QpMap) -> av.VideoFrame:
        """Return a new frame with the same content and timestamp, and these regions attached."""
        if self._graph is None or self._offsets is None or not np.array_equal(regions.offsets, self._offsets):
            self._graph, self._offsets = self._build(av_frame, regions), regions.offsets.copy()
        self._graph.push(av_frame)
        marked = self._graph.pull()
        assert isinstance(marked, av.VideoFrame)
        return marked

    @staticmethod
    def _build(av_frame: av.VideoFrame, regions: QpMap) -> av.filter.Graph:
        graph = av.filter.Graph()
        last = graph.add_buffer(
            width=av_frame.width, height=av_frame.height, format=av_frame.format, time_base=av_frame.time_base
        )
        qp_range = QP_RANGE + 6 * (av_frame.format.components[0].bits - 8)
        for x, y, width, height, value in regions.rectangles():
            region = graph.add("addroi", f"x={x}:y={y}:w={width}:h={height}:qoffset={value / qp_range:.6f}")
            last.link_to(region)
            last = region
        sink = graph.add("buffersink")
        last.link_to(sink)
        graph.configure()
        return graph
