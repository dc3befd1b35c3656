"""Meanings of the columns of a table, by their usual names or as the user states them."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

from ..errors import InputError
from .options import TIME_UNITS, RecordingOptions
from .tables import Table, describe, require

UNITS = {**TIME_UNITS, "sec": 1.0, "seconds": 1.0, "msec": 1e-3, "milliseconds": 1e-3, "µs": 1e-6, "μs": 1e-6}
"""Names of units of time, with their length in seconds; the letters mu of two Unicode blocks."""

UNIT = re.compile(rf"[\s_]*[\[(\s_.]({'|'.join(sorted(UNITS, key=len, reverse=True))})[\])]?\s*$", re.IGNORECASE)

ROW = "row number"
"""Time of samples that have no column of time: their number."""

GAZE = ["", "gaze", "gazepoint", "gazepos", "gazeposition", "pos", "position", "por", "pog", "gazeraw", "rawgaze"]
GAZE += [
    "screen",
    "gazescreen",
    "averagegaze",
    "avggaze",
    "normpos",
    "gazenorm",
    "coordinate",
    "eye",
    "point",
    "display",
]
"""Words before or after ``x`` and ``y`` in usual names of gaze, ignoring case and punctuation."""

FIXATION = ["fixation", "fix", "fixationpoint", "fixationposition", "currentfix", "mean", "avg", "average"]

USUAL = {
    "observer": "observer subject participant participantname participantid participantcode subjectid subjectname"
    " observerid observername user userid username viewer viewerid person personid pid sub subj subjid"
    " recordingsessionlabel wearer wearerid wearername",
    "time": "time timestamp t timestamps recordingtimestamp gazetimestamp sampletime systemtime videotime timesec"
    " recordingtime elapsedtime currenttime",
    "start": "start starttime onset fixationstart fixstart startingtime starttimestamp tstart begin currentfixstart"
    " fixationstarttime timestart",
    "end": "end endtime fixationend fixend endingtime endtimestamp tend stop currentfixend fixationendtime timeend",
    "duration": "duration dur fixationduration fixdur currentfixduration gazeeventduration",
    "valid": "valid validity isvalid gazevalid gazevalidity confidence tracked",
    "fixation": "fixationid fixid fixationindex fixationnumber",
    "stimulus": "stimulus stimulusname video videoname media medianame clip presentedstimulusname presentedmedianame"
    " videofile stimulusfile movie moviename",
    "eye": "eye eyeid eyename whicheye eyetracked eyerecorded eyeused eyereported",
    "trial": "trial trialid trialindex trialnumber trialno trialnr trialname",
    "event": "event eventname message messages eventvalue",
}
"""Usual names of columns by their meaning, without case and punctuation."""

VALIDITY = ("valid", "validity", "confidence")
"""Words for the validity of one eye in usual names of columns."""

ACCEPTED = frozenset("1 1.0 true valid yes y t ok".split())
"""Texts in columns of validity that mean valid."""


@dataclass(frozen=True)
class Eye:
    """Columns of the gaze of one eye, or of both combined."""

    x: str
    y: str
    valid: tuple[str, ...] = ()
    """Columns of validity, of which one must be valid."""


@dataclass(frozen=True)
class Layout:
    """The columns of a table by their meaning, and the units of their values.

    A table of samples has ``time``; one of fixations has ``start`` and ``end`` or ``duration``.
    """

    eyes: tuple[Eye, ...]
    """One of the gaze, or the left and the right eye, whose mean is used."""
    time: str | None = None
    start: str | None = None
    end: str | None = None
    duration: str | None = None
    observer: tuple[str, ...] = ()
    """Columns that together identify a recording; the first is the observer's name."""
    fixation: str | None = None
    """Number of the fixation that a sample belongs to; 0 or missing: none."""
    kind: str | None = None
    """Type of eye movement of a sample."""
    kinds: frozenset[str] = frozenset()
    """Values of ``kind`` that mean a fixation, in lower case."""
    only: tuple[tuple[str, frozenset[str]], ...] = ()
    """Columns and values, in lower case, of the rows that are used."""
    stimulus: str | None = None
    trial: str | None = None
    side: str | None = None
    """Column of the eye that a row is about, whose texts begin with ``l`` or ``r``."""
    events: tuple[str, ...] = ()
    """Columns of events and messages."""
    accepted: frozenset[str] = ACCEPTED
    """Values of validity, in lower case, that mean valid."""
    confidence: float | None = None
    """Minimum validity, if it is a number from 0 to 1."""
    seconds: float | None = None
    """Length of the unit of time in seconds; None: unknown."""
    duration_seconds: float | None = None
    """Length of the unit of ``duration``; None: as ``seconds``."""
    coordinates: str | None = None
    """One of ``COORDINATES``; None: unknown."""
    zero: str = "first"
    """One of ``TIME_ZEROS``."""
    start_s: float = 0.0
    """Time of the video at the zero."""
    seen: tuple[tuple[str, frozenset[str]], ...] = ()
    """Columns and values, in lower case, of the rows whose gaze is valid."""
    filled: tuple[str, ...] = ()
    """Rows in which all these columns are empty are events, not samples."""
    lost: tuple[float, float] | None = None
    """Position that marks missing gaze."""
    screen: tuple[int, int] | None = None
    shared_names: bool = False
    """Whether recordings with the same name of observer may be of several; then the folder is added to the name."""
    warnings: tuple[str, ...] = ()
    """Problems with the file in spite of which it is used."""

    @property
    def validity(self) -> list[str]:
        """Columns of validity."""
        return [name for eye in self.eyes for name in eye.valid]

    @property
    def numbers(self) -> list[str]:
        """Columns that are read as numbers."""
        valid = self.validity if self.confidence is not None else []
        time = None if self.time == ROW else self.time
        names = [time, self.start, self.end, self.duration, *(n for eye in self.eyes for n in (eye.x, eye.y))]
        return unique_names([*names, self.fixation, *valid])

    @property
    def texts(self) -> list[str]:
        """Columns that are read as text."""
        valid = self.validity if self.confidence is None else []
        names = [
            *self.observer,
            self.kind,
            *(name for name, _ in (*self.only, *self.seen)),
            self.stimulus,
            self.trial,
            self.side,
            *self.events,
            *self.filled,
            *valid,
        ]
        return unique_names(names)


