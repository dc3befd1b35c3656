"""The fixations of a whole dataset as coordinates, read once and kept on disk.

Shuffled AUC takes the fixations of ten other frames for every frame. As coordinates they are at hand at once; as PNGs
they would have to be decoded ten times over.
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
from ..datasets import Video, read_fixation
from ..errors import InputError, OutputError
from ..untrusted import parse_json, read_document

FORMAT = 1
"""Raise it when the files' content changes."""

FRAME = np.dtype(
    [("video", "<i4"), ("number", "<i4"), ("start", "<i8"), ("count", "<i4"), ("height", "<u2"), ("width", "<u2")]
)
"""One annotated frame: where its points begin and how many there are; -1 if its file cannot be read."""

MAX_PROBLEMS_BYTES = 1 << 28

Coordinates = NDArray[np.uint16]
"""Rows and columns of fixated pixels, ``(n, 2)``."""

OnProgress = Callable[[int, int | None], None]
"""Called with the number of frames done and, if known, of all frames."""


def fingerprint(files: Sequence[Path]) -> str:
    """A hash that changes when one of the files does: their names, sizes and times of change."""
    stats = []
    for path in files:
        try:
            stat = path.stat()
            stats.append(f"{path.absolute()}|{stat.st_size}|{stat.st_mtime_ns}")
        except OSError:
            stats.append(f"{path.absolute()}|missing")
    return hashlib.sha256("\n".join(stats).encode(errors="surrogateescape")).hexdigest()


class Fixations:
    """All fixations of the videos of a dataset. Open one with :func:`read_fixations`.

    Attributes:
        key: a hash of the files that they were read from.
        problems: for each file that cannot be read, ``video:number``, a line that says why.
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
        """Other processes open the same files, which then share memory; without files they get a copy."""
        if self._folder is not None:
            return load, (self._folder, self.key)
        return Fixations, (self.key, self._frames, self._points, self.problems, None)

    @functools.cached_property
    def _rows(self) -> dict[tuple[int, int], int]:
        return {
            (int(video), int(number)): row
            for row, (video, number) in enumerate(self._frames[["video", "number"]].tolist())
        }

    @property
    def frames(self) -> int:
        """Frames with at least one fixation."""
        return len(self._usable)

    @functools.cached_property
    def videos(self) -> int:
        """Videos with at least one fixation."""
        return len(np.unique(self._frames["video"][self._usable]))

    def mask(self, video: int, number: int) -> NDArray[np.bool_] | None:
        """The fixation map of a frame, ``(H, W)``; None if it has none or an unreadable one."""
        row = self._rows.get((video, number))
        if row is None or self._frames[row]["count"] < 0:
            return None
        frame = self._frames[row]
        mask = np.zeros((int(frame["height"]), int(frame["width"])), bool)
        points = self._of(row)
        mask[points[:, 0], points[:, 1]] = True
        return mask

    def _of(self, row: int) -> Coordinates:
        start, count = int(self._frames[row]["start"]), int(self._frames[row]["count"])
        return self._points[start : start + max(count, 0)]

    def other_frames(self, video: int) -> NDArray[np.int64]:
        """The rows of all fixated frames of other videos than this one."""
        others: NDArray[np.int64] = self._usable[self._frames["video"][self._usable] != video]
        return others

    def union(self, rows: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.bool_]:
        """The fixations of several frames, scaled to one size (height, width)."""
        mask = np.zeros(size, bool)
        for row in rows:
            rescaled = scaled(self._of(row), self._size(row), size)
            mask[rescaled[:, 0], rescaled[:, 1]] = True
        return mask

    def _size(self, row: int) -> tuple[int, int]:
        return int(self._frames[row]["height"]), int(self._frames[row]["width"])

    def histogram(self, size: tuple[int, int], video: int | None = None) -> NDArray[np.float64]:
        """How many fixations fall into each cell of a grid that is laid over every frame, ``size``.

        Args:
            size: rows and columns of the grid.
            video: count this video alone; None for all.
        """
        counts = np.zeros(size[0] * size[1])
        rows = self._usable if video is None else self._usable[self._frames["video"][self._usable] == video]
        for frame_size in np.unique(self._frames[rows][["height", "width"]]):
            alike = rows[self._frames[rows][["height", "width"]] == frame_size]
            points = np.concatenate([self._of(row) for row in alike])
            cells = scaled(points, (int(frame_size["height"]), int(frame_size["width"])), size).astype(np.int64)
            counts += np.bincount(cells[:, 0] * size[1] + cells[:, 1], minlength=counts.size)
        return counts.reshape(size)


def scaled(points: Coordinates, old: tuple[int, int], new: tuple[int, int]) -> Coordinates:
    """Coordinates of pixels in a frame of another size: the pixel that the old one's center falls into."""
    if old == new:
        return points
    moved = (2 * points.astype(np.int64) + 1) * np.array(new) // (2 * np.array(old))
    rescaled: Coordinates = moved.astype(np.uint16)
    return rescaled


