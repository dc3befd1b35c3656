"""The fixations of a whole dataset as coordinates, decoded once and cached on disk.

Shuffled AUC uses the fixations of ten other frames for every frame. Without the coordinates, every PNG would have to be
decoded about ten times.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import arrays, cache
from ..atomic_files import atomic_write
from ..callbacks import OnProgress
from ..datasets import Video, read_fixation
from ..errors import InputError, OutputError
from ..untrusted import parse_json, read_document

FORMAT = 1
"""Version of the cached files; increase it when their content changes."""

FRAME = np.dtype(
    [("video", "<i4"), ("number", "<i4"), ("start", "<i8"), ("count", "<i4"), ("height", "<u2"), ("width", "<u2")]
)
"""One annotated frame: index of its first point, number of points (-1 if its file cannot be read), size in pixels."""

MAX_PROBLEMS_BYTES = 1 << 28
"""Size limit of the cached file of error messages."""

Coordinates = NDArray[np.uint16]
"""Rows and columns of fixated pixels, ``(n, 2)``."""


def fingerprint(files: Sequence[Path]) -> str:
    """Return a hash of the names, sizes and modification times of files; it changes when one of the files does."""
    stats = []
    for path in files:
        try:
            stat = path.stat()
            stats.append(f"{path.absolute()}|{stat.st_size}|{stat.st_mtime_ns}")
        except OSError:
            stats.append(f"{path.absolute()}|missing")
    return hashlib.sha256("\n".join(stats).encode(errors="surrogateescape")).hexdigest()


class Fixations:
    """All fixations of the videos of a dataset. Create one with :func:`read_fixations`.

    Attributes:
        key: hash of the files that the fixations were read from.
        problems: error message for each file that cannot be read, by ``video:number``.
    """

    def __init__(
        self, key: str, frames: NDArray[np.void], points: Coordinates, problems: dict[str, str], folder: Path | None
    ) -> None:
        self.key = key
        self._frames = frames
        self._points = points
        self._folder = folder
        self._usable = np.flatnonzero(frames["count"] > 0)
        self.problems = problems

    def __reduce__(self) -> tuple[Callable[..., Fixations], tuple[object, ...]]:
        """Pickle the path of the cached files, which processes map into shared memory; without files, the arrays."""
        if self._folder is not None:
            return load_fixations, (self._folder, self.key)
        return Fixations, (self.key, self._frames, self._points, self.problems, None)

    @functools.cached_property
    def _rows(self) -> dict[tuple[int, int], int]:
        return {
            (int(video), int(number)): row
            for row, (video, number) in enumerate(self._frames[["video", "number"]].tolist())
        }

    @property
    def frames(self) -> int:
        """Number of frames with at least one fixation."""
        return len(self._usable)

    @functools.cached_property
    def videos(self) -> int:
        """Number of videos with at least one fixation."""
        return len(np.unique(self._frames["video"][self._usable]))

    def mask(self, video: int, number: int) -> NDArray[np.bool_] | None:
        """Return the fixation map of a frame, ``(H, W)``; None if it is missing or unreadable."""
        row = self._rows.get((video, number))
        if row is None or self._frames[row]["count"] < 0:
            return None
        frame = self._frames[row]
        mask = np.zeros((int(frame["height"]), int(frame["width"])), bool)
        points = self._points_of(row)
        mask[points[:, 0], points[:, 1]] = True
        return mask

    def _points_of(self, row: int) -> Coordinates:
        start, count = int(self._frames[row]["start"]), int(self._frames[row]["count"])
        return self._points[start : start + max(count, 0)]

    def other_frames(self, video: int) -> NDArray[np.int64]:
        """Return the rows of all frames with fixations in videos other than ``video``."""
        others: NDArray[np.int64] = self._usable[self._frames["video"][self._usable] != video]
        return others

    def union(self, rows: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the fixations of several frames as one map, ``(H, W)``, rescaled to ``size`` (height, width)."""
        mask = np.zeros(size, bool)
        for row in rows:
            rescaled = rescale_points(self._points_of(row), self._size(row), size)
            mask[rescaled[:, 0], rescaled[:, 1]] = True
        return mask

    def _size(self, row: int) -> tuple[int, int]:
        return int(self._frames[row]["height"]), int(self._frames[row]["width"])

    def histogram(self, size: tuple[int, int], video: int | None = None) -> NDArray[np.float64]:
        """Return the number of fixations in each cell of a grid over the frame, an array of ``size``.

        Args:
            size: rows and columns of the grid.
            video: number of the only video to count; None for all videos.
        """
        counts = np.zeros(size[0] * size[1])
        rows = self._usable if video is None else self._usable[self._frames["video"][self._usable] == video]
        for frame_size in np.unique(self._frames[rows][["height", "width"]]):
            same_size = rows[self._frames[rows][["height", "width"]] == frame_size]
            points = np.concatenate([self._points_of(row) for row in same_size])
            cells = rescale_points(points, (int(frame_size["height"]), int(frame_size["width"])), size).astype(np.int64)
            counts += np.bincount(cells[:, 0] * size[1] + cells[:, 1], minlength=counts.size)
        return counts.reshape(size)


