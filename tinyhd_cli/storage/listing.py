"""Find out what is in a store. For local paths, these functions do what ``pathlib`` does."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, TinyhdError
from .addresses import WITH_QUERY, path_of, url_of
from .copies import fetched, hold, is_held, is_used
from .stores import ABSENT, problem, scheme_of, store_errors, store_of

FOLDER = "directory"
"""fsspec's type of a folder."""

_folders: set[Path] = set()
"""Folders of stores that this process has seen."""


@dataclass(frozen=True)
class Entry:
    """A file or folder."""

    path: Path
    is_folder: bool
    size: int | None = None
    """Bytes; None if the store does not say."""


def entry_of(path: Path, kind: type[TinyhdError] = InputError) -> Entry | None:
    """Return what is in a store at a stand-in; None for nothing. Errors of the store become errors of ``kind``."""
    with store_errors(path, kind):
        try:
            return to_entry(path, store_of(path).info(url_of(path)))
        except FileNotFoundError as error:
            if problem(path, error) != ABSENT:
                raise
            return None


def to_entry(path: Path, info: dict[str, Any]) -> Entry:
    """Return what a store reports about a path."""
    is_folder = info.get("type") == FOLDER
    if is_folder:
        _folders.add(path)
    return Entry(path, is_folder, info.get("size"))


def exists(path: Path, kind: type[TinyhdError] = InputError) -> bool:
    """Return whether a file or folder exists."""
    return path.exists() if url_of(path) is None else entry_of(path, kind) is not None


def is_file(path: Path, kind: type[TinyhdError] = InputError) -> bool:
    """Return whether a path is a file that is not empty, if it is in a store; whether it is a file, if it is local."""
    if url_of(path) is None:
        return path.is_file()
    found = entry_of(path, kind)
    return found is not None and not found.is_folder and found.size != 0


def file_size(path: Path) -> int | None:
    """Return the size of an existing file in bytes; None if there is no file, or its store does not say."""
    if url_of(path) is None or is_used(path):
        return path.stat().st_size if path.is_file() else None
    found = entry_of(path)
    return None if found is None or found.is_folder else found.size


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder. A name with a suffix is not looked up in a store unless it was seen there."""
    if url_of(path) is None or is_held(path):
        return path.is_dir()
    if path in _folders:
        return True
    if path.suffix:
        return False
    found = entry_of(path)
    return found is not None and found.is_folder


def entries(folder: Path) -> Iterator[Entry]:
    """Yield what is directly in a folder, in any order.

    Raises:
        OSError: a local folder cannot be read.
        InputError: a folder in a store cannot be read.
    """
    if url_of(folder) is None or is_held(folder):
        with os.scandir(folder) as found_here:
            for item in found_here:
                yield Entry(folder / item.name, item.is_dir())
        return
    with store_errors(folder):
        found = store_of(folder).ls(url_of(folder), detail=True)
    _folders.add(folder)
    for info in found:
        path = path_in(folder, info["name"])
        if path is not None and path != folder:
            yield to_entry(path, info)


def files_in(folder: Path) -> list[Path]:
    """Return the files directly in a folder, in any order; see :func:`entries` for errors."""
    if url_of(folder) is None or is_held(folder):
        with os.scandir(folder) as found:
            return [folder / item.name for item in found if item.is_file()]
    return [entry.path for entry in entries(folder) if not entry.is_folder]


def matches(pattern: str) -> list[Entry]:
    """Return the sorted files and folders of a store that match a pattern; hidden ones only if the pattern names them.

    Raises:
        InputError: the store cannot be read.
    """
    path = path_of(pattern)
    with store_errors(path):
        found = store_of(path).glob(pattern, detail=True)
    hidden = any(part.startswith(".") for part in pattern.split("/")[3:])
    listed = []
    for name, info in found.items():
        item = path_in(path, name)
        if item is not None and (hidden or not any(part.startswith(".") for part in name.split("/"))):
            listed.append(to_entry(item, info))
    return sorted(listed, key=lambda entry: entry.path)


def is_pattern(url: str) -> bool:
    """Return whether a URL may be a pattern. Web servers have no listings, and ``?`` starts a query there."""
    return glob.has_magic(url) and scheme_of(path_of(url)) not in WITH_QUERY


def path_in(other: Path, name: str) -> Path | None:
    """Return the stand-in of a name that the store of ``other`` lists; None if no path can have that name."""
    try:
        return path_of(name if "://" in name else f"{scheme_of(other)}://{name.lstrip('/')}")
    except TinyhdError:
        return None


def fetched_tree(path: Path) -> Path:
    """Copy a file in a store, or all files of a folder and its subfolders, until this process ends; return its path.

    Raises:
        InputError: it cannot be read, or it does not fit into ``--scratch``.
    """
    if url_of(path) is None:
        return path
    if not is_folder(path):
        return fetched(path)
    with store_errors(path):
        names = store_of(path).find(url_of(path))
    hold(path, [found for name in names if (found := path_in(path, name)) is not None])
    return path
