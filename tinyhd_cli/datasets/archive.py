"""Unpack zip archives that are not trusted: no path leaves the folder, and no file is larger than declared."""

from __future__ import annotations

import re
import shutil
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..atomic_files import remove
from ..errors import InputError, OutputError, one_line
from ..wording import plural

MAX_RATIO = 200
"""Limit on the unpacked size of an archive relative to its packed size. Videos have 1, lists of fixations about 10."""

SLACK_BYTES = 1 << 20
"""Unpacked size that is always allowed."""

BLOCK_BYTES = 1 << 20
"""Bytes that are unpacked or hashed at once."""

RESERVED = frozenset([" ", "."])
"""Last characters of a name that Windows drops, so that two names would be one file."""

DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?", re.IGNORECASE)
"""Names that are devices on Windows, with any suffix."""

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Compression methods that are read; each other one is a decoder more to trust."""


@dataclass(frozen=True)
class Member:
    """A file in an archive."""

    path: str
    """Path below the folder of the dataset."""
    name: str
    """Name in the archive."""
    size: int
    """Declared size in bytes after unpacking."""
    crc: int
    """Declared CRC-32 of the content."""


def check_path(name: str) -> str:
    """Return a relative path with ``/`` unchanged, if it stays inside a folder on every system.

    Raises:
        InputError: it is absolute, or has ``..``, the colon of a drive, a backslash, a control character or the name of
            a device.
    """
    parts = name.split("/")
    if device := next((part for part in parts if DEVICE.fullmatch(part)), None):
        raise InputError(f"refused, because {device!r} is a device on Windows")
    inside = all(part not in ("", ".", "..") and part[-1] not in RESERVED for part in parts)
    if not inside or any(character in "\\:" or not character.isprintable() for character in name):
        raise InputError(f"refused, because the path {name!r} could lead out of its folder")
    return name


def list_members(archive: zipfile.ZipFile, folder: str) -> list[Member]:
    """Return the files of an archive, after checking all names and sizes; nothing has been unpacked.

    Args:
        archive: the archive.
        folder: folder for its files, if they are not all in a folder of that name inside the archive.

    Raises:
        InputError: a path leads out of the folder, an entry is a link, encrypted or of another compression method, two
            entries are the same file, or the files are much larger than the archive.
    """
    entries = []
    for info in archive.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise InputError(f"refused, because {info.filename!r} is a link or a device, not a file")
        if info.flag_bits & 1:
            raise InputError(f"refused, because {info.filename!r} is encrypted")
        if info.compress_type not in METHODS:
            raise InputError(f"refused, because {info.filename!r} is packed by another method than deflate")
        # The name as written, because zipfile cuts it at a NUL and replaces the separators of the system; and the name
        # that zipfile uses, because newer versions take it from another field of the entry.
        for name in (info.orig_filename or info.filename, info.filename):
            check_path(name.removesuffix("/"))
        if not info.is_dir():
            entries.append(info)
    inside = all(info.filename.startswith(f"{folder}/") for info in entries)
    members = [
        Member(info.filename if inside else f"{folder}/{info.filename}", info.filename, info.file_size, info.CRC)
        for info in entries
    ]
    check_collisions(check_path(member.path) for member in members)
    packed = sum(info.compress_size for info in entries)
    unpacked = sum(member.size for member in members)
    if unpacked > MAX_RATIO * packed + SLACK_BYTES:
        raise InputError(f"refused, because it would unpack to {unpacked:,} bytes from {packed:,}")
    return members


def check_collisions(paths: Iterable[str]) -> None:
    """Raise ``InputError`` if two paths are the same file on some system, or one is the folder of another.

    Some systems ignore case, and some the difference between a letter with an accent and the two characters for it.
    """
    seen: dict[str, str] = {}
    for path in paths:
        if (key := unicodedata.normalize("NFC", path).casefold()) in seen:
            raise InputError(f"refused, because {path!r} is in it twice")
        seen[key] = path
    for key, path in seen.items():
        for parent in PurePosixPath(key).parents:
            if str(parent) in seen:
                raise InputError(f"refused, because {seen[str(parent)]!r} is a file, and the folder of {path!r}")


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive; errors of the block that are about its content become an ``InputError`` of one line."""
    try:
        with open_zip(path) as archive:
            yield archive
    # RuntimeError: encrypted
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, UnicodeError) as error:
        raise damage(error) from error


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open an archive; positions outside of the file are damage, not a problem of the disk."""
    try:
        return zipfile.ZipFile(path)
    except OSError as error:
        raise damage(error) from error


def damage(error: Exception) -> InputError:
    """Return the error for an archive that cannot be read."""
    return InputError(f"is damaged ({one_line(error)})")


def blocks(archive: zipfile.ZipFile, member: Member) -> Iterator[bytes]:
    """Yield the content of a file in an archive; the last read checks the CRC. Errors of reading are damage."""
    try:
        with archive.open(member.name) as packed:
            while block := packed.read(BLOCK_BYTES):
                yield block
    except OSError as error:  # of reading only: those of the caller are not raised in a generator
        raise damage(error) from error


def unpack(
    archive: zipfile.ZipFile,
    members: Collection[Member],
    folder: Path,
    scratch: Path,
    on_bytes: Callable[[int], None] = lambda count: None,
) -> None:
    """Unpack files into a folder, each under a temporary name until it is complete; existing files are kept.

    Args:
        archive: the archive.
        members: files to unpack, from :func:`list_members`.
        folder: folder for the files.
        scratch: temporary path on the same disk.
        on_bytes: called with the number of bytes of each block that was written.

    Raises:
        InputError: the content of a file differs from its declared size or checksum.
        OutputError: the disk has not enough space for the declared sizes.
    """
    missing = [member for member in members if not is_complete(folder, member)]
    needed, free = sum(member.size for member in missing), shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f"{folder}: no space to unpack {plural(len(missing), 'file')}: {needed:,} bytes are needed, "
            f"{free:,} are free"
        )
    for member in missing:
        target = folder / member.path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            written = 0
            with scratch.open("wb") as output:
                for block in blocks(archive, member):
                    written += len(block)
                    if written > member.size:
                        break
                    output.write(block)
                    on_bytes(len(block))
            if written != member.size:
                raise InputError(f"is damaged ({member.name!r} has not the size that it declares)")
            scratch.replace(target)
        finally:
            remove(scratch)


def is_complete(folder: Path, member: Member) -> bool:
    """Return whether a file of an archive was unpacked into a folder; compares sizes."""
    path = folder / member.path
    return path.is_file() and path.stat().st_size == member.size
