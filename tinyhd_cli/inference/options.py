"""What to write and how it looks: shared by the command line and the Python API."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field, fields
from pathlib import Path

from ..atomic_files import destination, is_special
from ..complete import is_complete
from ..errors import UsageError, did_you_mean
from ..video.encoders import EncoderOptions, check_container
from ..video.overlay import OverlayStyle
from ..video.source import InputOptions
from .areas import Area
from .normalization import NORMALIZE, Normalize

LONGEST_NAME = 255
"""Bytes that file systems take."""

STDOUT = Path("-")
"""Stands for standard output."""

FIRST_MAP = "0001.png"
"""File name of the map of a video's first frame."""

VIDEO_SUFFIXES = frozenset(
    ".3gp .avi .flv .gif .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .vob .webm .wmv .y4m".split(),
)
"""What counts as a video by its name: in a folder of inputs, and as an output."""


@dataclass(frozen=True)
class Outputs:
    """The files to write for one video; None for those not wanted."""

    overlay: Path | None = None
    """Video of the frames with the maps drawn on them."""
    maps: Path | None = None
    """Folder for one PNG a frame, or a video file."""
    npz: Path | None = None
    """The network's output as arrays."""
    csv: Path | None = None
    """Statistics, one row a frame."""
    json: Path | None = None
    """Summary."""
    aoi_plot: Path | None = None
    """Picture of the attention that areas of interest get, over time."""

    def __post_init__(self) -> None:
        for name, path in self.wanted():
            if not path.absolute().name or len(os.fsencode(path.name)) > LONGEST_NAME:
                raise UsageError(f"{flag(name)} {path}: is not a file name, or is too long")
            if not is_special(path):
                destination(path)  # raises an error for an invalid path
        if self.overlay is not None and self.overlay != STDOUT:
            check_container(self.overlay)
        if self.maps is not None and self.maps_are_video:
            check_container(self.maps)
        if self.maps is not None and not self.maps_are_video and self.maps.exists() and not self.maps.is_dir():
            raise UsageError(f"--maps {self.maps}: is a file, and not a video; PNGs need a folder")
        for name, suffix in (
            ("overlay", ""),
            ("npz", ".npz"),
            ("csv", ".csv"),
            ("json", ".json"),
            ("aoi_plot", ".png"),
        ):
            path = getattr(self, name)
            if path is not None and not path.name.lower().endswith(suffix) and not is_special(path):
                raise UsageError(f"{flag(name)} {path}: the file's name must end in {suffix}")
            if path is not None and path.is_dir():
                raise UsageError(f"{flag(name)} {path}: is a folder")
        paths = [os.path.realpath(path) for _, path in self.wanted()]
        if len(set(paths)) < len(paths):
            raise UsageError(f"two outputs have the same name: {', '.join(str(path) for _, path in self.wanted())}")

    @property
    def maps_are_video(self) -> bool:
        """Whether ``maps`` is a video rather than a folder: it has a video's suffix."""
        return self.maps is not None and self.maps.suffix.lower() in VIDEO_SUFFIXES

    @property
    def has_numbers(self) -> bool:
        """Whether there is more than videos to look at: arrays, statistics, or PNGs, which benchmarks compare."""
        return any(kind != "overlay" and not (kind == "maps" and self.maps_are_video) for kind, _ in self.wanted())

    def wanted(self) -> list[tuple[str, Path]]:
        """Kind and path of every wanted output."""
        pairs = [(item.name, getattr(self, item.name)) for item in fields(self)]
        return [(name, path) for name, path in pairs if path is not None]

    def missing(self, maps: Collection[str] = (FIRST_MAP,)) -> Outputs:
        """Return the outputs that are not complete; a folder is complete if it contains all files named in ``maps``."""
        files = [(name, path) for name, path in self.wanted() if path != STDOUT]
        there = {name for name, path in files if is_complete(path) or all(is_complete(path / one) for one in maps)}
        return Outputs(**{name: path for name, path in self.wanted() if name not in there})


def flag(name: str) -> str:
    """Return the command-line option of an output, such as ``--aoi-plot``."""
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True)
class PredictOptions:
    """How outputs look."""

    style: OverlayStyle = field(default_factory=OverlayStyle)
    encoder: EncoderOptions = field(default_factory=EncoderOptions)

    normalize: Normalize | None = None
    """How maps are scaled to be seen: ``running`` (robust limits that follow the video slowly), ``video`` (one scale
    for the whole video), ``frame`` (each frame by itself), ``none``. None: ``running``, for PNGs ``frame``."""

    audio: bool = True
    """Whether the overlay keeps the sound."""

    input: InputOptions = field(default_factory=InputOptions)
    """What pipes and folders of pictures do not say of themselves."""

    areas: tuple[Area, ...] = ()
    """Areas of interest."""

    area_threshold: float = 0.1
    """The share of a frame's attention from which on an area counts as attended."""

    def __post_init__(self) -> None:
        if not 0 < self.area_threshold <= 1:
            raise UsageError(f"--aoi-threshold must be above 0 and at most 1, not {self.area_threshold:g}")
        if self.normalize is not None and self.normalize not in NORMALIZE:
            raise UsageError(f"--normalize {self.normalize!r} is unknown: {did_you_mean(self.normalize, NORMALIZE)}")
