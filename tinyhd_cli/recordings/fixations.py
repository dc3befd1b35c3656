"""Detect fixations in gaze samples: I-VT by pymovements, and I-DT with the same results as pymovements'."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .options import ASSUMED_WIDTH_DEG, FixationOptions
from .recording import FixationTable, Recording, Samples
from .tables import import_extra

JITTER = 0.05
"""Intervals that differ by at most this fraction from their median are regular."""

Points = NDArray[np.float64]
"""Positions ``(n, 2)``."""

Runs = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Indices of the first and the last sample of each fixation."""


@dataclass(frozen=True)
class Regular:
    """Gaze at regular intervals, with short gaps filled."""

    time_s: NDArray[np.float64]
    gaze: Points
    """Pixels of the screen; NaN in gaps."""
    rate: float
    """Samples per second."""


VELOCITY_WINDOW_S = 0.02
"""Length of the window over which a velocity is calculated, as in Tobii's I-VT filter (Olsen, "The Tobii I-VT fixation
filter", 2012): the velocities between single samples at 1,000 Hz are mostly noise."""


def detect_fixations(recording: Recording, options: FixationOptions | None = None) -> FixationTable:
    """Return the fixations of a recording: those that its file states, or detected ones.

    Velocities are calculated over ``VELOCITY_WINDOW_S`` (``savitzky_golay`` in pymovements), and at least from the two
    samples before and the two after each (``smooth``).

    Raises:
        InputError: the thresholds are in degrees, and the screen of this recording is unknown.
        UsageError: pymovements is not installed.
    """
    options = options or FixationOptions()
    if recording.samples is None or (options.method == "auto" and recording.fixations):
        return recording.fixations or empty()
    regular = resample(recording.samples, options.max_gap_s)
    if len(regular.time_s) < 6:  # pymovements needs as many for velocities
        return empty()
    scaled = regular.gaze if options.in_pixels else to_degrees(regular.gaze, recording.screen, options)
    if options.method == "idt":
        runs = dispersion_runs(scaled, options.dispersion, max(2, samples_of(options, regular.rate)))
    else:
        runs = velocity_runs(scaled, regular.rate, options.velocity, samples_of(options, regular.rate))
    return table_of(regular, runs)


def empty() -> FixationTable:
    """Return a table without rows."""
    return FixationTable(np.zeros(0), np.zeros(0), np.zeros(0, np.float32), np.zeros(0, np.float32))


def samples_of(options: FixationOptions, rate: float) -> int:
    """Return the shortest fixation in samples, at least 1."""
    return max(1, math.ceil(options.min_duration_s * rate - 0.01))


def sampling_rate(time_s: NDArray[np.float64]) -> float:
    """Return samples per second by the intervals that are no gaps; 0 if there are no intervals.

    Their mean, as many exports round times to milliseconds: 3, 3 and 4 ms at 300 Hz.
    """
    steps = np.diff(time_s)
    if not (steps > 0).any():
        return 0.0
    return float(1 / np.mean(steps[steps < 1.5 * np.median(steps[steps > 0])]))


def resample(samples: Samples, max_gap_s: float) -> Regular:
    """Return samples at regular intervals; gaps up to ``max_gap_s`` are interpolated, others are one row of NaN.

    Samples that are regular keep their times and positions.
    """
    rate = min(sampling_rate(samples.time_s), highest_rate(samples.time_s, max_gap_s))
    valid = np.flatnonzero(samples.valid)
    if not rate or not len(valid):
        return Regular(np.zeros(0), np.zeros((0, 2)), rate)
    gaps = np.flatnonzero(np.diff(samples.time_s[valid]) > max(max_gap_s, 1.5 / rate) + 1e-9)
    times: list[NDArray[np.float64]] = []
    gaze: list[Points] = []
    for stretch in np.split(valid, gaps + 1):
        seen = samples.time_s[stretch]
        time = regular_times(samples.time_s[stretch[0] : stretch[-1] + 1], rate)
        times += [time, time[-1:]]
        points = [np.interp(time, seen, axis[stretch]) for axis in (samples.x, samples.y)]
        gaze += [np.stack(points, axis=1), np.full((1, 2), np.nan)]
    return Regular(np.concatenate(times[:-1]), np.concatenate(gaze[:-1]), rate)


def highest_rate(time_s: NDArray[np.float64], max_gap_s: float) -> float:
    """Return a limit on the rate, by which times in bursts give at most about twice as many regular ones."""
    steps = np.diff(time_s)
    steps = steps[steps <= max_gap_s]
    return 2 * len(steps) / float(steps.sum()) if steps.any() else math.inf


