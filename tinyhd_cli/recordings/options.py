"""Options for recordings of gaze, for the command line and the Python API. Loads neither NumPy nor polars."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite

from ..errors import UsageError, did_you_mean
from ..fields import option

RECORDINGS = "Recordings"
FIXATIONS = "Fixations"

FORMATS = (
    *("table", "tobii", "pupil", "neon", "eyelink", "smi"),
    *("gazepoint", "bids", "dhf1k", "diem", "coord", "mat"),
)
"""Names of the formats; ``recordings.formats`` has a reader for each."""

TIME_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Units of time, with their length in seconds."""

COORDINATES = ("pixels", "pixels-up", "normalized", "normalized-up", "centered")
"""Pixels from the upper left corner, or from the lower left one, y upward; fractions of the screen, y downward or
upward; pixels from the center, y upward."""

EYES = ("both", "left", "right")
TIME_ZEROS = ("first", "file")
METHODS = ("auto", "ivt", "idt")

ROLES = (
    *("time", "x", "y", "left_x", "left_y", "right_x", "right_y", "valid"),
    *("left_valid", "right_valid", "start", "end", "duration", "fixation"),
    *("observer", "stimulus", "trial", "eye", "event", "data"),
)
"""Meanings of columns in ``--columns``."""

ASSUMED_WIDTH_DEG = 40.0
"""Horizontal extent of the screen in degrees if its size and distance are unknown: a 22-inch monitor at 65 cm."""


def one_of(name: str, value: str | None, known: tuple[str, ...]) -> None:
    """Raise ``UsageError`` unless an option has one of its values or None."""
    if value is not None and value not in known:
        raise UsageError(f"--{name} {value!r} is unknown: {did_you_mean(value, known)}")


def parse_columns(text: str) -> tuple[tuple[str, str], ...]:
    """Return role and column name of each part of ``time=T,x=Gaze X,y=Gaze Y``; names may contain commas.

    Raises:
        UsageError: it is malformed, or a role is unknown or occurs twice.
    """
    starts = list(re.finditer(r"(?:^|,)\s*(\w+)=", text))
    if not starts or starts[0].start() != 0:
        raise UsageError(f"--columns {text!r}: must be ROLE=NAME with commas, such as time=T,x=GazeX,y=GazeY")
    ends = [match.start() for match in starts[1:]] + [len(text)]
    pairs = tuple((match[1], text[match.end() : end].strip()) for match, end in zip(starts, ends, strict=True))
    for role, name in pairs:
        if role not in ROLES:
            raise UsageError(f"--columns: {role!r} is unknown: {did_you_mean(role, ROLES)}")
        if not name:
            raise UsageError(f"--columns: give the name of the column after {role}=")
    if len(dict(pairs)) < len(pairs):
        raise UsageError(f"--columns {text!r}: a role occurs twice")
    return pairs