def unique_names(names: Sequence[str | None]) -> list[str]:
    """Return the names that are not None, each once."""
    return list(dict.fromkeys(name for name in names if name is not None))


def key(name: str) -> str:
    """Return a column name without unit, case and punctuation."""
    bare = re.sub(r"\[.*?\]|\(.*?\)", "", UNIT.sub("", name))
    return re.sub(r"[\W_]+", "", (bare if bare.strip() else name).lower())


def unit_of(name: str) -> float | None:
    """Return the length in seconds of the unit of time in a column name such as ``Time [ms]``; None if it has none."""
    match = UNIT.search(name)
    return UNITS[match[1].lower()] if match else None


def around(words: Sequence[str], fact: str, side: str = "") -> list[str]:
    """Return the usual names of a fact, such as x: a word before or after it, with the side of the eye anywhere."""
    orders = ("{s}{w}{a}", "{w}{s}{a}", "{w}{a}{s}", "{a}{w}{s}", "{s}{a}{w}", "{a}{s}{w}")
    sides = {"left": ("left", "l", "lefteye"), "right": ("right", "r", "righteye"), "": ("",)}[side]
    return [order.format(s=s, w=word, a=fact) for word in words for s in sides for order in orders]


def find(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the first column that has one of the usual names; those first in the list win."""
    keys: dict[str, str] = {}
    for column in columns:
        keys.setdefault(key(column), column)
    return next((keys[name] for name in names if name in keys), None)


def find_eye(columns: Sequence[str], words: Sequence[str], side: str = "") -> Eye | None:
    """Return the columns of x and y of the gaze; None unless both exist."""
    x, y = (find(columns, around(words, axis, side)) for axis in "xy")
    return Eye(x, y) if x and y else None


def usual_roles(table: Table) -> dict[str, str]:
    """Return the columns of a table with usual names, by role."""
    roles: dict[str, str] = {}
    for role, names in USUAL.items():
        found = find(table.columns, names.split())
        if found is not None:
            roles[role] = found
    fixations = "start" in roles and ("end" in roles or "duration" in roles) and "time" not in roles
    words = [*FIXATION, *GAZE] if fixations else [*GAZE, *FIXATION]
    eye = find_eye(table.columns, words)
    left, right = find_eye(table.columns, GAZE, "left"), find_eye(table.columns, GAZE, "right")
    if eye:
        roles |= {"x": eye.x, "y": eye.y}
    for side, found_eye in (("left", left), ("right", right)):
        if found_eye:
            roles |= {f"{side}_x": found_eye.x, f"{side}_y": found_eye.y}
        valid = find(table.columns, [name for fact in VALIDITY for name in around(GAZE, fact, side)])
        if valid:
            roles[f"{side}_valid"] = valid
    return roles


def table_layout(table: Table, options: RecordingOptions) -> Layout:
    """Return the layout of a table without a known format.

    Raises:
        InputError: a column that is needed is not found; the message lists the columns.
    """
    named = dict(options.columns)
    require(table, named)
    roles = {**usual_roles(table), **named}
    if {"x", "y"} <= named.keys() or not {"left_x", "right_x"} & named.keys():
        chosen = choose_eyes(roles, options.eye)
    else:
        chosen = choose_eyes({name: column for name, column in roles.items() if name not in ("x", "y")}, options.eye)
    if {"start", "end"} & named.keys() and "time" not in named:
        roles.pop("time", None)
    # A table of fixations may call their start the time.
    has_start = "start" in roles or "fixation" in roles or ("time" in named and "duration" not in named)
    unsure = {"time", "duration"} <= roles.keys() and not has_start
    if unsure and ("duration" in named or not has_samples(table, roles["time"], roles["duration"])):
        roles["start"] = roles.pop("time")
    if not chosen or not ("time" in roles or ("start" in roles and ("end" in roles or "duration" in roles))):
        needed = "time, x and y, or start, end (or duration), x and y"
        raise InputError(
            f"{table.head.path}: columns for {needed} are not found; {describe(table)}; name them:"
            " --columns time=NAME,x=NAME,y=NAME"
        )
    return build(roles, chosen)


def has_samples(table: Table, time: str, duration: str) -> bool:
    """Return whether rows with a time and a duration are samples, and no fixations, by the first rows.

    Samples repeat the duration of their event, state it in few rows, or state their own interval.
    """
    rows = table.first_numbers((time, duration))
    steps = [after[0] - before[0] for before, after in pairwise(rows) if after[0] > before[0]]
    lengths = [length for _, length in rows if length > 0]
    if len(steps) < 2 or len(lengths) * 2 < len(rows):
        return len(steps) > 1
    of_time, of_duration = unit_of(time), unit_of(duration)
    factor = of_time / of_duration if of_time and of_duration else 1.0
    interval, length = median(steps) * factor, median(lengths)
    repeated = sum(one == other for one, other in pairwise(lengths)) * 2 > len(lengths) - 1
    regular = sum(abs(step * factor - interval) < 0.1 * interval for step in steps) * 2 > len(steps)
    return (repeated and interval < 0.5 * length) or (regular and abs(interval - length) < 0.1 * length)


def choose_eyes(roles: Mapping[str, str], eye: str) -> tuple[Eye, ...]:
    """Return the eyes that are used: the one selected with ``--eye``, the combined gaze, or both eyes.

    Raises:
        InputError: there is only the other eye.
    """
    stated = {name: (roles[name],) for name in ("valid", "left_valid", "right_valid") if name in roles}
    valid = stated.get("valid", ())
    sides = {
        side: Eye(roles[f"{side}_x"], roles[f"{side}_y"], stated.get(f"{side}_valid", valid))
        for side in ("left", "right")
        if f"{side}_x" in roles and f"{side}_y" in roles
    }
    check_eye(sides, eye)
    if eye in sides:
        return (sides[eye],)
    if "x" in roles and "y" in roles:
        either = (*stated.get("left_valid", ()), *stated.get("right_valid", ()))
        return (Eye(roles["x"], roles["y"], valid or either),)
    return tuple(sides.values())


def check_eye(sides: Container[str], eye: str) -> None:
    """Raise ``InputError`` if the user chooses one eye, and there is only the other."""
    other = {"left": "right", "right": "left"}.get(eye)
    if other is not None and other in sides and eye not in sides:
        raise InputError(f"has no gaze of the {eye} eye (--eye); it has that of the {other} eye")


def build(roles: Mapping[str, str], eyes: tuple[Eye, ...]) -> Layout:
    """Return the layout of columns by role."""
    timed = roles.get("time")
    clock = timed or roles.get("start")
    duration = roles.get("duration")
    validity = [key(name) for eye in eyes for name in eye.valid]
    layout = Layout(
        eyes,
        time=timed,
        observer=(roles["observer"],) if "observer" in roles else (),
        fixation=roles.get("fixation") if timed else None,
        stimulus=roles.get("stimulus"),
        trial=roles.get("trial"),
        side=roles.get("eye"),
        events=(roles["event"],) if "event" in roles else (),
        seconds=unit_of(clock) if clock else None,
        coordinates="normalized" if "norm" in key(eyes[0].x) else None,
        confidence=0.6 if validity and all("confidence" in name for name in validity) else None,
        zero="file",
    )
    if timed is None:
        layout = replace(
            layout,
            start=roles.get("start"),
            end=roles.get("end"),
            duration=None if "end" in roles else duration,
            duration_seconds=unit_of(duration) if duration else None,
        )
    return layout
