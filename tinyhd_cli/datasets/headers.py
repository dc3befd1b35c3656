"""Read the image size from file headers before decoding: a few kilobytes can claim gigabytes of pixels."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

Size = tuple[int, int]
"""Width and height in pixels."""

PNG_START = b"\x89PNG\r\n\x1a\n"
"""Signature at the start of a PNG file."""

NO_FRAME = (0xC4, 0xC8, 0xCC)
"""JPEG markers from C0 to CF that are not frame headers."""

OS2_HEADER = 12
"""Bytes of the oldest BMP header."""

TIFF_WIDTH, TIFF_HEIGHT = 256, 257
"""TIFF tags of the image size."""

NETPBM = re.compile(rb"P[1-6](?:\s|#[^\n]*\n)+([0-9]{1,9})(?:\s|#[^\n]*\n)+([0-9]{1,9})\s")
"""Beginning of a PBM, PGM or PPM file: width and height, with comments before each."""

MAX_NETPBM_HEADER = 4096
"""Bytes in which the size of a netpbm file is sought."""


def claimed_size(data: bytes) -> Size | None:
    """Return the size that a PNG, JPEG, BMP, TIFF, WebP, PGM or PPM file claims; None for other and damaged files."""
    try:
        if data.startswith(PNG_START):
            return struct.unpack_from(">II", data, 16)
        if data.startswith(b"BM"):
            (header,) = struct.unpack_from("<I", data, 14)
            width, height = struct.unpack_from("<HH" if header == OS2_HEADER else "<ii", data, 18)
            return abs(width), abs(height)  # a negative height means that the top row is first
        if data.startswith(b"\xff\xd8"):
            return jpeg_size(data)
        if data[:4] in (b"II*\0", b"MM\0*"):
            return tiff_size(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return webp_size(data)
        if found := NETPBM.match(data[:MAX_NETPBM_HEADER]):
            return int(found[1]), int(found[2])
    except (struct.error, IndexError):
        pass
    return None


def jpeg_size(data: bytes) -> Size | None:
    """Return the size in a JPEG file's frame header."""
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in NO_FRAME:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


def tiff_size(data: bytes) -> Size | None:
    """Return the size in a TIFF file's first directory."""
    order = "<" if data.startswith(b"II") else ">"
    found = dict(tiff_numbers(data, order))
    return (found[TIFF_WIDTH], found[TIFF_HEIGHT]) if {TIFF_WIDTH, TIFF_HEIGHT} <= found.keys() else None


def tiff_numbers(data: bytes, order: str) -> Iterator[tuple[int, int]]:
    """Yield the tags of a TIFF file's first directory that have a single integer, with its value."""
    (directory,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, directory)
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack_from(f"{order}HHI", data, entry)
        if values == 1 and kind in (3, 4):  # 16 and 32 bits
            yield tag, struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", data, entry + 8)[0]


def webp_size(data: bytes) -> Size | None:
    """Return the size in a WebP file's first chunk: lossy, lossless or extended."""
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    return None