def rescale_points(points: Coordinates, old: tuple[int, int], new: tuple[int, int]) -> Coordinates:
    """Return the pixels of a frame of size ``new`` that contain the centers of pixels of a frame of size ``old``."""
    if old == new:
        return points
    moved = (2 * points.astype(np.int64) + 1) * np.array(new) // (2 * np.array(old))
    rescaled: Coordinates = moved.astype(np.uint16)
    return rescaled


def read_fixations(
    videos: Sequence[Video], step: int = 1, workers: int = 1, progress: OnProgress | None = None
) -> Fixations:
    """Return the fixations of videos, from the cache or, the first time, from their PNGs.

    Args:
        videos: the videos; their positions in this sequence are the video numbers of :class:`Fixations`.
        step: distance of the frames to read; 1 for every frame.
        workers: number of threads that decode.
        progress: called after each decoded frame.
    """
    files = [
        (index, number, path)
        for index, video in enumerate(videos)
        for number, path in list(video.fixations.items())[::step]
    ]
    key = fingerprint([path for _, _, path in files])
    parent = cache.folder(f"fixations-{FORMAT}")
    folder = parent / key[:32] if parent else None
    try:
        if folder is not None:
            return load_fixations(folder, key)
    except (OSError, ValueError, InputError):
        pass
    frames = np.zeros(len(files), FRAME)
    points: list[Coordinates] = []
    problems = {}
    start = 0
    for row, result in enumerate(decode_all([path for _, _, path in files], workers)):
        index, number, _ = files[row]
        if isinstance(result, InputError):
            problems[f"{index}:{number}"] = str(result)
            frames[row] = (index, number, start, -1, 0, 0)
        else:
            size, coordinates = result
            frames[row] = (index, number, start, len(coordinates), *size)
            points.append(coordinates)
            start += len(coordinates)
        if progress:
            progress(row + 1, len(files))
    all_points = np.concatenate(points) if points else np.zeros((0, 2), np.uint16)
    stored = folder is not None and save_fixations(folder, frames, all_points, problems)
    return Fixations(key, frames, all_points, problems, folder if stored else None)


Decoded = tuple[tuple[int, int], Coordinates]
"""Size (height, width) and coordinates of a fixation map."""


def decode_all(paths: Sequence[Path], workers: int) -> Iterator[Decoded | InputError]:
    """Yield each decoded fixation map, or the error if it cannot be read. Decodes in threads; OpenCV frees the GIL."""

    def decode(path: Path) -> Decoded | InputError:
        try:
            mask = read_fixation(path)
        except InputError as error:
            return error
        height, width = mask.shape
        return (height, width), np.argwhere(mask).astype(np.uint16)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        yield from pool.map(decode, paths)


def save_fixations(folder: Path, frames: NDArray[np.void], points: Coordinates, problems: dict[str, str]) -> bool:
    """Save fixations to the cache; return whether the cache could be written."""
    try:
        with atomic_write(folder) as temporary:
            temporary.mkdir()
            np.save(temporary / "frames.npy", frames)
            np.save(temporary / "points.npy", points)
            (temporary / "problems.json").write_text(json.dumps(problems), encoding="utf-8")
    except OutputError:
        return False
    return True


def load_fixations(folder: Path, key: str) -> Fixations:
    """Load the files of :func:`save_fixations`; points are memory-mapped, so that processes share them.

    Raises:
        ValueError: the files are damaged.
    """
    with arrays.open_npy(folder / "frames.npy") as stored_frames:
        frames = stored_frames.read()
    points = np.load(folder / "points.npy", mmap_mode="r" if frames["count"].clip(0).sum() else None)
    problems = parse_json(read_document(folder / "problems.json", MAX_PROBLEMS_BYTES))
    ends = frames["start"] + frames["count"] if frames.dtype == FRAME else [-1]
    if min(ends, default=0) < -1 or max(ends, default=0) > len(points) or points.shape[1:] != (2,):
        raise ValueError("damaged cache")
    return Fixations(key, frames, points, problems, folder)
