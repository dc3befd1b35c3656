"""Cache decoded videos on disk, resized and as uint8, so that training never waits for decoding.

Each video has a folder with ``meta.json``, the frames and, with ground truth, the density maps and fixations, or masks,
in the files of :mod:`.clip_files`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ..atomic_files import atomic_write, cannot_write, make_parent, remove, temporary_path
from ..callbacks import OnProgress
from ..errors import InputError
from ..inference.preprocess import reduction, resized
from ..models import ModelSpec, Preprocess
from ..system import available_cores
from ..untrusted import parse_json, read_document
from .clip_files import FRAMES, Array, Images, is_whole, open_images, writers

if TYPE_CHECKING:
    from ..datasets import FrameFiles, Video

log = logging.getLogger("tinyhd")

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
    compressed: bool = False
    """Whether its images are compressed."""
    content: str = ""
    """See :func:`content_digest`."""

    def pixels(self) -> Images:
        """Return all frames, RGB ``(frames, H, W, 3)``."""
        return open_images(self.folder, FRAMES, (self.frames, *self.size, 3), compressed=self.compressed)

    def ground_truth(self, kind: str) -> Images:
        """Return all maps of a kind, ``density``, ``fixation`` or ``mask``: ``(frames, H, W)``.

        Frames without one are zeros; without a mask, ``NO_MASK``.
        """
        return open_images(self.folder, kind, (self.frames, *self.size), compressed=self.compressed)


def is_still(video: Video) -> bool:
    """Return whether a video is a photograph."""
    return video.single is not None


def stored_size(video: Video, size: tuple[int, int]) -> tuple[int, int]:
    """Return height and width in which a video is stored for clips of ``size``."""
    margin = STILL_MARGIN if is_still(video) else 1
    return round(size[0] * margin), round(size[1] * margin)


def key_of(video: Video, size: tuple[int, int], preprocess: Preprocess) -> str:
    """Return a digest of the paths, sizes and modification times of a video's files, and of the preprocessing."""
    facts = [f"{VERSION} {size} {preprocess.resize} {preprocess.reduce_above}"]
    for path in video.files:
        state = path.stat()
        facts.append(f"{path.resolve()} {state.st_size} {state.st_mtime_ns}")
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:24]


def content_digest(video: Video) -> str:
    """Return a digest of the content of a video's frames, for files that may be used on another machine.

    It does not depend on where the files are, on their times, on ground truth, or on the preprocessing. That of a
    photograph contains its name, because the camera paths over it depend on the name.
    """
    paths = [video.source] if video.is_file and video.source else list(video.images.values())
    found = hashlib.sha256(video.name.encode() if is_still(video) else b"")
    for path in paths:
        with suppress(OSError), path.open("rb") as file:  # an image that cannot be read is left out of the video
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()[:24]


def fit(image: Array, size: tuple[int, int], preprocess: Preprocess) -> Array:
    """Return a reduced image resized as for prediction, rounded to 8 bits."""
    return np.rint(resized(image, preprocess, size)).clip(0, 255).astype(np.uint8)


def density_map(frame: FrameFiles, size: tuple[int, int]) -> Array:
    """Return a frame's density map with maximum 255; zeros if it has none."""
    from ..datasets import MapFrame, read_density

    if frame.density is None:
        return np.zeros(size, np.uint8)
    stored = read_density(frame.density).astype(np.float32)
    if isinstance(frame.density, MapFrame):
        stored -= stored.min()  # black is 16 of 255 or 64 of 1023 in many videos
    density = cv2.resize(stored, size[::-1], interpolation=cv2.INTER_AREA)
    scaled: Array = np.rint(density * (255 / max(float(density.max()), 1e-6))).astype(np.uint8)
    return scaled


def fixation_map(frame: FrameFiles, size: tuple[int, int], map_size: tuple[int, int] | None) -> Array:
    """Return a frame's fixations, 0 or 1: each point stays one pixel; zeros if it has none.

    Args:
        frame: files of the frame.
        size: height and width of the result.
        map_size: height and width of the frame, if its fixations are in a list (``Video.map_size``).
    """
    from ..datasets import read_fixation

    points = np.zeros(size, np.uint8)
    if frame.fixation is not None:
        fixation = read_fixation(frame.fixation, map_size)
        y, x = np.divmod(np.flatnonzero(fixation), fixation.shape[1])  # 10 times as fast as nonzero
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
    fixations = ["density", "fixation"] if video.has_maps else []
    return fixations + (["mask"] if video.masks else [])


