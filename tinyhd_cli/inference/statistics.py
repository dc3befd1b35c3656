"""Describe a saliency map by a few numbers."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .windows import Map


@dataclass(frozen=True)
class MapStatistics:
    """Position of the attention in one frame, in pixels of the source video, and its concentration."""

    peak_x: float
    """Column of the maximum."""
    peak_y: float
    """Row of the maximum."""
    centroid_x: float
    """Column of the center of mass."""
    centroid_y: float
    """Row of the center of mass."""
    entropy: float
    """Shannon entropy of the map in bits, as a distribution over its cells: 0 if all attention is in one cell,
    15.58 if it is uniform over 192 x 256 cells."""
    spread: float
    """Root mean square distance from the center of mass, in pixels."""


def describe(saliency: Map, width: int, height: int) -> MapStatistics:
    """Return the statistics of a map ``(H, W)`` without negative values, for a video of ``width`` x ``height`` pixels.

    Integer positions are pixel centers: the middle of a row of 640 pixels is 319.5.
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


@functools.lru_cache(64)
def pixel_centers(cells: int, pixels: int) -> NDArray[np.float64]:
    """Divide a row of ``pixels`` into ``cells`` equal parts and return their centers, in pixels."""
    return (np.arange(cells) + 0.5) * pixels / cells - 0.5
