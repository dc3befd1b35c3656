"""From a network's output to brightness.

The networks answer with small numbers whose size depends on the weights (peaks near 0.05 for those trained on DHF1K),
so maps must be scaled to be seen. Scaling each frame by itself flickers; the default follows the video slowly.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol

import numpy as np

from .windows import Map

Normalize = Literal["running", "video", "frame", "none"]
NORMALIZE: tuple[Normalize, ...] = ("running", "video", "frame", "none")

LOW, HIGH = 0.05, 0.998
"""Quantiles that count as black and white of one frame: about 100 of the map's 49,152 values are brighter."""

TIME_CONSTANT_S = 2.0
"""Seconds in which the running scale takes two thirds of a step."""

EPS = 1e-12


class Scale(Protocol):
    """Maps to 0..1, frame by frame."""

    def __call__(self, saliency: Map, time_s: float) -> Map:
        """The map of a frame at ``time_s`` seconds, scaled."""
        ...


def limits(saliency: Map) -> tuple[float, float]:
    """Robust lowest and highest value of a map."""
    return quantile(saliency, LOW), quantile(saliency, HIGH)


def quantile(values: Map, share: float) -> float:
    """The value below which a share of all is, interpolated: ``numpy.quantile``, which takes seven times as long."""
    position = share * (values.size - 1)
    index = int(position)
    parted = np.partition(values, index, axis=None)
    at, above = float(parted[index]), float(parted[index + 1 :].min(initial=np.inf))
    return at + (position - index) * (above - at) if position > index else at


def stretch(saliency: Map, low: float, high: float) -> Map:
    """``low`` to 0, ``high`` to 1, clipped."""
    scaled: Map = np.clip((saliency - low) / max(high - low, EPS), 0, 1).astype(np.float32, copy=False)
    return scaled


class RunningScale:
    """Robust limits that follow the video with a time constant; the first frame sets them."""

    def __init__(self) -> None:
        self._limits: tuple[float, float] | None = None
        self._time_s = 0.0

    def __call__(self, saliency: Map, time_s: float) -> Map:
        """The map, scaled by what was seen so far."""
        low, high = limits(saliency)
        if self._limits is not None:
            weight = 1 - math.exp(-max(time_s - self._time_s, 0) / TIME_CONSTANT_S)
            low = self._limits[0] + weight * (low - self._limits[0])
            high = self._limits[1] + weight * (high - self._limits[1])
        self._limits, self._time_s = (low, high), time_s
        return stretch(saliency, low, high)


class FixedScale:
    """One scale for the whole video."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def __call__(self, saliency: Map, time_s: float) -> Map:
        """The map, scaled."""
        return stretch(saliency, self.low, self.high)


class VideoLimits:
    """Collects the robust limits of all frames of a video."""

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf

    def add(self, saliency: Map) -> None:
        """Take one frame into account."""
        low, high = limits(saliency)
        self.low, self.high = min(self.low, low), max(self.high, high)

    def scale(self) -> FixedScale:
        """The scale that shows all of them."""
        return FixedScale(self.low, self.high)


def per_frame(saliency: Map, time_s: float) -> Map:
    """Each frame from its minimum to its maximum: what benchmarks expect of map files, and what flickers in a video."""
    return stretch(saliency, float(saliency.min()), float(saliency.max()))


def unscaled(saliency: Map, time_s: float) -> Map:
    """The network's output as it is."""
    return saliency


def make_scale(normalize: Normalize, whole_video: FixedScale | None = None) -> Scale:
    """The scale of a name; ``video`` needs the limits of the whole video."""
    if normalize == "video":
        if whole_video is None:
            raise ValueError("normalize='video' needs the scale of the whole video")
        return whole_video
    if normalize == "running":
        return RunningScale()
    return per_frame if normalize == "frame" else unscaled
