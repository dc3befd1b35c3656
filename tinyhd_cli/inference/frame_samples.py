"""Select frames evenly spread over a video of unknown length, while it is read."""

from __future__ import annotations

from dataclasses import dataclass

from ..video.reader import Image
from .windows import Map

MAX_KEPT = 48
"""Maximum number of frames in memory, so that memory does not grow with the length of the video."""


@dataclass(frozen=True)
class Still:
    """A frame at reduced size, with its map."""

    time_s: float
    image: Image
    saliency: Map
    """Scaled to 0..1."""


class Stills:
    """Keeps frames that are spread about evenly over a video.

    The container's number of frames is not used, because it may be missing or wrong. At first, every frame is kept.
    Whenever there are too many, every second frame is removed and the interval doubles.
    """

    def __init__(self) -> None:
        self._kept: list[Still] = []
        self._step_s = 0.0

    def wants(self, time_s: float) -> bool:
        """Return whether to keep the frame at this time."""
        return not self._kept or time_s >= self._kept[-1].time_s + self._step_s

    def add(self, still: Still) -> None:
        """Keep a frame; times must increase."""
        self._kept.append(still)
        if len(self._kept) > MAX_KEPT:
            self._step_s = 2 * (still.time_s - self._kept[0].time_s) / MAX_KEPT
            kept = self._kept[:1]
            for later in self._kept[1:]:
                if later.time_s >= kept[-1].time_s + self._step_s:
                    kept.append(later)
            self._kept = kept

    def chosen(self, count: int, end_s: float) -> list[Still]:
        """Return at most ``count`` frames, nearest to the middles of equal parts of the time up to ``end_s``."""
        if len(self._kept) <= count:
            return list(self._kept)
        first_s = self._kept[0].time_s
        middles = [first_s + (end_s - first_s) * (number + 0.5) / count for number in range(count)]
        nearest = [min(self._kept, key=lambda still: abs(still.time_s - middle)) for middle in middles]
        return list({still.time_s: still for still in nearest}.values())
