"""Fixations of a video in a JSON file: for each frame, a list of ``[row, column]`` in pixels of its density map."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import storage
from ..errors import InputError, one_line
from ..untrusted import parse_json
from .images import read_map

Points = NDArray[np.int32]
"""Rows and columns of fixations ``(n, 2)``; a pixel that several observers fixated is repeated."""

MAX_BYTES = 1 << 25
"""Size limit of a file; 75 observers take about 2 MB in 18 seconds."""

KEPT_BYTES = 1 << 27
"""Limit on the parsed files that a process keeps; one is kept for each video that is read in parallel."""

DEPTH = 3
"""Nesting of a coordinate: list of frames, list of fixations, fixation."""

SPACE = b" \t\r\n"
"""White space in JSON."""

DIGITS = b"0123456789"
"""Characters of a file of integers other than brackets, commas and white space."""

MISPLACED_COMMAS = (b"[,", b",,", b",]")
"""Commas without a value on one side."""

BRACKETS_TO_SPACES = bytes.maketrans(b"[],", b"   ")


@dataclass(frozen=True)
class FixationFrame:
    """The fixations of one frame in a JSON file, for ``read_fixation``."""

    path: Path
    index: int
    """Number of the frame, from 0."""


@dataclass(frozen=True)
class FixationList:
    """The fixations of all frames of a video."""

    points: Points
    """Fixations of all frames, in order."""
    starts: NDArray[np.int64]
    """Index of the first fixation of each frame, then the number of all fixations: ``(frames + 1,)``."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> Points:
        return self.points[self.starts[index] : self.starts[index + 1]]


def read_fixation(source: Path | FixationFrame, size: tuple[int, int] | None = None) -> NDArray[np.bool_]:
    """Return a fixation map ``(h, w)``: True at pixels that at least one observer fixated.

    Args:
        source: an image file, nonzero at these pixels, or the fixations of a frame in a JSON file.
        size: height and width of the map of a frame in a JSON file, see ``Video.map_size``; fixations outside are left
            out. An image file has a size of its own.

    Raises:
        InputError: the file cannot be read, or has no such frame.
    """
    if not isinstance(source, FixationFrame):
        fixated: NDArray[np.bool_] = read_map(source) > 0
        return fixated
    if size is None:
        raise ValueError("a list of fixations has no size: give the size of the map")
    fixation = np.zeros(size, bool)
    rows, columns = inside(read_fixation_points(source), size).T
    fixation[rows, columns] = True
    return fixation


def read_fixation_points(source: Path | FixationFrame) -> Points:
    """Return the rows and columns of the fixations of a frame, int32 ``(n, 2)``.

    Repetitions in a JSON file are kept, and so are fixations outside the frame, see :func:`inside`.

    Raises:
        InputError: the file cannot be read, or has no such frame.
    """
    if not isinstance(source, FixationFrame):
        return np.argwhere(read_fixation(source)).astype(np.int32)
    found = read_fixation_list(source.path)
    if not 0 <= source.index < len(found):
        raise InputError(f"{source.path}: has no frame {source.index + 1}, only {len(found)}")
    return found[source.index]


def inside(points: Points, size: tuple[int, int]) -> Points:
    """Return the fixations inside a map of ``size`` (height, width)."""
    return points[is_inside(points, size)]


