"""Check quickly whether an existing file is a complete output: only a few bytes are read."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from . import storage
from .errors import OutputError

PNG_END = b"IEND\xaeB`\x82"
"""Last chunk of a PNG file, without its length."""

MATROSKA_SEGMENT = b"\x18\x53\x80\x67"
"""ID of the Matroska element that contains all others except the header."""

SEGMENT_WITHIN = 256
"""Maximum offset of the end of the segment's ID, in bytes."""

UNKNOWN_SIZE = (1 << 56) - 1
"""Size of a Matroska element that was not finished."""


def is_complete(path: Path) -> bool:
    """Return whether a file exists, is not empty and is not truncated.

    Truncation is checked for npz, png, json, csv, mp4, m4v, mov, avi, mkv and webm. In a store, nothing has a name
    before it is complete.

    Raises:
        OutputError: a store cannot be read.
    """
    if storage.url_of(path) is not None:
        return storage.is_file(path, OutputError)
    check = CHECKS.get(path.suffix.lower())
    try:
        if not path.is_file() or not (size := path.stat().st_size):
            return False
        with path.open("rb") as file:
            return check is None or check(file, size)
    except OSError:
        return False


def holds_complete(folder: Path, pattern: str) -> bool:
    """Return whether a folder contains files that match a pattern, and all of them are complete."""
    try:
        files = list(folder.glob(pattern))
    except OSError:
        return False
    return bool(files) and all(map(is_complete, files))


def ends_with(*endings: bytes) -> Callable[[BinaryIO, int], bool]:
    """Return a check that a file ends with one of ``endings``, ignoring trailing white space."""

    def check(file: BinaryIO, size: int) -> bool:
        file.seek(max(0, size - 64))
        return file.read().rstrip(b" \t").endswith(endings)

    return check


def mp4_boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    """Yield the type and end of each box of an MP4 file; the last end differs from ``size`` if it is truncated."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        header = file.read(16)
        length = int.from_bytes(header[:4])
        if length == 1:
            length = int.from_bytes(header[8:16])
        at = size if length == 0 else at + max(length, 8)
        yield header[4:8], at


def is_whole_mp4(file: BinaryIO, size: int) -> bool:
    """Return whether the boxes end at the end of the file and include the index (``moov``)."""
    kinds, ends = zip(*mp4_boxes(file, size), strict=True) if size >= 8 else ((), (0,))
    return b"moov" in kinds and ends[-1] == size


def is_whole_matroska(file: BinaryIO, size: int) -> bool:
    """Return whether the segment has a known size and ends within the file."""
    start = file.read(SEGMENT_WITHIN)
    at = start.find(MATROSKA_SEGMENT) + len(MATROSKA_SEGMENT)
    if at < len(MATROSKA_SEGMENT) or not start[at]:
        return False
    length = 9 - start[at].bit_length()  # length of the size field, given by its highest set bit
    segment = int.from_bytes(start[at : at + length]) & ((1 << 7 * length) - 1)
    return segment != UNKNOWN_SIZE and at + length + segment <= size


def is_whole_avi(file: BinaryIO, size: int) -> bool:
    """Return whether the first RIFF chunk has a size and ends within the file."""
    length = int.from_bytes(file.read(8)[4:], "little")
    return 0 < length <= size - 8


CHECKS: dict[str, Callable[[BinaryIO, int], bool]] = {
    ".npz": lambda file, size: zipfile.is_zipfile(file),
    ".png": ends_with(PNG_END),
    ".json": ends_with(b"}\n", b"]\n", b"}", b"]"),
    ".csv": ends_with(b"\n"),
    **dict.fromkeys((".mp4", ".m4v", ".mov"), is_whole_mp4),
    **dict.fromkeys((".mkv", ".webm"), is_whole_matroska),
    ".avi": is_whole_avi,
}
"""Check of each file suffix."""
