"""Read the recordings of all observers, one at a time, and place their gaze on the video."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...callbacks import OnProgress
from ...errors import InputError, UsageError
from ...recordings import (
    FixationTable,
    OnProblem,
    Placement,
    Problem,
    Recording,
    Samples,
    detect_fixations,
    iter_recordings,
    place,
    placement_of,
    quality,
)
from ...recordings.options import ASSUMED_WIDTH_DEG
from ...recordings.read import expand
from ...video.reader import VideoInfo
from .density import Canvas
from .options import DEFAULT_SIGMA, DEFAULT_SIGMA_DEG, GazeOptions, Sigma, degrees_to_pixels
from .points import Gaze, Track
from .results import Observer

log = logging.getLogger("tinyhd")

SAME_SIGMA = 0.02
"""Relative difference of sigmas in pixels, between observers' screens, above which it is reported."""

ROUNDING_S = 0.001
"""Added to the times of samples: exports round them to milliseconds, and a sample at the start of a frame would often
belong to the frame before, so that one of two frames has no gaze at low rates."""

MAX_RATE = 250.0
"""Samples per second that are used; faster recordings are averaged, because the time of a frame grows with the square
of the number of its samples."""

TOLERANCE = 0.8
"""Factor by which intervals must be shorter than those of ``MAX_RATE`` for averaging."""


@dataclass(frozen=True)
class StudyGaze:
    """The gaze of all observers on a video, and facts about their recordings."""

    gaze: Gaze
    observers: tuple[Observer, ...]
    """In the order of their numbers."""
    canvas: Canvas
    ends_s: dict[str, float]
    """Time at which each observer's gaze ends, in seconds of the video."""
    sigma_deg: float | None
    """Sigma of the Gaussians in degrees of visual angle; None if it was chosen in pixels."""
    assumptions: tuple[str, ...]
    """Assumptions about the screen and the place of the video."""


def read_gaze(
    paths: Sequence[Path],
    options: GazeOptions,
    info: VideoInfo,
    report: OnProgress,
    on_problem: OnProblem | None = None,
) -> StudyGaze:
    """Read recordings and detect fixations. The samples of one file at a time are in memory.

    Args:
        paths: files with one or several observers each.
        options: reading, detection, and sigma.
        info: the video.
        report: called after each file.
        on_problem: called with each problem of a recording, which does not stop the others; None to log a warning.

    Raises:
        InputError: no recording can be used, or no gaze is on the video.
    """
    tell = on_problem or (lambda problem: log.warning("%s", problem))
    tracks: dict[str, Track] = {}
    observers: list[Observer] = []
    sigmas: list[tuple[float, float]] = []
    assumptions: dict[str, None] = {}
    files = list({os.path.realpath(path): path for path in expand(paths, tell)}.values())
    sigma = chosen_sigma(options, info)
    for recording in iter_recordings(files, options.recordings, tell):
        try:
            placement = placement_in(info, recording, options)
            track = track_of(recording, options, placement)
        except InputError as error:
            tell(Problem(recording.path, recording.observer, str(error), lost=True))
            continue
        tracks[recording.observer] = track
        observers.append(describe(recording, track, info))
        sigmas.append(sigma_in_pixels(sigma, options, recording, placement))
        assumptions |= dict.fromkeys(assumptions_of(recording, options, info))
        report(len(observers), max(len(files), len(observers)))
    if not tracks:
        raise InputError("no recording can be used")
    if not any(observer.on_video for observer in observers):
        raise nothing_on_video()
    if np.ptp(sigmas, axis=0).max() > SAME_SIGMA * max(sigmas[0]):
        log.warning("the observers' screens differ, and so does a degree of visual angle; that of the first is used")
    gaze = Gaze(tracks)
    ends = {name: float(track.end_s.max(initial=0.0)) for name, track in tracks.items()}
    canvas = Canvas(info.width, info.height, sigmas[0])
    return StudyGaze(gaze, tuple(observers), canvas, ends, sigma.value if sigma.degrees else None, tuple(assumptions))


def nothing_on_video() -> InputError:
    """Return the error for recordings without any gaze on the video."""
    return InputError("no gaze is on the video; check --screen, --placed, --coordinates, and --offset")


