"""Select the way to draw a map on a frame: saliency or objects, on stored YUV planes or in RGB."""

from __future__ import annotations

from functools import lru_cache

import av
import numpy as np
from numpy.typing import NDArray

from .object_overlay import ObjectPainter, ObjectPlanePainter
from .options import OverlayStyle
from .overlay import Painter, PlanePainter
from .reader import Frame, Image
from .yuv import Color


@lru_cache(8)
def image_painter(style: OverlayStyle, objects: bool) -> Painter:
    """Return the painter of RGB images. Its tables are computed once for all images.

    Args:
        style: colors and layout of the overlay.
        objects: whether the maps are probabilities of objects; otherwise they show where people look.
    """
    return ObjectPainter(style) if objects else Painter(style)


class FramePainter:
    """Draws maps on the frames of a video: on YUV planes if possible, which is faster, else in RGB.

    Args:
        style: colors and layout of the overlay.
        color: color encoding of the video.
        objects: see :func:`image_painter`.
    """

    def __init__(self, style: OverlayStyle, color: Color, objects: bool = False) -> None:
        self._by_rgb = image_painter(style, objects)
        by_planes = ObjectPlanePainter if objects else PlanePainter
        self._by_planes = None if style.side_by_side else by_planes(style, color)

    def paint(self, frame: Frame, saliency: NDArray[np.float32]) -> Image | av.VideoFrame:
        """Return the frame with a map ``(H, W)`` in 0..1 drawn on it: RGB uint8, or a yuv420p frame."""
        if self._by_planes and frame.has_plain_planes:
            return self._by_planes.paint(frame, saliency)
        return self._by_rgb.paint(frame.rgb(), saliency)
