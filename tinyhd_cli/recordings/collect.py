"""Collect the rows of a table into one recording per observer. Memory: 17 bytes per sample, and one chunk of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .columns import ROW, Layout
from .options import RecordingOptions
from .tables import Table, import_extra

if TYPE_CHECKING:
    import polars

FARTHEST = 1e6
"""Positions beyond this are no pixels but marks of missing data, such as 1e8 in files of EyeLink."""

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
    zero: float | None = None
    """Time of the start event."""

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
        InputError: the file cannot be read.
    """
    found: dict[Key, Parts] = {}
    count = 0
    for frame in table.chunks(layout.numbers, layout.texts):
        if layout.time == ROW:
            frame, count = frame.with_row_index(ROW, offset=count), count + frame.height
        if layout.observer and max(len(found), frame.select(layout.observer).n_unique()) > MAX_OBSERVERS:
            raise InputError(
                f"{table.head.path}: has more than {MAX_OBSERVERS:,} observers by {' and '.join(layout.observer)}; name"
                " the column of observers: --columns observer=NAME"
            )
        for key, rows in by_observer(frame, layout):
            parts = found.setdefault(key, Parts())
            if parts.zero is None and options.start_event and layout.events:
                parts.zero = find_event(rows, layout, options.start_event)
            rows = select(rows, layout, options)
            if layout.time is not None:
                parts.add("samples", sample_arrays(rows, layout))
            else:
                parts.add("fixations", fixation_arrays(rows, layout))
    return found


def select(frame: polars.DataFrame, layout: Layout, options: RecordingOptions) -> polars.DataFrame:
    """Return the rows of the sensor and the stimulus that are used."""
    polars = import_extra("polars")
    for name, values in layout.only:
        frame = frame.filter(polars.col(name).str.strip_chars().str.to_lowercase().is_in(sorted(values)))
    if layout.filled:
        frame = frame.filter(polars.any_horizontal(polars.col(layout.filled).is_not_null()))
    if layout.stimulus is not None and options.stimulus is not None:
        frame = frame.filter(polars.col(layout.stimulus).str.contains(options.stimulus, literal=True))
    return frame


def by_observer(frame: polars.DataFrame, layout: Layout) -> Iterator[tuple[Key, polars.DataFrame]]:
    """Yield the rows of each recording."""
    if not layout.observer:
        yield (), frame
        return
    for key, rows in frame.partition_by(layout.observer, maintain_order=True, as_dict=True).items():
        if key[0] is not None:
            yield tuple(str(value or "").strip() for value in key), rows


def find_event(rows: polars.DataFrame, layout: Layout, text: str) -> float | None:
    """Return the time of the first event that contains a text; None if there is none."""
    polars = import_extra("polars")
    contains = polars.any_horizontal(polars.col(layout.events).str.contains(text, literal=True))
    times = numbers(rows.filter(contains), layout.time or layout.start)
    times = times[np.isfinite(times)]
    return float(times[0]) if len(times) else None


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
        if layout.lost is not None:
            good &= ~((gaze[0] == layout.lost[0]) & (gaze[1] == layout.lost[1]))
        total += np.where(good, gaze, 0)
        count += good
    valid = count > 0
    mean = np.where(valid, total / np.maximum(count, 1), np.nan).astype(np.float32)
    return mean[0], mean[1], valid


def is_valid(rows: polars.DataFrame, column: str | None, layout: Layout) -> NDArray[np.bool_]:
    """Return whether rows are valid by their column of validity."""
    if column is None:
        return np.ones(rows.height, bool)
    if layout.confidence is not None:
        return numbers(rows, column) >= layout.confidence
    text = rows[column].str.strip_chars().str.to_lowercase()
    return np.asarray(text.is_in(sorted(layout.accepted)).fill_null(False).to_numpy(), bool)


def fixation_numbers(rows: polars.DataFrame, layout: Layout) -> NDArray[np.int32]:
    """Return the number of the fixation that each row belongs to; 0: none; -1: one that has no number."""
    inside = np.ones(rows.height, bool)
    if layout.kind is not None:
        text = rows[layout.kind].str.strip_chars().str.to_lowercase()
        inside = np.asarray(text.is_in(sorted(layout.kinds)).fill_null(False).to_numpy(), bool)
    if layout.fixation is None:
        return np.where(inside, np.int32(-1), np.int32(0))
    number = np.nan_to_num(numbers(rows, layout.fixation), nan=-1, posinf=-1, neginf=-1)
    first = 1 if layout.kind is not None else 0  # with a type of eye movement, number 0 is a fixation, too
    return np.where(inside, np.clip(number + first, 0, 2**31 - 1), 0).astype(np.int32)


def fixation_arrays(rows: polars.DataFrame, layout: Layout) -> dict[str, NDArray[Any]]:
    """Return start, end or duration, and position of rows that are fixations."""
    start, ends = numbers(rows, layout.start), "end" if layout.end is not None else "duration"
    end = numbers(rows, layout.end or layout.duration)
    x, y, valid = mean_gaze(rows, layout)
    keep = valid & np.isfinite(start) & np.isfinite(end)
    arrays: dict[str, NDArray[Any]] = {"start": start, ends: end, "x": x, "y": y}
    return {name: values[keep] for name, values in arrays.items()}
