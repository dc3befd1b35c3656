"""Outputs and options of a prediction, for the command line and the Python API. Loads neither NumPy nor FFmpeg."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic_files import destination, is_special
from ..complete import is_complete
from ..errors import UsageError, did_you_mean
from ..fields import AREAS, LOOK, OUTPUTS, group, option
from ..video.options import EncoderOptions, InputOptions, OverlayStyle, is_numbered, numbered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .areas import Area
    from .normalization import Normalize

MAX_NAME_BYTES = 255
"""Maximum length of a file name on common file systems, in bytes."""

STDOUT = Path("-")
"""The path that means standard output."""

FIRST_MAP = "0001.png"
"""File name of the map of a video's first frame, in a folder of maps."""

IMAGE_OUTPUTS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
"""Suffixes of outputs that are one image, for an image."""

ANIMATIONS = (".gif", ".webp", ".apng")
"""Suffixes of outputs that are an animated image, for a video."""

VIDEO_SUFFIXES = frozenset(
    ".3gp .avi .flv .gif .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .vob .webm .wmv .y4m".split(),
)
"""Suffixes by which a file is recognized as a video, both in a folder of inputs and as an output."""


@dataclass(frozen=True)
class Outputs:
    """The files to write for one video; None for outputs that are not requested."""

    overlay: Path | None = option(
        None,
        OUTPUTS,
        "FILE",
        "Video with the maps drawn on it (also .gif, .webp, .apng), or image of an image (.png, .jpg, .webp, .tiff);"
        " -: y4m to stdout.",
        short="-o",
        kind=str,
    )
    maps: Path | None = option(
        None,
        OUTPUTS,
        "DIR|FILE",
        "Maps as a folder of PNGs, one per frame, or as a grayscale video; the map of an image as an image.",
        kind=str,
    )
    cutout: Path | None = option(
        None,
        OUTPUTS,
        "FILE|DIR",
        "The object alone with transparency: a video (.webm, .mkv, .mov), one .png, or PNGs in a folder or named like"
        " cut_%05d.png. For object models.",
        kind=str,
    )
    npz: Path | None = option(None, OUTPUTS, "FILE", "The network's output as arrays: saliency and time_s.", kind=str)
    csv: Path | None = option(
        None,
        OUTPUTS,
        "FILE",
        "One row per frame: peak, centroid, entropy and spread; of an object: area, box and center.",
        kind=str,
    )
    json: Path | None = option(None, OUTPUTS, "FILE", "Summary of the video.", kind=str)
    aoi_plot: Path | None = option(None, AREAS, "FILE", "PNG plot of the areas' attention over time.", kind=str)

    def __post_init__(self) -> None:
        for name, path in self.requested():
            if not path.absolute().name or len(os.fsencode(path.name)) > MAX_NAME_BYTES:
                raise UsageError(f"{flag(name)} {path}: the file name is empty or too long")
            if not is_special(path):
                destination(path)  # raises an error for an invalid path
        from ..video.encoders import check_container

        if self.overlay is not None and self.overlay != STDOUT and not is_an_image(self.overlay):
            check_container(self.overlay)
        if self.maps is not None and self.maps_are_video and not is_an_image(self.maps):
            check_container(self.maps)
        if self.cutout is not None:
            check_cutout(self.cutout)
        for kind, item in (("maps", self.maps), ("cutout", self.cutout)):
            if item is not None and is_folder(item) and item.exists() and not item.is_dir():
                raise UsageError(
                    f"--{kind} {item}: exists and is not a folder; give a folder for PNGs, or a video file"
                )
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
        paths = [os.path.realpath(path) for _, path in self.requested()]
        if len(set(paths)) < len(paths):
            raise UsageError(
                f"two outputs would be written to the same file: {', '.join(str(path) for _, path in self.requested())}"
            )

    @property
    def maps_are_video(self) -> bool:
        """Whether ``maps`` has the suffix of a video or of an animated image; otherwise it is a folder or an image."""
        return self.maps is not None and self.maps.suffix.lower() in {*VIDEO_SUFFIXES, *ANIMATIONS}

    @property
    def has_numbers(self) -> bool:
        """Whether an output contains exact values: arrays, statistics, or PNGs, which benchmarks compare."""
        shown = {"overlay", "cutout", *(["maps"] if self.maps_are_video else [])}
        return any(kind not in shown for kind, _ in self.requested())

    def requested(self) -> list[tuple[str, Path]]:
        """Return the kind and path of every requested output."""
        pairs = [(item.name, getattr(self, item.name)) for item in fields(self)]
        return [(name, path) for name, path in pairs if path is not None]

    def single_images(self) -> list[tuple[str, Path]]:
        """Return the kind and path of every requested output that is an image, animated or not."""
        kinds = ["overlay", "maps"]
        if self.cutout is not None and not is_numbered(self.cutout):
            kinds.append("cutout")
        return [(kind, path) for kind, path in self.requested() if kind in kinds and is_an_image(path)]

    def missing(self, maps: Collection[str] = (FIRST_MAP,)) -> Outputs:
        """Return the outputs that are not complete.

        A folder is complete if it contains all files named in ``maps``, a numbered sequence if its first file is.
        """
        files = [(name, path) for name, path in self.requested() if path != STDOUT]
        there = {name for name, path in files if is_complete(path) or all(is_complete(path / one) for one in maps)}
        if self.cutout is not None and is_complete(self.cutout.with_name(numbered(self.cutout.name, 1))):
            there.add("cutout")
        return Outputs(**{name: path for name, path in self.requested() if name not in there})


