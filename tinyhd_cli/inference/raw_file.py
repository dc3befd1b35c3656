"""Write arrays one after the other into a file without a header."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..atomic_files import cannot_write


class RawFile:
    """A file of the bytes of arrays, in the folder of a part, which is removed after an error.

    Args:
        path: the file.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("wb")
        except OSError as error:
            raise cannot_write(path, error) from error

    def append(self, values: NDArray[np.generic]) -> None:
        """Write the values of an array; ``OutputError`` if the disk is full."""
        try:
            self._file.write(np.ascontiguousarray(values).data)
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def close(self) -> None:
        """Complete the file."""
        try:
            self._file.close()
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def abort(self) -> None:
        """Close the file; it is removed with its folder."""
        with contextlib.suppress(OSError):
            self._file.close()
