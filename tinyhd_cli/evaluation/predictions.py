"""Where predicted maps come from: a network, files that somebody else made, or the center bias."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .. import arrays
from ..datasets import Video
from ..datasets.images import MAPS, NUMBERS, OnDamage, by_number, listed, preferred, read_map, unread
from ..datasets.layouts import VIDEOS
from ..errors import InputError, UsageError
from ..models.spec import CLIP_FRAMES, ModelConfig, to_dict
from ..video.reader import VideoReader
from ..wording import list_names
from .center_bias import CenterBias

if TYPE_CHECKING:
    from ..inference.model import Model

Map = NDArray[Any]

MAPS_ENDING = "_maps"
"""What ``tinyhd predict --out-dir DIR --maps maps`` puts behind a video's name."""

FORMATS = "NAME/*.png (also .bmp, .tif, .npy, .jpg), NAME.npz, NAME.npy or NAME.mp4"
"""Supported files of maps, for messages."""


class Source(Protocol):
    """Gives the maps of a video."""

    def maps(self, video: Video, report: OnDamage, start: int = 0) -> Iterator[tuple[int, Map]]:
        """Frame numbers and maps ``(h, w)``, in order.

        Args:
            video: whose maps.
            report: told about each file that is passed over.
            start: position of the first frame that is wanted; earlier ones may be left out.

        Raises:
            InputError: there are none.
        """
        ...

    def files(self, video: Video) -> list[Path]:
        """The files that the maps depend on."""
        ...

    def describe(self) -> dict[str, Any]:
        """What the results say of the maps' origin."""
        ...