def decode(
    video: Video, root: Path, size: tuple[int, int], preprocess: Preprocess, *, compressed: bool = False
) -> Stored:
    """Return the decoded video in the folder ``root``, after decoding it if necessary.

    Args:
        video: the video.
        root: folder of all decoded videos.
        size: height and width of a clip.
        preprocess: how frames are resized.
        compressed: whether to compress its images, unless it has been decoded before.

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
        make_parent(folder)
        remove_damaged(folder, size, kinds)
        temporary = temporary_path(folder)
        try:
            temporary.mkdir()
            written = write_frames(video, temporary, size, preprocess, compressed=compressed)
            write_meta(temporary, video, size, written)
            # Another process may have decoded the video in the meantime, in the other format, and use it now.
            content = content_of(folder, size, kinds) or publish_or_use(temporary, folder, size, kinds) or written
        except OSError as error:
            raise cannot_write(folder, error) from error
        finally:
            remove(temporary)
    if not content.digest:  # decoded by an earlier version
        content.digest = content_digest(video)
        write_meta(folder, video, size, content)
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
        content.compressed,
        content.digest,
    )


def remove_damaged(folder: Path, size: tuple[int, int], kinds: Sequence[str]) -> None:
    """Remove an incomplete folder of an earlier version, at once: another process may make a complete one."""
    if folder.is_dir() and content_of(folder, size, kinds) is None:
        aside = temporary_path(folder.with_name(f"{folder.name}-damaged"))
        with suppress(OSError):  # another process has just done the same
            folder.rename(aside)
        remove(aside)


def publish_or_use(temporary: Path, folder: Path, size: tuple[int, int], kinds: Sequence[str]) -> Content | None:
    """Give a decoded video its name. If another process does that first, return the content of its folder."""
    try:
        temporary.rename(folder)  # never merges it into another folder, which may be in use
    except OSError:
        if (finished := content_of(folder, size, kinds)) is None:
            raise
        return finished
    return None


@dataclass
class Content:
    """The frames and masks of a decoded video."""

    frames: int = 0
    """Number of frames."""
    masked: list[int] = field(default_factory=list)
    """Indices of the frames that have a mask."""
    empty: bool = True
    """Whether there is no object in any mask."""
    compressed: bool = False
    """Whether its images are compressed."""
    digest: str = ""
    """See :func:`content_digest`; empty if the video was decoded by an earlier version."""


def write_meta(folder: Path, video: Video, size: tuple[int, int], content: Content) -> None:
    """Write the description of a decoded video to its folder."""
    with atomic_write(folder / "meta.json") as temporary:
        temporary.write_text(json.dumps({"name": video.name, "size": size, **vars(content)}))


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
        empty, compressed = bool(meta.get("empty", True)), bool(meta.get("compressed", False))
        digest = str(meta.get("digest", ""))
        shapes = {FRAMES: (frames, *size, 3), **dict.fromkeys(kinds, (frames, *size))}
        whole = frames > 0 and all(
            is_whole(folder, kind, shape, compressed=compressed) for kind, shape in shapes.items()
        )
        whole = whole and all(0 <= index < frames for index in masked)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Content(frames, masked, empty, compressed, digest) if whole else None


def write_frames(
    video: Video, folder: Path, size: tuple[int, int], preprocess: Preprocess, *, compressed: bool = False
) -> Content:
    """Write a video's images and return their content.

    Raises:
        InputError: no frame can be read, or its map video or list of fixations cannot be.
    """
    if video.unreadable:
        raise InputError(video.unreadable[0])
    content, shape = Content(compressed=compressed, digest=content_digest(video)), (0, 0)
    map_size = video.map_size if video.fixation_list else None

    def reduction_of(width: int, height: int) -> float:
        nonlocal shape
        shape = height, width  # of the frame that is read next
        return reduction(preprocess, width, height)

    with writers(folder, [FRAMES, *kinds_of(video)], compressed=compressed) as files:
        for frame, image in video.read(lambda line: log.debug("%s", line), reduction_of):
            files[FRAMES].write(fit(image, size, preprocess))
            if "density" in files:
                files["density"].write(density_map(frame, size))
                files["fixation"].write(fixation_map(frame, size, map_size))
            if "mask" in files:
                mask = mask_map(frame, size, shape)
                files["mask"].write(mask)
                content.masked += [content.frames] if frame.mask else []
                content.empty &= not bool((mask == 1).any())
            content.frames += 1
    return content


Task = tuple["Video", Path, tuple[int, int], Preprocess, bool]
"""Arguments of :func:`decode`."""


def attempt(task: Task) -> Stored | str:
    """Run :func:`decode` in a worker process; return the message of an ``InputError``."""
    video, root, size, preprocess, compressed = task
    try:
        return decode(video, root, size, preprocess, compressed=compressed)
    except InputError as error:
        return str(error)


def decode_all(
    videos: Iterable[Video],
    root: Path,
    size: tuple[int, int],
    preprocess: Preprocess,
    workers: int,
    progress: OnProgress,
    *,
    compressed: bool = False,
) -> list[Stored]:
    """Decode videos, several at a time; damaged ones are reported in the log and left out."""
    tasks = [(video, root, size, preprocess, compressed) for video in videos]
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
        for video, root, size, preprocess, _ in tasks
    )
    if workers < 2 or todo < 4:  # starting processes takes longer than decoding so few clips
        yield from map(attempt, tasks)
        return
    # Spawned, because the threads of OpenCV and PyTorch do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, available_cores()), mp_context=context) as pool:
        yield from pool.map(attempt, tasks, chunksize=max(1, min(16, len(tasks) // (4 * workers))))
