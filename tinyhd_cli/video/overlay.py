"""Draw saliency maps, areas of interest and labels on frames."""

from __future__ import annotations

from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from . import pixels
from .options import OverlayStyle
from .reader import Frame, Image, plane_pixels
from .yuv import Color, to_yuv


class Painter:
    """Draws saliency maps on RGB images."""

    def __init__(self, style: OverlayStyle) -> None:
        self.style = style
        opacity = style.opacity()
        # Lookup tables by 8-bit saliency: the color times its opacity, and the factor of the frame.
        self._tint, self._kept = to_lookup_table(style.colors() * opacity), to_lookup_table(1 - opacity[:, 0])

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of the images that :meth:`paint` returns for frames of a size, in pixels."""
        return (2 * width, height) if self.style.side_by_side else (width, height)

    def paint(self, frame: Image, saliency: NDArray[np.float32]) -> Image:
        """Return a copy of an image with a saliency map drawn on it.

        Args:
            frame: uint8 RGB ``(h, w, 3)``.
            saliency: ``(H, W)``, rescaled to 0..1, of any size.

        Returns:
            uint8 RGB, ``(h, w, 3)``, or ``(h, 2 w, 3)`` side by side.
        """
        painted = self._painted(frame, saliency)
        return np.hstack([frame, painted]) if self.style.side_by_side else painted

    def _painted(self, frame: Image, saliency: NDArray[np.float32]) -> Image:
        value = to_gray_image(saliency, frame.shape[1], frame.shape[0])
        return pixels.blend(frame, value, self._kept, self._tint)


class PlanePainter:
    """Draws saliency maps on stored YUV frames, without a conversion to RGB and back.

    Blending is linear, so that the result equals blending in RGB, except for rounding and for chroma, which is blended
    at its lower resolution.

    Args:
        style: colors of the overlay; ``side_by_side`` is not supported.
        color: color encoding of the video.
    """

    def __init__(self, style: OverlayStyle, color: Color) -> None:
        opacity = style.opacity()
        tint = to_yuv(style.colors(), color) * opacity
        kept = np.round(255 * (1 - opacity[:, 0])).astype(np.uint8)
        self._mixtures = [pixels.mixtures(kept, np.round(column).astype(np.uint8)) for column in tint.T]

    def paint(self, frame: Frame, saliency: NDArray[np.float32]) -> av.VideoFrame:
        """Return a new yuv420p frame with a saliency map drawn on it.

        Args:
            frame: a frame that has plain planes.
            saliency: ``(H, W)``, rescaled to 0..1, of any size.
        """
        painted = av.VideoFrame(frame.info.width, frame.info.height, "yuv420p")
        width, height = frame.info.width, frame.info.height
        values = to_uint8(saliency)
        if values.shape[0] > height or values.shape[1] > width:
            values = resize_image(values, width, height)
        pixels.paint(plane_pixels(frame.av_frame), values, self._mixtures, plane_pixels(painted))
        return painted


def to_lookup_table(values: NDArray[np.float64]) -> Image:
    """Convert 256 factors ``(256,)``, or colors ``(256, 3)``, in 0..1 to a lookup table, uint8."""
    return np.round(values * 255).astype(np.uint8)


def to_gray_image(saliency: NDArray[np.float32], width: int, height: int) -> Image:
    """Convert a map ``(H, W)`` in 0..1 to a grayscale image, uint8 ``(height, width)``."""
    return resize_image(to_uint8(saliency), width, height)


def to_blurred_image(saliency: NDArray[np.float32], width: int, height: int) -> Image:
    """Convert a map ``(H, W)`` in 0..1 to a grayscale image ``(height, width)``, blurred as in the code of TMFI-Net.

    The authors of THTD-Net and SalFoM use this code: a bilinear resize, then a Gaussian with a standard deviation of 2
    pixels, cut at 11 x 11.
    """
    large = cv2.resize(saliency, (width, height), interpolation=cv2.INTER_LINEAR)
    return to_uint8(np.asarray(cv2.GaussianBlur(large, (11, 11), 2.0), np.float32))


def to_uint8(saliency: NDArray[np.float32]) -> Image:
    """Convert a map in 0..1 to uint8 in 0..255."""
    return np.round(np.clip(saliency, 0, 1) * 255).astype(np.uint8)


def resize_image(image: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """Resize an image ``(h, w)`` or ``(h, w, 3)``: area averaging if both sides shrink, else bicubic."""
    shrinks = width < image.shape[1] and height < image.shape[0]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=interpolation).astype(image.dtype, copy=False)


AREA_COLORS = ((230, 25, 75), (60, 120, 255), (60, 180, 75), (255, 200, 25), (200, 60, 230), (70, 200, 220))
"""RGB colors of areas of interest, used in turn; legible on images and on white paper."""


def area_color(number: int) -> tuple[int, int, int]:
    """Return the RGB color of the area of interest with this number."""
    return AREA_COLORS[number % len(AREA_COLORS)]


def draw_outline(image: Image, corners: NDArray[np.float64], text: str, number: int, width: int) -> None:
    """Draw an area of interest on a frame.

    Args:
        image: uint8 RGB ``(h, w, 3)``, modified in place; if it is wider than the frame, its right part.
        corners: x and y of the corners of a polygon, ``(n, 2)``, in pixels of the frame. Sides that it has in both
            directions, which connect its parts and holes, are not drawn.
        text: label of the area, see :func:`draw_label`.
        number: number of the area, which selects its color.
        width: width of the frame in pixels.
    """
    part = image[:, image.shape[1] - width :]
    color = area_color(number)
    thickness = max(1, round(width / 400))
    points = np.round(np.clip(corners, -(2**14), 2**14)).astype(np.int32)
    sides = np.round(np.clip(sides_of(corners), -(2**14), 2**14)).astype(np.int32)
    cv2.polylines(part, list(sides), False, color, thickness, cv2.LINE_AA)
    draw_label(part, text, (int(points[:, 0].min()), int(points[:, 1].min())), color)


def sides_of(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ends ``(n, 2, 2)`` of a polygon's sides, without those that joined rings have in both directions."""
    sides = np.stack([corners, np.roll(corners, -1, axis=0)], axis=1)
    if not (sides[:, 0] == sides[:, 1]).all(axis=1).any():  # only joined rings repeat a corner
        return sides
    places = [(*start, *end) for start, end in sides.tolist()]
    both = {place for place in places if place[:2] != place[2:]} & {(*place[2:], *place[:2]) for place in places}
    kept = [place not in both and place[:2] != place[2:] for place in places]
    return sides[kept]


