"""Deinterlace frames with FFmpeg's bwdif filter: one output frame per input frame, at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
from av.filter import Graph

from .decoded import Decoded

MIN_SIZE = 4
"""Minimum width and height of a frame that the filter supports, in pixels."""


def deinterlace(frames: Iterable[Decoded]) -> Iterator[Decoded]:
    """Yield all frames; deinterlace those that are flagged as interlaced.

    After the first interlaced frame, all frames pass through the filter, because it needs each frame's neighbors. It
    does not change progressive frames.
    """
    filter_: Deinterlacer | None = None
    for frame in frames:
        if filter_ is not None and not filter_.accepts(frame.av_frame):
            yield from filter_.flush()
            filter_ = None
        if filter_ is None and frame.av_frame.interlaced_frame and min(size_of(frame.av_frame)) >= MIN_SIZE:
            filter_ = Deinterlacer(frame.av_frame)
        if filter_ is None:
            yield frame
        else:
            yield from filter_.push(frame)
    if filter_ is not None:
        yield from filter_.flush()


def size_of(av_frame: av.VideoFrame) -> tuple[int, int]:
    """Return width and height."""
    return av_frame.width, av_frame.height


class Deinterlacer:
    """The filter for frames of the size and format of ``like``."""

    def __init__(self, like: av.VideoFrame) -> None:
        self._kind = self._kind_of(like)
        self._inside: deque[Decoded] = deque()
        self._graph = Graph()
        source = self._graph.add_buffer(
            width=like.width, height=like.height, format=like.format, time_base=Fraction(1, 1)
        )
        bwdif = self._graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
        self._graph.link_nodes(source, bwdif, self._graph.add("buffersink")).configure()

    @staticmethod
    def _kind_of(av_frame: av.VideoFrame) -> tuple[object, ...]:
        return *size_of(av_frame), av_frame.format.name

    def accepts(self, av_frame: av.VideoFrame) -> bool:
        """Return whether a frame has the size and format of this filter."""
        return self._kind_of(av_frame) == self._kind

    def push(self, frame: Decoded) -> Iterator[Decoded]:
        """Add a frame and yield the finished frames; the filter lags by one frame."""
        self._inside.append(frame)
        self._graph.vpush(frame.av_frame)
        return self._pull()

    def flush(self) -> Iterator[Decoded]:
        """Yield the remaining frames."""
        self._graph.vpush(None)
        return self._pull()

    def _pull(self) -> Iterator[Decoded]:
        while self._inside:
            try:
                av_frame = self._graph.vpull()
            except (BlockingIOError, EOFError):
                return
            frame = self._inside.popleft()
            av_frame.duration = frame.av_frame.duration  # the filter's unit is half as long
            frame.av_frame = av_frame
            yield frame
