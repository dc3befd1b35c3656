"""MAT files: vectors of samples, positions of each frame, and lists of fixations, of one or several observers.

Numbers are read, also from structures and cells. The forms:

* vectors with usual names (``time``, ``x``, ``y``; or ``start``, ``end`` or ``duration``, ``x``, ``y``): one observer;
  with ``x`` and ``y`` of ``(samples, observers)``: several;
* an array ``(2, frames, observers)`` or ``(frames, 2)``: x and y of each frame, as in Coutrot and Guyader's database;
* a cell array with an array of each observer: ``(frames, 2)``, x and y of each frame, or ``(fixations, 4)``, x, y,
  start and duration.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..untrusted import printable
from ..wording import list_names
from .collect import Contents, Key, Parts, plausible
from .columns import USUAL as USUAL_NAMES
from .columns import Layout, find, unit_of
from .mat_file import SIGNATURES, read_mat_file
from .options import RecordingOptions
from .text import Head, bare_name

Numbers = NDArray[np.float64]


def is_mat(head: Head) -> bool:
    """Return whether a file is a MAT file."""
    return head.raw.startswith(SIGNATURES)


def read_mat(head: Head, options: RecordingOptions) -> Contents:
    """Read the recordings of a MAT file; ``InputError`` if it has none in a known form, or several."""
    values = dict(flatten("", read_mat_file(head.path)))
    named = dict(options.columns)
    if "x" in named or {"x", "y"} <= {name.rpartition(".")[2].lower() for name in values}:
        return read_vectors(head, values, named)
    candidates = {name: value for name, value in values.items() if recordings_in(value)}
    if "data" in named:
        candidates = {name: value for name, value in candidates.items() if name == named["data"]}
    if len(candidates) != 1:
        known = list_names([printable(name) for name in candidates or values], 12)
        advice = f"choose one with --columns data=NAME: {known}" if candidates else f"it has {known}"
        raise InputError(f"{head.path}: has {'several' if candidates else 'no'} arrays of gaze; {advice}")
    recordings = recordings_in(next(iter(candidates.values())))
    fixations = recordings[0].shape[1] == 4
    if not fixations and options.frame_rate is None:
        raise InputError(f"{head.path}: has one position per frame; give --frame-rate")
    layout = Layout(
        (),
        duration="duration",
        seconds=None if fixations or options.frame_rate is None else 1 / options.frame_rate,
        zero="file",
    )
    stem = bare_name(head.path.name)
    keys = [()] if len(recordings) == 1 else [(f"{stem}-{number:02d}",) for number in range(1, len(recordings) + 1)]
    return layout, dict(zip(keys, map(parts_of, recordings), strict=True))


def flatten(prefix: str, content: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of nested structures."""
    for name, value in content.items():
        if isinstance(value, dict):
            yield from flatten(f"{prefix}{name}.", value)
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            for index, item in enumerate(value, start=1):
                yield from flatten(f"{prefix}{name}({index}).", item)
        else:
            yield f"{prefix}{name}", value


def recordings_in(value: Any) -> list[Numbers]:
    """Return the array of each observer, ``(frames, 2)`` or ``(fixations, 4)``; empty if a value has another form."""
    items = value if isinstance(value, list) else split_observers(value)
    arrays = [item for item in items if isinstance(item, np.ndarray) and item.ndim == 2 and len(item)]
    widths = {array.shape[1] for array in arrays}
    return arrays if arrays and len(arrays) == len(items) and len(widths) == 1 and widths <= {2, 4} else []


def split_observers(value: Any) -> list[Any]:
    """Return the arrays ``(frames, 2)`` of an array ``(2, frames, observers)``, or the value itself."""
    if isinstance(value, np.ndarray) and value.ndim == 3 and value.shape[0] == 2:
        return [value[:, :, index].T for index in range(value.shape[2])]
    return [value]


def parts_of(rows: Numbers) -> Parts:
    """Return the rows of an observer: positions of each frame, or fixations."""
    parts = Parts()
    x, y = plausible(rows[:, 0]), plausible(rows[:, 1])
    if rows.shape[1] == 4:
        good = np.isfinite(rows[:, 2:]).all(axis=1) & np.isfinite(x) & np.isfinite(y)
        parts.add("fixations", {"start": rows[good, 2], "duration": rows[good, 3].copy(), "x": x[good], "y": y[good]})
    else:
        add_samples(parts, np.arange(len(rows), dtype=np.float64), x, y)
    return parts


