"""Draw objects on frames, tinted and with a contour, and cut them out with transparency.

An object map contains probabilities in 0..1. It is never rescaled by its own minimum or maximum: a frame without an
object has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from .options import OverlayStyle
from .overlay import Painter, PlanePainter, to_gray_image
from .reader import Frame, Image, plane_pixels
from .yuv import Color, to_yuv

LINES_PER_HEIGHT = 200
"""Height of a frame divided by the width of a contour."""

CLEAR, SOLID = 0.05, 0.95
"""Probabilities up to which a cut-out is transparent and from which it is opaque; in between, linear. Without them,
small probabilities in the background would leave a haze."""

OPACITY = np.round(255 * np.clip((np.arange(256) / 255 - CLEAR) / (SOLID - CLEAR), 0, 1)).astype(np.uint8)
"""Opacity of a cut-out by 8-bit probability, 0 to 255."""


def object_mask(gray: Image, threshold: float) -> Image:
    """Return the mask of the pixels whose probability is above a threshold, as uint8: 0 or 255.

    Args:
        gray: probabilities from 0 to 255, ``(h, w)``.
        threshold: in 0..1.
    """
    return cv2.threshold(gray, 255 * threshold, 255, cv2.THRESH_BINARY)[1].astype(np.uint8, copy=False)


@dataclass(frozen=True)
class Outline:
    """The pixels of an object in a frame, within their bounding box."""

    left: int
    top: int
    mask: Image
    """The mask inside the box, whose upper left corner is at ``left`` and ``top``: 0 or 255."""
    contours: tuple[NDArray[np.int32], ...]
    """The closed curves around all parts and holes: x and y in pixels of the frame."""


def find_outline(probability: NDArray[np.float32], width: int, height: int, threshold: float) -> Outline | None:
    """Return the outline of the object in a frame of ``width`` x ``height`` pixels; None if there is no object."""
    mask = object_mask(to_gray_image(probability, width, height), threshold)
    left, top, columns, rows = cv2.boundingRect(mask)
    if not columns:
        return None
    inside = mask[top & ~1 : top + rows, left & ~1 : left + columns]
    left, top = left & ~1, top & ~1  # an even corner also exists in planes of half the size
    contours, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE, offset=(left, top))
    return Outline(left, top, inside, tuple(np.asarray(curve, np.int32) for curve in contours))


def draw_object(image: NDArray[Any], outline: Outline, table: Image, color: tuple[int, ...], step: int = 1) -> None:
    """Tint an object on an image and draw its contour.

    Args:
        image: uint8 ``(h, w, 3)`` or a plane ``(h, w)``, modified in place.
        outline: the object.
        table: tinted value by value: ``(256,)``, or ``(256, 1, 3)`` for three channels.
        color: color of the contour, one value per channel.
        step: size of the frame divided by the size of the image: 1, or 2 for a chroma plane.
    """
    mask = np.ascontiguousarray(outline.mask[::step, ::step])
    region = image[outline.top // step :, outline.left // step :][: mask.shape[0], : mask.shape[1]]
    cv2.copyTo(cv2.LUT(region, table), mask, region)
    thickness = max(2 // step, round(image.shape[0] / LINES_PER_HEIGHT))
    cv2.polylines(image, outline.contours, True, color, thickness, cv2.LINE_AA, step - 1)


class ObjectPainter(Painter):
    """Draws object maps on RGB images."""

    def __init__(self, style: OverlayStyle) -> None:
        super().__init__(style)
        color = np.round(255 * style.object_color())
        self._color = tuple(int(value) for value in color[0])
        self._table = tint_table(color, style.tint_alpha)[:, np.newaxis]

    def _painted(self, frame: Image, saliency: NDArray[np.float32]) -> Image:
        painted = frame.copy()
        height, width = frame.shape[:2]
        if outline := find_outline(saliency, width, height, self.style.object_threshold):
            draw_object(painted, outline, self._table, self._color)
        return painted


class ObjectPlanePainter(PlanePainter):
    """Draws object maps on stored YUV frames.

    Args:
        style: color and opacity of the tint; ``side_by_side`` is not supported.
        color: color encoding of the video.
    """

    def __init__(self, style: OverlayStyle, color: Color) -> None:
        super().__init__(style, color)
        self._threshold = style.object_threshold
        yuv = np.round(to_yuv(style.object_color(), color))
        self._colors = [int(value) for value in yuv[0]]
        self._tables = [np.ascontiguousarray(column) for column in tint_table(yuv, style.tint_alpha).T]

    def paint(self, frame: Frame, saliency: NDArray[np.float32]) -> av.VideoFrame:
        """Return a new yuv420p frame with an object map ``(H, W)`` drawn on it."""
        width, height = frame.info.width, frame.info.height
        painted = av.VideoFrame(width, height, "yuv420p")
        outline = find_outline(saliency, width, height, self._threshold)
        planes = plane_pixels(painted)
        for number, (plane, source) in enumerate(zip(planes, plane_pixels(frame.av_frame), strict=True)):
            plane[:] = source
            if outline:
                draw_object(plane, outline, self._tables[number], (self._colors[number],), width // plane.shape[1])
        return painted


def tint_table(color: NDArray[np.float64], alpha: float) -> Image:
    """Return the result of blending each of 256 values with a color ``(1, n)``, uint8 ``(256, n)``."""
    return np.round((1 - alpha) * np.arange(256)[:, np.newaxis] + alpha * color).astype(np.uint8)


def cut_out(image: Image, probability: NDArray[np.float32]) -> Image:
    """Return the object of an image with straight alpha, uint8 RGBA ``(h, w, 4)``.

    The opacity is the probability, smoothly resized, between ``CLEAR`` and ``SOLID``. Colors are kept under the soft
    edge and a little beyond it, because codecs and editors blend neighboring pixels; farther away they are black, so
    that the file contains nothing of the background.

    Args:
        image: uint8 RGB ``(h, w, 3)``.
        probability: ``(H, W)`` in 0..1, of any size.
    """
    height, width = image.shape[:2]
    opacity = cv2.LUT(to_gray_image(probability, width, height), OPACITY)
    result = np.zeros((height, width, 4), np.uint8)
    left, top, columns, rows = cv2.boundingRect(opacity)
    if not columns:
        return result
    margin = max(8, height // 45)
    box = (
        slice(max(0, top - margin), top + rows + margin),
        slice(max(0, left - margin), left + columns + margin),
    )
    side = 2 * margin + 1
    near = cv2.dilate(opacity[box], np.ones((side, side), np.uint8))
    rgba = cv2.cvtColor(image[box], cv2.COLOR_RGB2RGBA)
    rgba[..., 3] = opacity[box]
    cv2.copyTo(rgba, near, result[box])
    return result
