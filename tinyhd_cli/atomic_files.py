"""Write outputs that appear complete or not at all.

A file is written under a temporary name next to its target and then renamed. Symbolic links are kept and their targets
are replaced. A pipe, a device or ``/dev/stdout`` receives the complete content at the end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from . import storage
from .errors import OutputError
from .processes import has_ended, process_key

SWEEP_EVERY_S = 10.0
"""Minimum seconds between two searches of a folder for temporary files of killed processes."""

ABANDONED_S = 24 * 3600.0
"""Age in seconds at which a temporary file of another machine is considered abandoned: a live process writes to it."""

TEMPORARY = re.compile(
    r"\..*\.[0-9a-f]{8}\.(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-(?P<started>\d+)\.partial(\..*)?", re.DOTALL
)
"""Matches the names of temporary files."""

DESCRIPTOR = re.compile(r"/(?:dev|proc/self|proc/thread-self)/fd/(\d+)")
"""Matches the paths of this process's open files."""

MAX_LINKS = 40
"""Maximum length of a chain of symbolic links, as in Linux."""

_swept: dict[Path, float] = {}
"""Time of the last search of each folder."""


def temporary_path(path: Path) -> Path:
    """Return a hidden temporary path to write to; :func:`publish` renames it to ``path`` when it is complete.

    It is next to the target of ``path``, unless that is in a store; temporary files of killed processes there are
    removed. It keeps the suffix, because writers derive the format from it.

    Raises:
        OutputError: nothing can be written there.
    """
    special = is_special(path)
    elsewhere = special or storage.url_of(path) is not None
    if storage.url_of(path) is not None:
        target = storage.workplace(path)
        target.parent.mkdir(exist_ok=True)
    else:
        target = Path(tempfile.gettempdir()) / path.name if special else destination(path)
    sweep(target.parent)
    # Short, so that a long name does not exceed the limit for file names. The checksum distinguishes shortened names.
    stem = f".{target.stem[:24]}.{zlib.crc32(os.fsencode(path if elsewhere else target.name)):08x}"
    return target.with_name(f"{stem}.{'-'.join(map(str, process_key()))}.partial{target.suffix[:16]}")


def publish(temporary: Path, path: Path) -> None:
    """Move complete content to its destination: rename it, upload it, or copy it to a pipe, a device or an open file.

    The files of a folder replace files of the same names in an existing folder.

    Raises:
        OSError: the content cannot be moved.
        OutputError: it cannot be put into a store.
    """
    if storage.url_of(path) is not None:
        storage.publish(temporary, path)
        remove(temporary)
        return
    if is_special(path):
        copy_to_stream(temporary, path)
        remove(temporary)
        return
    target = destination(path)
    if temporary.is_dir() and target.is_dir():
        for file in temporary.iterdir():
            file.replace(target / file.name)
        temporary.rmdir()
        return
    try:
        temporary.replace(target)
    except OSError as error:
        # A file that is mounted into a container can be overwritten but not replaced.
        if error.errno not in (errno.EBUSY, errno.EXDEV) or not target.is_file():
            raise
        shutil.copyfile(temporary, target)
        remove(temporary)


def copy_to_stream(temporary: Path, path: Path) -> None:
    """Write the content of a file to a pipe, a device or an open file."""
    number = descriptor(path)
    if number is not None and sys.stdout is not None:
        sys.stdout.flush()  # earlier output must come first
    opened = path.open("wb") if number is None else os.fdopen(os.dup(number), "wb")
    with opened as output, temporary.open("rb") as content:
        shutil.copyfileobj(content, output)


def destination(path: Path) -> Path:
    """Return the file or folder that a path refers to through symbolic links; it need not exist."""
    try:
        with contextlib.suppress(FileNotFoundError):
            path.stat()
        return Path(os.path.realpath(path))
    except OSError as error:  # a loop of links, a name that is too long, a file instead of a folder
        raise cannot_write(path, error) from error


def is_special(path: Path) -> bool:
    """Return whether a path is a pipe, a device or an open file, not a file or folder, existing or not."""
    return descriptor(path) is not None or is_stream(path)


def is_stream(path: Path) -> bool:
    """Return whether a path exists and is neither a file nor a folder: a named pipe, a device or a socket."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def descriptor(path: Path) -> int | None:
    """Return the file descriptor that ``/dev/stdout``, ``/dev/fd/3`` or a link to one of them refers to; else None."""
    try:
        path = path.absolute()
        for _ in range(MAX_LINKS):
            if match := DESCRIPTOR.fullmatch(os.path.normpath(path)):
                return int(match[1])
            path = path.parent / path.readlink()
    except (OSError, ValueError):  # not a link
        pass
    return None


def sweep(folder: Path) -> None:
    """Remove the temporary files and folders of processes that have ended."""
    now = time.monotonic()
    if now - _swept.get(folder, -SWEEP_EVERY_S) < SWEEP_EVERY_S:
        return
    _swept[folder] = now
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if (match := TEMPORARY.fullmatch(entry.name)) and is_abandoned(entry, match):
                remove(Path(entry.path))


def is_abandoned(entry: os.DirEntry[str], name: re.Match[str]) -> bool:
    """Return whether the process that wrote a temporary file has ended."""
    if name["machine"] == process_key()[0]:
        return has_ended(int(name["pid"]), int(name["started"]))
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > ABANDONED_S


def file_name(text: str) -> str:
    """Return a text as a file name: without separators, and neither ``.`` nor ``..``."""
    name = re.sub(r"[/\\\0]" if os.sep == "\\" else r"[/\0]", "_", text)
    return name.replace(".", "_") if name in (".", "..") else name or "_"


def remove(path: Path) -> None:
    """Remove a file or folder if it exists; ignore errors."""
    with contextlib.suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def cannot_write(path: Path, error: OSError) -> OutputError:
    """Return the error for a path that cannot be written."""
    return OutputError(f"{path}: cannot be written: {error.strerror or error}")


def make_parent(path: Path) -> None:
    """Create the parent folder of an output; ``OutputError`` if that is impossible, or if its store is unusable."""
    storage.check_destination([path])
    if is_special(path) or storage.url_of(path) is not None:
        return
    try:
        destination(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; rename it to ``path`` at the end of the block, or remove it on an error.

    Raises:
        OutputError: an ``OSError`` was raised in the block or while renaming.
    """
    make_parent(path)
    temporary = temporary_path(path)
    try:
        yield temporary
        publish(temporary, path)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and descriptor(path) == 1:
            raise  # the reader of standard output has closed it, which is not an error
        raise cannot_write(path, error) from error
    finally:
        remove(temporary)
