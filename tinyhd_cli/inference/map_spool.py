"""Store the saliency maps of a video on disk, because those of a long video do not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..atomic_files import cannot_write, make_parent, remove, temporary_path
from .windows import Map


class MapSpool:
    """Raw float32 maps in frame order, in a hidden file next to an output.

    Args:
        beside: the output.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, beside: Path) -> None:
        self._target = beside
        make_parent(beside)
        self.path = temporary_path(beside.with_name(f"{beside.name}.maps"))
        self.shape: tuple[int, int] = (0, 0)
        self.count = 0
        try:
            self._file = self.path.open("w+b")
        except OSError as error:
            raise cannot_write(beside, error) from error

    def append(self, saliency: Map) -> None:
        """Store one more map."""
        self.shape = (saliency.shape[0], saliency.shape[1])
        self.count += 1
        try:
            self._file.write(np.ascontiguousarray(saliency, "<f4").data)
        except OSError as error:
            raise cannot_write(self._target, error) from error

    def __iter__(self) -> Iterator[Map]:
        """Yield the stored maps, starting with the first."""
        self._file.flush()
        self._file.seek(0)
        size = self.shape[0] * self.shape[1] * 4
        while data := self._file.read(size):
            yield np.frombuffer(data, "<f4").reshape(self.shape)

    def discard(self) -> None:
        """Close and remove the file."""
        self._file.close()
        remove(self.path)