def read_fixations(
    videos: Sequence[Video], step: int = 1, workers: int = 1, progress: OnProgress | None = None
) -> Fixations:
    """The fixations of videos, from the cache or, the first time, from their PNGs.

    Args:
        videos: whose fixations; their positions here are the video numbers of :class:`Fixations`.
        step: read every how many frames.
        workers: threads that decode.
        progress: called as frames are decoded.
    """
    files = [
        (index, number, path)
        for index, video in enumerate(videos)
        for number, path in list(video.fixations.items())[::step]
    ]
    key = fingerprint([path for _, _, path in files])
    place = cache.folder(f"fixations-{FORMAT}")
    folder = place / key[:32] if place else None
    try:
        if folder is not None:
            return load(folder, key)
    except (OSError, ValueError, InputError):
        pass
    frames = np.zeros(len(files), FRAME)
    points: list[Coordinates] = []
    problems = {}
    start = 0
    for row, result in enumerate(decoded([path for _, _, path in files], workers)):
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
    every = np.concatenate(points) if points else np.zeros((0, 2), np.uint16)
    stored = folder is not None and store(folder, frames, every, problems)
    return Fixations(key, frames, every, problems, folder if stored else None)


Decoded = tuple[tuple[int, int], Coordinates]


def decoded(paths: Sequence[Path], workers: int) -> Iterator[Decoded | InputError]:
    """Size and coordinates of each fixation map, or why it cannot be read. OpenCV lets several threads decode."""

    def one(path: Path) -> Decoded | InputError:
        try:
            mask = read_fixation(path)
        except InputError as error:
            return error
        height, width = mask.shape
        return (height, width), np.argwhere(mask).astype(np.uint16)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        yield from pool.map(one, paths)


def store(folder: Path, frames: NDArray[np.void], points: Coordinates, problems: dict[str, str]) -> bool:
    """Keep fixations for the next time, if the cache can be written; says whether it could."""
    try:
        with atomic_write(folder) as temporary:
            temporary.mkdir()
            np.save(temporary / "frames.npy", frames)
            np.save(temporary / "points.npy", points)
            (temporary / "problems.json").write_text(json.dumps(problems), encoding="utf-8")
    except OutputError:
        return False
    return True


def load(folder: Path, key: str) -> Fixations:
    """What :func:`store` kept; points stay on disk until they are looked at, shared by all processes."""
    with arrays.open_npy(folder / "frames.npy") as stored_frames:
        frames = stored_frames.read()
    points = np.load(folder / "points.npy", mmap_mode="r" if frames["count"].clip(0).sum() else None)
    problems = parse_json(read_document(folder / "problems.json", MAX_PROBLEMS_BYTES))
    ends = frames["start"] + frames["count"] if frames.dtype == FRAME else [-1]
    if min(ends, default=0) < -1 or max(ends, default=0) > len(points) or points.shape[1:] != (2,):
        raise ValueError("not what was stored")
    return Fixations(key, frames, points, problems, folder)
