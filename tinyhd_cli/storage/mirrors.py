"""Folders of stores as local folders: a file of the right size for each object, whose content is copied when needed.

A dataset has many folders of numbered files. They are listed once, and then searched like local ones; a process that
works on one of its videos has copies of the files of this video only, for as long as it works.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import InputError
from .addresses import url_of
from .copies import VERSIONS, discard, fetch_all, use
from .listing import path_in
from .stores import store_errors, store_of

_mirrored: set[Path] = set()
"""Folders that are mirrored."""

_empty: dict[Path, tuple[int, int]] = {}
"""Size, and a number that depends on the content, of each file without content."""


def mirror(folder: Path) -> None:
    """Create a file without content for each object in a folder of a store, once in a process.

    Does nothing for a local folder.

    The modification times of these files depend on the content of the objects.

    Raises:
        InputError: the store cannot be read, or there is no such folder.
    """
    url = url_of(folder)
    if url is None or folder in _mirrored:
        return
    with store_errors(folder):
        found = store_of(folder).find(url, detail=True)
    if not found:
        raise InputError(f"{folder}: no such folder")
    shutil.rmtree(folder, ignore_errors=True)
    for name, info in found.items():
        path = path_in(folder, name)
        if path is not None and info.get("type") != "directory":
            mark = next((str(info[key]) for key in VERSIONS if info.get(key)), "")
            _empty[path] = int(info.get("size") or 0), zlib.crc32(mark.encode())
            put_empty(path)
    _mirrored.add(folder)


def put_empty(path: Path) -> None:
    """Create the file without content of an object; ``InputError`` if that is impossible."""
    size, number = _empty[path]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(size)
        os.utime(path, (number, number))
    except OSError as error:  # an object whose name is that of a folder, or too long
        raise InputError(f"{path}: cannot be listed: {error.strerror or error}") from error


@contextlib.contextmanager
def copied(files: Iterable[Path]) -> Iterator[None]:
    """Have copies of files in stores while the block runs. Does nothing about local files.

    Raises:
        InputError: a file cannot be read, or they do not fit into ``--scratch``.
    """
    remote = [path for path in dict.fromkeys(files) if url_of(path) is not None]
    try:
        if remote:
            fetch_all(remote)
            use(remote)
        yield
    finally:
        for path in remote:
            discard(path)
            if path in _empty:
                put_empty(path)
