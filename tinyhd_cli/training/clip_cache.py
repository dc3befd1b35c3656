"""Decoded clips on disk, small and uint8, so that decoding never holds up training.

A video becomes a folder with ``frames.u8`` (frames, H, W, 3), and where it has ground truth ``density.u8`` and
``fixation.u8`` (frames, H, W), read through memory maps, and ``meta.json``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from ..atomic_files import atomic_write, remove
from ..callbacks import OnProgress
from ..errors import InputError
from ..system import available_cores
from ..untrusted import parse_json, read_document

if TYPE_CHECKING:
    from ..datasets import FrameFiles, Video

log = logging.getLogger("tinyhd")

Array = NDArray[np.uint8]

VERSION = 1
"""Of the format. Clips of another version are made again."""

STILL_MARGIN = 1.5
"""Photographs are stored this much larger than the network's input, so that one may zoom into them."""


@dataclass(frozen=True)
class Stored:
    """A decoded video. Opens its files anew each time it is asked, so that it may travel to worker processes."""

    name: str
    key: str
    """Of its content: the same as long as its files are."""
    folder: Path
    frames: int
    size: tuple[int, int]
    """Height and width."""
    still: bool
    """Whether it is a photograph."""
    labeled: bool

    def pixels(self) -> Array:
        """All frames, RGB ``(frames, H, W, 3)``."""
        return np.memmap(self.folder / "frames.u8", np.uint8, "r", shape=(self.frames, *self.size, 3))

    def truth(self, kind: str) -> Array:
        """All maps of a kind, ``density`` or ``fixation``: ``(frames, H, W)``; zeros where a frame has none."""
        return np.memmap(self.folder / f"{kind}.u8", np.uint8, "r", shape=(self.frames, *self.size))


def is_still(video: Video) -> bool:
    """Whether a video is a photograph."""
    return video.single is not None


def stored_size(video: Video, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width in which a video is stored for clips of ``size``."""
    margin = STILL_MARGIN if is_still(video) else 1
    return round(size[0] * margin), round(size[1] * margin)


def key_of(video: Video, size: tuple[int, int]) -> str:
    """A name for what a video's files hold, without reading them: from their paths, sizes and times."""
    files = [path for frame in video.frames for path in (frame.image, frame.density, frame.fixation) if path]
    files += [video.source] if video.is_file and video.source else []
    facts = [f"{VERSION} {size}"]
    for path in files:
        state = path.stat()
        facts.append(f"{path.resolve()} {state.st_size} {state.st_mtime_ns}")
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:24]


def fit(picture: Array, size: tuple[int, int]) -> Array:
    """A picture scaled to ``size``, height and width, bilinearly as ``tinyhd predict`` does."""
    return np.asarray(cv2.resize(picture, size[::-1], interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def density_map(frame: FrameFiles, size: tuple[int, int]) -> Array:
    """A frame's density with maximum 255; zeros if it has none."""
    from ..datasets import read_density

    if frame.density is None:
        return np.zeros(size, np.uint8)
    density = cv2.resize(read_density(frame.density).astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    scaled: Array = np.rint(density * (255 / max(float(density.max()), 1e-6))).astype(np.uint8)
    return scaled


def fixation_map(frame: FrameFiles, size: tuple[int, int]) -> Array:
    """A frame's fixations, 0 or 1: each point stays one; zeros if it has none."""
    from ..datasets import read_fixation

    points = np.zeros(size, np.uint8)
    if frame.fixation is not None:
        fixation = read_fixation(frame.fixation)
        y, x = np.nonzero(fixation)
        points[y * size[0] // fixation.shape[0], x * size[1] // fixation.shape[1]] = 1
    return points


def decode(video: Video, root: Path, size: tuple[int, int]) -> Stored:
    """The decoded video in the folder ``root``; made if it is not there.

    Raises:
        InputError: not one frame of it can be read.
        OutputError: the folder cannot be written.
    """
    cv2.setNumThreads(0)  # one video a process is parallel enough
    size = stored_size(video, size)
    key = key_of(video, size)
    folder = root / key
    frames = frames_in(folder, size)
    if frames is None:
        with atomic_write(folder) as temporary:
            temporary.mkdir()
            frames = write_frames(video, temporary, size)
            (temporary / "meta.json").write_text(json.dumps({"name": video.name, "frames": frames, "size": size}))
            remove(folder)  # what an earlier program left unfinished
    return Stored(video.name, key, folder, frames, size, is_still(video), video.annotated)


def frames_in(folder: Path, size: tuple[int, int]) -> int | None:
    """Return the number of frames of a decoded video; None if it is missing or its files are damaged."""
    try:
        frames = parse_json(read_document(folder / "meta.json"))["frames"]
        whole = (folder / "frames.u8").stat().st_size == frames * size[0] * size[1] * 3
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return int(frames) if whole else None


def write_frames(video: Video, folder: Path, size: tuple[int, int]) -> int:
    """Write a video's arrays and return how many frames there are."""
    kinds = ["frames", "density", "fixation"] if video.annotated else ["frames"]
    count = 0
    files: dict[str, IO[bytes]] = {}
    try:
        for kind in kinds:
            files[kind] = (folder / f"{kind}.u8").open("wb")
        for frame, image in video.read(lambda line: log.debug("%s", line)):
            files["frames"].write(fit(image, size).tobytes())
            if video.annotated:
                files["density"].write(density_map(frame, size).tobytes())
                files["fixation"].write(fixation_map(frame, size).tobytes())
            count += 1
    finally:
        for file in files.values():
            file.close()
    return count


def attempt(task: tuple[Video, Path, tuple[int, int]]) -> Stored | str:
    """:func:`decode` for a worker process: what is wrong with a damaged video, rather than an exception."""
    try:
        return decode(*task)
    except InputError as error:
        return str(error)


def decode_all(
    videos: Iterable[Video], root: Path, size: tuple[int, int], workers: int, progress: OnProgress
) -> list[Stored]:
    """Decode videos, several at once; damaged ones are reported in the log and left out."""
    tasks = [(video, root, size) for video in videos]
    stored = []
    for done, result in enumerate(results(tasks, workers), start=1):
        if isinstance(result, str):
            log.warning("%s; skipped", result)
        else:
            stored.append(result)
        progress(done, len(tasks))
    return stored


def results(tasks: list[tuple[Video, Path, tuple[int, int]]], workers: int) -> Iterator[Stored | str]:
    """What became of each task, in order."""
    todo = sum(
        frames_in(root / key_of(video, stored), stored) is None
        for video, root, stored in ((video, root, stored_size(video, size)) for video, root, size in tasks)
    )
    if workers < 2 or todo < 4:  # processes take longer to start than so few clips to decode
        yield from map(attempt, tasks)
        return
    # Not forked: threads of OpenCV and PyTorch do not survive that.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, available_cores()), mp_context=context) as pool:
        yield from pool.map(attempt, tasks, chunksize=max(1, min(16, len(tasks) // (4 * workers))))
