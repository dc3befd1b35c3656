"""Maps in files: find the maps of a video, match them to its frames, read them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from .. import arrays, storage
from ..datasets import Video
from ..datasets.images import (
    MAP_SUFFIXES,
    NUMERIC_KINDS,
    VIDEO_SUFFIXES,
    Map,
    OnDamage,
    by_number,
    describe_unsupported,
    list_files,
    read_map,
    sorted_files,
)
from ..errors import InputError, UsageError
from ..video.reader import VideoReader
from ..wording import list_names
from .gray_video import gray_of

MAPS_SUFFIX = "_maps"
"""Appended to a video's name by ``tinyhd predict --out-dir DIR --maps maps``."""

FORMATS = "NAME/*.png (also .bmp, .tif, .npy, .jpg), NAME.npz, NAME.npy or NAME.mp4"
"""Supported files of maps, for messages."""


@dataclass(frozen=True)
class FileSource:
    """Maps in files: images, a grayscale video, an npz or an npy file per video in a folder, or one file for one video.

    The maps of a video are found by its name, with or without leading zeros: ``NAME/0001.png`` (see
    :func:`match_to_frames`), ``NAME.mp4`` (frames in order), ``NAME.npz`` (an array ``saliency``, or the only one),
    ``NAME.npy``, each also as ``NAME_maps``; npz also as ``NAME_out.npz``. For single images: ``NAME.png``.
    """

    root: Path
    single_video: bool = False
    """Whether the dataset has a single video, so that maps may be in the folder itself."""

    def __post_init__(self) -> None:
        if storage.url_of(self.root) is not None:  # another process has copies of the files of its videos only
            return
        if not self.root.exists():
            raise InputError(f"{self.root}: no such folder")
        if not self.root.is_dir() and not self.single_video:
            raise UsageError(f"--pred-dir {self.root}: must be a folder, because there are several videos")

    def find(self, video: Video) -> Path:
        """Return the file or folder of a video's maps; ``InputError`` if none exists."""
        if self.root.is_file():
            return self.root
        names = possible_names(video)
        for name in names:
            candidates = [
                f"{name}{end}" for end in (".npz", "_out.npz", f"{MAPS_SUFFIX}.npz", ".npy", f"{MAPS_SUFFIX}.npy")
            ]
            candidates += [name, f"{name}{MAPS_SUFFIX}"]
            candidates += [f"{name}{end}{suffix}" for end in ("", MAPS_SUFFIX) for suffix in sorted(VIDEO_SUFFIXES)]
            if video.single is not None:
                candidates += [f"{name}{suffix}" for suffix in MAP_SUFFIXES]
            for candidate in candidates:
                path = self.root / candidate
                if path.is_file() or any(list_files(path, MAP_SUFFIXES)):
                    return path
        if self.single_video and any(list_files(self.root, MAP_SUFFIXES)):
            return self.root
        raise InputError(f"{video.name}: no maps of this video in {self.root}{self._describe_others(names)}")

    def _describe_others(self, names: list[str]) -> str:
        """Return the end of a message that names unsupported files of a video's maps; empty if there are none."""
        folders = [self.root / f"{name}{end}" for name in names for end in ("", MAPS_SUFFIX)]
        found = [
            f"{folder.name}: {files}" for folder in folders if (files := describe_unsupported(folder, MAP_SUFFIXES))
        ]
        found += [f"{name}.mat" for name in names if (self.root / f"{name}.mat").is_file()]
        if self.single_video and not found and (files := describe_unsupported(self.root, MAP_SUFFIXES)):
            found = [files]
        return f", only {found[0]}; maps must be {FORMATS}" if found else ""

    def files(self, video: Video) -> list[Path]:
        try:
            found = self.find(video)
        except InputError:
            return []
        return sorted_files(found, MAP_SUFFIXES) if found.is_dir() else [found]

    def maps(self, video: Video, report: OnDamage, start: int = 0) -> Iterator[tuple[int, Map]]:
        found = self.find(video)
        suffix = found.suffix.lower()
        if found.is_dir():
            for number, path in match_to_frames(sorted_files(found, MAP_SUFFIXES), video).items():
                try:
                    yield number, read_map(path)
                except InputError as error:
                    report(str(error))
        elif suffix == ".npz":
            yield from read_archive(found, video)
        elif suffix == ".npy":
            with arrays.open_npy(found) as array:
                yield from zip(numbers_in_order(video), iterate_maps(array), strict=False)
        elif suffix in MAP_SUFFIXES:
            yield video.frames[0].number, read_map(found)
        else:
            yield from zip(numbers_in_order(video), read_gray_video(found), strict=False)

    def note(self, video: Video) -> str | None:
        """Return a message if maps were matched to frames in order, not by number; else None."""
        with contextlib.suppress(InputError):
            found = self.find(video)
            paths = sorted_files(found, MAP_SUFFIXES) if found.is_dir() else []
            if not paths or match_by_stem(paths, video):
                return None
            numbers = list(by_number(paths))
            if (frames := numbers_by_order(numbers, video)) is not None:
                shift = f"frames are numbered from {frames[0]}, maps from {numbers[0]}"
                return f"{video.name}: matched maps in order: {shift}"
        return None

    def describe(self) -> dict[str, Any]:
        return {"maps": storage.name_of(self.root)}


