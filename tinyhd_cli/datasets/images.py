"""Single files of a dataset: names with numbers in them, pictures, density maps, fixation maps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import arrays
from ..errors import InputError
from ..wording import plural
from .headers import PNG_START, claimed_size

Image = NDArray[np.uint8]
Map = NDArray[Any]

ANY_GRAY = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_GRAYSCALE

PICTURES = (".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg", ".webp")
"""Suffixes of image files, in order of preference if one frame has several files."""

FIXATIONS = (".png", ".bmp", ".tif", ".tiff")
"""Suffixes of fixation maps, in order of preference. JPEG is excluded, because it blurs the points."""

MAPS = (*FIXATIONS, ".npy", ".jpg", ".jpeg")
"""Suffixes of density and predicted maps, in order of preference."""

NUMBERS = "biuf"
"""NumPy dtype kinds that a map may have."""

MAX_PIXELS = 1 << 28
"""Limit on the pixels of an image; enough for cameras of 200 megapixels."""

MAX_FILE_BYTES = 1 << 31
"""Size limit of an image file."""


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
    """Return files or folders by the last number in their names, in numeric order.

    Names without a number are ignored; of two with the same number, the first is used.
    """
    found: dict[int, Path] = {}
    for path in paths:
        number = last_number(path.stem)
        if number is not None:
            found.setdefault(number, path)
    return dict(sorted(found.items()))


def preferred(folder: Path | None, suffixes: Sequence[str]) -> list[Path]:
    """Return the files of a folder with one of ``suffixes``, sorted by the order of suffixes, then by name."""
    return sorted(listed(folder, suffixes), key=lambda path: (suffixes.index(path.suffix.lower()), path))


def numbered(folder: Path | None, suffixes: Sequence[str]) -> dict[int, Path]:
    """Return the files of a folder by number, see :func:`by_number`; the doctor reports the files that it ignores."""
    return by_number(preferred(folder, suffixes))


def unread(folder: Path | None, suffixes: Iterable[str]) -> str:
    """Describe the files of a folder with other suffixes, as in ``12 .mat files``; empty if there are none."""
    if folder is None or not folder.is_dir():
        return ""
    kinds = Counter(
        path.suffix.lower()
        for path in folder.iterdir()
        if path.suffix.lower() not in suffixes and not path.name.startswith(".") and path.is_file()
    )
    return ", ".join(
        plural(count, f"{kind} file") if kind else plural(count, "file without suffix", "files without suffix")
        for kind, count in kinds.most_common(3)
    )


def decode(path: Path, flags: int) -> NDArray[Any]:
    """A picture file as OpenCV decodes it; ``InputError`` says in one line why it cannot be."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{path}: is larger than {MAX_FILE_BYTES >> 30} GiB, the limit for images")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not data:
        raise InputError(f"{path}: is empty")
    if (size := claimed_size(data)) and size[0] * size[1] > MAX_PIXELS:
        raise InputError(f"{path}: claims {size[0]:,} x {size[1]:,} pixels; the limit is {MAX_PIXELS >> 20} megapixels")
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


PNG_END = b"IEND"


def read_image(path: Path) -> Image:
    """A picture, uint8 RGB ``(h, w, 3)``, upright by its EXIF orientation.

    Raises:
        InputError: it cannot be read.
    """
    return np.ascontiguousarray(decode(path, cv2.IMREAD_COLOR)[..., ::-1], dtype=np.uint8)


def read_map(path: Path) -> Map:
    """Return a gray image ``(h, w)`` with the values of the file; color images are converted to gray.

    Raises:
        InputError: it cannot be read, or its values are not real numbers.
    """
    values = read_array(path) if path.suffix.lower() == ".npy" else decode(path, ANY_GRAY)
    if values.dtype.kind not in NUMBERS:
        raise InputError(f"{path}: contains {values.dtype} values; maps must be numeric")
    return values


def read_array(path: Path) -> Map:
    """Return the map in an npy file; ``InputError`` if it contains none."""
    with arrays.open_npy(path) as found:
        if len(found.shape) != 2 or not all(found.shape):
            raise InputError(f"{path}: must contain one map (height, width), not {found.dtype} {found.shape}")
        return found.read()


def read_density(path: Path) -> Map:
    """Return a density map ``(h, w)``: fixations blurred by a Gaussian, in any scale.

    Raises:
        InputError: it cannot be read.
    """
    density = read_map(path)
    if density.dtype.kind == "f" and not np.isfinite(density).all():
        raise InputError(f"{path}: contains NaN or infinity")
    return density


def read_fixation(path: Path) -> NDArray[np.bool_]:
    """A fixation map ``(h, w)``: True where at least one observer looked (any value but 0 in the file).

    Raises:
        InputError: it cannot be read.
    """
    fixation: NDArray[np.bool_] = read_map(path) > 0
    return fixation


OnDamage = Callable[[str], None]
"""Called with one line about each file that is passed over because it cannot be read."""
