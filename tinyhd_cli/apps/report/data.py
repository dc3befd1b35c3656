"""Collect the data of a report while a video is read."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ...inference.areas import AreaStatistics
from ...inference.frame_samples import FrameSample, FrameSampler
from ...inference.normalization import RunningScale
from ...inference.statistics import MapStatistics, describe
from ...inference.windows import Map
from ...video.overlay import resize_image
from ...video.reader import Frame, Image, VideoInfo
from ...video.scenes import SceneDetector

DETECTION_WIDTH = 320
"""Width of the frames in which cuts are looked for, in pixels."""

FRAME_PIXELS = 640 * 400
"""Maximum size of the frames in a report: about twice their sides on the page, for dense screens."""

IMAGE_PIXELS = 1280 * 960
"""Maximum size of the image in a report about an image."""

MAX_SCENES = 40
"""Maximum number of scenes with an image. Only times are kept for later scenes, so that memory use is bounded."""

MAX_PIXEL_ASPECT = Fraction(8)
"""Limit on the pixel aspect ratio or its inverse; larger values are clipped."""

SETTLE_S = 0.5
"""Delay between a cut and the image of the new scene, in seconds. Viewers need about this long to move their gaze."""


@dataclass
class Scene:
    """The part of a video between two cuts."""

    start_s: float
    end_s: float = 0.0
    frames: int = 0
    attention: NDArray[np.float64] | None = None
    """Sum of the scene's maps, each of which sums to 1."""
    image: Image | None = None
    spread: float = 0.0
    """Sum of the spreads of the maps, in pixels."""


@dataclass
class ReportData:
    """The content of a report, collected frame by frame in bounded memory, apart from a few numbers per frame."""

    info: VideoInfo
    areas: AreaStatistics
    """The areas of interest and the attention on them."""
    times_s: list[float] = field(default_factory=list)
    spreads: list[float] = field(default_factory=list)
    centers: list[tuple[float, float]] = field(default_factory=list)
    shares: list[tuple[float, ...]] = field(default_factory=list)
    """Fraction of the attention on each area of interest, for each frame."""
    scenes: list[Scene] = field(default_factory=list)
    samples: FrameSampler = field(default_factory=FrameSampler)
    attention: NDArray[np.float64] | None = None
    """Sum of all maps, each of which sums to 1."""
    first: Image = field(default_factory=lambda: np.zeros((1, 1, 3), np.uint8))
    """The first frame, larger than the samples."""
    damaged: int = 0
    """Number of packets and frames that could not be decoded."""

    @property
    def end_s(self) -> float:
        """The end of the last frame."""
        return self.scenes[-1].end_s if self.scenes else 0.0

    @property
    def has_motion(self) -> bool:
        """Whether the video has more than one frame."""
        return len(self.times_s) > 1

    @property
    def spread(self) -> float:
        """The mean spread of the attention, in pixels."""
        return float(np.mean(self.spreads))

    @property
    def mean_map(self) -> NDArray[np.float64]:
        """The mean of all maps, which sums to 1."""
        assert self.attention is not None
        return self.attention / len(self.times_s)

    @property
    def middle(self) -> Image:
        """A frame from the middle of the video."""
        return self.samples.select(1, self.end_s)[0].image


class ReportCollector:
    """Adds frames and their maps to the data of a report, in order."""

    def __init__(self, data: ReportData) -> None:
        self._data = data
        self._scale = RunningScale()
        self._detector = SceneDetector()

    def add(self, frame: Frame, saliency: Map) -> None:
        """Add one frame."""
        data, info = self._data, frame.info
        small = frame.reduced_rgb(max(1.0, info.width / DETECTION_WIDTH))
        if not data.times_s:
            data.first = reduced(frame, IMAGE_PIXELS)
        scaled = self._scale(saliency, frame.time_s)
        statistics = describe(saliency, info.width, info.height)
        data.times_s.append(frame.time_s)
        data.spreads.append(statistics.spread)
        data.centers.append((statistics.centroid_x, statistics.centroid_y))
        data.shares.append(tuple(data.areas.shares(frame, saliency).values()))
        attention = saliency / max(float(saliency.sum()), 1e-12)
        data.attention = attention.astype(np.float64) if data.attention is None else data.attention + attention
        if self._detector.is_cut(small) or not data.scenes:
            data.scenes.append(Scene(frame.time_s))
        self._add_to_scene(data.scenes[-1], frame, attention, statistics)
        if data.samples.is_due(frame.time_s):
            data.samples.add(FrameSample(frame.time_s, reduced(frame, FRAME_PIXELS), scaled))

    def _add_to_scene(
        self, scene: Scene, frame: Frame, attention: NDArray[np.float32], statistics: MapStatistics
    ) -> None:
        scene.end_s = frame.time_s + float(frame.duration * frame.info.time_base)
        scene.frames += 1
        scene.spread += statistics.spread
        if len(self._data.scenes) > MAX_SCENES:
            return
        scene.attention = attention.astype(np.float64) if scene.attention is None else scene.attention + attention
        if scene.image is None or frame.time_s <= scene.start_s + SETTLE_S:
            scene.image = reduced(frame, FRAME_PIXELS)


def reduced(frame: Frame, pixels: int) -> Image:
    """Return a frame with square pixels, reduced to about a number of stored pixels before that."""
    info = frame.info
    factor = max(1.0, math.sqrt(info.width * info.height / pixels))
    return square_pixels(frame.reduced_rgb(factor), pixel_aspect(info))


def diagonal(info: VideoInfo) -> float:
    """Return the length of the diagonal of a frame, in pixels."""
    return float(np.hypot(info.width, info.height))


def pixel_aspect(info: VideoInfo) -> Fraction:
    """Return the pixel aspect ratio of a video, clipped to a reasonable range."""
    return min(max(info.sample_aspect_ratio, 1 / MAX_PIXEL_ASPECT), MAX_PIXEL_ASPECT)


def square_pixels(image: Image, aspect: Fraction) -> Image:
    """Enlarge an image, whose pixels are ``aspect`` times as wide as high, so that its pixels are square."""
    if aspect == 1:
        return image
    height, width = image.shape[:2]
    return resize_image(image, round(width * max(aspect, 1)), round(height / min(aspect, 1)))
