"""List the frames of a video without decoding them, so that it can be read from any frame on."""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .container import ContainerDecoder
from .options import InputOptions

Numbers = NDArray[np.int64]

MARGIN = 2
"""Minimum number of frames between a keyframe and the first frame that is used: deinterlacing needs neighbors."""


@dataclass(frozen=True)
class FrameIndex:
    """The frames of a video in display order, according to its container.

    A packet need not give a frame: it may be damaged, or hold half a frame. So whoever seeks with the index compares
    the timestamps of decoded frames with it (see :class:`~.part_reader.PartReader`).
    """

    pts: Numbers
    """Timestamp of each frame; if they are not reliable, of as many evenly spaced frames as there are packets."""
    keyframes: Numbers
    """Numbers of the frames at which decoding can start, ascending; empty if they are not known."""
    seek_times: Numbers
    """Timestamp to seek to for each of them: its decoding time, in the time base of the stream."""
    time_base: Fraction

    @property
    def is_exact(self) -> bool:
        """Whether the timestamps are those of the frames."""
        return len(self.keyframes) > 0

    @property
    def length_s(self) -> float:
        """Seconds from the first frame to the last."""
        return self.time_s(len(self.pts) - 1) - self.time_s(0)

    def time_s(self, number: int) -> float:
        """Return the time of a frame in seconds."""
        return float(self.pts[number] * self.time_base)

    def first_at(self, time_s: float) -> int:
        """Return the number of the first frame at or after a time in seconds; the number of frames if there is none."""
        return int(np.searchsorted(self.pts, time_s / float(self.time_base)))

    def seek_for(self, number: int) -> int | None:
        """Return the time to seek to before a frame is decoded; None if decoding starts at the first frame."""
        before = bisect_right(self.keyframes.tolist(), number - MARGIN) - 1
        return None if before < 1 else int(self.seek_times[before])

    def without_seeking(self) -> FrameIndex:
        """Return the same frames, to be decoded from the start of the video."""
        none = np.empty(0, np.int64)
        return FrameIndex(self.pts, none, none, self.time_base)


def read_index(path: Path, options: InputOptions, longer_than_s: float = 0.0) -> FrameIndex | None:
    """Read the index of a video's frames: one pass over its packets, without decoding.

    Args:
        path: the file.
        options: properties of the input that it does not contain.
        longer_than_s: return None for a video that claims not to be longer, in seconds.

    Raises:
        InputError: the video cannot be read.
    """
    with contextlib.closing(ContainerDecoder(path, options)) as decoder:
        if decoder.frame_count is not None and decoder.frame_count <= longer_than_s * decoder.rate:
            return None
        packets = list(decoder.packet_times())
        if not packets:
            raise InputError(f"{path}: no frame could be decoded; the file is damaged or not supported")
        times = [pts for pts, _, _ in packets if pts is not None]
        none = np.empty(0, np.int64)
        if not decoder.can_seek or len(set(times)) < len(packets):
            step = 1 / (decoder.rate * decoder.time_base)
            evenly = np.array([round(number * step) for number in range(len(packets))], np.int64)
            return FrameIndex(evenly, none, none, decoder.time_base)
        pts = np.array(sorted(times), np.int64)
        keys = sorted((shown, time) for shown, time, is_key in packets if is_key and shown is not None)
        numbers = np.searchsorted(pts, [shown for shown, _ in keys]).astype(np.int64)
        seek_times = np.array([time for _, time in keys], np.int64)
        return FrameIndex(pts, numbers, seek_times, decoder.time_base)
