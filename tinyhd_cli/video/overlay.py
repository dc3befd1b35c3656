"""Drawing a saliency map on a frame."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError, did_you_mean
from .reader import Image


@dataclass(frozen=True)
class OverlayStyle:
    """How an overlay looks."""

    colormap: str = "turbo"
    """Any of matplotlib's colour maps."""

    alpha: float = 0.6
    """Opacity of the most salient places, 0 to 1. It falls with saliency: the rest of the picture stays as it is."""

    threshold: float = 0.1
    """Scaled saliency, 0 to 1, below which nothing is drawn."""

    side_by_side: bool = False
    """Show the source to the left of the overlay."""

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise UsageError(f"--alpha must be between 0 and 1, not {self.alpha:g}")
        if not 0 <= self.threshold < 1:
            raise UsageError(f"--threshold must be at least 0 and below 1, not {self.threshold:g}")
        logging.getLogger("matplotlib").setLevel(logging.ERROR)  # a home that cannot be written is no concern here
        import matplotlib

        if self.colormap not in matplotlib.colormaps:
            raise UsageError(
                f"--colormap {self.colormap!r} is unknown: {did_you_mean(self.colormap, matplotlib.colormaps)}"
            )


class Painter:
    """Draws maps on frames in one style."""

    def __init__(self, style: OverlayStyle) -> None:
        import matplotlib

        self.style = style
        value = np.linspace(0, 1, 256)
        above = np.clip((value - style.threshold) / (1 - style.threshold), 0, 1)
        # Full opacity from the middle of the range on: a quadratic ease-out without a visible edge at the threshold.
        opacity = style.alpha * (1 - np.clip(1 - 2 * above, 0, 1) ** 2)[:, np.newaxis]
        colours = matplotlib.colormaps[style.colormap](value)[:, :3]
        # Tables from the map's 8 bits: the colour times its opacity, and what the frame is multiplied by.
        self._tint = as_table(colours * opacity)
        self._keep = as_table(np.broadcast_to(1 - opacity, (256, 3)))

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height in pixels of what :meth:`paint` returns for frames of a size."""
        return (2 * width, height) if self.style.side_by_side else (width, height)

    def paint(self, frame: Image, saliency: NDArray[np.float32]) -> Image:
        """The frame with the map drawn on it.

        Args:
            frame: uint8 RGB ``(h, w, 3)``.
            saliency: ``(H, W)``, scaled to 0..1, of any size.

        Returns:
            uint8 RGB, ``(h, w, 3)``, or ``(h, 2 w, 3)`` side by side.
        """
        value = as_grey(saliency, frame.shape[1], frame.shape[0])
        kept = cv2.multiply(frame, cv2.applyColorMap(value, self._keep), scale=1 / 255)
        painted = cv2.add(kept, cv2.applyColorMap(value, self._tint))
        if self.style.side_by_side:
            painted = np.hstack([frame, painted])
        return painted.astype(np.uint8, copy=False)


def as_table(values: NDArray[np.float64]) -> Image:
    """256 colours in 0..1 as the table that OpenCV looks up."""
    return np.round(values * 255).astype(np.uint8).reshape(256, 1, 3)


def as_grey(saliency: NDArray[np.float32], width: int, height: int) -> Image:
    """A map ``(H, W)`` in 0..1 as 8 bits at another size, uint8 ``(height, width)``."""
    eight_bits = np.round(np.clip(saliency, 0, 1) * 255).astype(np.uint8)
    shrinks = width < saliency.shape[1] and height < saliency.shape[0]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(eight_bits, (width, height), interpolation=interpolation).astype(np.uint8, copy=False)


AREA_COLOURS = ((230, 25, 75), (60, 120, 255), (60, 180, 75), (255, 200, 25), (200, 60, 230), (70, 200, 220))
"""Of areas of interest, in turn; legible on pictures and on paper."""


def area_colour(number: int) -> tuple[int, int, int]:
    """RGB of the area with this number."""
    return AREA_COLOURS[number % len(AREA_COLOURS)]


def outline(image: Image, corners: NDArray[np.float64], text: str, number: int, width: int) -> None:
    """Draw an area of interest on a frame.

    Args:
        image: uint8 RGB ``(h, w, 3)``, is drawn on; where it is wider than the frame, on its right part.
        corners: of a polygon, ``(n, 2)``, pixels of the frame.
        text: what to write above it, see :func:`label`.
        number: of the area, for its colour.
        width: of the frame, in pixels.
    """
    part = image[:, image.shape[1] - width :]
    colour = area_colour(number)
    thickness = max(1, round(width / 400))
    points = np.round(np.clip(corners, -(2**14), 2**14)).astype(np.int32)
    cv2.polylines(part, [points], True, colour, thickness, cv2.LINE_AA)
    label(part, text, (int(points[:, 0].min()), int(points[:, 1].min())), colour)


def label(image: Image, text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    """Write a line on a picture, on a ground that makes it legible anywhere.

    Args:
        image: uint8 RGB ``(h, w, 3)``, is written on.
        text: OpenCV's letters are ASCII; others become question marks.
        at: x and y of the lower left corner in pixels; moved so that all of it is inside the picture.
        colour: RGB of the ground.
    """
    height, width = image.shape[:2]
    scale, stroke = max(0.4, width / 1300), max(1, round(width / 900))
    (text_width, text_height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, stroke)
    margin = stroke + 2
    left = int(np.clip(at[0], 0, max(0, width - text_width - 2 * margin)))
    bottom = int(np.clip(at[1], text_height + below + margin, height))
    top_left = (left, bottom - text_height - below - margin)
    cv2.rectangle(image, top_left, (left + text_width + 2 * margin, bottom), colour, cv2.FILLED)
    shade = (0, 0, 0) if sum(colour) > 380 else (255, 255, 255)
    cv2.putText(
        image, text, (left + margin, bottom - below), cv2.FONT_HERSHEY_SIMPLEX, scale, shade, stroke, cv2.LINE_AA
    )
