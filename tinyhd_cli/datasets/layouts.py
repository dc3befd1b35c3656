"""Layouts of datasets on disk, as in their official downloads, and their official splits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from .. import storage
from ..errors import InputError, UsageError, did_you_mean
from ..layouts import EXPECTED
from ..wording import list_names, plural
from .check_splits import check_challenge, check_crowdsal
from .findings import Finding
from .images import (
    FIXATION_SUFFIXES,
    IMAGE_SUFFIXES,
    MAP_SUFFIXES,
    VIDEO_SUFFIXES,
    by_number,
    folders,
    list_files,
    natural_key,
    sorted_files,
)
from .map_video_layouts import TESTS, find_challenge, find_crowdsal
from .masks import MASK_SUFFIXES, MaskFiles
from .object_layouts import find_davis, find_davsod, find_fbms, find_segtrack, find_visal, find_vos
from .video import FrameFiles, Video

SPLIT_FOLDERS = {"train": "training", "test": "testing"}
"""Folders of the splits of Hollywood-2 and UCF-Sports."""


@dataclass(frozen=True)
class OfficialSplit:
    """The publisher's counts of a split."""

    videos: int | None
    """None if it is not published for the split alone."""
    frames: int | None = None
    """None if the publishers' counts differ from those of their files."""
    held_out: bool = False
    """Whether the annotations are, or were at first, held out for the benchmark."""


@dataclass(frozen=True)
class Layout:
    """Search function and official splits of a dataset."""

    find: Callable[[Path, str | None], Iterator[Video]]
    """Yields the videos below a folder, given the folder and the split."""
    splits: dict[str, OfficialSplit] = field(default_factory=dict)
    default_split: str | None = None
    one_based: bool = False
    """Whether the published frames are numbered from 1 without gaps."""
    masks: bool = False
    """Whether the ground truth is masks of objects, not fixations."""
    sparse: bool = False
    """Whether only some of the frames have a mask."""
    map_videos: bool = False
    """Whether density maps are in videos, and fixations in JSON."""
    check: Callable[[Path, str | None], Iterator[Finding]] | None = None
    """Yields findings about the whole dataset, given its folder and the split."""


@dataclass(frozen=True)
class Dataset:
    """The videos of one split on disk."""

    layout: str
    root: Path
    split: str | None
    videos: tuple[Video, ...]
    ignored: tuple[str, ...] = ()
    """Videos and folders of images without ground truth, as paths relative to the root."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the videos."""
        return tuple(video.name for video in self.videos)

    @property
    def official(self) -> OfficialSplit | None:
        """The publisher's counts of the split; None for a layout without official splits."""
        return LAYOUTS[self.layout].splits.get(self.split) if self.split else None


def open_dataset(layout: str, root: str | os.PathLike[str], split: str | None = None) -> Dataset:
    """Find the videos of a dataset. Files are listed, not read.

    Args:
        layout: a key of ``LAYOUTS``.
        root: the dataset's folder.
        split: a split of the layout; None for the split that papers report results on.

    Raises:
        UsageError: the layout or split does not exist.
        InputError: the folder does not exist, contains no video, or two videos with the same name, or its store cannot
            be read.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"--dataset {layout!r} is unknown: {did_you_mean(layout, LAYOUTS)}")
    kind = LAYOUTS[layout]
    if split is not None and split not in kind.splits:
        known = f"{layout} has {', '.join(kind.splits)}" if kind.splits else f"{layout} has no splits"
        raise UsageError(f"--split {split!r} is unknown: {known}")
    split = split or kind.default_split
    root = storage.path_of(root)
    storage.mirror(root)
    try:
        if not root.is_dir():
            raise InputError(f"{root}: {'is not a folder' if root.exists() else 'no such folder'}")
        videos = tuple(sorted(kind.find(root, split), key=lambda video: (natural_key(video.name), video.name)))
    except OSError as error:
        raise InputError(f"{error.filename or root}: {error.strerror or error}") from error
    ignored = tuple(sorted(without_ground_truth(root, videos), key=natural_key)) if kind.find is find_in_folders else ()
    if not videos:
        problem = f"no {f'{split} ' if split else ''}videos in the {layout} layout ({EXPECTED[layout]})"
        if inner := inner_root(kind, root, split):
            problem += f"; did you mean {inner}?"
        elif others := special_layouts(root):
            problem += f"; it has videos in the layout {' or '.join(others)}"
        raise InputError("; ".join([f"{root}: {problem}", *([describe_ignored(ignored)] if ignored else [])]))
    for one, other in pairwise(videos):
        if one.name == other.name:
            raise InputError(f"{root}: two videos are named {one.name}: {video_path(one)} and {video_path(other)}")
    return Dataset(layout, root, split, videos, ignored)


def inner_root(kind: Layout, root: Path, split: str | None) -> Path | None:
    """Return the folder in ``root`` that contains videos of a layout, if there is one."""
    return next((folder for folder in sorted(folders(root)) if has_videos(kind, folder, split)), None)


def has_videos(kind: Layout, root: Path, split: str | None) -> bool:
    """Return whether a folder contains a video of a layout."""
    try:
        return any(True for _ in kind.find(root, split))
    except (InputError, OSError):
        return False


def special_layouts(root: Path) -> list[str]:
    """Return the layouts of datasets that have videos in a folder, with the splits of these videos."""
    found: dict[str, list[str]] = {}
    for name, kind in LAYOUTS.items():
        for split in kind.splits:
            if has_videos(kind, root, split):
                found.setdefault(name, []).append(split)
    return [f"{name} ({', '.join(splits)})" for name, splits in found.items()]


def without_ground_truth(root: Path, videos: Sequence[Video]) -> Iterator[str]:
    """Yield videos and folders of images below ``root`` that are not in ``videos``, as paths relative to it."""
    known = {video.source for video in videos}
    known |= {path.parent for path in known if path and (path.name == "images" or not path.is_dir())}
    for path in root.rglob("*"):
        inside = path.relative_to(root)
        if any(part.startswith(".") or part in GROUND_TRUTH for part in inside.parts):
            continue
        is_video = path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()
        is_folder = path.is_dir() and any(list_files(path, IMAGE_SUFFIXES))
        if (is_video or is_folder) and known.isdisjoint({path, *path.parents} - {root}):
            yield (inside.parent if path.name == "images" else inside).as_posix()


def describe_ignored(names: Sequence[str]) -> str:
    """Return a message about the videos of a dataset that are ignored because they have no ground truth."""
    return f"{plural(len(names), 'video')} ignored, without a maps, fixation or masks folder: {list_names(names)}"


def video_path(video: Video) -> Path | None:
    """Return the path of a video's frames."""
    return video.single.image if video.single else video.source


