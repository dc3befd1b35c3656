"""Layouts of datasets whose density maps are videos and whose fixations are in JSON: CrowdSAL, NTIRE 2026, AViMoS.

Density maps and fixations of a video are recorded with the mouse, by over 70 observers, and cover all of its frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import InputError, one_line
from ..untrusted import parse_json, read_document
from .images import VIDEO_SUFFIXES, folders, list_files
from .video import Video

CROWDSAL_FOLDERS = {"train": "Train", "test": "Test"}
"""Folders of CrowdSAL, by split."""

SPLIT_FILE = "TrainTestSplit.json"
"""Names of the videos of each split of the challenges."""

TESTS = ("public_test", "private_test")
"""Keys of the test splits in ``SPLIT_FILE``."""

FIXATIONS_FILE = "fixations.json"
"""Name of the file of fixations in the folder of a video of the challenges."""


Files = dict[str, Path]
"""Files by the name of their video."""


def find_crowdsal(root: Path, split: str | None) -> Iterator[Video]:
    """Yield the videos of CrowdSAL: ``Test/{Videos,Saliency}/3001.mp4``, ``Test/Fixations/3001.json``."""
    sources, maps, lists = crowdsal_files(root, split or "test")
    for name in {*sources, *maps, *lists}:
        yield video_of(name, sources, maps, lists)


def crowdsal_files(root: Path, split: str) -> tuple[Files, Files, Files]:
    """Return the videos, map videos and lists of fixations of a split."""
    folder = root / CROWDSAL_FOLDERS[split]
    return (
        by_stem(list_files(folder / "Videos", VIDEO_SUFFIXES)),
        by_stem(list_files(folder / "Saliency", VIDEO_SUFFIXES)),
        by_stem(list_files(folder / "Fixations", (".json",))),
    )


def find_challenge(root: Path, split: str | None) -> Iterator[Video]:
    """Yield the videos of AViMoS (AIM 2024) or of NTIRE 2026, with each archive unpacked into a folder of its name.

    Raises:
        InputError: ``TrainTestSplit.json`` is missing or cannot be read.
    """
    split = split or "test"
    files = ChallengeFiles(root, "Train" if split == "train" else "Test")
    for name in read_split(root / SPLIT_FILE, split, files.sources):
        if name in files.sources or name in files.annotated:  # a part of the dataset is a dataset, too
            yield video_of(name, files.sources, files.maps, files.lists)


class ChallengeFiles:
    """The files of a challenge.

    Frames are ``Videos/NAME.mp4``, density maps ``SaliencyTest/Test/NAME.mp4``, fixations
    ``FixationsTest/Test/NAME/fixations.json``; the folders within the folders of the archives may be missing.

    Args:
        root: the folder.
        part: ``Train`` or ``Test``, the part of the annotations.

    Attributes:
        sources: all videos.
        maps: map videos of the part.
        lists: lists of fixations of the part.
    """

    def __init__(self, root: Path, part: str) -> None:
        self.sources = videos_in(root / "Videos")
        self.maps = videos_in(root / f"Saliency{part}")
        parent = root / f"Fixations{part}"
        found = (folder / FIXATIONS_FILE for place in (parent, parent / part) for folder in folders(place))
        self.lists: Files = {path.parent.name: path for path in found if path.is_file()}

    @property
    def annotated(self) -> set[str]:
        """Names of the videos with density maps or fixations."""
        return {*self.maps, *self.lists}


def videos_in(parent: Path) -> Files:
    """Return the videos in a folder and in the folders in it."""
    return by_stem(path for folder in (parent, *folders(parent)) for path in list_files(folder, VIDEO_SUFFIXES))


def video_of(name: str, sources: Files, maps: Files, lists: Files) -> Video:
    """Return the video of this name."""
    return Video(
        name,
        sources.get(name),
        None,
        None,
        one_based=True,
        density_video=maps.get(name),
        fixation_list=lists.get(name),
    )


def by_stem(paths: Iterable[Path]) -> Files:
    """Return files by their names without suffix; of two with the same one, the first in order."""
    return {path.stem: path for path in sorted(paths, reverse=True)}


def read_split(path: Path, split: str, sources: Files) -> list[str]:
    """Return the names of the videos of a split, without suffix and repetitions.

    Args:
        path: the file of splits, lists of names by the names of the splits.
        split: ``train``, ``test`` for all tests, or one of ``TESTS``.
        sources: all videos; those that are in no test are the training split if the file does not list it.

    Raises:
        InputError: the file cannot be read, or does not list the split.
    """
    splits = read_splits(path)
    if split == "train" and split not in splits:
        tests = {name for key in TESTS for name in splits.get(key, [])}
        return sorted(sources.keys() - tests)
    keys = TESTS if split == "test" else (split,)
    if not (present := [key for key in keys if key in splits]):
        raise InputError(f"{path}: has no list {' or '.join(keys)}, only {', '.join(splits) or 'nothing'}")
    return list(dict.fromkeys(name for key in present for name in splits[key]))


def read_splits(path: Path) -> dict[str, list[str]]:
    """Return the names of videos in a file of splits, without suffix; names that are paths are rejected.

    Raises:
        InputError: the file cannot be read, or does not contain lists of names.
    """
    try:
        found: Any = parse_json(read_document(path))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; it lists the videos of each split") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({one_line(error)})") from error
    if not isinstance(found, dict) or not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in found.values()
    ):
        raise InputError(f'{path}: must contain lists of names, as in {{"train": ["0001"], "public_test": ["1001"]}}')
    splits = {key: [stem_of(name) for name in names] for key, names in found.items()}
    if unsafe := next((name for names in splits.values() for name in names if not is_plain(name)), None):
        raise InputError(f"{path}: {unsafe!r} is not the name of a video")
    return splits


def stem_of(name: str) -> str:
    """Return the name of a video without the suffix of a video file."""
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in VIDEO_SUFFIXES else name


def is_plain(name: str) -> bool:
    """Return whether a name can be that of a file: no path, not hidden."""
    return bool(name) and not name.startswith(".") and not set(name) & set("/\\\0")
