"""Collect the rows of a table into one recording per observer. Memory: 17 bytes per sample, and one chunk of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..untrusted import printable
from ..wording import list_names
from .columns import ACCEPTED, ROW, Layout
from .options import RecordingOptions
from .tables import MAX_NAME, Table, import_extra

if TYPE_CHECKING:
    import polars

FARTHEST = 1e6
"""Positions beyond this are marks of missing data, not pixels, such as 1e8 in files of EyeLink."""

MAX_ROWS = 50_000_000
"""Limit on the rows of a file, which take 1 GB; 30 observers of 10 minutes at 1,000 Hz have 18 million."""

MAX_NAMES = 10_000
"""Limit on the stimuli in a file, and on the events and trials of a recording that are kept."""

MAX_OBSERVERS = 1000
"""Limit on the recordings in a file; more are values of another column than that of the observers."""

Key = tuple[str, ...]
"""Values of the columns that identify a recording."""


@dataclass(eq=False)
class Parts:
    """Rows of one recording in the unit of the file, as lists of arrays that are joined at the end."""

    samples: dict[str, list[NDArray[Any]]] = field(default_factory=dict)
    """Arrays by name: time, x, y; for samples also valid and, if stated, fixation (0: none)."""
    fixations: dict[str, list[NDArray[Any]]] = field(default_factory=dict)
    """Arrays by name: start, end or duration, x, y."""
    events: list[tuple[float, bool]] = field(default_factory=list)
    """Time of each start event, and whether it is in a row of the stimulus."""
    start: float | None = None
    """Time at which the recording starts; None: at its first row."""
    stimuli: dict[str, None] = field(default_factory=dict)
    """Names of the stimuli of the rows, in their order."""
    sides: dict[str, None] = field(default_factory=dict)
    """Names of the eyes of the rows."""
    trials: dict[str, None] = field(default_factory=dict)
    """Names of the trials of the rows, in their order."""

    def add(self, kind: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Append arrays to ``samples`` or ``fixations``."""
        target = getattr(self, kind)
        for name, values in arrays.items():
            target.setdefault(name, []).append(values)


Contents = tuple[Layout, dict[Key, Parts]]
"""Units of a file, and its rows by recording."""


