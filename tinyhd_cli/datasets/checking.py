"""Find a dataset to check by name or folder, and compare a download with the hashes of the Hub."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError, UsageError
from .archive import BLOCK_BYTES, Member
from .catalog import catalog, folder_of, require_folder, same_name
from .damage import write_damaged
from .layouts import LAYOUTS, Dataset, has_videos, open_dataset
from .manifest import HubFile, Manifest

GENERAL = ("images", "folder")
"""Layouts that many folders match; tried last."""


def root_and_layout(name: str, layout: str | None = None) -> tuple[Path, str]:
    """Return the folder and the layout of a dataset.

    Args:
        name: name of a known dataset, or a folder.
        layout: a key of ``LAYOUTS``. Default: that of the name, or the first one with videos in the folder.

    Raises:
        UsageError: the dataset has no known folder, or no ground truth.
        InputError: the folder does not exist, or no layout matches.
    """
    info = catalog().get(name)
    if info is None or (Path(name).is_dir() and folder_of(name) is None):
        root = Path(name)
        if not root.is_dir():
            raise InputError(f"{root}: no such folder, and no dataset of this name; tinyhd datasets list shows all")
        return root, layout or detect(root)
    folder = require_folder(name)
    if not (layout or info.layout):
        raise UsageError(f"{name} has no ground truth to check: its videos are unlabeled")
    return folder, layout or info.layout


def detect(root: Path) -> str:
    """Return the layout of a folder; ``InputError`` if no layout has videos in it."""
    special = [name for name in LAYOUTS if name not in GENERAL]
    special.sort(key=lambda name: not same_name(name, root.resolve().name))  # Hollywood-2 and UCF Sports look alike
    for name in (*special, *GENERAL):
        kind = LAYOUTS[name]
        if any(has_videos(kind, root, split) for split in kind.splits or (None,)):
            return name
    raise InputError(f"{root}: contains no videos with ground truth in a known layout; name one with --layout")


def open_splits(
    layout: str, root: Path, split: str | None = None, on_absent: Callable[[str, InputError], None] = lambda *_: None
) -> list[Dataset]:
    """Return the splits of a dataset that are there, or only ``split``.

    Args:
        layout: a key of ``LAYOUTS``.
        root: folder of the dataset.
        split: the only split to open.
        on_absent: called with the name of each split that is left out, and the reason.

    Raises:
        UsageError: the layout or split does not exist.
        InputError: there is no video of any split.
    """
    splits = LAYOUTS[layout].splits if layout in LAYOUTS and split is None else {}
    found, absent = [], {}
    for name in splits or (split,):
        try:
            found.append(open_dataset(layout, root, name))
        except InputError as error:
            absent[name or layout] = error
    if absent and not found:
        raise next(iter(absent.values()))
    for left_out, reason in absent.items():
        on_absent(left_out, reason)
    return found


def wrong_files(root: Path, on_progress: Callable[[int, int], None] = lambda done, total: None) -> list[str]:
    """Compare the files of a download with the Hub's hashes; return a line for each one that differs.

    Damaged files are recorded, so that the next download fetches them again. Nothing is returned for a folder that
    ``tinyhd datasets download`` did not make. Files that are not there were not chosen, and are not reported.

    Args:
        root: folder of the dataset.
        on_progress: called with the bytes that were read and all bytes.
    """
    manifest = Manifest.read(root)
    if manifest is None:
        return []
    members = (member for inner in manifest.archives.values() for member in inner)
    listed: list[HubFile | Member] = [*manifest.files, *members]
    files = [file for file in listed if (root / file.path).is_file()]
    total, done = sum(file.size for file in files), 0

    def count(read: int) -> None:
        nonlocal done
        done += read
        on_progress(done, total)

    wrong = {}
    for file in files:
        path = root / file.path
        if (size := path.stat().st_size) != file.size:
            wrong[file.path] = f"{path}: has {size:,} bytes instead of {file.size:,}"
        elif not (file.matches(path, count) if isinstance(file, HubFile) else same_crc(path, file, count)):
            wrong[file.path] = f"{path}: differs from the Hub's hash"
    write_damaged(root, wrong)
    return list(wrong.values())


def same_crc(path: Path, member: Member, on_bytes: Callable[[int], None]) -> bool:
    """Return whether a file has the checksum that its archive declares."""
    crc = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            crc = zlib.crc32(block, crc)
            on_bytes(len(block))
    return crc == member.crc
