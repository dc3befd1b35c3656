"""Layouts of datasets whose density maps are videos and whose fixations are in JSON: CrowdSAL, NTIRE 2026, AViMoS.

Density maps and fixations of a video are recorded with the mouse, by over 70 observers, and cover all of its frames.
"""

from __future__ import annotations

from collections.abc import Iterator
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


def find_crowdsal(root: Path, split: str | None) -> Iterator[Video]:
    """Yield the videos of CrowdSAL: ``Test/{Videos,Saliency}/3001.mp4``, ``Test/Fixations/3001.json``."""
    folder = root / CROWDSAL_FOLDERS[split or "test"]
    sources = by_stem(list_files(folder / "Videos", VIDEO_SUFFIXES))
    maps = by_stem(list_files(folder / "Saliency", VIDEO_SUFFIXES))
    lists = by_stem(list_files(folder / "Fixations", (".json",)))
    for name in {*sources, *maps, *lists}:
        yield video_of(name, sources, maps, lists)


def find_challenge(root: Path, split: str | None) -> Iterator[Video]:
    """Yield the videos of AViMoS (AIM 2024) or of NTIRE 2026, with each archive unpacked into a folder of its name.

    Frames are ``Videos/NAME.mp4``, density maps ``SaliencyTest/Test/NAME.mp4``, fixations
    ``FixationsTest/Test/NAME/fixations.json``; the folders within the folders of the archives may be missing.

    Raises:
        InputError: ``TrainTestSplit.json`` is missing or cannot be read.
    """
    split = split or "test"
    part = "Train" if split == "train" else "Test"
    sources = by_stem(path for folder in with_folders(root / "Videos") for path in list_files(folder, VIDEO_SUFFIXES))
    maps_folders = with_folders(root / f"Saliency{part}")
    maps = by_stem(path for folder in maps_folders for path in list_files(folder, VIDEO_SUFFIXES))
    lists = {
        folder.name: folder / FIXATIONS_FILE
        for parent in (root / f"Fixations{part}", root / f"Fixations{part}" / part)
        for folder in folders(parent)
        if (folder / FIXATIONS_FILE).is_file()
    }
    listed = read_split(root / SPLIT_FILE, split, sources)
    for name in listed:
        if name in sources or name in maps or name in lists:
            yield video_of(name, sources, maps, lists)
        else:
            problem = f"is in {split} of {root / SPLIT_FILE}, but there are neither frames nor annotations"
            yield Video(name, None, None, None, one_based=True, problem=problem)


def video_of(name: str, sources: dict[str, Path], maps: dict[str, Path], lists: dict[str, Path]) -> Video:
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


def by_stem(paths: Iterator[Path]) -> dict[str, Path]:
    """Return files by their names without suffix; of two with the same one, the first in order."""
    return {path.stem: path for path in sorted(paths, reverse=True)}


def with_folders(parent: Path) -> list[Path]:
    """Return a folder and the folders in it."""
    return [parent, *folders(parent)]


def read_split(path: Path, split: str, sources: dict[str, Path]) -> list[str]:
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
