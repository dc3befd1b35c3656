"""Attach regions of interest to frames, which make an encoder spend more or fewer bits there.

FFmpeg passes the regions of each frame to x264 and x265. PyAV cannot attach them; FFmpeg's filter ``addroi`` can.
"""

from __future__ import annotations

from collections.abc import Iterator

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


def rectangles(offsets: QpOffsets) -> Iterator[tuple[int, int, int, int, float]]:
    """Yield rectangles that together cover all cells whose offset is not 0.

    Yields:
        First row, first column, end row (exclusive), end column (exclusive), and the offset, equal in all its cells.
    """
    left = offsets != 0
    for row, column in np.argwhere(left):
        if not left[row, column]:
            continue
        value = offsets[row, column]
        end_column = column
        while end_column < offsets.shape[1] and left[row, end_column] and offsets[row, end_column] == value:
            end_column += 1
        end_row = row + 1
        while end_row < len(offsets):
            below = (left & (offsets == value))[end_row, column:end_column]
            if not below.all():
                break
            end_row += 1
        left[row:end_row, column:end_column] = False
        yield int(row), int(column), int(end_row), int(end_column), float(value)


class RegionMarker:
    """Attaches regions of interest to frames of one size and format."""

    def __init__(self) -> None:
        self._graph: av.filter.Graph | None = None
        self._offsets: QpOffsets | None = None

    def mark(self, av_frame: av.VideoFrame, offsets: QpOffsets) -> av.VideoFrame:
        """Return a new frame with the same content and timestamp, and these offsets attached."""
        if self._graph is None or self._offsets is None or not np.array_equal(offsets, self._offsets):
            self._graph, self._offsets = self._build(av_frame, offsets), offsets.copy()
        self._graph.push(av_frame)
        marked = self._graph.pull()
        assert isinstance(marked, av.VideoFrame)
        return marked

    @staticmethod
    def _build(av_frame: av.VideoFrame, offsets: QpOffsets) -> av.filter.Graph:
        graph = av.filter.Graph()
        last = graph.add_buffer(
            width=av_frame.width, height=av_frame.height, format=av_frame.format, time_base=av_frame.time_base
        )
        rows, columns = offsets.shape
        qp_range = QP_RANGE + 6 * (av_frame.format.components[0].bits - 8)
        for top, first, bottom, end, value in rectangles(offsets):
            x, y = first * av_frame.width // columns, top * av_frame.height // rows
            width, height = end * av_frame.width // columns - x, bottom * av_frame.height // rows - y
            region = graph.add("addroi", f"x={x}:y={y}:w={width}:h={height}:qoffset={value / qp_range:.6f}")
            last.link_to(region)
            last = region
        sink = graph.add("buffersink")
        last.link_to(sink)
        graph.configure()
        return graph
