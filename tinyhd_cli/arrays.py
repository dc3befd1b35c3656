"""Read arrays from npy and npz files. Sizes are checked before memory is allocated; pickled objects are rejected."""

from __future__ import annotations

import contextlib
import lzma
import math
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

Array = NDArray[Any]

MAX_ITEM_BYTES = 1 << 31
"""Size limit of an array that is read at once, and of one item of an array that is read item by item."""

DAMAGED = (ValueError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError)
"""Exceptions that NumPy and zipfile raise for a damaged or encrypted file."""


@dataclass(frozen=True)
class StoredArray:
    """An array in an open file, of which only the header has been read."""

    name: str
    """Name of the file in messages."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    _file: IO[bytes]

    def read(self) -> Array:
        """Return the whole array; ``InputError`` if it is too large or truncated."""
        values = np.frombuffer(self._bytes(math.prod(self.shape)), self.dtype)
        return values.reshape(self.shape, order="F" if self.fortran_order else "C")

    def items(self) -> Iterator[Array]:
        """Yield the items along the first dimension without loading all of them; ``InputError`` as in :meth:`read`."""
        if self.fortran_order:
            yield from self.read()
            return
        for _ in range(self.shape[0]):
            yield self.item()

    def item(self) -> Array:
        """Return the next item; ``InputError`` as in :meth:`read`."""
        return np.frombuffer(self._bytes(math.prod(self.shape[1:])), self.dtype).reshape(self.shape[1:])

    def _bytes(self, count: int) -> bytes:
        size = count * self.dtype.itemsize
        if size > MAX_ITEM_BYTES:
            limit = f"the limit is {MAX_ITEM_BYTES >> 30} GiB"
            raise InputError(f"{self.name}: an array {self.dtype} {self.shape} is too large; {limit}")
        with input_errors(self.name):
            data = self._file.read(size)
        if len(data) < size:
            raise InputError(f"{self.name}: is truncated; copy or create it again")
        return data


@contextlib.contextmanager
def input_errors(name: str) -> Iterator[None]:
    """Convert the exceptions of NumPy and zipfile inside the block to ``InputError``."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror or error}") from error
    except DAMAGED as error:  # not NumPy's message, which recommends to allow pickled objects
        raise InputError(f"{name}: is not an {Path(name).suffix[1:]} file with a numeric array") from error


def read_header(name: str, file: IO[bytes], size: int) -> StoredArray:
    """Read the header of the array at the current position of a file.

    Args:
        name: name of the file in messages.
        file: a file that is open for reading.
        size: size of the file in bytes.

    Raises:
        InputError: it is not an array, or the file is shorter than the array.
    """
    with input_errors(name):
        try:
            if np.lib.format.read_magic(file) != (1, 0):  # other versions are for structured arrays
                raise ValueError
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
        except MemoryError as error:  # raised for thousands of nested brackets
            raise ValueError from error
        if dtype.hasobject or not dtype.itemsize or min(shape, default=1) < 0:
            raise ValueError
    if math.prod(shape) * dtype.itemsize > size:
        raise InputError(f"{name}: is too short for the array {dtype} {shape} in its header; copy or create it again")
    return StoredArray(name, shape, dtype, fortran_order, file)


@contextlib.contextmanager
def open_npy(path: Path) -> Iterator[StoredArray]:
    """Open the array of an npy file; ``InputError`` if it has none."""
    with contextlib.ExitStack() as stack:
        with input_errors(str(path)):
            file = stack.enter_context(path.open("rb"))
            size = path.stat().st_size
        yield read_header(str(path), file, size)


class Archive:
    """An open npz file, whose arrays are opened one at a time. Use it as a context manager.

    Attributes:
        path: the file.
        names: names of its arrays.

    Raises:
        InputError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with input_errors(str(path)):
            self._zip = zipfile.ZipFile(path)
        self.names = [name.removesuffix(".npy") for name in self._zip.namelist() if name.endswith(".npy")]

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *details: object) -> None:
        self._zip.close()

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[StoredArray]:
        """Open an array by its name; ``InputError`` if it is damaged."""
        with contextlib.ExitStack() as stack:
            with input_errors(str(self.path)):
                file = stack.enter_context(self._zip.open(f"{name}.npy"))
                size = self._zip.getinfo(f"{name}.npy").file_size
            yield read_header(str(self.path), file, size)
