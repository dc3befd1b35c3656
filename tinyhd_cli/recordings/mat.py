"""MAT files: vectors of samples, positions of each frame, and lists of fixations, of one or several observers.

Read are numbers, in structures and cells too. The forms:

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
from .collect import Key, Parts
from .columns import USUAL as USUAL_NAMES
from .columns import Layout, find, unit_of
from .options import RecordingOptions
from .tables import import_extra
from .text import Head

MAX_BYTES = 1 << 29
"""Size limit of a file, and of each of its variables."""

SIGNATURE, SIGNATURE_73 = b"MATLAB 5.0", b"MATLAB 7.3"

Numbers = NDArray[np.float64]


def is_mat(head: Head) -> bool:
    """Return whether a file is a MAT file."""
    return head.raw.startswith((SIGNATURE, SIGNATURE_73))


def read_mat(head: Head, options: RecordingOptions) -> tuple[Layout, dict[Key, Parts]]:
    """Read the recordings of a MAT file; ``InputError`` if it has none in a known form, or several."""
    values = load(head)
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
        raise InputError(f"{head.path}: has positions of each frame; state --frame-rate")
    layout = Layout(
        (),
        duration="duration",
        seconds=None if fixations or options.frame_rate is None else 1 / options.frame_rate,
        zero="file",
    )
    stem = head.path.name.split(".")[0]
    keys = [()] if len(recordings) == 1 else [(f"{stem}-{number:02d}",) for number in range(1, len(recordings) + 1)]
    return layout, dict(zip(keys, map(parts_of, recordings), strict=True))


def load(head: Head) -> dict[str, Any]:
    """Return all arrays and cells of a MAT file by name, those of structures as ``structure.field``.

    Raises:
        InputError: it is of version 7.3, damaged, or too large.
    """
    path = head.path
    if head.raw.startswith(SIGNATURE_73):
        raise InputError(f"{path}: is a MAT file of version 7.3; save it with -v7 in MATLAB: save(name, '-v7')")
    io = import_extra("scipy.io")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: is larger than {MAX_BYTES >> 20} MiB")
        for name, shape, _ in io.whosmat(path):
            if np.prod(shape, dtype=np.float64) * 8 > MAX_BYTES:
                raise InputError(f"{path}: the variable {printable(name)} is larger than {MAX_BYTES >> 20} MiB")
        content = io.loadmat(path, simplify_cells=True, chars_as_strings=True)
    except InputError:
        raise
    except Exception as error:  # SciPy raises any kind for a damaged file
        raise InputError(f"{path}: is not a complete MAT file; copy or save it again") from error
    return dict(flatten("", {name: value for name, value in content.items() if not name.startswith("__")}))


def flatten(prefix: str, content: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of nested structures."""
    for name, value in content.items():
        if isinstance(value, dict):
            yield from flatten(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}", value


def numbers_of(value: Any) -> Numbers | None:
    """Return real numbers as float64; None for anything else."""
    array = np.asarray(value) if not isinstance(value, list) else None
    return array.astype(np.float64) if array is not None and array.dtype.kind in "biuf" else None


def recordings_in(value: Any) -> list[Numbers]:
    """Return the array of each observer, ``(frames, 2)`` or ``(fixations, 4)``; empty if a value has another form."""
    is_cell = isinstance(value, list) or (isinstance(value, np.ndarray) and value.dtype == object)
    items = [numbers_of(item) for item in value] if is_cell else split_observers(numbers_of(value))
    arrays = [item for item in items if item is not None and item.ndim == 2 and len(item)]
    widths = {array.shape[1] for array in arrays}
    return arrays if arrays and len(arrays) == len(items) and len(widths) == 1 and widths <= {2, 4} else []


def split_observers(array: Numbers | None) -> list[Numbers | None]:
    """Return the arrays ``(frames, 2)`` of an array ``(2, frames, observers)``, or the array itself."""
    if array is not None and array.ndim == 3 and array.shape[0] == 2:
        return [array[:, :, index].T for index in range(array.shape[2])]
    return [array]


def parts_of(rows: Numbers) -> Parts:
    """Return the rows of an observer: positions of each frame, or fixations."""
    parts = Parts()
    x, y = rows[:, 0].astype(np.float32), rows[:, 1].astype(np.float32)
    if rows.shape[1] == 4:
        good = np.isfinite(rows).all(axis=1)
        parts.add("fixations", {"start": rows[good, 2], "duration": rows[good, 3].copy(), "x": x[good], "y": y[good]})
    else:
        add_samples(parts, np.arange(len(rows), dtype=np.float64), x, y)
    return parts


def add_samples(parts: Parts, time: Numbers, x: NDArray[np.float32], y: NDArray[np.float32]) -> None:
    """Add samples; those that are not numbers, or have a negative position, are invalid."""
    valid = np.isfinite(x) & np.isfinite(y) & (x >= 0) & (y >= 0)
    x, y = np.where(valid, x, np.float32(np.nan)), np.where(valid, y, np.float32(np.nan))
    parts.add("samples", {"time": time, "x": x, "y": y, "valid": valid})


def read_vectors(head: Head, values: dict[str, Any], named: dict[str, str]) -> tuple[Layout, dict[Key, Parts]]:
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
    columns = {role: arrays[role].ravel() for role in ("start", end, "x", "y")}
    check_lengths(head.path, columns)
    good = np.isfinite(np.stack(list(columns.values()))).all(axis=0)
    kinds = {"x": np.float32, "y": np.float32}
    parts.add("fixations", {role: a[good].astype(kinds.get(role, np.float64)) for role, a in columns.items()})
    seconds = {role: unit_of(roles[role]) for role in ("start", end)}
    layout = Layout((), duration="duration", seconds=seconds["start"], duration_seconds=seconds[end], zero="file")
    return layout, {(): parts}


def vectors_of_samples(path: Path, time_name: str, arrays: dict[str, Numbers]) -> tuple[Layout, dict[Key, Parts]]:
    """Return samples of one observer, or of one in each column of x and y."""
    time = arrays["time"].ravel()
    x, y = (
        arrays[axis].reshape(len(time), -1) if arrays[axis].size % max(len(time), 1) == 0 else None for axis in "xy"
    )
    if x is None or y is None or x.shape != y.shape or not len(time):
        raise InputError(f"{path}: time, x and y have different lengths")
    stem = path.name.split(".")[0]
    found: dict[Key, Parts] = {}
    for column in range(x.shape[1]):
        parts = Parts()
        add_samples(parts, time.copy(), x[:, column].astype(np.float32), y[:, column].astype(np.float32))
        found[() if x.shape[1] == 1 else (f"{stem}-{column + 1:02d}",)] = parts
    return Layout((), seconds=unit_of(time_name), zero="file"), found


def array_of(path: Path, name: str, value: Any) -> Numbers:
    """Return a variable as numbers; ``InputError`` if it is something else."""
    array = numbers_of(value)
    if array is None:
        raise InputError(f"{path}: the variable {printable(name)} has no numbers")
    return array


def check_lengths(path: Path, columns: dict[str, Numbers]) -> None:
    """Raise ``InputError`` unless all vectors have the same length."""
    if len({len(values) for values in columns.values()}) > 1:
        raise InputError(f"{path}: {', '.join(columns)} have different lengths")
