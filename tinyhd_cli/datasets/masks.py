"""Masks of objects: files with one or several objects, in black and white, 0 and 1, gray levels, or colors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import storage
from ..errors import InputError
from .headers import PNG_START
from .images import FIXATION_SUFFIXES, decode

log = logging.getLogger("tinyhd")

Mask = NDArray[np.bool_]

Color = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

LOSSY_SUFFIXES = (".jpg", ".jpeg")
"""Suffixes of files in which black is not exact, so that colors are thresholded, too."""

MASK_SUFFIXES = (*FIXATION_SUFFIXES, ".pgm", ".ppm", *LOSSY_SUFFIXES)
"""Suffixes of masks, in order of preference."""

WHITE = (1, 255, 65535)
"""Levels that may stand for an object; the largest level of a file says which."""

WITH_COLORS = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR
"""Flags to decode a mask: palettes become colors, grayscale remains grayscale, transparency is dropped."""

PNG_COLOR_TYPE = 25
"""Position of a PNG file's color type."""

PALETTE = 3
"""Color type of a PNG file with a palette."""

warned: set[Path] = set()
"""Folders with a mask that is not binary, of which one has been named in a warning."""


@dataclass(frozen=True)
class MaskFiles:
    """The files of one frame's mask."""

    paths: tuple[Path, ...]
    """One file, or one for each object."""
    colors: tuple[Color, ...] = ()
    """Colors of the objects, if the dataset defines them; see ``load_mask`` for other datasets."""


def warn_once(path: Path) -> None:
    """Log a warning about a file that is not binary, if it is the first one of its folder."""
    if path.parent not in warned:
        warned.add(path.parent)
        log.warning("%s: is not a binary mask; levels above half of white count as object", path)


def read_mask(
    files: MaskFiles | Path, shape: tuple[int, int] | None = None, on_gray: Callable[[Path], None] = warn_once
) -> Mask:
    """Return a frame's mask ``(h, w)``, True on objects. The objects of several files are united.

    Args:
        files: the mask's files, as in ``FrameFiles.mask``.
        shape: height and width of the frame; None to accept any size.
        on_gray: called with each file that is not binary.

    Raises:
        InputError: a file cannot be read, or differs in size from the frame or from the other files.
    """
    files = MaskFiles((files,)) if isinstance(files, Path) else files
    united: Mask | None = None
    for path in files.paths:
        mask, binary = load_mask(path, files.colors)
        if not binary:
            on_gray(path)
        expected = shape if united is None else united.shape
        if expected is not None and mask.shape != expected:
            (height, width), (rows, columns) = mask.shape, expected
            other = "the frame" if united is None else "the mask of another object"
            raise InputError(f"{path}: is {width} x {height}, but {other} is {columns} x {rows}; masks are not resized")
        united = mask if united is None else united | mask
    if united is None:
        raise ValueError("a mask needs at least one file")
    return united


def load_mask(path: Path, colors: Collection[Color] = ()) -> tuple[Mask, bool]:
    """Return the mask in a file, and whether the file is binary.

    In colored files, as in files with a palette, every color but black is an object. In gray files, an object is above
    127 of 255, or 1 where 1 is the largest level.

    Args:
        path: the file.
        colors: the colors of objects; empty for the rules above.

    Raises:
        InputError: the file cannot be read, or contains NaN or infinity.
    """
    if colors:
        rgb = decode(path, cv2.IMREAD_COLOR)[..., ::-1].astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
        return np.isin(rgb, [red << 16 | green << 8 | blue for red, green, blue in colors]), True
    values = decode(path, WITH_COLORS)
    if values.ndim == 2:
        return threshold(values, path)
    blue, green, red = cv2.split(values[..., :3])
    colored = not (np.array_equal(blue, green) and np.array_equal(green, red))
    brightest = cv2.max(cv2.max(blue, green), red)
    if (colored and path.suffix.lower() not in LOSSY_SUFFIXES) or has_palette(path):
        return brightest > 0, True
    return threshold(brightest, path)


def threshold(values: NDArray[Any], path: Path) -> tuple[Mask, bool]:
    """Return the mask in gray levels ``(h, w)``, and whether it has no other levels than black and white."""
    whole = values.dtype.kind in "iu"
    if not whole and not np.isfinite(values).all():
        raise InputError(f"{path}: contains NaN or infinity")
    largest = float(values.max())
    white = next((level for level in WHITE if largest <= level), largest)
    background = white * 127 / 255
    mask: Mask = values > (int(background) if whole else background)
    return mask, np.count_nonzero(values) == np.count_nonzero(values == white)


def has_palette(path: Path) -> bool:
    """Return whether a file is a PNG with a palette, as in DAVIS 2017: one color for each object."""
    with storage.open_file(path) as file:
        start = file.read(PNG_COLOR_TYPE + 1)
    return start.startswith(PNG_START) and len(start) > PNG_COLOR_TYPE and start[PNG_COLOR_TYPE] == PALETTE
