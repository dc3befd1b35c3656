"""Preprocess decoded frames for a network. Prediction, live, evaluation, export and training all use these functions.

Large frames are first averaged down (by FFmpeg's scaler, together with the conversion to RGB), then resized to
the network's input and normalized.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from ..models import ModelSpec, Preprocess
from ..video import pixels

if TYPE_CHECKING:
    from ..video.reader import Frame

Image = NDArray[np.uint8]
"""RGB ``(h, w, 3)``."""

Pixels = NDArray[np.float32]
"""A preprocessed frame ``(3, H, W)``, or a clip ``(3, T, H, W)``."""

DIRECT = 1.5**2
"""Frames of up to this many times ``Preprocess.reduce_above`` pixels are resized in one step, as in the original."""

INTERPOLATION = {"bilinear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA, "bicubic": cv2.INTER_CUBIC}


def reduction(preprocess: Preprocess, width: int, height: int) -> float:
    """Return the factor by which both sides of a frame are divided before the resize; 1 for most frames."""
    limit, pixels = preprocess.reduce_above, width * height
    return math.sqrt(pixels / limit) if limit and pixels > DIRECT * limit else 1.0


def reduced(frame: Frame, preprocess: Preprocess) -> Image:
    """Return a frame in RGB, averaged down if it is large."""
    return frame.reduced_rgb(reduction(preprocess, frame.info.width, frame.info.height))


def reduced_image(image: Image, preprocess: Preprocess) -> Image:
    """Return an image averaged down as :func:`reduced` does with a frame."""
    from ..video.reader import scale_rgb

    return scale_rgb(image, reduction(preprocess, image.shape[1], image.shape[0]))


def resized(image: Image, preprocess: Preprocess, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return a reduced frame resized to ``size`` (height, width), float32 ``(H, W, 3)`` in 0..255."""
    if preprocess.resize == "bilinear" and image.shape[0] > 2 * size[0] and has_exact_weights(size):
        return bilinear_of_rows(image, size)
    how = INTERPOLATION[preprocess.resize]
    return np.asarray(cv2.resize(image.astype(np.float32), size[::-1], interpolation=how), dtype=np.float32)


def has_exact_weights(size: tuple[int, int]) -> bool:
    """Return whether bilinear interpolation to a size is exact in float32, in any order of the operations.

    If both sides are powers of two, the weights are multiples of 1 / (2 height) and 1 / (2 width). The product with an
    8-bit pixel then fits into the 24-bit significand.
    """
    height, width = size
    return height.bit_count() == width.bit_count() == 1 and 2 * height * 2 * width <= 1 << 16


def bilinear_of_rows(image: Image, size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize an image, bit for bit as ``cv2.resize`` does in float32, in half the time.

    Converts only the two rows that each output row depends on. The size must have exact weights
    (:func:`has_exact_weights`).
    """
    height, width = size
    rows, weights = row_pairs(image.shape[0], height)
    # The height is kept, so OpenCV interpolates along rows only.
    narrow = cv2.resize(image[rows].astype(np.float32), (width, 2 * height), interpolation=cv2.INTER_LINEAR)
    values: NDArray[np.float32] = narrow[:height] * (1 - weights) + narrow[height:] * weights
    return values


@functools.lru_cache(32)
def row_pairs(rows: int, height: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the two input rows of each output row (all upper, then all lower ones), and the weights of the lower ones.

    Returns:
        Row numbers ``(2 height,)`` and weights ``(height, 1, 1)``.
    """
    at = (np.arange(height) + 0.5) * rows / height - 0.5
    first = np.floor(at).astype(np.intp)
    return np.concatenate([first, first + 1]), (at - first).astype(np.float32)[:, None, None]


@functools.lru_cache(32)
def scale_and_shift(preprocess: Preprocess) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the factors and the subtrahends that normalize values in 0..255, one for each channel."""
    # Mean and std are rounded to float32 first, as in PyTorch tensors: the last bit of the input depends on it.
    mean, std = (np.array(values, np.float32).astype(np.float64) for values in (preprocess.mean, preprocess.std))
    return (1 / 255 / std).astype(np.float32), (mean / std).astype(np.float32)


def normalized(values: NDArray[np.float32], preprocess: Preprocess) -> Pixels:
    """Return resized frames ``(H, W, 3)`` normalized, channels first: ``(3, H, W)``."""
    x = np.empty((3, *values.shape[:2]), np.float32)
    for channel, (scale, shift) in enumerate(zip(*scale_and_shift(preprocess), strict=True)):
        np.multiply(values[..., channel], scale, out=x[channel])
        x[channel] -= shift
    return x


def network_input(image: Image, spec: ModelSpec) -> Pixels:
    """Return a frame, already reduced, as the input of a network.

    Args:
        image: uint8 RGB ``(h, w, 3)`` from :func:`reduced` or :func:`reduced_image`.
        spec: the network.

    Returns:
        float32 ``(3, H, W)`` of the network's input size.
    """
    preprocess, size = spec.preprocess, spec.input_size
    if preprocess.resize == "bilinear":
        planes = pixels.resize_to_planes(image, size, *scale_and_shift(preprocess))
        if planes is not None:
            return planes
    return normalized(resized(image, preprocess, size), preprocess)