def label_font(width: int) -> tuple[float, int]:
    """Return the scale and the stroke of labels in images of a width."""
    return max(0.4, width / 1300), max(1, round(width / 900))


def label_height(image: Image, text: str) -> int:
    """Return the height of the label of a text in an image, in pixels."""
    scale, stroke = label_font(image.shape[1])
    (_, text_height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, stroke)
    return int(text_height + below + stroke + 3)  # OpenCV's rectangles include both corners


def draw_label(image: Image, text: str, at: tuple[int, int], color: tuple[int, int, int]) -> None:
    """Draw a line of text on a filled rectangle, which makes it legible on any image.

    Args:
        image: uint8 RGB ``(h, w, 3)``, modified in place.
        text: one line; OpenCV's font is ASCII and draws other characters as question marks.
        at: x and y of the lower left corner in pixels; moved if the label would extend beyond the image.
        color: RGB of the rectangle.
    """
    height, width = image.shape[:2]
    scale, stroke = label_font(width)
    (text_width, text_height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, stroke)
    margin = stroke + 2
    left = int(np.clip(at[0], 0, max(0, width - text_width - 2 * margin)))
    bottom = int(np.clip(at[1], text_height + below + margin, height))
    top_left = (left, bottom - text_height - below - margin)
    cv2.rectangle(image, top_left, (left + text_width + 2 * margin, bottom), color, cv2.FILLED)
    shade = (0, 0, 0) if sum(color) > 380 else (255, 255, 255)
    cv2.putText(
        image, text, (left + margin, bottom - below), cv2.FONT_HERSHEY_SIMPLEX, scale, shade, stroke, cv2.LINE_AA
    )
