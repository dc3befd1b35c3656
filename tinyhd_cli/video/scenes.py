"""Where one scene ends and the next begins."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from .reader import Image

THUMBNAIL = (64, 36)
"""Width and height at which frames are compared, in pixels."""

MIN_DIFFERENCE = 18.0
"""Mean difference of two thumbnails, in gray levels of 255, below which there is never a cut."""

RATIO = 3.0
"""How many times the recent differences a cut stands out: motion differs as much, but in every frame."""

RECENT = 8
"""Frames whose differences are compared with."""


class SceneDetector:
    """Finds hard cuts frame by frame: changes that stand out from those of the frames before."""

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None
        self._differences: deque[float] = deque(maxlen=RECENT)

    def is_cut(self, image: Image) -> bool:
        """Whether a frame, uint8 RGB ``(h, w, 3)``, begins another scene than the frame before. The first does not."""
        small = cv2.resize(image, THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
        last, self._last = self._last, small
        if last is None:
            return False
        difference = float(np.abs(small - last).mean())
        usual = sum(self._differences) / len(self._differences) if self._differences else 0.0
        cut = difference > MIN_DIFFERENCE and difference > RATIO * usual
        self._differences.append(difference)
        return cut
