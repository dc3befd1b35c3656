"""Numbers that describe a saliency map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .windows import Map


@dataclass(frozen=True)
class MapStatistics:
    """Where the attention of one frame is, in pixels of the source video, and how concentrated it is."""

    peak_x: float
    """Column of the highest value."""
    peak_y: float
    centroid_x: float
    """Column of the center of mass."""
    centroid_y: float
    entropy: float
    """Shannon entropy of the map as a distribution over the network's 192 x 256 positions, in bits: 0 (all in one
    place) to 15.58 (even)."""
    spread: float
    """Root mean square distance from the center of mass, in pixels."""


def describe(saliency: Map, width: int, height: int) -> MapStatistics:
    """The statistics of a map ``(H, W)``, not negative, of a video of ``width`` x ``height`` pixels.

    Positions are those of pixel centers, so that the middle of a 640-pixel row is 319.5.
    """
    rows, columns = saliency.shape
    p = saliency.astype(np.float64)
    total = p.sum()
    p = p / total if total > 0 else np.full_like(p, 1 / p.size)
    x = pixel_centers(columns, width)
    y = pixel_centers(rows, height)
    peak_row, peak_column = np.unravel_index(np.argmax(saliency), saliency.shape)
    by_column, by_row = p.sum(axis=0), p.sum(axis=1)
    centroid_x, centroid_y = float(by_column @ x), float(by_row @ y)
    variance = by_column @ (x - centroid_x) ** 2 + by_row @ (y - centroid_y) ** 2
    positive = p[p > 0]
    return MapStatistics(
        peak_x=float(x[peak_column]),
        peak_y=float(y[peak_row]),
        centroid_x=centroid_x,
        centroid_y=centroid_y,
        entropy=float(-(positive * np.log2(positive)).sum()),
        spread=float(np.sqrt(variance)),
    )


def pixel_centers(cells: int, pixels: int) -> NDArray[np.float64]:
    """The centers of ``cells`` equal parts of a row of ``pixels``, in pixels."""
    return (np.arange(cells) + 0.5) * pixels / cells - 0.5
