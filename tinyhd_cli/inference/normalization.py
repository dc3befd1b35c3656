"""Scale saliency maps for display.

Networks output small values whose range depends on the weights (peaks near 0.05 for weights trained on DHF1K), so maps
must be scaled to be visible. Scaling each frame separately flickers; the default scale follows the video slowly.
"""

from __future__ import annotations

import copy
import math
from typing import Literal, Protocol

import numpy as np

from .windows import Map

Normalize = Literal["running", "video", "frame", "none"]
NORMALIZE: tuple[Normalize, ...] = ("running", "video", "frame", "none")

LOW, HIGH = 0.05, 0.998
"""Quantiles of a map that are shown as black and white. About 100 of 192 x 256 values exceed the upper one."""

TIME_CONSTANT_S = 2.0
"""Time constant of the running scale in seconds: the time in which it follows 63 % of a step."""

WARM_UP_S = 56.0
"""Time in seconds after which a running scale is that of any earlier start: of a difference between their limits,
exp(-28) or 7e-13 remains. A larger one would move single pixels to the next entry of a color map."""

EPS = 1e-12


class Scale(Protocol):
    """A function that scales the maps of consecutive frames to 0 to 1."""

    def __call__(self, saliency: Map, time_s: float) -> Map:
        """Return the scaled map of the frame at ``time_s`` seconds."""
        ...


def limits(saliency: Map) -> tuple[float, float]:
    """Return robust estimates of the minimum and maximum of a map."""
    return quantile(saliency, LOW), quantile(saliency, HIGH)


def quantile(values: Map, fraction: float) -> float:
    """Return a quantile with linear interpolation, as ``numpy.quantile`` does, in a seventh of its time."""
    position = fraction * (values.size - 1)
    index = int(position)
    parted = np.partition(values, index, axis=None)
    at, above = float(parted[index]), float(parted[index + 1 :].min(initial=np.inf))
    return at + (position - index) * (above - at) if position > index else at


def stretch(saliency: Map, low: float, high: float) -> Map:
    """Map ``low`` to 0 and ``high`` to 1 linearly, and clip."""
    scaled: Map = np.clip((saliency - low) / max(high - low, EPS), 0, 1).astype(np.float32, copy=False)
    return scaled


class RunningScale:
    """A scale with robust limits that follow the video; the first frame initializes them."""

    def __init__(self) -> None:
        self._limits: tuple[float, float] | None = None
        self._time_s = 0.0

    def __call__(self, saliency: Map, time_s: float) -> Map:
        """Update the limits with a map and return the scaled map."""
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
        """Return the scaled map."""
        return stretch(saliency, self.low, self.high)


class VideoLimits:
    """Collects the robust limits of all frames of a video."""

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf

    def add(self, saliency: Map) -> None:
        """Add the limits of one frame."""
        low, high = limits(saliency)
        self.low, self.high = min(self.low, low), max(self.high, high)

    def scale(self) -> FixedScale:
        """Return the scale whose limits include those of all frames."""
        return FixedScale(self.low, self.high)


def per_frame(saliency: Map, time_s: float) -> Map:
    """Scale a frame from its minimum to its maximum. Benchmarks expect this of map files; in a video it flickers."""
    return stretch(saliency, float(saliency.min()), float(saliency.max()))


def unscaled(saliency: Map, time_s: float) -> Map:
    """Return the raw map."""
    return saliency


def make_scale(
    normalize: Normalize, whole_video: FixedScale | None = None, warmed: RunningScale | None = None
) -> Scale:
    """Return a new scale for a normalization.

    Args:
        normalize: how maps are scaled.
        whole_video: the scale of the whole video, which ``video`` requires.
        warmed: a running scale that has seen the frames before; None at the start of a video.
    """
    if normalize == "video":
        if whole_video is None:
            raise ValueError("normalize='video' needs the scale of the whole video")
        return whole_video
    if normalize == "running":
        return copy.copy(warmed) if warmed else RunningScale()
    return per_frame if normalize == "frame" else unscaled