def find_dhf1k(root: Path, split: str | None) -> Iterator[Video]:
    """Yield the videos of DHF1K.

    Frames are in ``video/0601.AVI`` or as images in ``video/0601``, ``frames/0601`` or ``annotation/0601/images``.
    Ground truth is in ``annotation/0601/{maps,fixation}``.
    """
    ranges = {"train": range(1, 601), "val": range(601, 701), "test": range(701, 1001)}
    wanted = ranges[split or "val"]
    annotations = by_number(sorted(folders(root / "annotation")))
    sources = {number: path / "images" for number, path in annotations.items() if (path / "images").is_dir()}
    sources |= by_number(sorted(folders(root / "frames")))
    sources |= by_number(sorted(folders(root / "video")))
    sources |= by_number(sorted(list_files(root / "video", VIDEO_SUFFIXES)))
    for number in sorted({*sources, *annotations}):
        if number in wanted:
            folder = annotations.get(number, root / "annotation" / f"{number:04d}")
            yield Video(f"{number:04d}", sources.get(number), folder / "maps", folder / "fixation", one_based=True)


def find_shots(root: Path, split: str | None) -> Iterator[Video]:
    """Yield the shots of Hollywood-2 or UCF-Sports: one folder each, with ``images``, ``maps`` and ``fixation``."""
    for folder in folders(root / SPLIT_FOLDERS[split or "test"]):
        yield folder_video(folder, folder.name)


def folder_video(folder: Path, name: str) -> Video:
    """Return the video of a folder with ``images``, ``maps``, ``fixation`` and ``masks``."""
    images = folder / "images"
    return with_ground_truth(name, images if images.is_dir() else None, folder)


GROUND_TRUTH = {"maps": MAP_SUFFIXES, "fixation": FIXATION_SUFFIXES, "masks": MASK_SUFFIXES}
"""Names of the folders of density maps, fixation maps and masks, and the suffixes of the files in them."""


def with_ground_truth(name: str, source: Path | None, parent: Path, inside: str = "") -> Video:
    """Return a video whose ground truth is in ``maps``, ``fixation`` and ``masks``, or in folders within these.

    Args:
        name: the video's name.
        source: its frames.
        parent: the folder of ``maps``, ``fixation`` and ``masks``.
        inside: name of a folder in each of them.
    """
    density, fixation, mask = (parent / kind / inside for kind in GROUND_TRUTH)
    return Video(name, source, density, fixation, mask_folders=(mask,))


def find_in_folders(root: Path, split: str | None) -> Iterator[Video]:
    """Yield the videos of a folder that contains ``maps``, ``fixation`` or ``masks`` folders at any depth.

    Three forms are supported: ``NAME/{images,maps,fixation,masks}``; frames or a video directly in ``NAME``, next to
    its ``maps``, ``fixation`` and ``masks``; ``NAME.mp4`` or frames in ``NAME/``, next to ``maps/NAME``,
    ``fixation/NAME`` and ``masks/NAME``. Ground truth without frames is a video, too: existing maps can be scored
    against it.
    """
    for parent in (root, *(path for path in root.rglob("*") if path.is_dir())):
        inside = parent.relative_to(root)
        if inside.name in GROUND_TRUTH or any(part.startswith(".") for part in inside.parts):
            continue
        ground_truth = [parent / kind for kind in GROUND_TRUTH if (parent / kind).is_dir()]
        if not ground_truth:
            continue
        videos = list(list_files(parent, VIDEO_SUFFIXES))
        own_name = inside.as_posix() if inside.parts else root.resolve().name
        if (parent / "images").is_dir():
            yield folder_video(parent, own_name)
        elif any(list_files(parent, IMAGE_SUFFIXES)):
            yield with_ground_truth(own_name, parent, parent)
        elif any(any(list_files(folder, GROUND_TRUTH[folder.name])) for folder in ground_truth):
            yield with_ground_truth(own_name, videos[0] if len(videos) == 1 else None, parent)
        else:
            yield from find_named(parent, videos, inside)


