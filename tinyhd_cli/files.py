"""Outputs that exist whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

from .errors import OutputError


def partial(path: Path) -> Path:
    """A hidden name beside ``path`` to write to until the content is complete. The suffix stays: it tells formats."""
    path = path.absolute()
    # Short, because a name that is just short enough must not become too long; the checksum keeps it apart from others.
    stem = f".{path.stem[:24]}.{zlib.crc32(os.fsencode(path.name)):08x}.{os.getpid()}.partial"
    return path.with_name(f"{stem}{path.suffix[:16]}")


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def cannot_write(path: Path, error: OSError) -> OutputError:
    """The error to raise when ``path`` could not be written."""
    return OutputError(f"{path}: cannot be written: {error.strerror or error}")


def make_parent(path: Path) -> None:
    """Make the folder that ``path`` will be written in; ``OutputError`` where that is impossible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name to write to; it gets the final one if the block ends well and is removed otherwise.

    Raises:
        OutputError: an ``OSError`` came up while writing.
    """
    make_parent(path)
    temporary = partial(path)
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        remove(temporary)