def possible_names(video: Video) -> list[str]:
    """Return the possible names of a video's maps, the most likely first."""
    short = Path(video.name).name
    names = [video.name, short, short.lstrip("0") or "0"]
    if video.is_file and video.source:
        names.append(video.source.stem)
    return list(dict.fromkeys(names))


def match_to_frames(paths: Sequence[Path], video: Video) -> dict[int, Path]:
    """Return maps by the number of their frame, in order.

    A map belongs to the frame whose image, density or fixation map has the same name without suffix. Other maps are
    matched by the last number in their names. If no name matches, and the maps are numbered consecutively from 0 or 1
    but the frames are not numbered that way, the maps are matched in order.
    """
    found = match_by_stem(paths, video)
    taken = set(found.values())
    rest = by_number(path for path in paths if path not in taken)
    if not found and (frame_numbers := numbers_by_order(list(rest), video)) is not None:
        rest = dict(zip(frame_numbers, rest.values(), strict=True))
    return dict(sorted((rest | found).items()))


def match_by_stem(paths: Sequence[Path], video: Video) -> dict[int, Path]:
    """Return the maps with the same name as a frame's image or ground truth, by the frame's number."""
    named: dict[str, Path] = {}
    for path in paths:
        named.setdefault(path.stem, path)
    kinds: tuple[Mapping[int, object], ...] = (video.fixations, video.densities, video.images)
    files = ((number, path) for kind in kinds for number, path in kind.items() if isinstance(path, Path))
    return {number: named[path.stem] for number, path in files if path.stem in named}


def numbers_by_order(numbers: list[int], video: Video) -> list[int] | None:
    """Return the frame numbers of maps that are numbered consecutively, unlike the frames.

    Args:
        numbers: the numbers of the maps, ascending.
        video: the video.

    Returns:
        One frame number for each map; None if the numbers of the maps are those of the frames, as far as is known.
    """
    if not numbers or numbers[0] not in (0, 1) or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        return None
    frame_numbers = [frame.number for frame in video.frames]
    if len(frame_numbers) == len(numbers) and frame_numbers != numbers:
        return frame_numbers
    if video.is_file and video.first_number == 0 and numbers[0] == 1:  # written by tinyhd predict
        return [number - 1 for number in numbers]
    return None


def numbers_in_order(video: Video) -> Iterator[int]:
    """Yield the numbers of a video's frames, then consecutive numbers without end."""
    if video.is_file:
        yield from count(video.first_number)
    numbers = [frame.number for frame in video.frames]
    yield from numbers
    yield from count(numbers[-1] + 1 if numbers else 1)


def read_archive(path: Path, video: Video) -> Iterator[tuple[int, Map]]:
    """Yield frame numbers and maps of an npz file; ``InputError`` if the file has no array of maps."""
    with arrays.Archive(path) as archive:
        names = archive.names
        if "saliency" not in names and len(names) != 1:
            raise InputError(f"{path}: must contain an array named saliency, not {list_names(names) or 'nothing'}")
        numbers: Iterator[int | None] = iter(numbers_in_order(video))
        if "saliency" in names and "image" in names:
            with archive.open("image") as array:
                images = [Path(str(name)) for name in array.read().ravel()]
            frames = {image: number for number, image in match_to_frames(images, video).items()}
            numbers = iter([frames.get(image) for image in images])
        with archive.open("saliency" if "saliency" in names else names[0]) as array:
            for number, saliency in zip(numbers, iterate_maps(array), strict=False):
                if number is not None:
                    yield number, saliency


def iterate_maps(array: arrays.StoredArray) -> Iterator[Map]:
    """Yield the maps of an array ``(frames, height, width)`` or ``(height, width)``; ``InputError`` for others."""
    if array.dtype.kind not in NUMERIC_KINDS or len(array.shape) not in (2, 3) or not all(array.shape):
        raise InputError(f"{array.name}: must contain maps (frames, height, width), not {array.dtype} {array.shape}")
    yield from [array.read()] if len(array.shape) == 2 else array.items()


def read_gray_video(path: Path) -> Iterator[Map]:
    """Yield the maps in a gray video, uint8, or uint16 if it has more than 8 bits."""
    with VideoReader(path) as reader:
        yield from map(gray_of, reader)