def find_named(parent: Path, videos: list[Path], inside: Path) -> Iterator[Video]:
    """Yield the videos and frame folders in a folder, each with the ground truth of its name.

    Args:
        parent: the folder.
        videos: the video files in it; they take precedence over frame folders of the same name.
        inside: path of the folder relative to the dataset's root.
    """
    stems = {path.stem for path in videos}
    frames = [
        path
        for path in folders(parent)
        if path.name not in {*GROUND_TRUTH, *stems}
        and any(list_files(path, IMAGE_SUFFIXES))
        # A folder of frames next to their own ground truth is found as a video of its own.
        and not any((path / kind).is_dir() for kind in GROUND_TRUTH)
    ]
    without_frames = {path.name for kind in GROUND_TRUTH for path in folders(parent / kind)}
    without_frames -= {*GROUND_TRUTH, *stems, *(path.name for path in frames)}
    sources: list[tuple[str, Path | None]] = [(path.stem, path) for path in videos]
    sources += [(path.name, path) for path in frames]
    sources += [(name, None) for name in without_frames]
    for name, source in sources:
        yield with_ground_truth((inside / name).as_posix(), source, parent, name)


def find_images(root: Path, split: str | None) -> Iterator[Video]:
    """Yield each image in ``images`` as a video of one frame, with its ``maps``, ``fixation`` and ``masks``."""
    images = list(list_files(root / "images", IMAGE_SUFFIXES))
    densities, fixations, masks = (
        {path.stem: path for path in reversed(sorted_files(root / kind, GROUND_TRUTH[kind]))} for kind in GROUND_TRUTH
    )
    without_image = {*densities, *fixations, *masks} - {image.stem for image in images}
    for name, image in [*((image.stem, image) for image in images), *((name, None) for name in without_image)]:
        mask = MaskFiles((masks[name],)) if name in masks else None
        frame = FrameFiles(1, image, densities.get(name), fixations.get(name), mask)
        yield Video(name, image.parent if image else None, None, None, single=frame)


def challenge(train: int, test: int) -> Layout:
    """Return the layout of a challenge with a public and a private test, given the numbers of videos."""
    splits = {"train": OfficialSplit(train), "test": OfficialSplit(test, held_out=True)}
    splits |= dict.fromkeys(TESTS, OfficialSplit(None, held_out=True))
    return Layout(find_challenge, splits, "test", map_videos=True, check=check_challenge)


LAYOUTS = {
    "dhf1k": Layout(
        find_dhf1k,
        {
            "train": OfficialSplit(600, 346_140),
            "val": OfficialSplit(100, 60_273),
            "test": OfficialSplit(300, 176_192, held_out=True),
        },
        "val",
        one_based=True,
    ),
    "hollywood2": Layout(
        find_shots, {"train": OfficialSplit(2_699, 192_661), "test": OfficialSplit(3_558, 244_860)}, "test"
    ),
    "ucf-sports": Layout(
        find_shots, {"train": OfficialSplit(103, 6_501), "test": OfficialSplit(47, 2_929)}, "test", one_based=True
    ),
    "crowdsal": Layout(
        find_crowdsal,
        {"train": OfficialSplit(3_000), "test": OfficialSplit(2_000)},
        "test",
        map_videos=True,
        check=check_crowdsal,
    ),
    "ntire2026": challenge(train=1_200, test=800),
    "avimos": challenge(train=1_000, test=500),
    "folder": Layout(find_in_folders),
    "images": Layout(find_images),
    "davis": Layout(
        find_davis,
        {
            "train": OfficialSplit(30, 2_079),
            "val": OfficialSplit(20, 1_376),
            "train-2017": OfficialSplit(60),
            "val-2017": OfficialSplit(30),
        },
        "val",
        masks=True,
    ),
    "davsod": Layout(
        find_davsod,
        {
            "train": OfficialSplit(61),
            "val": OfficialSplit(46),
            "easy": OfficialSplit(35),
            "normal": OfficialSplit(25),
            "difficult": OfficialSplit(20),
        },
        "easy",
        masks=True,
    ),
    "segtrack": Layout(find_segtrack, masks=True),
    "fbms": Layout(find_fbms, {"train": OfficialSplit(29), "test": OfficialSplit(30)}, "test", masks=True, sparse=True),
    "visal": Layout(find_visal, masks=True, sparse=True),
    "vos": Layout(find_vos, masks=True, sparse=True),
}
"""Layouts by the value of ``--dataset``."""
