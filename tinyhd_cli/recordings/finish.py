"""Convert collected rows to recordings: seconds, pixels of the screen, and checks of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..untrusted import printable
from .collect import Parts, join, name_some
from .columns import Layout
from .fixations import run_means
from .options import TIME_UNITS, RecordingOptions
from .recording import FixationTable, Recording, Samples, outside_fraction

EPOCH_S = 1e8
"""Times above this (three years) are calendar times, not times of a video."""

OUTSIDE_NOTED = 0.01
"""Fraction of the gaze outside the screen from which it is reported."""

NORMALIZED_LIMITS = (-1.0, 2.0)
"""Almost all values of normalized gaze are within these limits; those of pixels are not."""

SAMPLE_UNITS = (("s", 0.2), ("ms", 200.0), ("us", 2e5), ("ns", float("inf")))
"""Units of time, each with the largest plausible interval of samples: eye trackers record 5 to 5,000 samples/s."""

FIXATION_UNITS = (("s", 10.0), ("ms", 1e4), ("us", 1e7), ("ns", float("inf")))
"""Units of time, each with the largest plausible median duration of fixations."""


MAX_SCREEN = 100_000
"""Limit on the sides of a screen in pixels."""

LATE_S = 1.0
"""Seconds from which the start of the gaze on a chosen stimulus is reported."""

MAX_OVERLAPS = 0.05
"""Fraction of the fixations that may overlap the next one."""

GUESSED_ROWS = 100_000
"""Number of rows by which the unit of the time is guessed."""

Arrays = dict[str, NDArray[Any]]


class Rejected(Exception):
    """A recording cannot be used; the message says why."""


@dataclass
class Clock:
    """Times by which the start of the video is found."""

    parts: Parts
    seconds: float
    """Length of the unit of its times in seconds."""
    first: float
    """First time of the gaze in seconds."""


@dataclass
class Finished:
    """A recording, and reports on it."""

    recording: Recording
    warnings: list[str] = field(default_factory=list)
    """Problems in spite of which it is used."""


def finish(path: Path, observer: str, parts: Parts, layout: Layout, options: RecordingOptions) -> Finished:
    """Return the recording of collected rows; ``parts`` is empty afterwards.

    Raises:
        Rejected: the clock runs back, no sample is valid, or a fact about the recording is needed.
    """
    samples, fixations = join(parts.samples), join(parts.fixations)
    notes: list[str] = []
    warnings: list[str] = []
    check_one_stimulus(parts, layout, options)
    if not any(len(arrays[name]) for arrays, name in ((samples, "time"), (fixations, "start")) if arrays):
        of = f" of the stimulus {options.stimulus!r} (--stimulus)" if options.stimulus else ""
        raise Rejected(f"{'has no rows with a time' if samples else 'has no valid fixation'}{of}")
    seconds = to_seconds(samples, fixations, layout, options, notes)
    warnings += [*layout.warnings, *drop_reversed(fixations)]
    clock = Clock(parts, seconds, first_time(samples, fixations))
    shift = find_shift(clock, bool(samples), layout, options, notes)
    for values in (samples.get("time"), fixations.get("start"), fixations.get("end")):
        if values is not None:
            values += shift
    if "time" in samples:
        check_clock(samples["time"], -shift, layout.stimulus is not None and options.stimulus is None)
        if not samples["valid"].any():
            raise Rejected("all samples are invalid: the eyes were not tracked, or other columns have the gaze")
    check_overlaps(fixations)
    screen = options.screen or layout.screen
    if screen is not None and not 0 < min(screen) <= max(screen) < MAX_SCREEN:
        raise Rejected(f"has an impossible screen size of {screen[0]}x{screen[1]} pixels; give it with --screen")
    to_pixels(samples, fixations, screen, layout, options, notes)
    warnings += outside(samples or fixations, screen)
    table = fixation_table(samples, fixations)
    kept = Samples(samples["time"], samples["x"], samples["y"], samples["valid"]) if samples else None
    return Finished(Recording(observer, path, kept, table, screen, tuple(notes)), warnings)


def to_seconds(
    samples: Arrays, fixations: Arrays, layout: Layout, options: RecordingOptions, notes: list[str]
) -> float:
    """Convert times to seconds in place, and durations of fixations to ends; return the length of the clock's unit."""
    stated = TIME_UNITS[options.time_unit] if options.time_unit else layout.seconds
    unit = stated
    if samples:
        unit = unit or guess(np.diff(samples["time"][:GUESSED_ROWS]), SAMPLE_UNITS, notes)
        samples["time"] *= unit
    if fixations:
        start = fixations["start"]
        if "duration" in fixations:
            duration = fixations.pop("duration")
            duration *= layout.duration_seconds or stated or guess(duration, FIXATION_UNITS, notes)
            # Fixations follow each other closely: the starts are about as far apart as the fixations are long.
            unit = unit or nearest_unit(start, duration)
            fixations["end"] = start * unit + duration
        else:
            unit = unit or guess(fixations["end"] - start, FIXATION_UNITS, notes)
            fixations["end"] *= unit
        start *= unit
    return unit or 1.0


