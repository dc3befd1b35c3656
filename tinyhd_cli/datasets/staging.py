"""The hidden folder of an unfinished download: its files, its lock and its end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..atomic_files import cannot_write, remove
from ..errors import UsageError
from .damage import read_damaged
from .manifest import MANIFEST, HubFile


@dataclass(frozen=True)
class Staging:
    """The hidden folder of an unfinished download of the dataset in ``folder``."""

    folder: Path

    @property
    def root(self) -> Path:
        """The hidden folder, on the same disk: beside the folder, or in it if that is impossible."""
        inside = self.folder.is_dir() and (os.path.ismount(self.folder) or not os.access(self.folder.parent, os.W_OK))
        return (self.folder if inside else self.folder.parent) / f".{self.folder.name}.download"

    @property
    def files(self) -> Path:
        """Verified files, at their final relative paths."""
        return self.root / "files"

    @property
    def later(self) -> Path:
        """Files that are not published with the others; moved back into ``files`` at the end."""
        return self.root / "later"

    @property
    def lock(self) -> Path:
        """The file that is locked by the process that works in the hidden folder."""
        return self.root / "lock"

    @cached_property
    def damaged(self) -> frozenset[str]:
        """Paths of the published files that a check found damaged."""
        return read_damaged(self.folder)

    def part(self, file: HubFile) -> Path:
        """Return the path of a file that is being fetched."""
        return self.root / "parts" / file.digest

    def fetched(self, file: HubFile) -> int:
        """Return the number of bytes of a file that were fetched."""
        part = self.part(file)
        return min(part.stat().st_size, file.size) if part.is_file() else 0

    def has(self, path: str, size: int) -> bool:
        """Return whether a file of this size is there, published or not, and not found damaged."""
        return any(found.is_file() and found.stat().st_size == size for found in self.places(path))

    def places(self, path: str) -> list[Path]:
        """Return where an intact file may be: in the folder, unless it was found damaged there, and in ``files``."""
        return [*([] if path in self.damaged else [self.folder / path]), self.files / path]


@contextmanager
def locked(staging: Staging, name: str) -> Iterator[None]:
    """Create the hidden folder, and let only one process work in it.

    Raises:
        UsageError: another process does.
        OutputError: it cannot be created.
    """
    from filelock import FileLock, Timeout

    try:
        staging.root.mkdir(parents=True, exist_ok=True)
        with FileLock(staging.lock, timeout=0):
            for folder in (staging.files, staging.root / "parts"):
                folder.mkdir(parents=True, exist_ok=True)
            if staging.later.exists():  # the process was killed while it published other files
                merge(staging.later, staging.files)
            yield
            if is_done := not staging.files.exists():
                clear(staging)
        if is_done and os.name == "nt":  # a locked file cannot be removed there
            remove_lock(staging)
    except Timeout:
        raise UsageError(f"another process is downloading {name} to {staging.folder}; wait for it") from None
    except OSError as error:
        raise cannot_write(Path(error.filename or staging.root), error) from error


def clear(staging: Staging) -> None:
    """Remove the hidden folder while it is locked, the lock last: then another process may create both again."""
    for path in staging.root.iterdir():
        if path != staging.lock:
            remove(path)
    if os.name != "nt":
        remove_lock(staging)


def remove_lock(staging: Staging) -> None:
    """Remove the lock and the hidden folder, unless another process has just begun to use it."""
    with suppress(OSError):
        staging.lock.unlink()
        staging.root.rmdir()


def files_below(folder: Path) -> list[str]:
    """Return the relative paths of all files below a folder, the record last: it says what is there."""
    found = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return sorted(found, key=lambda path: path == MANIFEST)


def move(path: Path, target: Path) -> None:
    """Move a file, and create the folders above its new path."""
    target.parent.mkdir(parents=True, exist_ok=True)
    path.replace(target)


def merge(folder: Path, other: Path) -> None:
    """Move the files of a folder into another one, and remove the folder."""
    for path in files_below(folder):
        move(folder / path, other / path)
    shutil.rmtree(folder)
