"""Areas of interest, and the fraction of the attention on each of them over time."""

from __future__ import annotations

import functools
import logging
from bisect import bisect_right
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from ..video.reader import Frame
from .polygons import Attention, Points, covered_fraction
from .windows import Map

log = logging.getLogger("tinyhd")


@dataclass(frozen=True)
class Area:
    """A named part of the frame, which may move."""

    name: str
    times_s: tuple[float, ...]
    """Times of the keyframes, ascending. Corners are interpolated linearly between keyframes and constant outside."""
    corners: tuple[Points, ...]
    """Corners at each keyframe."""
    in_pixels: bool
    """Whether corners are in pixels; otherwise they are fractions of the frame's width and height."""
    percent_advice: str = ""
    """Text that gives the area in percent, for the warning about its unit; empty if the unit is stated explicitly."""
    drawn_on: tuple[float, float] | None = None
    """Width and height of the picture on which the area was drawn, such as an SVG's; None if unknown."""

    def at(self, time_s: float, width: int, height: int) -> Points:
        """Return the corners at a time, in pixels of a video of this size."""
        after = bisect_right(self.times_s, time_s)
        if after == 0 or after == len(self.times_s):
            points = self.corners[max(after - 1, 0)]
        else:
            start, end = self.times_s[after - 1], self.times_s[after]
            weight = (time_s - start) / (end - start)
            points = (1 - weight) * self.corners[after - 1] + weight * self.corners[after]
        return points if self.in_pixels else points * (width, height)

    def check(self, width: int, height: int) -> None:
        """Warn about an area that is probably a mistake for a video of this size.

        Raises:
            InputError: the area is always outside the frame.
        """
        points = np.vstack([self.at(time_s, width, height) for time_s in self.times_s])
        low, high = points.min(axis=0), points.max(axis=0)
        if (low >= (width, height)).any() or (high <= 0).any():
            raise InputError(f"--aoi {self.name}: is outside the frame, which is {width} x {height} pixels")
        if (low < -0.5).any() or (high > np.array([width, height]) + 0.5).any():
            log.warning("--aoi %s: extends beyond the frame; only the part inside is used", self.name)
        if self.drawn_on is not None and not same_shape(self.drawn_on, (width, height)):
            warn_of_shape(self.drawn_on, (width, height))
        if self.percent_advice and high.max() <= 100 and min(width, height) > 100:
            size = f"{width} x {height}"
            log.warning("--aoi %s: read as pixels of %s; for percent, %s", self.name, size, self.percent_advice)


def same_shape(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Return whether two sizes, each width and height, have the same aspect ratio up to 1 %."""
    return abs(one[0] * other[1] / (one[1] * other[0]) - 1) <= 0.01


@functools.cache
def warn_of_shape(drawn_on: tuple[float, float], frame: tuple[int, int]) -> None:
    """Log a warning that areas do not have the shape of the frame, once for all areas of a drawing."""
    sizes = ("{:g} x {:g}".format(*size) for size in (drawn_on, frame))
    log.warning("--aoi: areas drawn on %s are stretched to the frame, which is %s pixels", *sizes)


@dataclass
class AreaSummary:
    """The attention on one area over a whole video. The fields are also the keys of the JSON output."""

    share: float = 0.0
    """Mean fraction of the attention, weighted by the duration of each frame."""
    size: float = 0.0
    """Mean fraction of the frame that the area covers; equals ``share`` if attention is uniform."""
    most: float = 0.0
    """Maximum fraction of the attention in a frame."""
    most_at_s: float = 0.0
    """Time of that frame."""
    first_s: float | None = None
    """Time at which the fraction first reaches the threshold; None if it never does."""
    time_s: float = 0.0
    """Total duration of the frames whose fraction is at or above the threshold."""
    peak_s: float = 0.0
    """Total duration of the frames whose most salient point is inside the area."""


class AreaShare(NamedTuple):
    """The attention on one area in one frame."""

    share: float
    """Fraction of the attention."""
    size: float
    """Fraction of the frame that the area covers."""
    has_peak: bool
    """Whether the most salient point is inside."""


class AreaStatistics:
    """Accumulates the attention on areas of interest, frame by frame.

    With object maps, the fraction of the object inside each area is measured instead, each of its pixels weighted by
    its probability; it is 0 in frames without an object.

    Args:
        areas: the areas to measure.
        threshold: fraction of a frame's attention from which an area counts as attended.
        object_threshold: of object maps, the probability above which a pixel is part of the object; None for maps of
            where people look.

    Attributes:
        subject: the quantity that the fractions are of, in words.
        measured: the attention on each area in the latest frame.
    """

    def __init__(self, areas: tuple[Area, ...], threshold: float, object_threshold: float | None = None) -> None:
        self.areas = areas
        self.subject = "attention" if object_threshold is None else "object"
        self._threshold = threshold
        self._object_threshold = object_threshold
        self._summaries = {area.name: AreaSummary() for area in areas}
        self._sizes: dict[str, float] = {}
        self._duration_s = 0.0
        self._latest: tuple[int, dict[str, float]] = (-1, {})
        self.measured: list[AreaShare] = []

    def shares(self, frame: Frame, saliency: Map) -> dict[str, float]:
        """Return the fraction of a frame's attention on each area, by name.

        Several outputs may call this for the same frame, which is counted once.
        """
        if self._latest[0] != frame.index:
            self._latest = (frame.index, self._add(frame, saliency))
        return self._latest[1]

    def _add(self, frame: Frame, saliency: Map) -> dict[str, float]:
        if not self.areas:
            return {}
        duration_s = float(frame.duration * frame.info.time_base)
        self._duration_s += duration_s
        self.measured = self._measure(frame, saliency)
        for area, (share, size, has_peak) in zip(self.areas, self.measured, strict=True):
            summary = self._summaries[area.name]
            summary.share += share * duration_s
            summary.size += size * duration_s
            if share > summary.most:
                summary.most, summary.most_at_s = share, frame.time_s
            if share >= self._threshold:
                summary.time_s += duration_s
                summary.first_s = frame.time_s if summary.first_s is None else summary.first_s
            if has_peak:
                summary.peak_s += duration_s
        return {area.name: found.share for area, found in zip(self.areas, self.measured, strict=True)}

    def _measure(self, frame: Frame, saliency: Map) -> list[AreaShare]:
        """Return the attention on each area in one frame."""
        info = frame.info
        if self._object_threshold is not None:
            saliency = np.where(saliency > self._object_threshold, saliency, 0)
        attention = Attention(saliency, info.width, info.height)
        measured = []
        for area in self.areas:
            corners = area.at(frame.time_s, info.width, info.height)
            if area.name not in self._sizes or len(area.times_s) > 1:
                self._sizes[area.name] = covered_fraction(corners, info.width, info.height)
            has_peak = attention.total > 0 and attention.has_peak(corners)
            measured.append(AreaShare(attention.share(corners), self._sizes[area.name], has_peak))
        return measured

    def results(self) -> dict[str, dict[str, float | None]]:
        """Return the values of each area's :class:`AreaSummary` by the area's name, rounded for JSON."""
        results = {}
        for name, summary in self._summaries.items():
            duration_s = self._duration_s or 1.0
            values = {**vars(summary), "share": summary.share / duration_s, "size": summary.size / duration_s}
            results[name] = {key: None if value is None else round(value, 4) for key, value in values.items()}
        return results
