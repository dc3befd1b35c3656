"""Areas of interest and the fraction of the attention that each one gets over time."""

from __future__ import annotations

import logging
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..video.reader import Frame
from .polygons import Attention, Points, covered
from .windows import Map

log = logging.getLogger("tinyhd")


@dataclass(frozen=True)
class Area:
    """A part of the picture with a name, which may move."""

    name: str
    times_s: tuple[float, ...]
    """Of the keyframes, ascending; between two of them the corners move evenly, outside they stand still."""
    corners: tuple[Points, ...]
    """Of each keyframe."""
    in_pixels: bool
    """Whether corners are pixels of the video, rather than shares of its sides."""

    def at(self, time_s: float, width: int, height: int) -> Points:
        """The corners at a time, in pixels of a video of this size."""
        after = bisect_right(self.times_s, time_s)
        if after == 0 or after == len(self.times_s):
            points = self.corners[max(after - 1, 0)]
        else:
            start, end = self.times_s[after - 1], self.times_s[after]
            share = (time_s - start) / (end - start)
            points = (1 - share) * self.corners[after - 1] + share * self.corners[after]
        return points if self.in_pixels else points * (width, height)

    def check(self, width: int, height: int) -> None:
        """Say if the area is hardly what is meant, in a video of this size.

        Raises:
            InputError: it lies outside the picture all the time.
        """
        every = np.vstack([self.at(time_s, width, height) for time_s in self.times_s])
        low, high = every.min(axis=0), every.max(axis=0)
        if (low >= (width, height)).any() or (high <= 0).any():
            raise InputError(f"--aoi {self.name}: lies outside the picture, which is {width} x {height} pixels")
        if (low < -0.5).any() or (high > np.array([width, height]) + 0.5).any():
            log.warning("--aoi %s: reaches over the edge of the picture; the part inside counts", self.name)
        if self.in_pixels and high.max() <= 100 and min(width, height) > 100:
            example = f"{self.name}=10%,10%,20%,20%"
            log.warning("--aoi %s: is in pixels, of %d x %d; percent are %s", self.name, width, height, example)


@dataclass
class AreaSummary:
    """An area over a whole video."""

    share: float = 0.0
    """Mean share of the attention, weighted by how long frames are shown."""
    size: float = 0.0
    """Mean share of the picture that it covers: what its share would be if attention were even."""
    most: float = 0.0
    """The greatest share."""
    most_at_s: float = 0.0
    first_s: float | None = None
    """When its share first reaches the threshold; None if it never does."""
    time_s: float = 0.0
    """How long its share is at or above the threshold."""
    peak_s: float = 0.0
    """How long the most salient point is in it."""


class AreaStatistics:
    """Areas over a video, frame by frame.

    Args:
        areas: what to measure.
        threshold: the share from which on an area counts as attended.
    """

    def __init__(self, areas: tuple[Area, ...], threshold: float) -> None:
        self.areas = areas
        self._threshold = threshold
        self._summaries = {area.name: AreaSummary() for area in areas}
        self._duration_s = 0.0
        self._latest: tuple[int, dict[str, float]] = (-1, {})

    def shares(self, frame: Frame, saliency: Map) -> dict[str, float]:
        """Each area's share of a frame's attention. Several outputs may ask, the frame counts once."""
        if self._latest[0] != frame.index:
            self._latest = (frame.index, self._add(frame, saliency))
        return self._latest[1]

    def _add(self, frame: Frame, saliency: Map) -> dict[str, float]:
        info = frame.info
        attention = Attention(saliency, info.width, info.height)
        duration_s = float(frame.duration * info.time_base)
        self._duration_s += duration_s
        shares = {}
        for area in self.areas:
            corners = area.at(frame.time_s, info.width, info.height)
            share = shares[area.name] = attention.share(corners)
            summary = self._summaries[area.name]
            summary.share += share * duration_s
            summary.size += covered(corners, info.width, info.height) * duration_s
            if share > summary.most:
                summary.most, summary.most_at_s = share, frame.time_s
            if share >= self._threshold:
                summary.time_s += duration_s
                summary.first_s = frame.time_s if summary.first_s is None else summary.first_s
            if attention.has_peak(corners):
                summary.peak_s += duration_s
        return shares

    def results(self) -> dict[str, dict[str, float | None]]:
        """Name to the summary's values, rounded for JSON."""
        found = {}
        for name, summary in self._summaries.items():
            duration_s = self._duration_s or 1.0
            values = {**vars(summary), "share": summary.share / duration_s, "size": summary.size / duration_s}
            found[name] = {key: None if value is None else round(value, 4) for key, value in values.items()}
        return found
