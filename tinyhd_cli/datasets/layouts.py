"""How each dataset lies on disk, as its official download has it, and its official splits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from ..errors import InputError, UsageError, did_you_mean
from ..layouts import EXPECTED
from ..wording import list_names, plural
from .images import FIXATIONS, MAPS, PICTURES, by_number, listed, natural, preferred
from .video import FrameFiles, Video

VIDEOS = frozenset(".3gp .avi .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split())
"""What counts as a video by its name, in any case: DHF1K has .AVI."""

SHOTS = {"train": "training", "test": "testing"}
"""Splits of Hollywood-2 and UCF-Sports and their folders."""


@dataclass(frozen=True)
class Official:
    """What the publishers say of a split."""

    videos: int
    frames: int
    held_out: bool = False
    """Whether its annotations are withheld, for the benchmark."""


@dataclass(frozen=True)
class Layout:
    """A kind of dataset."""

    find: Callable[[Path, str | None], Iterator[Video]]
    splits: dict[str, Official] = field(default_factory=dict)
    default_split: str | None = None
    from_one: bool = False
    """Whether frames count from 1 without gaps, as published."""


@dataclass(frozen=True)
class Dataset:
    """The videos of one split that are on disk."""

    layout: str
    root: Path
    split: str | None
    videos: tuple[Video, ...]
    left_out: tuple[str, ...] = ()
    """Videos and folders of images without ground truth, as paths relative to the root."""

    @property
    def official(self) -> Official | None:
        """What the publishers say of the split; None where there is no publisher."""
        return LAYOUTS[self.layout].splits.get(self.split) if self.split else None


def open_dataset(layout: str, root: str | os.PathLike[str], split: str | None = None) -> Dataset:
    """Find the videos of a dataset. Files are listed, not read.

    Args:
        layout: a key of ``LAYOUTS``.
        root: the dataset's folder.
        split: one of the layout's; None for the usual one to evaluate on.

    Raises:
        UsageError: there is no such layout or split.
        InputError: there is no such folder, no video in it, or two with the same name.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"--dataset {layout!r} is unknown: {did_you_mean(layout, LAYOUTS)}")
    kind = LAYOUTS[layout]
    if split is not None and split not in kind.splits:
        known = f"there are {', '.join(kind.splits)}" if kind.splits else f"{layout} has none"
        raise UsageError(f"--split {split!r} is unknown: {known}")
    split = split or kind.default_split
    root = Path(root)
    try:
        if not root.is_dir():
            raise InputError(f"{root}: {'is no folder' if root.exists() else 'no such folder'}")
        videos = tuple(sorted(kind.find(root, split), key=lambda video: (natural(video.name), video.name)))
    except OSError as error:
        raise InputError(f"{error.filename or root}: {error.strerror or error}") from error
    passed_over = tuple(sorted(without_truth(root, videos), key=natural)) if kind.find is anybody else ()
    if not videos:
        what = f"no {f'{split} ' if split else ''}videos in the {layout} layout ({EXPECTED[layout]})"
        raise InputError("; ".join([f"{root}: {what}", *([describe_left_out(passed_over)] if passed_over else [])]))
    for one, other in pairwise(videos):
        if one.name == other.name:
            raise InputError(f"{root}: two videos are called {one.name}: {place(one)} and {place(other)}")
    return Dataset(layout, root, split, videos, passed_over)


def without_truth(root: Path, videos: Sequence[Video]) -> Iterator[str]:
    """Yield videos and folders of images below ``root`` that are not in ``videos``, as paths relative to it."""
    known = {video.source for video in videos}
    known |= {path.parent for path in known if path and (path.name == "images" or not path.is_dir())}
    for path in root.rglob("*"):
        inside = path.relative_to(root)
        if any(part.startswith(".") or part in TRUTH for part in inside.parts):
            continue
        is_video = path.suffix.lower() in VIDEOS and path.is_file()
        is_folder = path.is_dir() and any(listed(path, PICTURES))
        if (is_video or is_folder) and known.isdisjoint({path, *path.parents} - {root}):
            yield (inside.parent if path.name == "images" else inside).as_posix()


def describe_left_out(names: Sequence[str]) -> str:
    """Return a message about the videos of a dataset that are ignored because they have no ground truth."""
    return f"{plural(len(names), 'video')} ignored, without a maps or fixation folder: {list_names(names)}"


def place(video: Video) -> Path | None:
    """Where a video's frames are."""
    return video.single.image if video.single else video.source


def folders(parent: Path) -> Iterator[Path]:
    """The visible folders in a folder."""
    if parent.is_dir():
        yield from (path for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))


