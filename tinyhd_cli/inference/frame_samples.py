"""Sample frames evenly from a video of unknown length while it is read."""

from __future__ import annotations

from dataclasses import dataclass

from ..video.reader import Image
from .windows import Map

MAX_KEPT = 48
"""Maximum number of frames in memory, so that memory does not grow with the length of the video."""


@dataclass(frozen=True)
class FrameSample:
    """A frame at reduced size with its saliency map."""

    time_s: float
    image: Image
    saliency: Map
    """Scaled to 0 to 1."""


class FrameSampler:
    """Keeps frames at approximately even intervals over a video.

    The frame count in the container is not used, because it may be missing or wrong. Initially, every frame is kept.
    When there are too many, every second frame is removed and the interval doubles.
    """

    def __init__(self) -> None:
        self._kept: list[FrameSample] = []
        self._step_s = 0.0

    def is_due(self, time_s: float) -> bool:
        """Return whether the frame at this time should be added."""
        return not self._kept or time_s >= self._kept[-1].time_s + self._step_s

    def add(self, sample: FrameSample) -> None:
        """Add a frame; times must increase."""
        self._kept.append(sample)
        if len(self._kept) > MAX_KEPT:
            self._step_s = 2 * (sample.time_s - self._kept[0].time_s) / MAX_KEPT
            kept = self._kept[:1]
            for later in self._kept[1:]:
                if later.time_s >= kept[-1].time_s + self._step_s:
                    kept.append(later)
            self._kept = kept

    def select(self, count: int, end_s: float) -> list[FrameSample]:
        """Return the frames nearest to the middles of ``count`` equal parts of the time until ``end_s``, each once."""
        if len(self._kept) <= count:
            return list(self._kept)
        first_s = self._kept[0].time_s
        middles = [first_s + (end_s - first_s) * (number + 0.5) / count for number in range(count)]
        nearest = [min(self._kept, key=lambda sample: abs(sample.time_s - middle)) for middle in middles]
        return list({sample.time_s: sample for sample in nearest}.values())
