"""Read numbers from MAT files of versions 5 to 7, bounds checked.

SciPy's reader ends the process with a segmentation fault for some damaged files, so untrusted ones are read here:
numbers, cells, structures and text; sparse arrays, objects and functions are left out.

Format: https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError

MAX_BYTES = 1 << 29
"""Size limit of a file, and of a variable after decompression."""

MAX_ITEMS = 1_000_000
"""Limit on the arrays in a file."""

MAX_NUMBERS = 1 << 26
"""Limit on the numbers in a file, which take 8 bytes each."""

MAX_FIELDS = 10_000
"""Limit on the fields of a structure."""

MAX_DEPTH = 16
"""Limit on the nesting of cells and structures."""

HEADER_BYTES = 128
SIGNATURES = (b"MATLAB 5.0", b"MATLAB 7.3")

NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""NumPy's types of numbers in elements."""

MATRIX, COMPRESSED = 14, 15
CELL, STRUCTURE = 1, 2
NUMERIC = range(6, 16)
"""Classes of arrays."""

COMPLEX = 0x800


class Damaged(Exception):
    """A file does not follow the format."""


class TooLarge(Exception):
    """The content of a file is larger than the limits."""


@dataclass
class Reader:
    """Position in the elements of a file or of an array."""

    data: memoryview
    order: str
    """``<`` or ``>``: order of bytes."""
    budget: list[int]
    """Arrays, and numbers in them, that may still be read; shared by all readers of a file."""
    position: int = 0

    def more(self) -> bool:
        """Return whether another element follows."""
        return self.position + 8 <= len(self.data)

    def element(self) -> tuple[int, memoryview]:
        """Return type and content of the next element."""
        start = self.position
        first = self.unpack("I", start)
        if first >> 16:  # up to four bytes inside the tag
            kind, size, start, step = first & 0xFFFF, first >> 16, start + 4, 8
            if size > 4:
                raise Damaged
        else:
            kind, size, start = first, self.unpack("I", start + 4), start + 8
            step = 8 + (size if kind == COMPRESSED else -(-size // 8) * 8)
        if start + size > len(self.data):
            raise Damaged
        self.position += step
        return kind, self.data[start : start + size]

    def unpack(self, kind: str, position: int) -> int:
        """Return one number at a position."""
        try:
            return int(struct.unpack_from(self.order + kind, self.data, position)[0])
        except struct.error as error:
            raise Damaged from error

    def numbers(self) -> np.ndarray[Any, Any]:
        """Return the numbers of the next element."""
        kind, content = self.element()
        if kind not in NUMBERS:
            raise Damaged
        dtype = np.dtype(self.order + NUMBERS[kind])
        return np.frombuffer(content[: len(content) // dtype.itemsize * dtype.itemsize], dtype)

    def inside(self, content: memoryview) -> Reader:
        """Return a reader of the elements in an element."""
        return Reader(content, self.order, self.budget)


def read_mat_file(path: Path) -> dict[str, Any]:
    """Return the variables of a MAT file: float64 arrays, lists (cells), dictionaries (structures), None for others.

    Raises:
        InputError: it is of version 7.3, damaged, or too large.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{path}: is larger than {MAX_BYTES >> 20} MiB")
    if data.startswith(b"MATLAB 7.3"):
        raise InputError(f"{path}: is a MAT file of version 7.3; save it with -v7 in MATLAB: save(NAME, '-v7')")
    try:
        return dict(variables(data))
    except TooLarge as error:
        raise InputError(f"{path}: has too much content; save the variables of the gaze alone") from error
    except (Damaged, zlib.error, ValueError) as error:
        raise InputError(f"{path}: is not a complete MAT file; copy or save it again") from error


def variables(data: bytes) -> Iterator[tuple[str, Any]]:
    """Yield name and value of the variables of a file; ``Damaged`` if it does not follow the format."""
    if len(data) < HEADER_BYTES or data[126:128] not in (b"IM", b"MI"):
        raise Damaged
    reader = Reader(memoryview(data)[HEADER_BYTES:], "<" if data[126:128] == b"IM" else ">", [MAX_ITEMS, MAX_NUMBERS])
    size = 0
    while reader.more():
        kind, content = reader.element()
        if kind == COMPRESSED:
            unpacker = zlib.decompressobj()
            plain = unpacker.decompress(content, MAX_BYTES - size)
            size += len(plain)
            if size >= MAX_BYTES:
                raise TooLarge
            if unpacker.unconsumed_tail or not unpacker.eof:
                raise Damaged
            kind, content = reader.inside(memoryview(plain)).element()
        if kind == MATRIX:
            yield array(reader.inside(content), 0)


def array(reader: Reader, depth: int) -> tuple[str, Any]:
    """Return name and value of an array; None for classes that are left out."""
    reader.budget[0] -= 1
    if depth > MAX_DEPTH or reader.budget[0] < 0:
        raise Damaged
    if not reader.more():  # an empty cell
        return "", np.zeros((0, 0))
    flags = reader.numbers()
    shape = tuple(int(side) for side in reader.numbers())
    if not len(flags) or len(shape) < 2 or min(shape) < 0:
        raise Damaged
    name = bytes(reader.element()[1]).decode("ascii", "replace")
    kind, count = int(flags[0]) & 0xFF, math.prod(shape)
    if kind == CELL:
        return name, [item(reader, depth) for _ in range(checked(count, reader))]
    if kind == STRUCTURE:
        return name, structure(reader, checked(count, reader), depth)
    if kind not in NUMERIC or int(flags[0]) & COMPLEX:
        return name, None
    values = reader.numbers()
    if len(values) != count:
        raise Damaged
    reader.budget[1] -= count
    if reader.budget[1] < 0:
        raise TooLarge
    return name, values.astype(np.float64).reshape(shape, order="F")


def checked(count: int, reader: Reader) -> int:
    """Return a number of arrays; ``Damaged`` if the rest of the file is too short for them."""
    if count > (len(reader.data) - reader.position) // 8:
        raise Damaged
    return count


def item(reader: Reader, depth: int) -> Any:
    """Return the value of the next array in a cell or structure."""
    kind, content = reader.element()
    if kind != MATRIX:
        raise Damaged
    return array(reader.inside(content), depth + 1)[1]


def structure(reader: Reader, count: int, depth: int) -> Any:
    """Return a structure as a dictionary, or several as a list."""
    lengths = reader.numbers()
    text = bytes(reader.element()[1])
    length = int(lengths[0]) if len(lengths) else 0
    if length < 1 or len(text) > length * MAX_FIELDS:
        raise Damaged
    names = [text[at : at + length].split(b"\0")[0].decode("ascii", "replace") for at in range(0, len(text), length)]
    rows = [{name: item(reader, depth) for name in names} for _ in range(count)]
    return rows[0] if count == 1 else rows
