"""Cache decoded videos on disk, resized and as uint8, so that training never waits for decoding.

Each video has a folder with ``meta.json``, ``frames.u8`` (frames, H, W, 3) and, with ground truth, ``density.u8`` and
``fixation.u8``, or ``mask.u8`` (frames, H, W). The arrays are read through memory maps.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from ..atomic_files import atomic_write, remove
from ..callbacks import OnProgress
from ..errors import InputError
from ..inference.preprocess import reduction, resized
from ..models import ModelSpec, Preprocess
from ..system import available_cores
from ..untrusted import parse_json, read_document

if TYPE_CHECKING:
    from ..datasets import FrameFiles, Video

log = logging.getLogger("tinyhd")

Array = NDArray[np.uint8]

NO_MASK = 255
"""Value of all pixels of a mask that does not exist. A mask of zeros is one of a frame without objects."""

VERSION = 2
"""Version of the format. Clips of another version are decoded again; version 1 did not reduce large frames first."""

STILL_MARGIN = 1.5
"""Factor by which photographs are stored larger than the network's input, so that views can zoom in."""


@dataclass(frozen=True)
class Form:
    """The form in which a network reads frames, up to the normalization. Networks of one form share stored frames."""

    size: tuple[int, int]
    """Height and width."""
    preprocess: Preprocess


def form_of(spec: ModelSpec) -> Form:
    """Return the form in which a network reads frames."""
    steps = spec.preprocess
    return Form(spec.input_size, Preprocess(resize=steps.resize, reduce_above=steps.reduce_above))


@dataclass(frozen=True)
class Stored:
    """A decoded video. It opens its files on every access, so that it can be sent to worker processes."""

    name: str
    key: str
    """Digest of the names, sizes and modification times of its files, and of the preprocessing."""
    folder: Path
    frames: int
    size: tuple[int, int]
    """Height and width."""
    still: bool
    """Whether it is a photograph."""
    labeled: bool
    """Whether it has density maps and fixations."""
    masked: tuple[int, ...] = ()
    """Indices of the frames that have a mask."""
    empty: bool = False
    """Whether there is no object in any mask."""

    def pixels(self) -> Array:
        """Return all frames, RGB ``(frames, H, W, 3)``."""
        return np.memmap(self.folder / "frames.u8", np.uint8, "r", shape=(self.frames, *self.size, 3))

    def ground_truth(self, kind: str) -> Array:
        """Return all maps of a kind, ``density``, ``fixation`` or ``mask``: ``(frames, H, W)``.

        Frames without one are zeros; without a mask, ``NO_MASK``.
        """
        return np.memmap(self.folder / f"{kind}.u8", np.uint8, "r", shape=(self.frames, *self.size))


def is_still(video: Video) -> bool:
    """Return whether a video is a photograph."""
    return video.single is not None


def stored_size(video: Video, size: tuple[int, int]) -> tuple[int, int]:
    """Return height and width in which a video is stored for clips of ``size``."""
    margin = STILL_MARGIN if is_still(video) else 1
    return round(size[0] * margin), round(size[1] * margin)


def key_of(video: Video, size: tuple[int, int], preprocess: Preprocess) -> str:
    """Return a digest of the paths, sizes and modification times of a video's files, and of the preprocessing."""
    files = [path for frame in video.frames for path in (frame.image, frame.density, frame.fixation) if path]
    files += [path for frame in video.frames if frame.mask for path in frame.mask.paths]
    files += [video.source] if video.is_file and video.source else []
    facts = [f"{VERSION} {size} {preprocess.resize} {preprocess.reduce_above}"]
    for path in files:
        state = path.stat()
        facts.append(f"{path.resolve()} {state.st_size} {state.st_mtime_ns}")
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:24]


def fit(image: Array, size: tuple[int, int], preprocess: Preprocess) -> Array:
    """Return a reduced image resized as for prediction, rounded to 8 bits."""
    return np.rint(resized(image, preprocess, size)).clip(0, 255).astype(np.uint8)


