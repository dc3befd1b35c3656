"""Resize, reduce and paint the pixels of frames in compiled code (``csrc/pixels.c``): each in one pass over memory.

The results are those of OpenCV, which is used without the compiled code.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from ctypes import POINTER, c_float, c_int, c_int32, c_int64, c_ssize_t, c_void_p
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..system import LIBRARY_SUFFIX
from .yuv import ToRgb

LIBRARY = Path(__file__).parent / "csrc" / f"_pixels{LIBRARY_SUFFIX}"
"""``pixels.c``, compiled by ``hatch_build.py``."""

VERSION = 4
"""Version of the arguments of the compiled functions; must match ``pixels.c``."""

Plane = NDArray[np.uint8]
"""One channel of an image, ``(h, w)``; consecutive pixels of a row are adjacent in memory."""


GAP = 64
"""Numbers between rows of the compiled code's memory; must match ``pixels.c``."""

CUBIC = -0.75
"""Parameter of bicubic interpolation, as in OpenCV."""

ONE = 1 << 14
"""Fixed-point weight of 1; must match ``pixels.c``."""


class CNeighbors(ctypes.Structure):
    """``neighbors`` of ``pixels.c``."""

    _fields_ = [("first", POINTER(c_int32)), ("second", POINTER(c_int32)), ("weights", POINTER(c_float))]


class CReduction(ctypes.Structure):
    """``reduction`` of ``pixels.c``."""

    _fields_ = [
        ("planes", c_void_p * 3),
        *((name, c_void_p) for name in ("result", "sums")),
        ("strides", c_int64 * 3),
        ("luma", c_float * 2),
        ("chroma", c_float * 4),
        *((name, c_int32) for name in ("factor", "width", "height")),
    ]


class CPainting(ctypes.Structure):
    """``painting`` of ``pixels.c``."""

    _fields_ = [
        *((name, c_void_p * 3) for name in ("planes", "results", "mixtures")),
        *((name, c_void_p) for name in ("map", "rows", "columns", "row_weights", "column_weights", "scratch")),
        *((name, c_int64 * 3) for name in ("strides", "result_strides")),
        *((name, c_int32) for name in ("map_width", "map_height", "width", "height")),
    ]


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
    found.reduce.argtypes, found.paint.argtypes = [POINTER(CReduction)], [POINTER(CPainting)]
    found.blend.argtypes = [*(c_void_p,) * 3, c_int, c_ssize_t, c_void_p]
    found.resize.restype = found.reduce.restype = found.paint.restype = found.blend.restype = None
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
    row, result = np.zeros(3 * image.shape[1] + 1, np.float32), np.empty((3, *size), np.float32)
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


def reduce_planes(planes: Sequence[Plane], factor: int, to_rgb: ToRgb) -> NDArray[np.uint8] | None:
    """Divide the sides of a frame by a factor, by averaging, and convert it to RGB.

    Args:
        planes: luma, and chroma of half its width and height; the sides of luma are multiples of 2 and ``factor``.
        factor: 2 to 256.
        to_rgb: the color encoding of the frame.

    Returns:
        uint8 RGB ``(h, w, 3)``; None without the compiled code.
    """
    functions = library()
    if functions is None:
        return None
    reduction, arrays = to_reduction(planes, factor, to_rgb)
    functions.reduce(ctypes.byref(reduction))
    return arrays[0]