def track_of(recording: Recording, options: GazeOptions, placement: Placement) -> Track:
    """Return the fixations, or the valid samples, of a recording in pixels of the video.

    Raises:
        InputError: the recording has none.
    """
    if not options.samples:
        fixations = place(detect_fixations(recording, options.fixations), placement)
        if not len(fixations):
            raise InputError("no fixation was found; check --time-unit and --velocity, or use --samples")
        return to_track(fixations)
    if recording.samples is None:
        raise InputError("has only fixations, no samples; leave out --samples")
    return to_track(place(recording.samples, placement))


def to_track(gaze: FixationTable | Samples) -> Track:
    """Return fixations, or valid samples, in the order of their start."""
    if isinstance(gaze, Samples):
        kept = gaze.valid & np.isfinite(gaze.x) & np.isfinite(gaze.y)
        time_s = gaze.time_s[kept] + ROUNDING_S
        return averaged(Track(time_s, time_s, gaze.x[kept].astype(np.float64), gaze.y[kept].astype(np.float64)))
    return Track(gaze.start_s, gaze.end_s, gaze.x.astype(np.float64), gaze.y.astype(np.float64))


def averaged(samples: Track) -> Track:
    """Return samples as they are, or means over intervals if there are more than ``MAX_RATE`` per second."""
    if len(samples.x) < 2 or not np.median(np.diff(samples.start_s)) < TOLERANCE / MAX_RATE:
        return samples
    interval = np.floor(samples.start_s * MAX_RATE)
    first = np.flatnonzero(np.diff(interval, prepend=-np.inf))
    count = np.diff(np.append(first, len(interval)))
    time_s, x, y = (np.add.reduceat(values, first) / count for values in (samples.start_s, samples.x, samples.y))
    return Track(time_s, time_s, x, y)


def describe(recording: Recording, track: Track, info: VideoInfo) -> Observer:
    """Return the facts about a recording, without scores."""
    found = quality(recording)
    inside = (track.x >= 0) & (track.x < info.width) & (track.y >= 0) & (track.y < info.height)
    return Observer(
        recording.observer,
        recording.path,
        found.rate,
        found.valid,
        found.lost,
        found.longest_gap_s,
        len(track.x),
        float(inside.mean()) if len(inside) else None,
        recording.notes,
    )


def placement_in(info: VideoInfo, recording: Recording, options: GazeOptions) -> Placement:
    """Return where the video was shown on the screen; gaze is placed on its stored, possibly not square, pixels."""
    placement = placement_of(displayed_size(info), recording.screen, options.recordings)
    return replace(placement, video=(info.width, info.height))


def displayed_size(info: VideoInfo) -> tuple[int, int]:
    """Return width and height of the video in square pixels."""
    return round(info.width * info.sample_aspect_ratio), info.height


def assumptions_of(recording: Recording, options: GazeOptions, info: VideoInfo) -> Iterator[str]:
    """Yield the assumptions about the screen of a recording and the place of the video on it."""
    if options.recordings.placed is None:
        if recording.screen is None:
            yield "positions are taken as pixels of the video; if they are those of the screen, give --screen"
        elif recording.screen != displayed_size(info):
            yield "the video is taken as centered on the screen and scaled to fit it; if it was not, give --placed"
    seen, method = options.fixations, options.fixations.method
    detected = recording.samples is not None and not (method == "auto" and recording.fixations)
    if detected and not (options.samples or seen.in_pixels or seen.distance_cm):
        yield f"the screen is taken as {ASSUMED_WIDTH_DEG:g} degrees wide; give --distance and --screen-width"


def chosen_sigma(options: GazeOptions, info: VideoInfo) -> Sigma:
    """Return the standard deviation of the options, or the default."""
    if options.sigma is not None:
        return options.sigma
    if options.fixations.distance_cm is not None:
        return Sigma(DEFAULT_SIGMA_DEG, degrees=True)
    return Sigma(DEFAULT_SIGMA * max(info.width, info.height), degrees=False)


def sigma_in_pixels(
    sigma: Sigma, options: GazeOptions, recording: Recording, placement: Placement
) -> tuple[float, float]:
    """Return the standard deviation of the Gaussians along x and y, in pixels of the video."""
    if not sigma.degrees:
        return sigma.value, sigma.value
    if recording.screen is None:
        raise UsageError("--sigma in degrees needs the size of the screen in pixels, such as --screen 1920x1080")
    pixels = degrees_to_pixels(sigma.value, options.fixations, recording.screen[0])
    across, down = placement.scale
    return pixels * across, pixels * down