def guess(intervals: NDArray[np.float64], units: Sequence[tuple[str, float]], notes: list[str]) -> float:
    """Return the length of the unit of time by the typical interval, and note it."""
    typical = float(np.median(intervals[intervals > 0])) if (intervals > 0).any() else 0.0
    name = next(name for name, limit in units if typical < limit)
    notes.append(f"the unit of time is taken to be {name}, judging by the intervals; set it with --time-unit")
    return TIME_UNITS[name]


def nearest_unit(start: NDArray[np.float64], duration_s: NDArray[np.float64]) -> float:
    """Return the length of the unit of starts of fixations in which their distances are nearest to the durations."""
    interval = float(np.median(np.diff(start))) if len(start) > 1 else 0.0
    expected = float(np.median(duration_s)) if len(start) > 1 else 0.0
    if not (0 < interval < math.inf and 0 < expected < math.inf):
        return 1.0
    wanted = math.log(expected) - math.log(interval)
    return min(TIME_UNITS.values(), key=lambda unit: abs(math.log(unit) - wanted))


def check_one_stimulus(parts: Parts, layout: Layout, options: RecordingOptions) -> None:
    """Raise ``Rejected`` if the rows are of several stimuli, trials or eyes, and nothing chooses one."""
    if len(parts.sides) > 1:
        raise Rejected(f"has rows of several eyes, {name_some(parts.sides)}; choose one with --eye")
    if options.start_event is not None:
        return
    if options.stimulus is None and len(parts.stimuli) > 1:
        raise Rejected(f"has gaze on several stimuli, {name_some(parts.stimuli)}; choose one with --stimulus")
    if len(parts.trials) > 1:
        example = f"--columns stimulus={printable(layout.trial or '')} --stimulus {printable(next(iter(parts.trials)))}"
        raise Rejected(f"has several trials, {name_some(parts.trials)}; choose one with {example}")


def first_time(samples: Arrays, fixations: Arrays) -> float:
    """Return the first time of samples and fixations."""
    clocks = (samples.get("time"), fixations.get("start"))
    return min(float(values.min()) for values in clocks if values is not None and len(values))


def drop_reversed(fixations: Arrays) -> list[str]:
    """Leave out fixations that end before they start, and return a line about them.

    Raises:
        Rejected: no others are there.
    """
    if not fixations:
        return []
    good = fixations["end"] >= fixations["start"]
    if good.all():
        return []
    if not good.any():
        raise Rejected("all fixations end before they start; name other columns with --columns start=NAME,end=NAME")
    fixations |= {name: values[good] for name, values in fixations.items()}
    return [f"{int((~good).sum()):,} fixations end before they start and are left out"]


def check_overlaps(fixations: Arrays) -> None:
    """Raise ``Rejected`` if many fixations overlap: they are of several trials, stimuli or eyes."""
    if not fixations:
        return
    order = np.argsort(fixations["start"], kind="stable")
    start, end = fixations["start"][order], fixations["end"][order]
    over = end[:-1] - start[1:] > 0.5 * np.minimum(end - start, np.median(end - start))[:-1]
    if over.sum() > MAX_OVERLAPS * len(start):
        at = start[1:][over][0]
        raise Rejected(
            f"{int(over.sum()):,} fixations overlap, such as at {at:g} s; they are of several trials, stimuli or eyes:"
            " choose by a column, --columns stimulus=NAME --stimulus VALUE"
        )


def event_time(clock: Clock, has_stimulus: bool) -> float | None:
    """Return the time of the start event; None if there is none.

    Of a stimulus, that is the first event in one of its rows, or the nearest to its first row.
    """
    events = clock.parts.events
    inside = [time for time, own in events if own or not has_stimulus]
    if inside:
        return inside[0] * clock.seconds
    times = [time * clock.seconds for time, _ in events]
    return min(times, key=lambda time: abs(time - clock.first), default=None)


