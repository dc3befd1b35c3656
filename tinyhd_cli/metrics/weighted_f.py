"""The weighted F-measure of Margolin et al., How to Evaluate Foreground Maps?, CVPR 2014.

An error inside the mask counts less if the errors around it are smaller; an error outside counts more the farther it is
from the mask, up to twice.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..system import LIBRARY_SUFFIX
from .frame import EPS

RADIUS = 3
"""The Gaussian that averages errors covers 3 pixels to each side."""

SIGMA = 5.0
"""Standard deviation of that Gaussian, in pixels."""

KERNEL = cv2.getGaussianKernel(2 * RADIUS + 1, SIGMA, cv2.CV_32F)
"""The Gaussian in one dimension."""

HALF_WEIGHT = 5.0
"""Distance from the mask, in pixels, at which an error outside weighs 1.5; it weighs 1 at the mask and 2 far away."""

RATE = float(np.log(0.5) / HALF_WEIGHT)
"""Logarithm of the closeness at a distance of one pixel; the weight is 2 - closeness."""

FAR = int(24 * HALF_WEIGHT)
"""Distance from which the weight is 2 in the precision of float32; must match ``weighted_f.c``."""

PAD = 4
"""Maximum distance in each direction of the nearest pixel of the mask, for a pixel in reach of the Gaussian."""


def nearest_offsets() -> NDArray[np.int64]:
    """Return the offsets of a pixel's nearest pixel of the mask, by its squared distance: rows, columns ``(19, 8, 2)``.

    Of several nearest pixels, the library uses the leftmost, and the upper of those. Offsets are in that order, and the
    last one is repeated.
    """
    side = range(-PAD, PAD + 1)
    table = np.zeros((2 * RADIUS**2 + 1, 8, 2), np.int64)
    for squared in range(len(table)):
        found = [(row, column) for column in side for row in side if row**2 + column**2 == squared]
        if found:
            table[squared] = found + found[-1:] * (8 - len(found))
    return table


NEAREST = nearest_offsets()

LIBRARY = Path(__file__).parent / "csrc" / f"_weighted_f{LIBRARY_SUFFIX}"
"""``weighted_f.c``, compiled by ``hatch_build.py``; without it, OpenCV and NumPy compute the same, more slowly."""

VERSION = 2
"""Version of the arguments of the compiled function; must match ``weighted_f.c``."""

MAX_SIDE = 10_000
"""Longest side of a part of a frame that the compiled function processes; must match ``weighted_f.c``."""

MAX_ALARMS = 0.1
"""Fraction of a frame's pixels outside the mask with p > 0 above which OpenCV's distances of all pixels are faster."""

Box = tuple[slice, slice]
"""Rows and columns of a part of the frame."""


def weighted_f(
    prediction: NDArray[np.uint8], mask: NDArray[np.uint8], counts: NDArray[np.int64], levels: NDArray[np.float64]
) -> float:
    """Return the weighted F-measure with beta = 1, 0..1.

    Args:
        prediction: the map in 8 bits, ``(H, W)``.
        mask: the mask, 0 or 1, not empty, ``(H, W)``.
        counts: number of pixels of each 8-bit value outside and inside the mask, ``(256, 2)``.
        levels: p of each 8-bit value, ``(256,)``.
    """
    outside, inside = (float(total) for total in counts.T @ levels)
    area = int(counts[:, 1].sum())
    here, near = relevant_parts(prediction > int(levels.searchsorted(0.0)), mask)
    prediction, mask = (np.ascontiguousarray(one[here]) for one in (prediction, mask))
    p = levels.astype(np.float32)
    alarms = counts[int(levels.searchsorted(0.0)) + 1 :, 0].sum()
    if library() and alarms < MAX_ALARMS * counts.sum() and max(mask.shape) < MAX_SIDE:
        close, missed = compiled_sums(prediction, mask, p)
    else:
        squared = squared_distances(mask) if area < counts.sum() else None
        close = 0.0 if squared is None else sum_of_closeness(cv2.LUT(prediction, p), squared) - inside
        errors = cv2.LUT(prediction[near], 1 - p)
        missed = sum_of_errors(errors, mask[near], None if squared is None else squared[near])
    false_alarms = 2 * outside - close  # pixels that were left out have the weight 2, or p = 0
    recall, precision = 1 - missed / area, (area - missed) / (area - missed + false_alarms + EPS)
    return float(2 * recall * precision / (recall + precision + EPS))


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the compiled function's library; None if it is missing, or was compiled for another version of tinyhd."""
    try:
        found = ctypes.CDLL(str(LIBRARY))
        if ctypes.c_int32.in_dll(found, "version").value != VERSION:
            return None
    except (OSError, ValueError):  # no such file; no such symbol
        return None
    found.weighted_f_sums.argtypes = [
        *(np.ctypeslib.ndpointer(np.uint8, flags="C"),) * 2,
        *(ctypes.c_int,) * 2,
        *(np.ctypeslib.ndpointer(np.float32, flags="C"),) * 2,
        ctypes.c_float,
        *(ctypes.POINTER(ctypes.c_double),) * 2,
    ]
    return found