def dhf1k(root: Path, split: str | None) -> Iterator[Video]:
    """DHF1K: ``video/0601.AVI`` or pictures in one of three places, ``annotation/0601/{maps,fixation}``."""
    ranges = {"train": range(1, 601), "val": range(601, 701), "test": range(701, 1001)}
    wanted = ranges[split or "val"]
    annotations = by_number(sorted(folders(root / "annotation")))
    sources = {number: path / "images" for number, path in annotations.items() if (path / "images").is_dir()}
    sources |= by_number(sorted(folders(root / "frames")))
    sources |= by_number(sorted(folders(root / "video")))
    sources |= by_number(sorted(listed(root / "video", VIDEOS)))
    for number in sorted({*sources, *annotations}):
        if number in wanted:
            folder = annotations.get(number, root / "annotation" / f"{number:04d}")
            yield Video(f"{number:04d}", sources.get(number), folder / "maps", folder / "fixation", from_one=True)


def shots(root: Path, split: str | None) -> Iterator[Video]:
    """Hollywood-2 and UCF-Sports: a folder for each shot with ``images``, ``maps`` and ``fixation`` in it."""
    for folder in folders(root / SHOTS[split or "test"]):
        yield shot(folder, folder.name)


def shot(folder: Path, name: str) -> Video:
    """The video of a folder with ``images``, ``maps`` and ``fixation`` in it."""
    images = folder / "images"
    return Video(name, images if images.is_dir() else None, folder / "maps", folder / "fixation")


TRUTH = {"maps": MAPS, "fixation": FIXATIONS}
"""Folders of density and fixation maps, and the suffixes of the files in them."""


def anybody(root: Path, split: str | None) -> Iterator[Video]:
    """Any directory: wherever ``maps`` or ``fixation`` are, the videos or frame folders beside them belong to them.

    Three forms, at any depth: ``NAME/{images,maps,fixation}``; frames or a video in ``NAME`` itself with ``maps`` and
    ``fixation`` in it; ``NAME.mp4`` or ``NAME/`` with ``maps/NAME`` and ``fixation/NAME`` beside it. Ground truth
    without frames is a video, too: maps from elsewhere can be scored against it.
    """
    for parent in (root, *(path for path in root.rglob("*") if path.is_dir())):
        inside = parent.relative_to(root)
        if inside.name in TRUTH or any(part.startswith(".") for part in inside.parts):
            continue
        truth = [parent / kind for kind in TRUTH if (parent / kind).is_dir()]
        if not truth:
            continue
        videos = list(listed(parent, VIDEOS))
        own_name = inside.as_posix() if inside.parts else root.resolve().name
        if (parent / "images").is_dir():
            yield shot(parent, own_name)
        elif any(listed(parent, PICTURES)):
            yield Video(own_name, parent, parent / "maps", parent / "fixation")
        elif any(any(listed(folder, TRUTH[folder.name])) for folder in truth):
            yield Video(own_name, videos[0] if len(videos) == 1 else None, parent / "maps", parent / "fixation")
        else:
            yield from beside(parent, videos, inside)


def beside(parent: Path, videos: list[Path], inside: Path) -> Iterator[Video]:
    """Videos and frame folders in a folder, each with the ground truth of its name; a video counts before frames."""
    films = {path.stem for path in videos}
    pictures = [path for path in folders(parent) if path.name not in {*TRUTH, *films} and any(listed(path, PICTURES))]
    lost = {path.name for kind in TRUTH for path in folders(parent / kind)}
    lost -= {*TRUTH, *films, *(path.name for path in pictures)}
    named: list[tuple[str, Path | None]] = [(path.stem, path) for path in videos]
    for name, source in (*named, *((path.name, path) for path in pictures), *((name, None) for name in lost)):
        yield Video((inside / name).as_posix(), source, parent / "maps" / name, parent / "fixation" / name)


def photographs(root: Path, split: str | None) -> Iterator[Video]:
    """Photographs in ``images`` with ``maps`` and ``fixation`` beside it: each one a video of one frame."""
    images = list(listed(root / "images", PICTURES))
    densities, fixations = (
        {path.stem: path for path in reversed(preferred(root / kind, TRUTH[kind]))} for kind in TRUTH
    )
    lost = {*densities, *fixations} - {image.stem for image in images}
    for name, image in [*((image.stem, image) for image in images), *((name, None) for name in lost)]:
        frame = FrameFiles(1, image, densities.get(name), fixations.get(name))
        yield Video(name, image.parent if image else None, None, None, single=frame)


LAYOUTS = {
    "dhf1k": Layout(
        dhf1k,
        {"train": Official(600, 346_140), "val": Official(100, 60_273), "test": Official(300, 176_192, held_out=True)},
        "val",
        from_one=True,
    ),
    "hollywood2": Layout(shots, {"train": Official(2_699, 192_661), "test": Official(3_558, 244_860)}, "test"),
    "ucf-sports": Layout(shots, {"train": Official(103, 6_501), "test": Official(47, 2_929)}, "test", from_one=True),
    "folder": Layout(anybody),
    "images": Layout(photographs),
}
"""The layouts by the name that ``--dataset`` takes."""