def to_reduction(planes: Sequence[Plane], factor: int, to_rgb: ToRgb) -> tuple[CReduction, list[NDArray[Any]]]:
    """Return the C structure of the arguments of :func:`reduce_planes`, and the arrays: the result and the others."""
    height, width = (side // factor for side in planes[0].shape)
    result, sums = np.empty((height, width, 3), np.uint8), np.empty(6 * planes[0].shape[1], np.uint16)
    reduction = CReduction(luma=to_rgb.luma, chroma=to_rgb.chroma, factor=factor, width=width, height=height)
    reduction.result, reduction.sums = result.ctypes.data, sums.ctypes.data
    for number, plane in enumerate(planes):
        reduction.planes[number], reduction.strides[number] = plane.ctypes.data, plane.strides[0]
    return reduction, [result, sums, *planes]


def paint(planes: Sequence[Plane], values: Plane, mixtures: Sequence[NDArray[np.uint16]], results: list[Plane]) -> None:
    """Blend each pixel of a frame with the color of its value, rounded and at most 255.

    Args:
        planes: luma ``(h, w)`` with even sides, and chroma of half its width and height.
        values: at most as wide and as high as luma; enlarged by bicubic interpolation.
        mixtures: by value, of each plane; see :func:`mixtures`.
        results: the blended planes, which are overwritten.
    """
    functions = library()
    if functions is None:
        paint_by_opencv(planes, values, mixtures, results)
        return
    values = np.ascontiguousarray(values)
    painting, arrays = to_painting(planes, values, mixtures, results)
    functions.paint(ctypes.byref(painting))
    del arrays  # until here, they are in use


def to_painting(
    planes: Sequence[Plane], values: Plane, mixtures: Sequence[NDArray[np.uint16]], results: list[Plane]
) -> tuple[CPainting, list[NDArray[Any]]]:
    """Return the C structure of the arguments of :func:`paint`, and the arrays that it must not outlive."""
    height, width = planes[0].shape
    rows, row_weights = four_neighbors(values.shape[0], height)
    columns, pairs = four_neighbors(values.shape[1], width)[0], paired(values.shape[1], width)
    scratch = np.empty(values.shape[1] + 7 * width + 16 * GAP, np.int16)
    painting = CPainting(map_width=values.shape[1], map_height=values.shape[0], width=width, height=height)
    painting.map, painting.scratch = values.ctypes.data, scratch.ctypes.data
    painting.rows, painting.row_weights = rows.ctypes.data, row_weights.ctypes.data
    painting.columns, painting.column_weights = columns.ctypes.data, pairs.ctypes.data
    for number, (plane, result) in enumerate(zip(planes, results, strict=True)):
        painting.planes[number], painting.strides[number] = plane.ctypes.data, plane.strides[0]
        painting.results[number], painting.result_strides[number] = result.ctypes.data, result.strides[0]
        painting.mixtures[number] = mixtures[number].ctypes.data
    return painting, [*planes, values, *mixtures, *results, scratch, rows, row_weights, columns, pairs]


def paint_by_opencv(
    planes: Sequence[Plane], values: Plane, mixtures: Sequence[NDArray[np.uint16]], results: list[Plane]
) -> None:
    """Do the same as :func:`paint` in OpenCV."""
    large = cv2.resize(values, planes[0].shape[::-1], interpolation=cv2.INTER_CUBIC)
    for plane, mixture, result in zip(planes, mixtures, results, strict=True):
        level = (
            large if plane.shape == large.shape else cv2.resize(large, plane.shape[::-1], interpolation=cv2.INTER_AREA)
        )
        kept = cv2.LUT(level, (mixture & 255).astype(np.uint8))
        cv2.multiply(plane, kept, dst=kept, scale=1 / 255)
        cv2.add(kept, cv2.LUT(level, (mixture >> 8).astype(np.uint8)), dst=result)


@functools.lru_cache(64)
def four_neighbors(source: int, target: int) -> tuple[NDArray[np.int32], NDArray[np.int16]]:
    """Return how a row or column of a bicubically enlarged image is mixed from four of the image, as in OpenCV.

    Returns:
        The first of the four, ``(target,)``, which may be outside the image, and their weights times ``ONE``,
        ``(target, 4)``.
    """
    at = (np.arange(target) + 0.5) * (source / target) - 0.5
    first = np.floor(at)
    distance = np.abs((at - first)[:, np.newaxis] - np.arange(-1, 3))
    near = (CUBIC + 2) * distance**3 - (CUBIC + 3) * distance**2 + 1
    far = CUBIC * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    weights = np.round(ONE * np.where(distance <= 1, near, far)).astype(np.int16)
    weights[:, 1] += (ONE - weights.sum(axis=1)).astype(np.int16)
    return first.astype(np.int32) - 1, weights


@functools.lru_cache(64)
def paired(source: int, target: int) -> NDArray[np.int16]:
    """Return the weights of :func:`four_neighbors`: of the first two, then of the others, ``(2, target, 2)``."""
    weights = four_neighbors(source, target)[1]
    return np.ascontiguousarray(weights.reshape(target, 2, 2).transpose(1, 0, 2))


def mixtures(kept: NDArray[np.uint8], colors: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return how pixels are blended, by value.

    Args:
        kept: factor of the pixel, times 255, ``(256,)``.
        colors: color times its opacity, ``(256,)``.
    """
    return kept.astype(np.uint16) | (colors.astype(np.uint16) << np.uint16(8))


def blend(image: NDArray[np.uint8], values: Plane, kept: NDArray[np.uint8], colors: NDArray[np.uint8]) -> NDArray[Any]:
    """Return an RGB image with each pixel blended with the color of its value, rounded and at most 255.

    Args:
        image: uint8 ``(h, w, 3)``.
        values: ``(h, w)``.
        kept: factor of the pixel by value, times 255, ``(256,)``.
        colors: color by value, times its opacity, ``(256, 3)``.
    """
    functions = library()
    if functions is None or not is_plain(image):
        kept_part = cv2.multiply(image, cv2.applyColorMap(values, np.repeat(kept, 3).reshape(256, 1, 3)), scale=1 / 255)
        return cv2.add(kept_part, cv2.applyColorMap(values, colors.reshape(256, 1, 3))).astype(np.uint8, copy=False)
    image, values = np.ascontiguousarray(image), np.ascontiguousarray(values)
    mixtures, result = np.column_stack([kept, colors]), np.empty_like(image)
    changes = np.flatnonzero((mixtures != (255, 0, 0, 0)).any(axis=1))
    first = int(changes[0]) if changes.size else 255
    arrays = image.ctypes.data, values.ctypes.data, mixtures.ctypes.data
    functions.blend(*arrays, first, values.size, result.ctypes.data)
    return result