def join(parts: dict[str, list[NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Return joined arrays, freeing each list as soon as it is joined."""
    return {name: np.concatenate(parts.pop(name)) for name in list(parts)}


def collect(table: Table, layout: Layout, options: RecordingOptions) -> dict[Key, Parts]:
    """Read all rows of a table.

    Returns:
        The rows of each recording, in the order of their first rows; the key is empty without an observer column.

    Raises:
        InputError: the file cannot be read, or the stimulus is not in it.
    """
    found: dict[Key, Parts] = {}
    count = 0
    stimulus = choose_stimulus(table, layout.stimulus, options.stimulus)
    for frame in table.chunks(layout.numbers, layout.texts):
        if layout.time == ROW:
            frame = frame.with_row_index(ROW, offset=count)
        count = add_rows(count, frame.height)
        if layout.observer and max(len(found), frame.select(layout.observer).n_unique()) > MAX_OBSERVERS:
            raise InputError(
                f"{table.head.path}: has more than {MAX_OBSERVERS:,} observers by {' and '.join(layout.observer)}; name"
                " the column of observers: --columns observer=NAME"
            )
        for key, rows in by_observer(frame, layout):
            parts = found.setdefault(key, Parts())
            if options.start_event and layout.events and len(parts.events) < MAX_NAMES:
                parts.events += find_events(rows, layout, options.start_event, stimulus)
            rows = select(rows, layout, stimulus, options.eye)
            columns = (layout.stimulus, layout.trial, layout.side)
            for column, names in zip(columns, (parts.stimuli, parts.trials, parts.sides), strict=True):
                if column is not None and len(names) < MAX_NAMES:
                    names |= dict.fromkeys(distinct(rows, column))
            if layout.time is not None:
                parts.add("samples", sample_arrays(rows, layout))
            else:
                parts.add("fixations", fixation_arrays(rows, layout))
    return found


def add_rows(count: int, more: int) -> int:
    """Return the number of rows so far; ``InputError`` if they are too many."""
    if count + more > MAX_ROWS:
        raise InputError(f"has more than {MAX_ROWS:,} rows; split it, such as by observers")
    return count + more


def distinct(rows: polars.DataFrame, column: str) -> list[str]:
    """Return the texts in a column, each once, in their order."""
    return [name for name in rows[column].str.strip_chars().unique(maintain_order=True).to_list() if name]


def choose_stimulus(table: Table, column: str | None, wanted: str | None) -> str | None:
    """Return the name in the column of stimuli that a text means; None if none is wanted.

    That is the name that equals the text, does so without its suffix, or is the only one that contains it.

    Raises:
        InputError: there is no such name, or there are several.
    """
    if column is None or wanted is None:
        return None
    names: dict[str, None] = {}
    for frame in table.chunks([], [column]):
        names |= dict.fromkeys(distinct(frame, column))
        if len(names) > MAX_NAMES:
            raise InputError(f"has more than {MAX_NAMES:,} stimuli by {printable(column)}; name another column")
    tests: tuple[Callable[[str], bool], ...] = (
        lambda name: name == wanted,
        lambda name: PurePath(name).stem == wanted or name == PurePath(wanted).stem,
        lambda name: wanted in name,
    )
    found = next((found for test in tests if (found := [name for name in names if test(name)])), [])
    if len(found) == 1:
        return found[0]
    problem = "several stimuli" if found else "no stimulus"
    raise InputError(f"has {problem} {wanted!r} (--stimulus); it has {name_some(found or names)}")


def name_some(names: Iterable[str]) -> str:
    """Return some names as text for a message."""
    return list_names([printable(name)[:MAX_NAME] for name in names], 8)


def select(frame: polars.DataFrame, layout: Layout, stimulus: str | None, eye: str) -> polars.DataFrame:
    """Return the rows of the sensor, the stimulus and the eye that are used."""
    polars = import_extra("polars")
    for name, values in layout.only:
        frame = frame.filter(polars.col(name).str.strip_chars().str.to_lowercase().is_in(sorted(values)))
    if layout.filled:
        frame = frame.filter(polars.any_horizontal(polars.col(layout.filled).is_not_null()))
    if layout.stimulus is not None and stimulus is not None:
        frame = frame.filter(polars.col(layout.stimulus).str.strip_chars() == stimulus)
    if layout.side is not None and eye != "both":
        frame = frame.filter(polars.col(layout.side).str.strip_chars().str.to_lowercase().str.starts_with(eye[0]))
    return frame


def by_observer(frame: polars.DataFrame, layout: Layout) -> Iterator[tuple[Key, polars.DataFrame]]:
    """Yield the rows of each recording."""
    if not layout.observer:
        yield (), frame
        return
    for key, rows in frame.partition_by(layout.observer, maintain_order=True, as_dict=True).items():
        if key[0] is not None:
            yield tuple(str(value or "").strip() for value in key), rows


def find_events(
    rows: polars.DataFrame, layout: Layout, text: str, stimulus: str | None
) -> Iterator[tuple[float, bool]]:
    """Yield the times of events that contain a text, and whether they are in a row of the stimulus."""
    polars = import_extra("polars")
    contains = polars.any_horizontal(polars.col(layout.events).str.contains(text, literal=True))
    found = rows.filter(contains).head(MAX_NAMES)
    named = found[layout.stimulus].str.strip_chars().to_list() if layout.stimulus else [None] * found.height
    for time, name in zip(numbers(found, layout.time or layout.start).tolist(), named, strict=True):
        if math.isfinite(time):
            yield time, name == stimulus


def numbers(rows: polars.DataFrame, name: str | None) -> NDArray[np.float64]:
    """Return a column as numbers; NaN where missing."""
    assert name is not None
    return np.asarray(rows[name].fill_null(float("nan")).to_numpy(), np.float64)


def plausible(positions: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return positions in float32; NaN for those that are none."""
    return np.where(np.abs(positions) < FARTHEST, positions, np.nan).astype(np.float32)


def sample_arrays(rows: polars.DataFrame, layout: Layout) -> dict[str, NDArray[Any]]:
    """Return time, x, y and validity of rows, and the numbers of their fixations if they state them."""
    time = numbers(rows, layout.time)
    x, y, valid = mean_gaze(rows, layout)
    arrays: dict[str, NDArray[Any]] = {"time": time, "x": x, "y": y, "valid": valid}
    if layout.kind is not None or layout.fixation is not None:
        arrays["fixation"] = fixation_numbers(rows, layout)
    keep = np.isfinite(time)
    return arrays if keep.all() else {name: values[keep] for name, values in arrays.items()}


def mean_gaze(
    rows: polars.DataFrame, layout: Layout
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Return the mean of the valid eyes, and whether there is one."""
    total = np.zeros((2, rows.height))
    count = np.zeros(rows.height)
    for eye in layout.eyes:
        gaze = np.stack([numbers(rows, eye.x), numbers(rows, eye.y)])
        good = (np.abs(gaze) < FARTHEST).all(axis=0) & is_valid(rows, eye.valid, layout)
        for name, values in layout.seen:
            good &= has_text(rows, name, values)
        if layout.lost is not None:
            good &= ~((gaze[0] == layout.lost[0]) & (gaze[1] == layout.lost[1]))
        total += np.where(good, gaze, 0)
        count += good
    valid = count > 0
    mean = np.where(valid, total / np.maximum(count, 1), np.nan).astype(np.float32)
    return mean[0], mean[1], valid


def is_valid(rows: polars.DataFrame, columns: Sequence[str], layout: Layout) -> NDArray[np.bool_]:
    """Return whether rows are valid by one of their columns of validity.

    Raises:
        InputError: a column has other numbers than 0 and 1 without a known meaning.
    """
    good = np.full(rows.height, not columns)
    for column in columns:
        if layout.confidence is not None:
            good |= numbers(rows, column) >= layout.confidence
            continue
        good |= has_text(rows, column, layout.accepted)
        if layout.accepted == ACCEPTED:
            number = np.asarray(rows[column].cast(import_extra("polars").Float64, strict=False).to_numpy(), np.float64)
            if (number > 1).any():
                raise InputError(
                    f"the column {printable(column)} has values above 1; write 1 for valid gaze and 0 for other"
                )
            good |= number == 1
    return good


def has_text(rows: polars.DataFrame, column: str, texts: frozenset[str]) -> NDArray[np.bool_]:
    """Return whether rows have one of some texts, in lower case, in a column."""
    text = rows[column].str.strip_chars().str.to_lowercase()
    return np.asarray(text.is_in(sorted(texts)).fill_null(False).to_numpy(), bool)


def fixation_numbers(rows: polars.DataFrame, layout: Layout) -> NDArray[np.int32]:
    """Return the number of the fixation that each row belongs to; 0: none; -1: one that has no number."""
    inside = np.ones(rows.height, bool)
    if layout.kind is not None:
        inside = has_text(rows, layout.kind, layout.kinds)
    if layout.fixation is None:
        return np.where(inside, np.int32(-1), np.int32(0))
    number = numbers(rows, layout.fixation)
    # With a type of eye movement, number 0 is a fixation, too, and so is one without a number.
    first, other = (1, -1) if layout.kind is not None else (0, 0)
    number = np.where(np.isfinite(number), np.clip(number + first, 0, 2**31 - 1), other)
    return np.where(inside, number, 0).astype(np.int32)


def fixation_arrays(rows: polars.DataFrame, layout: Layout) -> dict[str, NDArray[Any]]:
    """Return start, end or duration, and position of rows that are fixations."""
    start, ends = numbers(rows, layout.start), "end" if layout.end is not None else "duration"
    end = numbers(rows, layout.end or layout.duration)
    x, y, valid = mean_gaze(rows, layout)
    keep = valid & np.isfinite(start) & np.isfinite(end)
    arrays: dict[str, NDArray[Any]] = {"start": start, ends: end, "x": x, "y": y}
    return {name: values[keep] for name, values in arrays.items()}
