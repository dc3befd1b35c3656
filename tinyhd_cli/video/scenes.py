"""Detect cuts between scenes."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from .reader import Image

THUMBNAIL = (64, 36)
"""Width and height of the thumbnails that are compared, in pixels."""

MIN_DIFFERENCE = 18.0
"""Minimum mean absolute difference of two thumbnails at a cut, in 8-bit code values."""

RATIO = 3.0
"""Minimum ratio of the difference at a cut to the mean recent difference; fast motion changes every frame."""

RECENT = 8
"""Number of recent differences in that mean."""


class SceneDetector:
    """Detects hard cuts frame by frame: changes that are much larger than those between the preceding frames."""

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None
        self._differences: deque[float] = deque(maxlen=RECENT)

    def is_cut(self, image: Image) -> bool:
        """Return whether a frame, uint8 RGB ``(h, w, 3)``, starts a new scene; False for the first frame."""
        small = cv2.resize(image, THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
        last, self._last = self._last, small
        if last is None:
            return False
        difference = float(np.abs(small - last).mean())
        usual = sum(self._differences) / len(self._differences) if self._differences else 0.0
        cut = difference > MIN_DIFFERENCE and difference > RATIO * usual
        self._differences.append(difference)
        return cut
