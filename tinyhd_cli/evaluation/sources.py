"""Where predicted maps come from: a network, files that somebody else made, or the centre bias."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..datasets import Video
from ..datasets.files import MAPS, OnDamage, numbered, read_map
from ..datasets.layouts import VIDEOS
from ..errors import InputError, UsageError
from ..models.config import CLIP_FRAMES, ModelConfig, to_dict
from ..video.reader import VideoReader
from .baseline import CentreBias

if TYPE_CHECKING:
    from ..inference.model import Model

Map = NDArray[Any]

MAPS_ENDING = "_maps"
"""What ``tinyhd predict --out-dir DIR --maps maps`` puts behind a video's name."""


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
    """The centre bias for every frame: what a prediction must beat."""

    baseline: CentreBias
    indices: Mapping[str, int]
    """Number of each video in the baseline's fixations."""

    def maps(self, video: Video, report: OnDamage, start: int = 0) -> Iterator[tuple[int, Map]]:
        for frame in video.frames[start:]:
            yield frame.number, self.baseline.map(self.indices[video.name], (360, 640))

    def files(self, video: Video) -> list[Path]:
        return []

    def describe(self) -> dict[str, Any]:
        return {"prior": "centre bias"}


@dataclass(frozen=True)
class FileSource:
    """Maps in a folder, for each video as PNGs, as a grey video or as an npz; or one such file for a single video.

    What belongs to a video is found by its name, with or without leading zeros: ``NAME/0001.png`` (numbers as in the
    dataset), ``NAME.mp4`` (frames in order), ``NAME.npz`` (an array ``saliency``, or the only one), each also as
    ``NAME_maps``; npz also as ``NAME_out.npz``. For photographs: ``NAME.png``.
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
        """The file or folder that holds a video's maps; ``InputError`` if there is none."""
        if not self.root.is_dir():
            return self.root
        short = Path(video.name).name
        names = [video.name, short, short.lstrip("0") or "0"]
        if video.is_file and video.source:
            names.append(video.source.stem)
        for name in dict.fromkeys(names):
            places = [f"{name}.npz", f"{name}_out.npz", f"{name}{MAPS_ENDING}.npz", name, f"{name}{MAPS_ENDING}"]
            places += [f"{name}{end}{suffix}" for end in ("", MAPS_ENDING) for suffix in sorted(VIDEOS)]
            if video.single is not None:
                places.append(f"{name}.png")
            for place in places:
                path = self.root / place
                if path.is_file() or any(numbered(path, MAPS)):
                    return path
        if self.alone and any(numbered(self.root, MAPS)):
            return self.root
        raise InputError(f"{video.name}: {self.root} holds no maps of this video")

    def files(self, video: Video) -> list[Path]:
        try:
            found = self.find(video)
        except InputError:
            return []
        return list(numbered(found, MAPS).values()) if found.is_dir() else [found]

    def maps(self, video: Video, report: OnDamage, start: int = 0) -> Iterator[tuple[int, Map]]:
        found = self.find(video)
        if found.is_dir():
            yield from self._pictures(found, report)
        elif found.suffix.lower() == ".png":
            yield video.frames[0].number, read_map(found)
        else:
            read = arrays if found.suffix.lower() == ".npz" else grey_video
            numbers = frame_numbers(video)
            for position, saliency in enumerate(read(found)):
                yield (numbers[position] if position < len(numbers) else position + 1), saliency

    @staticmethod
    def _pictures(folder: Path, report: OnDamage) -> Iterator[tuple[int, Map]]:
        for number, path in numbered(folder, MAPS).items():
            try:
                yield number, read_map(path)
            except InputError as error:
                report(str(error))

    def describe(self) -> dict[str, Any]:
        return {"maps": str(self.root)}


def frame_numbers(video: Video) -> list[int]:
    """The numbers of a video's frames in order; those of a video file are 1, 2, 3, ..., and none are listed."""
    return [] if video.is_file else [frame.number for frame in video.frames]


def arrays(path: Path) -> Iterator[Map]:
    """The maps of an npz file, without running any code that may be in it."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = archive.files
            if "saliency" not in names and len(names) != 1:
                raise InputError(f"{path}: must hold an array called saliency, not {', '.join(names) or 'nothing'}")
            maps = archive["saliency" if "saliency" in names else names[0]]
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, zipfile.BadZipFile, EOFError) as error:  # NumPy's words are about pickle, which is never read
        raise InputError(f"{path}: is no npz file with an array of numbers") from error
    if maps.ndim != 3 or maps.dtype.kind not in "buif":
        raise InputError(f"{path}: must hold maps (frames, height, width), not {maps.dtype} {maps.shape}")
    yield from maps


def grey_video(path: Path) -> Iterator[Map]:
    """The brightness of a video's frames, uint8."""
    with VideoReader(path) as reader:
        for frame in reader:
            yield np.ascontiguousarray(frame.rgb()[..., 1])