def is_one_image(path: Path) -> bool:
    """Return whether an output is an image file, by its suffix, and no existing folder."""
    return path.suffix.lower() in IMAGE_OUTPUTS and not path.is_dir()


def is_an_image(path: Path) -> bool:
    """Return whether an output is an image file, animated or not, by its suffix, and no existing folder."""
    return is_one_image(path) or (path.suffix.lower() in ANIMATIONS and not path.is_dir())


def is_folder(path: Path) -> bool:
    """Return whether an output of images is a folder, by its suffix; neither a video nor image files."""
    return not (path.suffix.lower() in VIDEO_SUFFIXES or is_an_image(path))


def check_cutout(path: Path) -> None:
    """Raise ``UsageError`` if transparency cannot be written to an output, by its suffix."""
    from ..video.encoders import ALPHA_CODECS
    from ..video.source import IMAGE_SUFFIXES

    suffix = path.suffix.lower()
    if path == STDOUT:
        raise UsageError("--cutout -: standard output is not supported; give a file or a folder")
    if suffix in {*VIDEO_SUFFIXES, *IMAGE_SUFFIXES} - {*ALPHA_CODECS, ".png"}:
        ways = ".webm or .mkv (VP9), .mov (ProRes 4444), .png, a folder of PNGs, or numbered PNGs (cut_%05d.png)"
        raise UsageError(f"--cutout {path}: transparency is not written to {suffix} files; use {ways}")


def flag(name: str) -> str:
    """Return the command-line option of an output, such as ``--aoi-plot``."""
    return f"--{name.replace('_', '-')}"


def areas_of(arguments: Sequence[str]) -> tuple[Area, ...]:
    """Return the areas of interest of ``--aoi`` options."""
    from .area_parsing import parse_areas

    return parse_areas(arguments)


def areas_option(effect: str) -> Any:
    """Return the field of the areas of interest, with a help text that ends with their effect on the outputs."""
    return option(
        (),
        AREAS,
        "NAME=X,Y,W,H|FILE",
        "Area of interest in pixels or percent (logo=10%,20%,25%,10%), or a file of areas: JSON, SVG, COCO, Figma, or a"
        " mask image; FILE#logo,face uses only some. Can be repeated."
        f" {effect}",
        flag="aoi",
        kind=list[str],
        written=None,
        parse=areas_of,
    )


def area_threshold_option() -> Any:
    """Return the field of the fraction of the attention from which an area counts as attended."""
    return option(
        0.1,
        AREAS,
        "0..1",
        "An area counts as attended if it has at least this fraction of the attention.",
        flag="aoi-threshold",
    )


def check_area_threshold(threshold: float) -> None:
    """Raise ``UsageError`` unless a threshold for areas is valid."""
    if not 0 < threshold <= 1:
        raise UsageError(f"--aoi-threshold must be above 0 and at most 1, not {threshold:g}")


@dataclass(frozen=True)
class PredictOptions:
    """Appearance of the outputs of a prediction, facts about the input, and areas of interest."""

    normalize: Normalize | None = option(
        None,
        LOOK,
        "running|video|frame|none",
        "Scaling of the maps for display. running: limits that follow the video slowly; video: one scale for the whole"
        " video (two passes); frame: each frame separately; none: raw values. Default: running; frame for PNG maps.",
        kind=str,
    )
    style: OverlayStyle = group(OverlayStyle)
    binary: bool = option(
        False, LOOK, "", "Write --maps of an object model in black and white: white is above --threshold."
    )
    blur: bool = option(
        False,
        LOOK,
        "",
        "Blur the images of --maps with a Gaussian of 11 x 11 pixels, as the authors of THTD-Net do before scoring.",
    )
    encoder: EncoderOptions = group(EncoderOptions)
    audio: bool = option(True, LOOK, "", "Leave out the audio.")
    """Whether the overlay and the cut-out keep the audio."""
    input: InputOptions = group(InputOptions)
    areas: tuple[Area, ...] = areas_option(
        "Each area's fraction of the attention is written to the CSV and JSON; the overlay shows the areas."
    )
    area_threshold: float = area_threshold_option()

    def __post_init__(self) -> None:
        check_area_threshold(self.area_threshold)
        from .normalization import NORMALIZE

        if self.normalize is not None and self.normalize not in NORMALIZE:
            raise UsageError(f"--normalize {self.normalize!r} is unknown: {did_you_mean(self.normalize, NORMALIZE)}")