def parse_screen(text: str) -> tuple[int, int]:
    """Parse the size of a screen such as ``1920x1080``; ``UsageError`` if it is malformed."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None:
        raise UsageError(f"--screen {text!r}: must be WIDTHxHEIGHT, such as 1920x1080")
    return int(match[1]), int(match[2])


def parse_placed(text: str) -> tuple[float, float, float, float]:
    """Parse the rectangle of a video on the screen, ``x,y,width,height``; ``UsageError`` if it is malformed."""
    try:
        x, y, width, height = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--placed {text!r}: must be X,Y,WIDTH,HEIGHT in pixels of the screen") from error
    return x, y, width, height


@dataclass(frozen=True)
class RecordingOptions:
    """Facts about recordings that their files may not state. Raises ``UsageError`` for invalid values."""

    format: str | None = option(
        None, RECORDINGS, "NAME", f"Format of the files: {', '.join(FORMATS)}. Default: recognized by the content."
    )
    columns: tuple[tuple[str, str], ...] = option(
        (),
        RECORDINGS,
        "ROLE=NAME,...",
        f"Columns of a table whose names are not recognized, such as time=T,x=GX,y=GY. Roles: {', '.join(ROLES)}.",
        kind=str,
        written=None,
        parse=parse_columns,
    )
    """Pairs of role and column name."""
    time_unit: str | None = option(
        None, RECORDINGS, "s|ms|us|ns", "Unit of the time. Default: stated by the file, or guessed from the intervals."
    )
    time_zero: str | None = option(
        None,
        RECORDINGS,
        "first|file",
        "Start of the video: at the first sample of the recording, or at 0 of the file's clock. Default: depends on"
        " the format; first for clocks of eye trackers, file for tables.",
    )
    start_event: str | None = option(
        None,
        RECORDINGS,
        "TEXT",
        "The video starts at the first message or event that contains this text (EyeLink, SMI, Tobii, tables with an"
        " event column), instead of --time-zero.",
    )
    offset_s: float = option(
        0.0, RECORDINGS, "SECONDS", "Add this to all times, if the video did not start at time 0.", flag="offset"
    )
    stimulus: str | None = option(
        None,
        RECORDINGS,
        "NAME",
        "Use only the rows of this stimulus (Tobii, SMI, Gazepoint, tables with such a column): its name, with or"
        " without suffix, or a part that no other name has.",
    )
    coordinates: str | None = option(
        None,
        RECORDINGS,
        "NAME",
        "Unit and origin of the gaze: pixels or normalized (0 to 1) from the upper left corner; pixels-up or"
        " normalized-up from the lower left one; centered: pixels from the center, y upward. Default: depends on the"
        " format and the values.",
    )
    frame_rate: float | None = option(
        None, RECORDINGS, "N", "Frames per second of files that number frames instead of times: diem (30), mat."
    )
    eye: str = option(
        "both", RECORDINGS, "both|left|right", "Eye of binocular recordings; both: mean of the valid ones."
    )
    screen: tuple[int, int] | None = option(
        None,
        RECORDINGS,
        "WxH",
        "Size of the screen in pixels. Default: stated by the file.",
        kind=str,
        parse=parse_screen,
    )
    placed: tuple[float, float, float, float] | None = option(
        None,
        RECORDINGS,
        "X,Y,W,H",
        "Rectangle of the video on the screen in pixels. Default: centered, scaled to fit.",
        kind=str,
        parse=parse_placed,
    )

    def __post_init__(self) -> None:
        one_of("format", self.format, FORMATS)
        one_of("time-unit", self.time_unit, tuple(TIME_UNITS))
        one_of("time-zero", self.time_zero, TIME_ZEROS)
        one_of("coordinates", self.coordinates, COORDINATES)
        one_of("eye", self.eye, EYES)
        if not isfinite(self.offset_s):
            raise UsageError(f"--offset must be a number of seconds, not {self.offset_s}")
        if self.frame_rate is not None and not 0 < self.frame_rate <= 10_000:
            raise UsageError(f"--frame-rate must be above 0 and at most 10000, not {self.frame_rate:g}")
        if self.screen is not None and min(self.screen) < 1:
            raise UsageError("--screen {}x{}: sides must be at least 1".format(*self.screen))
        if self.placed is not None and not (all(map(isfinite, self.placed)) and min(self.placed[2:]) > 0):
            raise UsageError("--placed: must be four numbers, of which width and height are above 0")


@dataclass(frozen=True)
class FixationOptions:
    """Detection of fixations. Raises ``UsageError`` for invalid values."""

    method: str = option(
        "auto",
        FIXATIONS,
        "auto|ivt|idt",
        "Detection of fixations. ivt: gaze slower than --velocity; idt: gaze within --dispersion; auto: fixations that"
        " the file states, else ivt.",
        flag="fixations",
    )
    velocity: float = option(30.0, FIXATIONS, "DEG/S", "Maximum velocity within a fixation (ivt).")
    dispersion: float = option(1.0, FIXATIONS, "DEG", "Maximum dispersion of a fixation, width plus height (idt).")
    min_duration_s: float = option(
        0.06, FIXATIONS, "SECONDS", "Shortest fixation that is detected.", flag="min-fixation"
    )
    max_gap_s: float = option(
        0.075, FIXATIONS, "SECONDS", "Interpolate the gaze in gaps of the data up to this length.", flag="max-gap"
    )
    distance_cm: float | None = option(
        None, FIXATIONS, "CM", "Distance of the eyes from the screen, for degrees of visual angle.", flag="distance"
    )
    screen_width_cm: float | None = option(
        None,
        FIXATIONS,
        "CM",
        f"Width of the screen, for degrees. Without this and --distance, the screen is taken as {ASSUMED_WIDTH_DEG:g}"
        " degrees wide.",
        flag="screen-width",
    )
    in_pixels: bool = option(
        False, FIXATIONS, "", "--velocity and --dispersion are in pixels of the screen.", flag="thresholds-in-pixels"
    )

    def __post_init__(self) -> None:
        one_of("fixations", self.method, METHODS)
        for flag, value in (
            ("velocity", self.velocity),
            ("dispersion", self.dispersion),
            ("min-fixation", self.min_duration_s),
            ("distance", self.distance_cm),
            ("screen-width", self.screen_width_cm),
        ):
            if value is not None and not 0 < value < 1e6:
                raise UsageError(f"--{flag} must be above 0 and below 1,000,000, not {value:g}")
        if not 0 <= self.max_gap_s < float("inf"):
            raise UsageError(f"--max-gap must be at least 0, not {self.max_gap_s:g}")
        if (self.distance_cm is None) != (self.screen_width_cm is None):
            given, other = ("distance", "screen-width") if self.distance_cm else ("screen-width", "distance")
            raise UsageError(f"--{given} needs --{other}: degrees follow from both")