def compiled_sums(
    prediction: NDArray[np.uint8], mask: NDArray[np.uint8], levels: NDArray[np.float32]
) -> tuple[float, float]:
    """Return the sum of p times the closeness outside the mask, and :func:`sum_of_errors`.

    Raises:
        MemoryError: its arrays could not be allocated.
    """
    functions = library()
    assert functions is not None
    sums = ctypes.c_double(), ctypes.c_double()
    references = map(ctypes.byref, sums)
    if functions.weighted_f_sums(prediction, mask, *mask.shape, levels, KERNEL, RATE, *references):
        raise MemoryError(f"no memory for the distances in a mask of {mask.shape[1]} x {mask.shape[0]}")
    return sums[0].value, sums[1].value


def sum_of_closeness(p: NDArray[Any], squared: NDArray[np.float32]) -> float:
    """Return the sum of p times the closeness to the mask, which is 1 inside it.

    Args:
        p: ``(H, W)``.
        squared: squared distance of each pixel from the mask, ``(H, W)``.
    """
    closeness = np.exp(np.sqrt(squared) * np.float32(RATE))
    return float(cv2.sumElems(cv2.multiply(p, closeness))[0])


def squared_distances(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the square of each pixel's distance from the mask, in pixels: whole numbers, ``(H, W)``.

    The roots that OpenCV returns have rounding errors, which depend on the alignment of its memory.
    """
    distance = cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    squared = cv2.multiply(distance, distance, dst=distance)
    return np.rint(squared, out=squared)


def relevant_parts(positive: NDArray[np.bool_], mask: NDArray[np.uint8]) -> tuple[Box, Box]:
    """Return the part of the frame that affects the score, and in it the part in reach of the mask's errors.

    Outside the first part, the prediction is 0, or the weight of an error is 2.

    Args:
        positive: whether p is above 0, ``(H, W)``.
        mask: the mask, not empty, ``(H, W)``.
    """
    height, width = mask.shape
    x, y, w, h = cv2.boundingRect(mask)
    left, top, columns, rows = cv2.boundingRect(positive.view(np.uint8))

    def along(start: int, size: int, other: int, other_size: int, end: int) -> tuple[slice, slice]:
        low, high = max(start - RADIUS, 0), min(start + size + RADIUS, end)
        first = max(min(low, other), start - FAR, 0)
        last = min(max(high, other + other_size), start + size + FAR, end)
        return slice(first, last), slice(low - first, high - first)

    vertical, horizontal = along(y, h, top, rows, height), along(x, w, left, columns, width)
    return (vertical[0], horizontal[0]), (vertical[1], horizontal[1])


def sum_of_errors(errors: NDArray[Any], mask: NDArray[np.uint8], squared: NDArray[Any] | None) -> float:
    """Return the sum of errors inside the mask, each the smaller one of the error and the mean error around it.

    Args:
        errors: 1 - p, ``(h, w)``.
        mask: the mask with a margin of ``RADIUS`` within the frame, ``(h, w)``.
        squared: squared distance of each pixel from the mask, ``(h, w)``; None if the mask fills the frame.
    """
    if squared is not None:
        errors = extend(errors, mask, squared)
    mean = cv2.sepFilter2D(errors, cv2.CV_32F, KERNEL, KERNEL, borderType=cv2.BORDER_CONSTANT)
    smallest = cv2.min(errors, mean)
    return float(cv2.mean(smallest, mask)[0] * cv2.countNonZero(mask))


def extend(errors: NDArray[Any], mask: NDArray[np.uint8], squared: NDArray[Any]) -> NDArray[Any]:
    """Return errors whose values near the mask are those of the nearest pixel of the mask.

    Values farther away, which the Gaussian around a pixel of the mask does not reach, are not changed.
    """
    width = mask.shape[1]
    reached = cv2.dilate(mask, np.ones((2 * RADIUS + 1, 2 * RADIUS + 1), np.uint8))
    at = np.flatnonzero(reached != mask)
    away = squared.take(at).astype(np.int64)
    row, column = np.divmod(at, width)
    padded = cv2.copyMakeBorder(mask, PAD, PAD, PAD, PAD, cv2.BORDER_CONSTANT, value=0)
    around = (NEAREST @ (width + 2 * PAD, 1)).take(away, axis=0)
    around += ((row + PAD) * (width + 2 * PAD) + column + PAD)[:, None]
    first = padded.take(around).argmax(axis=1)
    nearest = at + (NEAREST @ (width, 1)).take(away * NEAREST.shape[1] + first)
    extended = errors.copy()
    extended.put(at, errors.take(nearest))
    return extended
