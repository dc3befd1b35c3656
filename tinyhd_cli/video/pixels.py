"""Resize and blend the pixels of frames in compiled code (``csrc/pixels.c``): each in one pass over memory.

The results are those of OpenCV, which is used without the compiled code.
"""

from __future__ import annotations

import ctypes
import functools
from ctypes import POINTER, c_float, c_int, c_int32, c_ssize_t, c_void_p
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..system import LIBRARY_SUFFIX

LIBRARY = Path(__file__).parent / "csrc" / f"_pixels{LIBRARY_SUFFIX}"
"""``pixels.c``, compiled by ``hatch_build.py``."""

VERSION = 1
"""Version of the arguments of the compiled functions; must match ``pixels.c``."""

Plane = NDArray[np.uint8]
"""One channel of an image, ``(h, w)``; consecutive pixels of a row are adjacent in memory."""


class CNeighbors(ctypes.Structure):
    """``neighbors`` of ``pixels.c``."""

    _fields_ = [("first", POINTER(c_int32)), ("second", POINTER(c_int32)), ("weights", POINTER(c_float))]


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the library of compiled functions; None if it is missing, or of another version of tinyhd."""
    try:
        found = ctypes.CDLL(str(LIBRARY))
        if c_int32.in_dll(found, "version").value != VERSION:
            return None
    except (OSError, ValueError):  # no such file; no such symbol
        return None
    image, neighbors = (c_void_p, c_ssize_t), (POINTER(CNeighbors), c_int)
    found.resize.argtypes = [*image, c_int, *neighbors, *neighbors, *(c_void_p,) * 4]
    found.blend.argtypes = [*image, *image, c_void_p, *image, c_int, c_int]
    found.resize.restype = found.blend.restype = None
    return found


def is_plain(image: NDArray[np.generic]) -> bool:
    """Return whether an array is an RGB image of 8 bits with adjacent pixels."""
    return image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.strides[1:] == (3, 1)


def resize_to_planes(
    image: NDArray[np.uint8], size: tuple[int, int], factors: NDArray[np.float32], shifts: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    """Resize an RGB image bilinearly, as ``cv2.resize`` does in float32, and normalize it.

    Args:
        image: uint8 RGB ``(h, w, 3)``.
        size: height and width of the result.
        factors: of each channel.
        shifts: of each channel, subtracted after the multiplication.

    Returns:
        float32 ``(3, *size)``; None without the compiled code, or if the memory layout of the image is another one.
    """
    functions = library()
    if functions is None or not is_plain(image):
        return None
    rows, columns = neighbors(image.shape[0], size[0], 1), neighbors(image.shape[1], size[1], 3)
    row, result = np.empty(3 * image.shape[1], np.float32), np.empty((3, *size), np.float32)
    source = image.ctypes.data, image.strides[0], image.shape[1]
    normalization = factors.ctypes.data, shifts.ctypes.data
    functions.resize(*source, rows, size[0], columns, size[1], *normalization, row.ctypes.data, result.ctypes.data)
    return result


@functools.lru_cache(64)
def neighbors(source: int, target: int, step: int) -> CNeighbors:
    """Return the two rows or columns that each one of a resized image is mixed from, as in OpenCV.

    Args:
        source: number of rows or columns of the image.
        target: that of the result.
        step: distance between neighbors in memory.
    """
    at = (np.arange(target) + 0.5) * (source / target) - 0.5
    first = np.clip(np.floor(at).astype(np.int32), 0, source - 1)
    weights = np.clip(at - first, 0, 1).astype(np.float32)
    weights[first == source - 1] = 0
    second = np.minimum(first + 1, source - 1)
    # ctypes objects keep the arrays that they are made of alive.
    return CNeighbors(
        np.ctypeslib.as_ctypes(step * first), np.ctypeslib.as_ctypes(step * second), np.ctypeslib.as_ctypes(weights)
    )


def blend(pixels: Plane, values: Plane, mixtures: NDArray[np.uint16], result: Plane) -> None:
    """Blend each pixel with the color of its value, rounded and at most 255.

    Args:
        pixels: a plane of a frame.
        values: a plane of the same size.
        mixtures: by value, see :func:`mixtures`.
        result: the blended plane, which is overwritten.
    """
    functions = library()
    if functions is None:
        kept = cv2.LUT(values, (mixtures & 255).astype(np.uint8))
        cv2.multiply(pixels, kept, dst=kept, scale=1 / 255)
        cv2.add(kept, cv2.LUT(values, (mixtures >> 8).astype(np.uint8)), dst=result)
        return
    planes = (part for plane in (pixels, values) for part in (plane.ctypes.data, plane.strides[0]))
    size = pixels.shape[1], pixels.shape[0]
    functions.blend(*planes, mixtures.ctypes.data, result.ctypes.data, result.strides[0], *size)


def mixtures(kept: NDArray[np.uint8], colors: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return how pixels are blended, by value.

    Args:
        kept: factor of the pixel, times 255, ``(256,)``.
        colors: color times its opacity, ``(256,)``.
    """
    return kept.astype(np.uint16) | (colors.astype(np.uint16) << np.uint16(8))