def add_samples(parts: Parts, time: Numbers, x: NDArray[np.float32], y: NDArray[np.float32]) -> None:
    """Add samples; those that are not numbers, or have a negative position, are invalid."""
    valid = np.isfinite(x) & np.isfinite(y) & (x >= 0) & (y >= 0)
    x, y = np.where(valid, x, np.float32(np.nan)), np.where(valid, y, np.float32(np.nan))
    parts.add("samples", {"time": time, "x": x, "y": y, "valid": valid})


def read_vectors(head: Head, values: dict[str, Any], named: dict[str, str]) -> Contents:
    """Read variables with names like those of a table's columns."""
    last = {name.rpartition(".")[2]: name for name in values}
    roles: dict[str, str] = {}
    for role in ("time", "x", "y", "start", "end", "duration"):
        usual = find(list(last), USUAL_NAMES.get(role, role).split())
        name = named.get(role, last.get(usual or "", ""))
        if name in values:
            roles[role] = name
        elif role in named:
            known = list_names([printable(variable) for variable in values], 12)
            raise InputError(f"{head.path}: has no variable {name!r} for {role}; it has {known}")
    timed = "time" in roles
    needed = {"time", "x", "y"} if timed else {"start", "x", "y"}
    if not needed <= roles.keys() or not (timed or {"end", "duration"} & roles.keys()):
        raise InputError(f"{head.path}: has no time, x and y, nor start, end or duration, x and y")
    arrays = {role: array_of(head.path, name, values[name]) for role, name in roles.items()}
    if timed:
        return vectors_of_samples(head.path, roles["time"], arrays)
    parts = Parts()
    end = "end" if "end" in arrays else "duration"
    columns: dict[str, NDArray[Any]] = {role: arrays[role].ravel() for role in ("start", end, "x", "y")}
    check_lengths(head.path, columns)
    columns |= {axis: plausible(columns[axis]) for axis in "xy"}
    good = np.isfinite(np.stack(list(columns.values()))).all(axis=0)
    parts.add("fixations", {role: values[good] for role, values in columns.items()})
    seconds = {role: unit_of(roles[role]) for role in ("start", end)}
    layout = Layout((), duration="duration", seconds=seconds["start"], duration_seconds=seconds[end], zero="file")
    return layout, {(): parts}


def vectors_of_samples(path: Path, time_name: str, arrays: dict[str, Numbers]) -> Contents:
    """Return samples of one observer, or of one in each column of x and y."""
    time = arrays["time"].ravel()
    x, y = (columns_of(arrays[axis], len(time)) for axis in "xy")
    if x is None or y is None or x.shape != y.shape:
        raise InputError(f"{path}: time, x and y have different lengths")
    stem = bare_name(path.name)
    found: dict[Key, Parts] = {}
    for column in range(x.shape[1]):
        parts = Parts()
        add_samples(parts, time.copy(), plausible(x[:, column]), plausible(y[:, column]))
        found[() if x.shape[1] == 1 else (f"{stem}-{column + 1:02d}",)] = parts
    return Layout((), seconds=unit_of(time_name), zero="file"), found


def columns_of(array: Numbers, length: int) -> Numbers | None:
    """Return a vector or matrix with ``length`` rows; None if no side has this length."""
    if length == 0 or array.ndim != 2 or length not in array.shape:
        return None
    return array if len(array) == length else array.T


def array_of(path: Path, name: str, value: Any) -> Numbers:
    """Return a variable as numbers; ``InputError`` if it is something else."""
    if not isinstance(value, np.ndarray):
        raise InputError(f"{path}: the variable {printable(name)} has no numbers")
    return value


def check_lengths(path: Path, columns: dict[str, NDArray[Any]]) -> None:
    """Raise ``InputError`` unless all vectors have the same length."""
    if len({len(values) for values in columns.values()}) > 1:
        raise InputError(f"{path}: {', '.join(columns)} have different lengths")
