"""Single files of a dataset: numbers in file names, images, density maps, fixation maps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import arrays, storage
from ..errors import InputError
from ..wording import plural
from .headers import PNG_START, claimed_size

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # decode() reports damaged files, in one line each

Image = NDArray[np.uint8]
Map = NDArray[Any]

OnDamage = Callable[[str], None]
"""Called with a message about each file that is skipped because it cannot be read."""

GRAYSCALE = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_GRAYSCALE
"""Flags to decode a map without loss of its bit depth."""

IMAGE_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg", ".webp")
"""Suffixes of image files, in order of preference if one frame has several files."""

FIXATION_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
"""Suffixes of fixation maps, in order of preference. JPEG is excluded, because it blurs the points."""

MAP_SUFFIXES = (*FIXATION_SUFFIXES, ".npy", ".jpg", ".jpeg")
"""Suffixes of density and predicted maps, in order of preference."""

VIDEO_SUFFIXES = frozenset(".3gp .avi .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split())
"""Suffixes of video files, compared in lower case: DHF1K has .AVI."""

NUMERIC_KINDS = "biuf"
"""NumPy dtype kinds that a map may have."""

MAX_PIXELS = 1 << 28
"""Limit on the pixels of an image; enough for 200-megapixel cameras."""

MAX_FILE_BYTES = 1 << 31
"""Size limit of an image file."""

PNG_END = b"IEND"
"""Name of the last chunk of a PNG file."""


def natural_key(text: str) -> tuple[tuple[int, str | int], ...]:
    """Return a sort key that compares runs of digits as numbers: shot_2 before shot_10, 999 before 1000."""
    parts = re.split(r"(\d+)", text)
    return tuple((1, int(part)) if part.isdecimal() else (0, part) for part in parts)


def last_number(stem: str) -> int | None:
    """Return the last number in a name: 3 in ``actioncliptest00001_00003``; None if the name has no number."""
    found = re.findall(r"[0-9]+", stem)
    return int(found[-1]) if found else None


def list_files(folder: Path | None, suffixes: Iterable[str]) -> Iterator[Path]:
    """Yield the files of a folder with one of ``suffixes``, except hidden ones, in any order; none without a folder."""
    if folder is None or not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file():
            yield path


def folders(parent: Path) -> Iterator[Path]:
    """Yield the folders in a folder, except hidden ones; none without a folder."""
    if parent.is_dir():
        yield from (path for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))


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


def sorted_files(folder: Path | None, suffixes: Sequence[str]) -> list[Path]:
    """Return the files of a folder with one of ``suffixes``, sorted by the order of suffixes, then by name."""
    return sorted(list_files(folder, suffixes), key=lambda path: (suffixes.index(path.suffix.lower()), path))


def files_by_number(folder: Path | None, suffixes: Sequence[str]) -> dict[int, Path]:
    """Return the files of a folder by number, see :func:`by_number`; ``check_dataset`` reports the ignored files."""
    return by_number(sorted_files(folder, suffixes))


def describe_unsupported(folder: Path | None, suffixes: Iterable[str]) -> str:
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
    """Decode an image file with OpenCV.

    Args:
        path: the file.
        flags: flags of ``cv2.imdecode``.

    Raises:
        InputError: the file is missing, empty, truncated, too large or not an image.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{path}: is larger than {MAX_FILE_BYTES >> 30} GiB, the limit for images")
        data = storage.read_bytes(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not data:
        raise InputError(f"{path}: is empty")
    if (size := claimed_size(data)) and size[0] * size[1] > MAX_PIXELS:
        raise InputError(f"{path}: claims {size[0]:,} x {size[1]:,} pixels; the limit is {MAX_PIXELS >> 20} megapixels")
    if data.startswith(PNG_START) and PNG_END not in data:
        # OpenCV fills the missing part with zeros and returns the image without an error.
        raise InputError(f"{path}: is truncated; copy or download it again")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise InputError(f"{path}: cannot be decoded ({error.err})") from error
    if image is None:
        raise InputError(f"{path}: is not an image that OpenCV can decode")
    return np.asarray(image)


def read_image(path: Path) -> Image:
    """Return an image, uint8 RGB ``(h, w, 3)``, rotated by its EXIF orientation.

    Raises:
        InputError: the file cannot be read.
    """
    return np.ascontiguousarray(decode(path, cv2.IMREAD_COLOR)[..., ::-1], dtype=np.uint8)


def read_map(path: Path) -> Map:
    """Return a grayscale image ``(h, w)`` with the values of the file; color images are converted to grayscale.

    Raises:
        InputError: the file cannot be read, or its values are not real numbers.
    """
    values = read_array(path) if path.suffix.lower() == ".npy" else decode(path, GRAYSCALE)
    if values.dtype.kind not in NUMERIC_KINDS:
        raise InputError(f"{path}: contains {values.dtype} values; maps must be numeric")
    return values


def read_array(path: Path) -> Map:
    """Return the map in an npy file; ``InputError`` if the file does not contain a single map."""
    with arrays.open_npy(path) as found:
        if len(found.shape) != 2 or not all(found.shape):
            raise InputError(f"{path}: must contain one map (height, width), not {found.dtype} {found.shape}")
        return found.read()
