"""The fixations of a whole dataset as coordinates, decoded once and cached on disk.

Shuffled AUC uses the fixations of ten other frames for every frame. Without the coordinates, every PNG would have to be
decoded about ten times. The coordinates of a large dataset take gigabytes, so they are written to the cache as they are
read, and then memory-mapped.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import arrays, cache
from ..atomic_files import atomic_write
from ..callbacks import OnProgress
from ..datasets import Video, read_fixation
from ..datasets.fixation_lists import is_inside, read_fixation_list
from ..errors import InputError, OutputError
from ..storage import name_of, url_of
from ..untrusted import parse_json, read_document

FORMAT = 2
"""Version of the cached files; increase it when their content changes."""

FRAME = np.dtype(
    [("video", "<i4"), ("number", "<i4"), ("start", "<i8"), ("count", "<i4"), ("height", "<u2"), ("width", "<u2")]
)
"""One annotated frame: index of its first point, number of points (-1 if its file cannot be read), size in pixels."""

MAX_PROBLEMS_BYTES = 1 << 28
"""Size limit of the cached file of error messages."""

POINTS_FILE = "points.u16"
"""Name of the cached file of all coordinates, rows and columns in turn, little-endian."""

STORE_THREADS = 16
"""Number of files that are read from a store at the same time: their answers take longer than the decoding."""

HISTOGRAM_ROWS = 512
"""Number of frames whose coordinates are in memory at once when they are counted."""

Coordinates = NDArray[np.uint16]
"""Rows and columns of fixated pixels, ``(n, 2)``."""


def fingerprint(files: Sequence[Path]) -> str:
    """Return a hash of the names, sizes and modification times of files; it changes when one of the files does."""
    stats = []
    for path in files:
        try:
            stat = path.stat()
            stats.append(f"{name_of(path.absolute())}|{stat.st_size}|{stat.st_mtime_ns}")
        except OSError:
            stats.append(f"{name_of(path.absolute())}|missing")
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

    def in_memory(self) -> Fixations:
        """Return the same fixations for processes on machines without the cached files; a pickle contains them all."""
        return Fixations(self.key, self._frames, np.array(self._points), self.problems, None)

    @functools.cached_property
    def _places(self) -> NDArray[np.int64]:
        """Video and frame number of each row as one ascending number."""
        places: NDArray[np.int64] = (self._frames["video"].astype(np.int64) << 32) + self._frames["number"]
        return places

    def _row(self, video: int, number: int) -> int | None:
        """Return the row of a frame; None if it has no fixations."""
        place = (video << 32) + number
        row = int(np.searchsorted(self._places, place))
        return row if row < len(self._places) and self._places[row] == place else None

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
        row = self._row(video, number)
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
            old = int(frame_size["height"]), int(frame_size["width"])
            for first in range(0, len(same_size), HISTOGRAM_ROWS):
                points = np.concatenate([self._points_of(row) for row in same_size[first : first + HISTOGRAM_ROWS]])
                cells = rescale_points(points, old, size).astype(np.int64)
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
    """Return the fixations of videos, from the cache or, the first time, from their files.

    Args:
        videos: the videos; their positions in this sequence are the video numbers of :class:`Fixations`.
        step: distance of the frames to read; 1 for every frame.
        workers: number of threads that decode.
        progress: called after each decoded file.
    """
    files = list(files_of(videos, step))
    paths = [path for file in files for path in (file.path, file.video.density_video) if path is not None]
    key = hashlib.sha256(f"{step} {fingerprint(paths)}".encode()).hexdigest()
    workers = max(workers, STORE_THREADS) if any(url_of(path) for path in paths) else workers
    parent = cache.folder(f"fixations-{FORMAT}")
    folder = parent / key[:32] if parent else None
    if folder is not None:
        with contextlib.suppress(OSError, ValueError, InputError):
            return load_fixations(folder, key)
        with contextlib.suppress(OSError, OutputError):  # without a writable cache, coordinates are kept in memory
            save_fixations(folder, decode_all(files, workers), len(files), progress)
            return load_fixations(folder, key)
    points: list[Coordinates] = []
    frames, problems = collect(decode_all(files, workers), len(files), points.append, progress)
    return Fixations(key, frames, np.concatenate(points) if points else np.zeros((0, 2), np.uint16), problems, None)


@dataclass(frozen=True)
class FixationFile:
    """A file of fixations: of one frame, or of all frames of a video."""

    index: int
    """Position of the video in the sequence."""
    video: Video
    path: Path
    number: int | None = None
    """Number of the frame; None for a file of all frames, which are numbered from 1."""
    step: int = 1
    """Distance of the frames to read from a file of all frames."""

    def decode(self) -> list[Decoded]:
        """Return the fixations of each frame."""
        if self.number is None:
            return self._decode_list()
        try:
            mask = read_fixation(self.path)
        except InputError as error:
            return [Decoded(self.index, self.number, (0, 0), None, str(error))]
        height, width = mask.shape
        return [Decoded(self.index, self.number, (height, width), np.argwhere(mask).astype(np.uint16))]

    def _decode_list(self) -> list[Decoded]:
        """Return the fixations of a file of all frames; without repetitions, and without those outside the frame."""
        size = self.video.map_size
        if not self.video.fixations or size is None:  # reported as a problem of the video
            return []
        found = read_fixation_list(self.path)
        frame_of = np.repeat(np.arange(len(found)), np.diff(found.starts))
        kept = is_inside(found.points, size) & (frame_of % self.step == 0)
        places = np.sort(np.ravel_multi_index((frame_of[kept], *found.points[kept].T), (len(found), *size)))
        different = np.diff(places, prepend=-1) > 0  # 20 times as fast as np.unique
        frame_of, *pixels = np.unravel_index(places[different], (len(found), *size))
        coordinates = np.stack(pixels, axis=1).astype(np.uint16)
        starts = np.searchsorted(frame_of, np.arange(len(found) + 1))
        frames = [
            Decoded(self.index, index + 1, size, coordinates[starts[index] : starts[index + 1]])
            for index in range(0, len(found), self.step)
        ]
        return frames


@dataclass(frozen=True)
class Decoded:
    """The fixations of a frame."""

    index: int
    """Position of its video in the sequence."""
    number: int
    size: tuple[int, int]
    """Height and width."""
    coordinates: Coordinates | None
    """None if the file cannot be read."""
    problem: str = ""
    """The error if the file cannot be read."""


def files_of(videos: Sequence[Video], step: int) -> Iterator[FixationFile]:
    """Yield the files of fixations of videos."""
    for index, video in enumerate(videos):
        if video.fixation_list is not None:
            yield FixationFile(index, video, video.fixation_list, step=step)
            continue
        for number, path in list(video.fixations.items())[::step]:
            assert isinstance(path, Path)
            yield FixationFile(index, video, path, number)


def decode_all(files: Sequence[FixationFile], workers: int) -> Iterator[list[Decoded]]:
    """Yield the decoded frames of each file, in order. Decodes a few files ahead in threads; OpenCV frees the GIL."""
    waiting: deque[Future[list[Decoded]]] = deque()
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for file in files:
            waiting.append(pool.submit(file.decode))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def collect(
    files: Iterable[list[Decoded]], count: int, write: Callable[[Coordinates], object], progress: OnProgress | None
) -> tuple[NDArray[np.void], dict[str, str]]:
    """Write the coordinates of all frames one after the other; return the frames and the problems.

    Args:
        files: the decoded frames of each file.
        count: number of files.
        write: called with the coordinates of each frame.
        progress: called after each file.
    """
    parts = [np.zeros(0, FRAME)]
    problems, start = {}, 0
    for done, frames in enumerate(files, start=1):
        rows = []
        for frame in frames:
            coordinates = frame.coordinates
            points = -1 if coordinates is None else len(coordinates)
            rows.append((frame.index, frame.number, start, points, *frame.size))
            if coordinates is None:
                problems[f"{frame.index}:{frame.number}"] = frame.problem
            else:
                write(coordinates)
                start += points
        parts.append(np.array(rows, FRAME))
        if progress:
            progress(done, count)
    return np.concatenate(parts), problems


def save_fixations(folder: Path, files: Iterable[list[Decoded]], count: int, progress: OnProgress | None) -> None:
    """Write decoded fixations to the cache; ``OutputError`` if it cannot be written. For arguments see `collect`."""
    with atomic_write(folder) as temporary:
        temporary.mkdir()
        with (temporary / POINTS_FILE).open("wb") as file:
            write = lambda points: file.write(points.astype("<u2").tobytes())  # noqa: E731
            frames, problems = collect(files, count, write, progress)
        np.save(temporary / "frames.npy", frames)
        (temporary / "problems.json").write_text(json.dumps(problems), encoding="utf-8")


def load_fixations(folder: Path, key: str) -> Fixations:
    """Load the files of :func:`save_fixations`; points are memory-mapped, so that processes share them.

    Raises:
        ValueError: the files are damaged.
    """
    with arrays.open_npy(folder / "frames.npy") as stored_frames:
        frames = stored_frames.read()
    path = folder / POINTS_FILE
    count = path.stat().st_size // 4
    points = np.memmap(path, "<u2", "r", shape=(count, 2)) if count else np.zeros((0, 2), np.uint16)
    problems = parse_json(read_document(folder / "problems.json", MAX_PROBLEMS_BYTES))
    ends = frames["start"] + frames["count"] if frames.dtype == FRAME else [-1]
    if min(ends, default=0) < -1 or max(ends, default=0) > len(points) or path.stat().st_size % 4:
        raise ValueError("damaged cache")
    return Fixations(key, frames, points, problems, folder)
