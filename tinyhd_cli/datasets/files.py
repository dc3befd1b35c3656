"""Single files of a dataset: names with numbers in them, pictures, density maps, fixation maps."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

Image = NDArray[np.uint8]

PICTURES = frozenset(".bmp .jpeg .jpg .png .tif .tiff .webp".split())
"""What counts as a picture by its name."""

MAPS = frozenset([".png"])
"""Density and fixation maps. Pictures with losses would blur fixations, and DHF1K keeps other files beside them."""


def natural(text: str) -> tuple[tuple[int, str | int], ...]:
    """A sort key that takes runs of digits as numbers: shot_2 before shot_10, 999 before 1000."""
    parts = re.split(r"(\d+)", text)
    return tuple((1, int(part)) if part.isdecimal() else (0, part) for part in parts)


def last_number(stem: str) -> int | None:
    """The last number in a name: 3 of ``actioncliptest00001_00003``; None if there is none."""
    found = re.findall(r"[0-9]+", stem)
    return int(found[-1]) if found else None


def listed(folder: Path | None, suffixes: Iterable[str]) -> Iterator[Path]:
    """The visible files of a folder that have one of these suffixes, in any order; none if there is no such folder."""
    if folder is None or not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file():
            yield path


def by_number(paths: Iterable[Path]) -> dict[int, Path]:
    """Files or folders by the last number in their names, in numeric order.

    Those without a number are left out; of two with the same number the first by name counts.
    """
    found: dict[int, Path] = {}
    for path in sorted(paths):
        number = last_number(path.stem)
        if number is not None:
            found.setdefault(number, path)
    return dict(sorted(found.items()))


def numbered(folder: Path | None, suffixes: Iterable[str]) -> dict[int, Path]:
    """The files of a folder as :func:`by_number` has them; the doctor reports those that it leaves out."""
    return by_number(listed(folder, suffixes))


def decode(path: Path, flags: int) -> NDArray[Any]:
    """A picture file as OpenCV decodes it; ``InputError`` says in one line why it cannot be."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not data:
        raise InputError(f"{path}: is empty")
    if data.startswith(PNG_START) and PNG_END not in data:
        # OpenCV fills what is missing with zeros and returns the picture as if it were whole.
        raise InputError(f"{path}: breaks off before its end")
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise InputError(f"{path}: cannot be decoded ({error.err})") from error
    if picture is None:
        raise InputError(f"{path}: is no picture that OpenCV can decode")
    return np.asarray(picture)


PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND"


def read_image(path: Path) -> Image:
    """A picture, uint8 RGB ``(h, w, 3)``, upright by its EXIF orientation.

    Raises:
        InputError: it cannot be read.
    """
    return np.ascontiguousarray(decode(path, cv2.IMREAD_COLOR)[..., ::-1], dtype=np.uint8)


def read_map(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """A grey picture ``(h, w)`` with the values of the file, uint8 or uint16; colours are turned into grey.

    Raises:
        InputError: it cannot be read.
    """
    values = decode(path, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_GRAYSCALE)
    if values.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path}: holds {values.dtype} values, not 8 or 16 bits a pixel")
    return values


def read_density(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """A density map ``(h, w)``: fixations blurred by a Gaussian, in any scale.

    Raises:
        InputError: it cannot be read.
    """
    return read_map(path)


def read_fixation(path: Path) -> NDArray[np.bool_]:
    """A fixation map ``(h, w)``: True where at least one observer looked (any value but 0 in the file).

    Raises:
        InputError: it cannot be read.
    """
    fixation: NDArray[np.bool_] = read_map(path) > 0
    return fixation


OnDamage = Callable[[str], None]
"""Called with one line about each file that is passed over because it cannot be read."""