def density_map(frame: FrameFiles, size: tuple[int, int]) -> Array:
    """Return a frame's density map with maximum 255; zeros if it has none."""
    from ..datasets import read_density

    if frame.density is None:
        return np.zeros(size, np.uint8)
    density = cv2.resize(read_density(frame.density).astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    scaled: Array = np.rint(density * (255 / max(float(density.max()), 1e-6))).astype(np.uint8)
    return scaled


def fixation_map(frame: FrameFiles, size: tuple[int, int]) -> Array:
    """Return a frame's fixations, 0 or 1: each point stays one pixel; zeros if it has none."""
    from ..datasets import read_fixation

    points = np.zeros(size, np.uint8)
    if frame.fixation is not None:
        fixation = read_fixation(frame.fixation)
        y, x = np.nonzero(fixation)
        points[y * size[0] // fixation.shape[0], x * size[1] // fixation.shape[1]] = 1
    return points


def mask_map(frame: FrameFiles, size: tuple[int, int], shape: tuple[int, int]) -> Array:
    """Return a frame's mask, 0 or 1; ``NO_MASK`` if it has none.

    Args:
        frame: files of the frame.
        size: height and width of the result.
        shape: height and width of the frame before it was resized.

    Raises:
        InputError: the mask cannot be read, or has another size than the frame.
    """
    from ..datasets import read_mask

    if frame.mask is None:
        return np.full(size, NO_MASK, np.uint8)
    mask = read_mask(frame.mask, shape).astype(np.uint8)
    return np.asarray(cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)


def kinds_of(video: Video) -> list[str]:
    """Return the kinds of ground truth of a video, as its files are named."""
    fixations = ["density", "fixation"] if video.densities or video.fixations else []
    return fixations + (["mask"] if video.masks else [])


def decode(video: Video, root: Path, size: tuple[int, int], preprocess: Preprocess) -> Stored:
    """Return the decoded video in the folder ``root``, after decoding it if necessary.

    Raises:
        InputError: no frame of it can be read.
        OutputError: the folder cannot be written.
    """
    cv2.setNumThreads(0)  # videos are decoded in parallel
    size = stored_size(video, size)
    key = key_of(video, size, preprocess)
    folder = root / key
    kinds = kinds_of(video)
    content = content_of(folder, size, kinds)
    if content is None:
        with atomic_write(folder) as temporary:
            temporary.mkdir()
            content = write_frames(video, temporary, size, preprocess)
            meta = {"name": video.name, "size": size, **vars(content)}
            (temporary / "meta.json").write_text(json.dumps(meta))
            remove(folder)  # an incomplete folder of an earlier version
    return Stored(
        video.name,
        key,
        folder,
        content.frames,
        size,
        is_still(video),
        "density" in kinds,
        tuple(content.masked),
        bool(content.masked) and content.empty,
    )


@dataclass
class Content:
    """The frames and masks of a decoded video."""

    frames: int = 0
    """Number of frames."""
    masked: list[int] = field(default_factory=list)
    """Indices of the frames that have a mask."""
    empty: bool = True
    """Whether there is no object in any mask."""


def content_of(folder: Path, size: tuple[int, int], kinds: Sequence[str]) -> Content | None:
    """Return the content of a decoded video; None if it is missing or its files are damaged.

    Args:
        folder: its folder.
        size: height and width.
        kinds: its kinds of ground truth.
    """
    try:
        meta = parse_json(read_document(folder / "meta.json"))
        frames, masked = int(meta["frames"]), [int(index) for index in meta.get("masked", [])]
        channels = {"frames": 3, **dict.fromkeys(kinds, 1)}
        area = size[0] * size[1]
        sizes = {kind: (folder / f"{kind}.u8").stat().st_size for kind in channels}
        whole = frames > 0 and all(sizes[kind] == frames * area * number for kind, number in channels.items())
        whole = whole and all(0 <= index < frames for index in masked)
        empty = bool(meta.get("empty", True))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Content(frames, masked, empty) if whole else None


def write_frames(video: Video, folder: Path, size: tuple[int, int], preprocess: Preprocess) -> Content:
    """Write a video's arrays and return their content."""
    content, shape = Content(), (0, 0)
    files: dict[str, IO[bytes]] = {}

    def reduction_of(width: int, height: int) -> float:
        nonlocal shape
        shape = height, width  # of the frame that is read next
        return reduction(preprocess, width, height)

    try:
        for kind in ("frames", *kinds_of(video)):
            files[kind] = (folder / f"{kind}.u8").open("wb")
        for frame, image in video.read(lambda line: log.debug("%s", line), reduction_of):
            files["frames"].write(fit(image, size, preprocess).tobytes())
            if "density" in files:
                files["density"].write(density_map(frame, size).tobytes())
                files["fixation"].write(fixation_map(frame, size).tobytes())
            if "mask" in files:
                mask = mask_map(frame, size, shape)
                files["mask"].write(mask.tobytes())
                content.masked += [content.frames] if frame.mask else []
                content.empty &= not bool((mask == 1).any())
            content.frames += 1
    finally:
        for file in files.values():
            file.close()
    return content


Task = tuple["Video", Path, tuple[int, int], Preprocess]
"""Arguments of :func:`decode`."""


def attempt(task: Task) -> Stored | str:
    """Run :func:`decode` in a worker process; return the message of an ``InputError``."""
    try:
        return decode(*task)
    except InputError as error:
        return str(error)


def decode_all(
    videos: Iterable[Video],
    root: Path,
    size: tuple[int, int],
    preprocess: Preprocess,
    workers: int,
    progress: OnProgress,
) -> list[Stored]:
    """Decode videos, several at a time; damaged ones are reported in the log and left out."""
    tasks = [(video, root, size, preprocess) for video in videos]
    stored = []
    for done, result in enumerate(results(tasks, workers), start=1):
        if isinstance(result, str):
            log.warning("%s; skipped", result)
        else:
            stored.append(result)
        progress(done, len(tasks))
    return stored


def results(tasks: list[Task], workers: int) -> Iterator[Stored | str]:
    """Yield the result of each task, in order."""
    todo = sum(
        content_of(
            root / key_of(video, stored_size(video, size), preprocess), stored_size(video, size), kinds_of(video)
        )
        is None
        for video, root, size, preprocess in tasks
    )
    if workers < 2 or todo < 4:  # starting processes takes longer than decoding so few clips
        yield from map(attempt, tasks)
        return
    # Spawned, because the threads of OpenCV and PyTorch do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, available_cores()), mp_context=context) as pool:
        yield from pool.map(attempt, tasks, chunksize=max(1, min(16, len(tasks) // (4 * workers))))