@dataclass(frozen=True)
class NetworkSource:
    """A network run over the videos, as by ``tinyhd predict``: maps float32 as the network gives them."""

    model: Model

    def maps(self, video: Video, report: OnDamage, start: int = 0) -> Iterator[tuple[int, Map]]:
        from ..inference.predict import shrunk

        first = max(0, start // CLIP_FRAMES - 1) * CLIP_FRAMES  # all that a clip which gives this frame's map can see
        frames = islice(video.read(report), first, None)
        prepared = ((files.number, self.model.prepare(shrunk(image))) for files, image in frames)
        yield from self.model.maps(prepared)

    def files(self, video: Video) -> list[Path]:
        return [video.source] if video.is_file and video.source else list(video.images.values())

    def describe(self) -> dict[str, Any]:
        model, engine = self.model, self.model.engine
        return {
            "model": {"name": model.name, "sha256": model.sha256, **to_dict(model.config)},
            "engine": {"name": engine.name, "precision": engine.precision},
        }

    @property
    def config(self) -> ModelConfig:
        """The network."""
        return self.model.config


@dataclass(frozen=True)
class PriorSource:
    """The center bias for every frame: what a prediction must beat."""

    baseline: CenterBias
    indices: Mapping[str, int]
    """Number of each video in the baseline's fixations."""

    def maps(self, video: Video, report: OnDamage, start: int = 0) -> Iterator[tuple[int, Map]]:
        for frame in video.frames[start:]:
            yield frame.number, self.baseline.map(self.indices[video.name], (360, 640))

    def files(self, video: Video) -> list[Path]:
        return []

    def describe(self) -> dict[str, Any]:
        return {"prior": "center bias"}


@dataclass(frozen=True)
class FileSource:
    """Maps of each video in a folder, as images, a gray video, an npz or an npy file; or one such file for one video.

    The maps of a video are found by its name, with or without leading zeros: ``NAME/0001.png`` (see
    :func:`by_frame`), ``NAME.mp4`` (frames in order), ``NAME.npz`` (an array ``saliency``, or the only one),
    ``NAME.npy``, each also as ``NAME_maps``; npz also as ``NAME_out.npz``. For photographs: ``NAME.png``.
    """

    root: Path
    alone: bool = False
    """Whether the dataset has a single video, so that maps may be in the folder itself."""

    def __post_init__(self) -> None:
        if not self.root.exists():
            raise InputError(f"{self.root}: no such folder")
        if not self.root.is_dir() and not self.alone:
            raise UsageError(f"--pred-dir {self.root}: must be a folder, because there are several videos")

    def find(self, video: Video) -> Path:
        """Return the file or folder that holds a video's maps; ``InputError`` if there is none."""
        if not self.root.is_dir():
            return self.root
        names = names_of(video)
        for name in names:
            places = [
                f"{name}{end}" for end in (".npz", "_out.npz", f"{MAPS_ENDING}.npz", ".npy", f"{MAPS_ENDING}.npy")
            ]
            places += [name, f"{name}{MAPS_ENDING}"]
            places += [f"{name}{end}{suffix}" for end in ("", MAPS_ENDING) for suffix in sorted(VIDEOS)]
            if video.single is not None:
                places += [f"{name}{suffix}" for suffix in MAPS]
            for place in places:
                path = self.root / place
                if path.is_file() or any(listed(path, MAPS)):
                    return path
        if self.alone and any(listed(self.root, MAPS)):
            return self.root
        raise InputError(f"{video.name}: no maps of this video in {self.root}{self._instead(names)}")

    def _instead(self, names: list[str]) -> str:
        """Return the end of a message that names unsupported files of a video's maps; empty if there are none."""
        folders = [self.root / f"{name}{end}" for name in names for end in ("", MAPS_ENDING)]
        found = [f"{folder.name}: {files}" for folder in folders if (files := unread(folder, MAPS))]
        found += [f"{name}.mat" for name in names if (self.root / f"{name}.mat").is_file()]
        if self.alone and not found and (files := unread(self.root, MAPS)):
            found = [files]
        return f", only {found[0]}; maps must be {FORMATS}" if found else ""

    def files(self, video: Video) -> list[Path]:
        try:
            found = self.find(video)
        except InputError:
            return []
        return preferred(found, MAPS) if found.is_dir() else [found]

    def maps(self, video: Video, report: OnDamage, start: int = 0) -> Iterator[tuple[int, Map]]:
        found = self.find(video)
        suffix = found.suffix.lower()
        if found.is_dir():
            for number, path in by_frame(preferred(found, MAPS), video).items():
                try:
                    yield number, read_map(path)
                except InputError as error:
                    report(str(error))
        elif suffix == ".npz":
            yield from archived(found, video)
        elif suffix == ".npy":
            with arrays.open_npy(found) as array:
                yield from zip(numbers_in_order(video), each_map(array), strict=False)
        elif suffix in MAPS:
            yield video.frames[0].number, read_map(found)
        else:
            yield from zip(numbers_in_order(video), gray_video(found), strict=False)

    def note(self, video: Video) -> str | None:
        """Return a message if maps were matched to frames in order, not by number; else None."""
        with contextlib.suppress(InputError):
            found = self.find(video)
            paths = preferred(found, MAPS) if found.is_dir() else []
            numbers = by_number(paths)
            if paths and not by_stem(paths, video) and (shift := counted_otherwise(list(numbers), video)) is not None:
                ours, theirs = shift[0], next(iter(numbers))
                return f"{video.name}: matched maps in order: frames are numbered from {ours}, maps from {theirs}"
        return None

    def describe(self) -> dict[str, Any]:
        return {"maps": str(self.root)}


def names_of(video: Video) -> list[str]:
    """Return the possible names of a video's maps, the most likely first."""
    short = Path(video.name).name
    names = [video.name, short, short.lstrip("0") or "0"]
    if video.is_file and video.source:
        names.append(video.source.stem)
    return list(dict.fromkeys(names))


def by_frame(paths: Sequence[Path], video: Video) -> dict[int, Path]:
    """Return maps by the number of their frame, in order.

    A map belongs to the frame whose image, density or fixation map has the same name without suffix. Other maps are
    matched by the last number in their names. If no name matches, and the maps are numbered consecutively from 0 or 1
    but the frames are not numbered that way, the maps are matched in order.
    """
    found = by_stem(paths, video)
    taken = set(found.values())
    rest = by_number(path for path in paths if path not in taken)
    if not found and (ours := counted_otherwise(list(rest), video)) is not None:
        rest = dict(zip(ours, rest.values(), strict=True))
    return dict(sorted((rest | found).items()))


def by_stem(paths: Sequence[Path], video: Video) -> dict[int, Path]:
    """Return the maps with the same name as a frame's image or ground truth, by the frame's number."""
    named: dict[str, Path] = {}
    for path in paths:
        named.setdefault(path.stem, path)
    files = (
        (number, path) for kind in (video.fixations, video.densities, video.images) for number, path in kind.items()
    )
    return {number: named[path.stem] for number, path in files if path.stem in named}


def counted_otherwise(numbers: list[int], video: Video) -> list[int] | None:
    """Return the frame numbers of maps that are numbered consecutively, unlike the frames.

    Args:
        numbers: the numbers of the maps, ascending.
        video: the video.

    Returns:
        One frame number for each map; None if the numbers of the maps are those of the frames, as far as is known.
    """
    if not numbers or numbers[0] not in (0, 1) or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        return None
    ours = [frame.number for frame in video.frames]
    if len(ours) == len(numbers) and ours != numbers:
        return ours
    if video.is_file and video.first_number == 0 and numbers[0] == 1:  # maps written by tinyhd predict
        return [number - 1 for number in numbers]
    return None


def numbers_in_order(video: Video) -> Iterator[int]:
    """Yield the numbers of a video's frames; endless for a video file."""
    if video.is_file:
        yield from count(video.first_number)
    numbers = [frame.number for frame in video.frames]
    yield from numbers
    yield from count(numbers[-1] + 1 if numbers else 1)


def archived(path: Path, video: Video) -> Iterator[tuple[int, Map]]:
    """Yield the maps of an npz file with the numbers of their frames; ``InputError`` if it contains none."""
    with arrays.Archive(path) as archive:
        names = archive.names
        if "saliency" not in names and len(names) != 1:
            raise InputError(f"{path}: must contain an array named saliency, not {list_names(names) or 'nothing'}")
        numbers: Iterator[int | None] = iter(numbers_in_order(video))
        if "saliency" in names and "image" in names:
            with archive.open("image") as array:
                images = [Path(str(name)) for name in array.read().ravel()]
            frames = {image: number for number, image in by_frame(images, video).items()}
            numbers = iter([frames.get(image) for image in images])
        with archive.open("saliency" if "saliency" in names else names[0]) as array:
            for number, saliency in zip(numbers, each_map(array), strict=False):
                if number is not None:
                    yield number, saliency


def each_map(array: arrays.StoredArray) -> Iterator[Map]:
    """Yield the maps of an array ``(frames, height, width)`` or ``(height, width)``; ``InputError`` for others."""
    if array.dtype.kind not in NUMBERS or len(array.shape) not in (2, 3) or not all(array.shape):
        raise InputError(f"{array.name}: must contain maps (frames, height, width), not {array.dtype} {array.shape}")
    yield from [array.read()] if len(array.shape) == 2 else array.items()


def gray_video(path: Path) -> Iterator[Map]:
    """Yield the brightness of a video's frames, uint8."""
    with VideoReader(path) as reader:
        for frame in reader:
            yield np.ascontiguousarray(frame.rgb()[..., 1])
