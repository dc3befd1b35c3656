"""Crop a video to another aspect ratio with a window that follows the attention, or the object, smoothly."""

from __future__ import annotations

import contextlib
import logging
import math
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..callbacks import OnProgress, StartPhase, no_phases
from ..inference.io_paths import check_two_passes
from ..inference.model import Model
from ..inference.objects import ObjectStatistics, describe_object
from ..inference.options import Outputs
from ..inference.predict import Summary, saliency_of
from ..inference.windows import Map
from ..video.options import OBJECT_THRESHOLD
from ..video.overlay import resize_image
from ..video.reader import VideoInfo, VideoReader
from ..video.scenes import SceneDetector
from ..video.writer import VideoWriter
from .options import CropOptions

log = logging.getLogger("tinyhd")

Track = NDArray[np.float64]
"""One position per frame."""

MIN_MOTION = 0.1
"""Fraction of the window's side. If the target moves less than this in a scene, the window stays fixed."""

MAX_ENLARGEMENT = 2.0
"""Enlargement above which a warning is logged, because the result is visibly soft."""


@dataclass(frozen=True)
class CropWindow:
    """The size of a crop window in pixels, and the direction and range of its motion."""

    width: int
    height: int
    horizontal: bool
    """Whether the window moves horizontally; otherwise vertically."""
    room: int
    """Maximum position; the minimum is 0."""

    @classmethod
    def of(cls, info: VideoInfo, aspect: Fraction) -> CropWindow:
        """Return the largest window with a display aspect ratio that fits into a video's frames. Its sides are even."""
        stored = aspect / info.sample_aspect_ratio
        if stored * info.height <= info.width:
            width = max(2, min(info.width, round(stored * info.height / 2) * 2))
            return cls(width, info.height, True, info.width - width)
        height = max(2, min(info.height, round(info.width / stored / 2) * 2))
        return cls(info.width, height, False, info.height - height)

    def best(self, saliency: Map) -> float:
        """Return the position with the most attention inside the window, in pixels from the left or the top."""
        profile = saliency.sum(axis=0 if self.horizontal else 1, dtype=np.float64)
        side = self.width if self.horizontal else self.height
        pixels = np.interp(
            (np.arange(side + self.room) + 0.5) * len(profile) / (side + self.room) - 0.5,
            np.arange(len(profile)),
            profile,
        )
        before = np.concatenate([[0.0], np.cumsum(pixels)])
        inside = before[side:] - before[: self.room + 1]
        # Many windows are often equally good. Choose the one nearest to the center of attention.
        good = np.flatnonzero(inside >= inside.max() * (1 - 1e-3))
        center = float(np.arange(len(pixels)) @ pixels / max(pixels.sum(), 1e-12)) - side / 2
        return float(good[np.abs(good - center).argmin()])

    def around(self, found: ObjectStatistics) -> float:
        """Return the position that shows the whole object if it fits, near the middle; NaN if there is no object."""
        if found.box_x is None or found.box_y is None or found.center_x is None or found.center_y is None:
            return math.nan
        start, length, center = found.box_y, found.box_height or 0, found.center_y
        if self.horizontal:
            start, length, center = found.box_x, found.box_width or 0, found.center_x
        side = self.width if self.horizontal else self.height
        low, high = sorted((start, start + length - side))  # if it does not fit, the window stays inside the object
        return float(np.clip(np.clip(center + 0.5 - side / 2, low, high), 0, self.room))


@dataclass
class TargetTrack:
    """The best position of the window in each frame, before smoothing."""

    times_s: list[float] = field(default_factory=list)
    positions: list[float] = field(default_factory=list)
    """NaN in frames without an object."""
    cuts: list[bool] = field(default_factory=list)


def window_path(targets: TargetTrack, window: CropWindow, options: CropOptions) -> Track:
    """Return the window's position in each frame: smooth and of limited speed within scenes, with jumps at cuts."""
    times, positions = np.array(targets.times_s), np.array(targets.positions)
    starts = [0, *np.flatnonzero(targets.cuts), len(times)]
    path = np.empty_like(positions)
    side = window.width if window.horizontal else window.height
    limit = options.max_speed * (side + window.room)
    for first, end in pairwise(starts):
        if first < end:
            scene = slice(first, end)
            targets_held = held(positions[scene], window.room / 2)
            path[scene] = smooth(times[scene], targets_held, options.smooth_s, limit, MIN_MOTION * side)
    clipped: Track = np.clip(path, 0, window.room)
    return clipped


def held(positions: Track, middle: float) -> Track:
    """Replace NaN by the last position before it, else by the first one after it; ``middle`` if there are only NaN."""
    known = np.flatnonzero(~np.isnan(positions))
    if not len(known):
        return np.full_like(positions, middle)
    before = np.searchsorted(known, np.arange(len(positions)), side="right") - 1
    track: Track = positions[known[np.maximum(before, 0)]]
    return track


