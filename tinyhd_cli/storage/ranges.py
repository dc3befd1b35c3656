"""Read files in stores by ranges, as FFmpeg needs them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

from .addresses import url_of
from .copies import hold, is_used, release
from .stores import WEB, backend_of, scheme_of, store_errors, store_of

BLOCK_BYTES = 4 << 20
"""Bytes of one request; the next block is read ahead."""

MAX_BLOCKS = 8
"""Blocks that are kept: FFmpeg alternates between the places of audio and video in badly interleaved files."""


def open_file(path: Path) -> BinaryIO:
    """Open a file for reading, without a buffer: a local file, or ranges of one in a store.

    Raises:
        OSError: a local file cannot be opened.
        InputError: a file in a store cannot be read. Reading raises it, too.
    """
    url = url_of(path)
    if url is None or is_used(path):
        return path.open("rb", buffering=0)
    with store_errors(path):
        store = store_of(path)
        if scheme_of(path) == "memory":  # its file objects share one position
            return cast("BinaryIO", io.BytesIO(store.cat_file(url)))
        options = {"maxblocks": MAX_BLOCKS}
        file = store.open(url, "rb", block_size=BLOCK_BYTES, cache_type="background", cache_options=options)
        has_ranges = sends_ranges(path, file)
    if has_ranges:
        return cast("BinaryIO", RangeFile(path, file))
    file.close()
    return cast("BinaryIO", CopiedFile(path))


def sends_ranges(path: Path, file: Any) -> bool:
    """Return whether a file in a store can be read by ranges. Web servers need not say sizes or send ranges."""
    if file.size is None:
        return False
    if backend_of(path) is WEB and file.size > BLOCK_BYTES:  # a smaller file is read by one request
        try:
            file._fetch_range(file.size - 1, file.size)
        except ValueError:  # the answer is the whole file
            return False
    return True


def read_bytes(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: a local file cannot be read.
        InputError: a file in a store cannot be read.
    """
    url = url_of(path)
    if url is None or is_used(path):
        return path.read_bytes()
    with store_errors(path):
        return bytes(store_of(path).cat_file(url))


class RangeFile(io.RawIOBase):
    """A file in a store, read by ranges. Its errors are of one line.

    Args:
        path: the stand-in.
        file: fsspec's file.
    """

    def __init__(self, path: Path, file: Any) -> None:
        super().__init__()
        self._path, self._file = path, file
        self.name = path.name

    def _do(self, act: Callable[..., Any], *arguments: int) -> Any:
        with store_errors(self._path):
            return act(*arguments)

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes; empty at the end."""
        return cast("bytes", self._do(self._file.read, size))

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to another place."""
        return cast("int", self._do(self._file.seek, offset, whence))

    def tell(self) -> int:
        """Return the present place."""
        return cast("int", self._file.tell())

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Close the file, and stop reading ahead."""
        if not self.closed:
            self._file.close()
            close_cache = getattr(getattr(self._file, "cache", None), "close", None)
            if close_cache is not None:
                close_cache()
        super().close()


class CopiedFile(io.FileIO):
    """A temporary copy of a file in a store that cannot be read by ranges; closing the file removes the copy."""

    def __init__(self, path: Path) -> None:
        hold(path)
        self._copy: Path | None = path
        super().__init__(path, "rb")

    def close(self) -> None:
        """Close the file and remove the copy."""
        super().close()
        if self._copy is not None:
            release(self._copy)
            self._copy = None