def regular_times(time_s: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
    """Return times at regular intervals: the same ones if they are regular."""
    if np.all(np.abs(np.diff(time_s) * rate - 1) <= JITTER):
        return time_s
    return np.asarray(time_s[0] + np.arange(int((time_s[-1] - time_s[0]) * rate + 1.01)) / rate)


def to_degrees(gaze: Points, screen: tuple[int, int] | None, options: FixationOptions) -> Points:
    """Return positions in degrees of visual angle from the center of the screen.

    Raises:
        InputError: the screen is unknown.
        UsageError: pymovements is not installed.
    """
    if screen is None:
        raise InputError(
            "fixations in degrees need the size of the screen, such as --screen 1920x1080; or give --velocity and"
            " --dispersion in pixels (--thresholds-in-pixels)"
        )
    width_px, height_px = screen
    if options.screen_width_cm is not None and options.distance_cm is not None:
        width, distance = options.screen_width_cm, options.distance_cm
    else:
        width, distance = 2 * math.tan(math.radians(ASSUMED_WIDTH_DEG / 2)), 1.0
    pix2deg = import_extra("pymovements").transforms.numpy.pix2deg
    size = (width, width * height_px / width_px)
    return np.asarray(pix2deg(gaze, screen, size, distance, origin="upper left"), np.float64)


def velocity_runs(degrees: Points, rate: float, threshold: float, shortest: int) -> Runs:
    """Return runs of at least ``shortest`` intervals in which the gaze moves slower than a threshold (I-VT)."""
    pymovements = import_extra("pymovements")
    window = 2 * round(VELOCITY_WINDOW_S / 2 * rate) + 1
    method = (
        {"method": "smooth"}
        if window <= 5
        else {"method": "savitzky_golay", "window_length": window, "polyorder": 2, "mode": "nearest"}
    )
    velocities = pymovements.transforms.numpy.pos2vel(degrees, sampling_rate=rate, **method)
    events = pymovements.events.ivt(velocities, minimum_duration=shortest, velocity_threshold=threshold).frame
    return events["onset"].to_numpy().astype(np.intp), events["offset"].to_numpy().astype(np.intp)


def dispersion_runs(points: Points, threshold: float, shortest: int) -> Runs:
    """Return runs of at least ``shortest`` samples within a dispersion, width plus height (I-DT).

    Equal to ``pymovements.events.idt`` on each stretch without NaN, which takes time proportional to the length of
    the fixation for each sample: four minutes for 18 million samples at 1,000 Hz, here seconds.
    """
    seen = np.isfinite(points).all(axis=1)
    edges = np.flatnonzero(np.diff(seen, prepend=False, append=False))
    first: list[int] = []
    last: list[int] = []
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        for one, other in stretch_runs(points[start:stop], threshold, shortest):
            first.append(start + one)
            last.append(start + other)
    return np.array(first, np.intp), np.array(last, np.intp)


def stretch_runs(points: Points, threshold: float, shortest: int) -> list[tuple[int, int]]:
    """Return first and last index of the fixations of one stretch; see :func:`dispersion_runs`."""
    if len(points) < shortest:
        return []
    from scipy.ndimage import maximum_filter1d, minimum_filter1d

    origin = -(shortest // 2)  # windows begin at their index
    spread = maximum_filter1d(points, shortest, axis=0, origin=origin) - minimum_filter1d(
        points, shortest, axis=0, origin=origin
    )
    starts = np.flatnonzero(spread[: len(points) - shortest + 1].sum(axis=1) <= threshold)
    found: list[tuple[int, int]] = []
    position = 0
    while (index := np.searchsorted(starts, position)) < len(starts):
        start = int(starts[index])
        end = extend(points, start, start + shortest, threshold)
        found.append((start, end - 1))
        position = end
    return found


def extend(points: Points, start: int, end: int, threshold: float) -> int:
    """Return the end of the window from ``start`` once its dispersion reaches a threshold, or the end of the points."""
    low, high = points[start:end].min(axis=0), points[start:end].max(axis=0)
    if (high - low).sum() >= threshold:
        return end
    while end < len(points):
        block = points[end : end + 512]
        lows = np.minimum(np.minimum.accumulate(block), low)
        highs = np.maximum(np.maximum.accumulate(block), high)
        over = np.flatnonzero((highs - lows).sum(axis=1) >= threshold)
        if len(over):
            return end + int(over[0]) + 1
        low, high, end = lows[-1], highs[-1], end + len(block)
    return end


def table_of(regular: Regular, runs: Runs) -> FixationTable:
    """Return runs of samples as fixations with their mean positions."""
    first, last = runs
    x, y = (run_means(regular.gaze[:, axis], first, last) for axis in (0, 1))
    return FixationTable(regular.time_s[first], regular.time_s[last], x, y)


def run_means(values: NDArray[np.floating], first: NDArray[np.intp], last: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return the mean of each run of values from ``first`` to ``last`` inclusive, without NaN; NaN if all are."""
    seen = np.isfinite(values)
    total = np.concatenate([[0.0], np.cumsum(np.where(seen, values, 0), dtype=np.float64)])
    count = np.concatenate([[0], np.cumsum(seen)])
    number = count[last + 1] - count[first]
    sums = total[last + 1] - total[first]
    return np.where(number > 0, sums / np.maximum(number, 1), np.nan).astype(np.float32)