def is_inside(points: Points, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return for each fixation whether it is inside a map of ``size`` (height, width)."""
    row, column = points.T
    found: NDArray[np.bool_] = (row >= 0) & (row < size[0]) & (column >= 0) & (column < size[1])
    return found


def read_fixation_list(path: Path) -> FixationList:
    """Return the fixations of a JSON file; the last files are kept in memory.

    Raises:
        InputError: the file cannot be read, or does not contain lists of [row, column].
    """
    try:
        state = path.stat()
        key = str(path), state.st_size, state.st_mtime_ns
        with kept_lock:
            found = kept_files.pop(key, None)
        if found is None:
            found = parse_file(path, state.st_size)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or one_line(error)}") from error
    with kept_lock:
        kept_files[key] = found
        while len(kept_files) > 1 and sum(other.points.nbytes for other in kept_files.values()) > KEPT_BYTES:
            kept_files.pop(next(iter(kept_files)))
    return found


kept_files: dict[tuple[str, int, int], FixationList] = {}
"""Parsed files by path, size and modification time; the last one was used last."""

kept_lock = threading.Lock()


def parse_file(path: Path, size: int) -> FixationList:
    """Return the fixations of a file of this size; ``InputError`` if it is malformed."""
    if size > MAX_BYTES:
        raise InputError(f"{path}: is larger than {MAX_BYTES >> 20} MiB")
    data = storage.read_bytes(path)
    try:
        found = parse_integers(data)
        return parse_any(parse_json(data)) if found is None else found
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{path}: must be a JSON list, per frame, of [row, column] ({one_line(error)})") from error


def parse_integers(data: bytes) -> FixationList | None:
    """Return the fixations of a regular JSON file of integers; None if it must be parsed as general JSON.

    NumPy needs a quarter of the time of a JSON parser.
    """
    data = data.translate(None, SPACE)  # numbers with a space between them become one, and are missing then
    if any(pair in data for pair in MISPLACED_COMMAS):
        return None
    structure = np.frombuffer(data.translate(None, DIGITS), np.uint8)
    opened, closed, commas = (structure == ord(character) for character in "[],")
    if int(opened.sum() + closed.sum() + commas.sum()) < len(structure):
        return None
    depth = np.cumsum(opened.astype(np.int8) - closed.astype(np.int8), dtype=np.int32)
    if not depth.size or depth[-1] or depth.min() < 0 or depth.max() > DEPTH or (depth[:-1] == 0).any():
        return None
    frames, points = opened & (depth == DEPTH - 1), opened & (depth == DEPTH)
    frame_of = np.cumsum(frames) - 1
    per_frame = np.bincount(frame_of[points], minlength=int(frames.sum()))
    count = int(per_frame.sum())
    commas_of_points = np.bincount(np.cumsum(points)[commas & (depth == DEPTH)] - 1, minlength=count)
    expected = count + np.maximum(per_frame - 1, 0).sum() + max(len(per_frame) - 1, 0)
    if (commas_of_points != 1).any() or commas.sum() != expected:
        return None
    numbers = np.fromstring(data.translate(BRACKETS_TO_SPACES), np.int64, sep=" ") if count else np.zeros(0, np.int64)
    if numbers.size != 2 * count or numbers.max(initial=0) > np.iinfo(np.int32).max:
        return None
    return FixationList(numbers.astype(np.int32).reshape(-1, 2), np.concatenate([[0], np.cumsum(per_frame)]))


def parse_any(document: Any) -> FixationList:
    """Return the fixations of a JSON document; fractions are rounded down to the pixel that contains them.

    Raises:
        ValueError: it is not a list, per frame, of [row, column].
        TypeError: the same.
    """
    if not isinstance(document, list) or not all(isinstance(frame, list) for frame in document):
        raise ValueError("a frame is not a list")
    fixations = list(itertools.chain.from_iterable(document))
    if not all(isinstance(point, list) and len(point) == 2 for point in fixations):
        raise ValueError("a fixation is not [row, column]")
    if not all(type(value) in (int, float) for point in fixations for value in point):
        raise ValueError("a coordinate is not a number")
    values = np.array(fixations, np.float64).reshape(-1, 2)
    limit = np.iinfo(np.int32).max
    if not (np.abs(values) <= limit).all():
        raise ValueError("a coordinate is not a pixel")
    starts = np.cumsum([0, *map(len, document)])
    return FixationList(np.floor(values).astype(np.int32), starts.astype(np.int64))
