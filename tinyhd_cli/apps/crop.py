"""Another aspect ratio: a crop window that follows the attention, as a camera operator would move it."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..callbacks import StartPhase, no_phases
from ..inference.io_paths import check_two_passes
from ..inference.model import Model
from ..inference.options import Outputs
from ..inference.predict import Summary, saliency_of
from ..inference.windows import Map
from ..video.overlay import resize_image
from ..video.reader import VideoInfo, VideoReader
from ..video.scenes import SceneDetector
from ..video.writer import VideoWriter
from .options import CropOptions

log = logging.getLogger("tinyhd")

Track = NDArray[np.float64]
"""A position for each frame."""

STILL = 0.1
"""If what is wanted moves less than this share of the window during a scene, the window stands still."""


SOFT = 2.0
"""A picture that is enlarged by more than this is worth a warning."""


@dataclass(frozen=True)
class Window:
    """The size of a crop window, in pixels, and which way it can move."""

    width: int
    height: int
    horizontal: bool
    """Whether it moves from side to side, rather than up and down."""
    room: int
    """How far it can move."""

    @classmethod
    def of(cls, info: VideoInfo, aspect: Fraction) -> Window:
        """The largest window of an aspect ratio that fits into the frames of a video. Its sides are even."""
        stored = aspect / info.sample_aspect_ratio
        if stored * info.height <= info.width:
            width = max(2, min(info.width, round(stored * info.height / 2) * 2))
            return cls(width, info.height, True, info.width - width)
        height = max(2, min(info.height, round(info.width / stored / 2) * 2))
        return cls(info.width, height, False, info.height - height)

    def best(self, saliency: Map) -> float:
        """Where the window holds most of a map's attention: pixels from the left, or from the top."""
        along = saliency.sum(axis=0 if self.horizontal else 1, dtype=np.float64)
        side = self.width if self.horizontal else self.height
        pixels = np.interp(
            (np.arange(side + self.room) + 0.5) * len(along) / (side + self.room) - 0.5, np.arange(len(along)), along
        )
        before = np.concatenate([[0.0], np.cumsum(pixels)])
        inside = before[side:] - before[: self.room + 1]
        # Of windows that are as good, the one nearest to the center of attention: plateaus are common.
        good = np.flatnonzero(inside >= inside.max() * (1 - 1e-3))
        center = float(np.arange(len(pixels)) @ pixels / max(pixels.sum(), 1e-12)) - side / 2
        return float(good[np.abs(good - center).argmin()])


@dataclass
class TargetTrack:
    """Where the window should be in each frame, before anything is smoothed."""

    times_s: list[float] = field(default_factory=list)
    positions: list[float] = field(default_factory=list)
    cuts: list[bool] = field(default_factory=list)


def path_of(wanted: TargetTrack, window: Window, options: CropOptions) -> Track:
    """The window's position in each frame: smooth, never too fast, and jumping where the scene changes."""
    times, positions = np.array(wanted.times_s), np.array(wanted.positions)
    starts = [0, *np.flatnonzero(wanted.cuts), len(times)]
    path = np.empty_like(positions)
    side = window.width if window.horizontal else window.height
    limit = options.max_speed * (side + window.room)
    for first, end in pairwise(starts):
        if first < end:
            scene = slice(first, end)
            path[scene] = smooth(times[scene], positions[scene], options.smooth_s, limit, STILL * side)
    clipped: Track = np.clip(path, 0, window.room)
    return clipped


def smooth(times_s: Track, positions: Track, smooth_s: float, max_speed: float, still: float) -> Track:
    """A track without hasty movements.

    Args:
        times_s: of each position.
        positions: to be followed.
        smooth_s: sigma of the Gaussian that is run over them.
        max_speed: positions a second.
        still: a track that moves less than this stands still.
    """
    middle = np.median(positions)
    if smooth_s > 0:
        positions = blurred(times_s, positions, smooth_s)
    if np.ptp(positions) < still:
        return np.full_like(positions, middle)
    forwards, backwards = positions.copy(), positions.copy()
    for index in range(1, len(positions)):
        reach = max_speed * (times_s[index] - times_s[index - 1])
        forwards[index] = np.clip(positions[index], forwards[index - 1] - reach, forwards[index - 1] + reach)
    for index in range(len(positions) - 2, -1, -1):
        reach = max_speed * (times_s[index + 1] - times_s[index])
        backwards[index] = np.clip(positions[index], backwards[index + 1] - reach, backwards[index + 1] + reach)
    # Each alone lags or leads; the mean does neither, and is no faster than the two.
    mean: Track = (forwards + backwards) / 2
    return mean


def blurred(times_s: Track, positions: Track, sigma_s: float) -> Track:
    """Positions averaged with Gaussian weights in time; at the ends as if they stood still there."""
    step = max(float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0, 1e-3)
    even = np.arange(times_s[0], times_s[-1] + step, step)
    resampled = np.interp(even, times_s, positions)
    reach = max(1, round(3 * sigma_s / step))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / sigma_s) ** 2)
    padded = np.pad(resampled, reach, mode="edge")
    softened = np.convolve(padded, kernel / kernel.sum(), mode="valid")
    track: Track = np.interp(times_s, even, softened)
    return track


def crop_file(
    video: Path,
    model: Model,
    output: Path,
    options: CropOptions | None = None,
    progress: StartPhase | None = None,
) -> Summary:
    """Crop a video to another aspect ratio, in two passes: one to see where people look, one to cut.

    Args:
        video: the source.
        model: predicts where people look.
        output: the file to write.
        options: shape, motion and encoding; None: the defaults.
        progress: told what is being done; gives what to call as its frames are done.

    Raises:
        InputError: the video cannot be read; nothing is written.
        OutputError: the output cannot be written; nothing half-written is left.
        UsageError: the output would overwrite the video, or has no container that is known.
    """
    options = options or CropOptions()
    check_two_passes(video, output)
    phase = progress or no_phases
    wanted = TargetTrack()
    detector = SceneDetector()
    with VideoReader(video, options.input) as reader:
        window = Window.of(reader.info, options.shape)
        if options.size and options.size[0] > SOFT * window.width:
            shape = f"{window.width} x {window.height} enlarged to {options.size[0]} x {options.size[1]}"
            log.warning("%s: %s will look soft", output.name, shape)
        seen = phase("looking")
        with contextlib.closing(saliency_of(reader, model)) as pairs:
            for frame, saliency in pairs:
                wanted.times_s.append(frame.time_s)
                wanted.positions.append(window.best(saliency))
                wanted.cuts.append(detector.is_cut(frame.reduced_rgb(max(1.0, frame.info.width / 256))))
                seen(frame.index + 1, max(reader.frame_count or 0, frame.index + 1))
    path = path_of(wanted, window, options)
    written = phase("writing")
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(VideoReader(video, options.input))
        size = options.size or (window.width, window.height)
        info = replace(reader.info, sample_aspect_ratio=Fraction(1)) if options.size else reader.info
        writer = VideoWriter(output, info, size, options.encoder, audio=options.audio, keep_source_colors=True)
        stack.callback(writer.abort)
        duration_s = 0.0
        for frame, offset in zip(reader, path, strict=False):  # a damaged file may decode to one frame more or less
            at = round(float(offset))
            x, y = (at, 0) if window.horizontal else (0, at)
            writer.write(resize_image(writer.rgb_of(frame)[y : y + window.height, x : x + window.width], *size), frame)
            duration_s = frame.time_s + float(frame.duration * reader.info.time_base)
            written(frame.index + 1, len(path))
        writer.close()
    return Summary(len(path), reader.damaged, duration_s, Outputs(overlay=output))