def smooth(times_s: Track, positions: Track, smooth_s: float, max_speed: float, min_motion: float) -> Track:
    """Smooth a track and limit its speed.

    Args:
        times_s: the time of each position.
        positions: the track.
        smooth_s: standard deviation of the Gaussian filter, in seconds.
        max_speed: maximum speed in pixels per second.
        min_motion: a track whose range is smaller than this becomes constant.
    """
    middle = np.median(positions)
    if smooth_s > 0:
        positions = gaussian_filter(times_s, positions, smooth_s)
    if np.ptp(positions) < min_motion:
        return np.full_like(positions, middle)
    forwards, backwards = positions.copy(), positions.copy()
    for index in range(1, len(positions)):
        reach = max_speed * (times_s[index] - times_s[index - 1])
        forwards[index] = np.clip(positions[index], forwards[index - 1] - reach, forwards[index - 1] + reach)
    for index in range(len(positions) - 2, -1, -1):
        reach = max_speed * (times_s[index + 1] - times_s[index])
        backwards[index] = np.clip(positions[index], backwards[index + 1] - reach, backwards[index + 1] + reach)
    # The forward pass lags and the backward pass leads. Their mean does neither and is not faster than either.
    mean: Track = (forwards + backwards) / 2
    return mean


def gaussian_filter(times_s: Track, positions: Track, sigma_s: float) -> Track:
    """Return a track filtered with a Gaussian in time; the first and last positions are extended beyond the ends."""
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
    start_phase: StartPhase = no_phases,
) -> Summary:
    """Crop a video to another aspect ratio in two passes: one predicts saliency, one crops.

    Args:
        video: the source.
        model: predicts where people look, or finds the object to show.
        output: the file to write.
        options: shape, motion and encoding; None: the defaults.
        start_phase: called at the start of each phase; returns the callback for the progress of the phase.

    Raises:
        InputError: the video cannot be read; nothing is written.
        OutputError: the output cannot be written; no incomplete file is left.
        UsageError: the output would overwrite the video, or its container is unknown.
    """
    options = options or CropOptions()
    check_two_passes(video, output)
    with VideoReader(video, options.input) as reader:
        window = CropWindow.of(reader.info, options.shape)
        if options.size and options.size[0] > MAX_ENLARGEMENT * window.width:
            sizes = f"{window.width} x {window.height} to {options.size[0]} x {options.size[1]} pixels"
            log.warning("%s: will look soft, because it is enlarged from %s; use a smaller --size", output.name, sizes)
        targets = find_targets(reader, model, window, start_phase("predicting"))
    path = window_path(targets, window, options)
    return write_cropped(video, output, window, path, options, start_phase("writing"))


def find_targets(reader: VideoReader, model: Model, window: CropWindow, report: OnProgress) -> TargetTrack:
    """Predict a video and return the best position of the window in each frame."""
    targets, info = TargetTrack(), reader.info
    objects = model.spec.task == "object"
    detector = SceneDetector()
    with contextlib.closing(saliency_of(reader, model)) as pairs:
        for frame, saliency in pairs:
            targets.times_s.append(frame.time_s)
            if objects:
                found = describe_object(saliency, info.width, info.height, OBJECT_THRESHOLD)
                targets.positions.append(window.around(found))
            else:
                targets.positions.append(window.best(saliency))
            targets.cuts.append(detector.is_cut(frame.reduced_rgb(max(1.0, frame.info.width / 256))))
            report(frame.index + 1, max(reader.frame_count or 0, frame.index + 1))
    return targets


def write_cropped(
    video: Path, output: Path, window: CropWindow, path: Track, options: CropOptions, report: OnProgress
) -> Summary:
    """Write the part of each frame that is inside the window."""
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(VideoReader(video, options.input))
        size = options.size or (window.width, window.height)
        info = replace(reader.info, sample_aspect_ratio=Fraction(1)) if options.size else reader.info
        writer = VideoWriter(output, info, size, options.encoder, audio=options.audio, keep_source_colors=True)
        stack.callback(writer.abort)
        duration_s = 0.0
        for frame, offset in zip(reader, path, strict=False):  # passes over a damaged file may differ by one frame
            position = round(float(offset))
            x, y = (position, 0) if window.horizontal else (0, position)
            writer.write(resize_image(writer.rgb_of(frame)[y : y + window.height, x : x + window.width], *size), frame)
            duration_s = frame.time_s + float(frame.duration * reader.info.time_base)
            report(frame.index + 1, len(path))
        writer.close()
    return Summary(len(path), reader.damaged, duration_s, Outputs(overlay=output))