def find_shift(clock: Clock, has_samples: bool, layout: Layout, options: RecordingOptions, notes: list[str]) -> float:
    """Return the seconds to add to all times; ``Rejected`` if the start event is missing."""
    if options.start_event is not None:
        event = event_time(clock, options.stimulus is not None)
        if event is None:
            raise Rejected(f"has no event or message with {options.start_event!r} (--start-event)")
        return options.offset_s - event
    stated = clock.parts.start
    first = clock.first if stated is None else stated * clock.seconds
    zero = options.time_zero or layout.zero
    if options.time_zero is None and zero == "file" and abs(first) > EPOCH_S:
        zero = "first"
        notes.append("the times are of a calendar: the video is taken to start at the first one")
    if zero == "first" and options.time_zero is None and not has_samples and stated is None:
        notes.append("the video is taken to start at the first fixation; set it with --time-zero file or --start-event")
    if zero == "file" and options.time_zero is None and options.stimulus is not None and first > LATE_S:
        notes.append(
            f"the gaze on the stimulus begins at {first:.1f} s; if the video began then, give --time-zero first"
        )
    return options.offset_s + layout.start_s - (first if zero == "first" else 0.0)


def check_clock(time: NDArray[np.float64], origin: float, has_stimuli: bool) -> None:
    """Raise ``Rejected`` if times run back."""
    steps = np.diff(time)
    if len(steps) and steps.min() < 0:
        row = int(np.argmax(steps < 0)) + 1
        before, after = time[row - 1] + origin, time[row] + origin
        advice = "choose one of its stimuli with --stimulus" if has_stimuli else "split it, or sort it by time"
        raise Rejected(f"the clock runs back at sample {row + 1:,}, from {before:g} s to {after:g} s; {advice}")


def to_pixels(
    samples: Arrays,
    fixations: Arrays,
    screen: tuple[int, int] | None,
    layout: Layout,
    options: RecordingOptions,
    notes: list[str],
) -> None:
    """Convert positions to pixels from the upper left corner in place; ``Rejected`` if that needs a screen size."""
    unit = options.coordinates or layout.coordinates
    if unit is None:
        unit = "normalized" if looks_normalized(samples or fixations) else "pixels"
        if unit == "normalized":
            notes.append(
                "the gaze is taken to be in fractions of the screen, judging by its values; set another unit with"
                " --coordinates"
            )
    if unit == "pixels":
        return
    if screen is None:
        raise Rejected(f"the gaze is {unit}, which needs the size of the screen, such as --screen 1920x1080")
    for arrays in (samples, fixations):
        if arrays:
            arrays["x"], arrays["y"] = in_pixels(arrays["x"], arrays["y"], unit, screen)


def looks_normalized(arrays: Arrays) -> bool:
    """Return whether positions are fractions of the screen by their values."""
    low, high = NORMALIZED_LIMITS
    x, y = (values[np.isfinite(values)] for values in (arrays["x"], arrays["y"]))
    inside = np.concatenate([(x > low) & (x < high), (y > low) & (y < high)])
    return bool(inside.size and inside.mean() > 0.95)


def in_pixels(
    x: NDArray[np.float32], y: NDArray[np.float32], unit: str, screen: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return positions in pixels from the upper left corner of the screen."""
    width, height = np.float32(screen[0]), np.float32(screen[1])
    if unit == "centered":
        return x + width / 2, height / 2 - y
    if unit == "pixels-up":
        return x, height - y
    return x * width, (1 - y if unit == "normalized-up" else y) * height


def outside(arrays: Arrays, screen: tuple[int, int] | None) -> list[str]:
    """Return a line if much of the gaze is outside the screen."""
    fraction = outside_fraction(arrays["x"], arrays["y"], screen) or 0.0
    if screen is None or fraction < OUTSIDE_NOTED:
        return []
    of_screen = f"{fraction:.0%} of the gaze is outside the screen of {screen[0]}x{screen[1]} pixels"
    return [f"{of_screen}; check --screen, --coordinates, and --placed"]


def fixation_table(samples: Arrays, fixations: Arrays) -> FixationTable | None:
    """Return the fixations that the file states as rows, or by numbers of samples; None if it states none."""
    if fixations:
        order = np.argsort(fixations["start"], kind="stable")
        start, end, x, y = (fixations[name][order] for name in ("start", "end", "x", "y"))
        return FixationTable(start, end, x, y)
    if "fixation" not in samples:
        return None
    return of_runs(samples, samples.pop("fixation"))


def of_runs(samples: Arrays, number: NDArray[np.int32]) -> FixationTable:
    """Return the fixations of consecutive samples with the same number; 0 is none."""
    first = np.flatnonzero(np.diff(number, prepend=0) != 0)
    first = first[number[first] != 0]
    last = np.flatnonzero(np.diff(number, append=0) != 0)
    last = last[number[last] != 0]
    x, y = (run_means(samples[name], first, last) for name in "xy")
    seen = np.isfinite(x)
    return FixationTable(samples["time"][first][seen], samples["time"][last][seen], x[seen], y[seen])
