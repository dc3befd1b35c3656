"""Write frames as image files: a single image, or one numbered or named image per frame."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
from numpy.typing import NDArray

from .. import storage
from ..atomic_files import cannot_write, make_parent, publish, remove, temporary_path
from ..errors import OutputError
from . import png
from .options import is_numbered, numbered
from .reader import Frame

DEFAULT_PATTERN = "%04d.png"
"""File names of the images of a video in a folder."""


PARAMETERS = {".webp": (cv2.IMWRITE_WEBP_QUALITY, 90)}
"""OpenCV's settings by suffix; the default of WebP is lossless, which takes ten times as long as PNG."""


def encode_image(image: NDArray[Any], suffix: str) -> bytes:
    """Encode an image, uint8 gray ``(h, w)``, RGB ``(h, w, 3)`` or RGBA ``(h, w, 4)``, in the format of a suffix."""
    return png.encode(image) if suffix == ".png" else png.by_opencv(image, suffix, PARAMETERS.get(suffix, ()))


class ImageWriter:
    """Writes the only frame of a source as an image file, which has a temporary name until :meth:`close`.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written = False
        make_parent(path)
        self._partial = temporary_path(path)

    def write(self, image: NDArray[Any], frame: Frame) -> None:
        """Write the image of a frame; ``OutputError`` for a second one."""
        if self._written:
            raise OutputError(f"{self.path}: one image cannot hold several frames; write a video or a folder")
        try:
            self._partial.write_bytes(encode_image(image, self.path.suffix.lower()))
        except OSError as error:
            raise cannot_write(self.path, error) from error
        except cv2.error as error:  # WebP, for example, has at most 16383 pixels per side
            height, width = image.shape[:2]
            raise OutputError(f"{self.path}: does not hold {width} x {height} pixels; write a .png") from error
        self._written = True

    def close(self) -> None:
        """Give the file its final name."""
        try:
            publish(self._partial, self.path)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        finally:
            self.abort()

    def abort(self) -> None:
        """Remove the temporary file."""
        remove(self._partial)


class ImageSequenceWriter:
    """Writes one PNG per frame.

    Images are collected in a hidden folder until :meth:`close`. Those of an earlier run are replaced; other files are
    kept.

    Args:
        path: a folder, or a file name with a placeholder for the number, such as ``cut_%05d.png``.
        names: file names in a folder by the frames' own files, if the source is a folder of images; other frames are
            numbered from 1.

    Raises:
        OutputError: the folder cannot be made.
    """

    def __init__(self, path: Path, names: Mapping[Path, str]) -> None:
        self.path = path
        self._in_folder = not is_numbered(path)
        self._folder, self._pattern = (path, DEFAULT_PATTERN) if self._in_folder else (path.parent, path.name)
        self._names = names if self._in_folder else {}
        self._count = 0
        self._without: list[str] = []
        self._partial = temporary_path(path)
        make_parent(path)
        try:
            self._partial.mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(path, error) from error

    def write(self, image: NDArray[Any], frame: Frame) -> None:
        """Write the image of a frame: gray, RGB or RGBA of 8 bits."""
        self.store(png.encode(image), frame)

    def store(self, content: bytes | None, frame: Frame) -> None:
        """Write the encoded image of a frame; with None, the frame has none, and one of an earlier run is removed."""
        self._count = frame.index + 1
        name = (self._names.get(frame.path) if frame.path else None) or numbered(self._pattern, self._count)
        if content is None:
            self._without.append(name)
            return
        try:
            (self._partial / name).write_bytes(content)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def adopt(self, files: Iterable[Path]) -> None:
        """Move images that another writer has numbered here; ``OutputError`` if that is impossible."""
        try:
            for file in files:
                shutil.move(file, self._partial / file.name)
                self._count += 1
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def close(self) -> None:
        """Move the images to their folder."""
        try:
            publish(self._partial, self._folder)
            for name in self._without:
                storage.remove(self._folder / name)
            # The images of a longer earlier run continue the numbering without a gap; other files are the user's.
            number = self._count + 1
            while not self._names and storage.is_file(left_over := self._folder / numbered(self._pattern, number)):
                storage.remove(left_over)
                number += 1
        except OSError as error:
            raise cannot_write(self.path, error) from error
        finally:
            self.abort()

    def abort(self) -> None:
        """Remove the temporary folder."""
        remove(self._partial)
