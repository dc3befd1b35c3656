"""Convert colors between RGB and the YUV code values of a video (ITU-T H.273, section 8.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FULL_RANGE = 2
"""FFmpeg's number of full-range color, 0 to 255."""

BT601 = 6
"""FFmpeg's number of the color matrix that its scaler assumes for videos without one."""

LUMA = {
    1: (0.2126, 0.0722),
    4: (0.3, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
"""Weights of red and blue in luma, by the number of the color matrix (ITU-T H.273, table 4)."""


@dataclass(frozen=True)
class Color:
    """The color encoding of a video, by FFmpeg's numbers (ITU-T H.273)."""

    space: int
    """Color matrix."""
    range: int
    """1: limited range; 2: full range."""
    primaries: int
    """Color primaries."""
    transfer: int
    """Transfer function."""


SDR = Color(space=1, range=1, primaries=1, transfer=1)
"""BT.709 in limited range."""


def to_yuv(rgb: NDArray[np.float64], color: Color) -> NDArray[np.float64]:
    """Convert RGB ``(n, 3)`` in 0..1 to the YUV code values of a video, in 0..255."""
    red, blue = LUMA.get(color.space, LUMA[BT601])
    y = rgb @ np.array([red, 1 - red - blue, blue])
    cb, cr = (rgb[:, 2] - y) / (2 - 2 * blue), (rgb[:, 0] - y) / (2 - 2 * red)
    if color.range == FULL_RANGE:
        return np.stack([255 * y, 128 + 255 * cb, 128 + 255 * cr], axis=1)
    return np.stack([16 + 219 * y, 128 + 224 * cb, 128 + 224 * cr], axis=1)


class ToRgb(NamedTuple):
    """The conversion of YUV code values to RGB in 0..255: the inverse of :func:`to_yuv`."""

    luma: tuple[float, float]
    """Factor and summand of luma."""
    chroma: tuple[float, float, float, float]
    """Factors of the differences of chroma from 128: blue in green (subtracted) and in blue, red in red and in green
    (subtracted)."""


def to_rgb(color: Color) -> ToRgb:
    """Return the conversion of a video's colors to RGB."""
    red, blue = LUMA.get(color.space, LUMA[BT601])
    luma, chroma = (1.0, 1.0) if color.range == FULL_RANGE else (255 / 219, 255 / 224)
    green, of_blue, of_red = 1 - red - blue, chroma * (2 - 2 * blue), chroma * (2 - 2 * red)
    offset = 0.0 if color.range == FULL_RANGE else -16 * luma
    return ToRgb((luma, offset), (of_blue * blue / green, of_blue, of_red, of_red * red / green))
