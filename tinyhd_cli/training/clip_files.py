"""Files of a decoded video: raw arrays, or each image compressed, in about a fifth to an eighth of the space.

Raw: ``KIND.u8``, (frames, H, W) or (frames, H, W, 3). Compressed: ``KIND.images``, JPEG images (frames) or PNG images
(ground truth) one after the other, and ``KIND.ends``, the position of the end of each, uint64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

Array = NDArray[np.uint8]

FRAMES = "frames"
"""The kind of file that contains the RGB frames; all other kinds are grayscale maps."""

JPEG = (
    *(cv2.IMWRITE_JPEG_QUALITY, 95),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
)
"""Settings of frames: a mean error of 1 level in 255, and small colored objects keep their color."""

PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)
"""Settings of maps. They are lossless, because small errors in the many zeros of a density map would add up."""


class Images(Protocol):
    """The images of a file, by number: uint8 ``(H, W)`` or ``(H, W, 3)``."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int | NDArray[np.int64]) -> Array:
        """Return an image, or those with some numbers, stacked."""
        ...


class CompressedImages:
    """The images of a compressed file.

    Args:
        folder: folder of the video.
        kind: ``frames``, or a kind of ground truth.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.path, self.color = folder / f"{kind}.images", kind == FRAMES
        self.data = np.memmap(self.path, np.uint8, "r")
        self.ends = read_ends(folder, kind)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int | NDArray[np.int64]) -> Array:
        """Return an image, or those with some numbers, stacked; ``InputError`` if one is damaged."""
        if isinstance(index, int | np.integer):
            return self.image(range(len(self))[index])
        return np.stack([self.image(number) for number in index.tolist()])

    def image(self, number: int) -> Array:
        """Return an image."""
        start = int(self.ends[number - 1]) if number else 0
        data = self.data[start : int(self.ends[number])]
        image = cv2.imdecode(data, cv2.IMREAD_COLOR if self.color else cv2.IMREAD_GRAYSCALE) if len(data) else None
        if image is None:
            raise InputError(f"{self.path.parent}: image {number + 1} is damaged; remove this folder of the cache")
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if self.color else image, np.uint8)


def read_ends(folder: Path, kind: str) -> NDArray[np.uint64]:
    """Return the position of the end of each image in a compressed file."""
    return np.fromfile(folder / f"{kind}.ends", np.uint64)


def open_images(folder: Path, kind: str, shape: tuple[int, ...], *, compressed: bool) -> Images:
    """Return the images of a kind.

    Args:
        folder: folder of the video.
        kind: ``frames``, or a kind of ground truth.
        shape: number of images, height and width, and 3 for color.
        compressed: whether they are compressed.
    """
    return (
        CompressedImages(folder, kind) if compressed else np.memmap(folder / f"{kind}.u8", np.uint8, "r", shape=shape)
    )


def is_whole(folder: Path, kind: str, shape: tuple[int, ...], *, compressed: bool) -> bool:
    """Return whether a file contains all images that it should; the arguments are those of :func:`open_images`.

    Raises:
        OSError: there is no such file.
    """
    if not compressed:
        return (folder / f"{kind}.u8").stat().st_size == math.prod(shape)
    ends = read_ends(folder, kind)
    return len(ends) == shape[0] > 0 and (folder / f"{kind}.images").stat().st_size == ends[-1]


class Writer:
    """Writes the images of a kind one by one."""

    def __init__(self, file: IO[bytes], ends: IO[bytes] | None) -> None:
        self.file, self.ends = file, ends

    def write(self, image: Array) -> None:
        """Append an image, which is compressed if there is a file for its end."""
        if self.ends is None:
            self.file.write(image.tobytes())
            return
        if image.ndim == 3:
            _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), JPEG)
        else:
            _, data = cv2.imencode(".png", image, PNG)
        self.file.write(data.tobytes())
        self.ends.write(np.uint64(self.file.tell()).tobytes())


@contextmanager
def writers(folder: Path, kinds: list[str], *, compressed: bool) -> Iterator[dict[str, Writer]]:
    """Open the files of some kinds for writing while the block runs."""
    with ExitStack() as stack:
        yield {
            kind: Writer(
                stack.enter_context((folder / f"{kind}.{'images' if compressed else 'u8'}").open("wb")),
                stack.enter_context((folder / f"{kind}.ends").open("wb")) if compressed else None,
            )
            for kind in kinds
        }
