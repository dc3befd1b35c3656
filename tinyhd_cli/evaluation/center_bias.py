"""The center bias: where people look on average, whatever is shown. What IG is measured against."""

from __future__ import annotations

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

from .fixations import Fixations

GRID = (108, 192)
"""Rows and columns in which fixations are counted, whatever the frame's size."""

BLUR = 0.035
"""Sigma of the Gaussian that makes a density of the counts, as a share of the width."""

WIDE = 0.25
"""Sigma of the Gaussian at the center, as a share of either side."""

SMOOTHING = 0.1
"""The Gaussian's share of the whole, so that places that nobody has looked at yet are unlikely and not impossible."""


class CenterBias:
    """A density of fixations, learned from videos or simply a Gaussian.

    Args:
        fixations: what to learn from; None for the Gaussian alone.
        leave_out: whether a video's own fixations are left out of the map that it is scored against.
    """

    def __init__(self, fixations: Fixations | None, leave_out: bool) -> None:
        self._fixations = fixations
        self._leave_out = leave_out
        self._counts = None if fixations is None else fixations.histogram(GRID)
        self.map = functools.lru_cache(maxsize=8)(self._map)

    def _map(self, video: int, size: tuple[int, int]) -> NDArray[np.float64]:
        """The density for a video, by its number in the fixations, ``size``."""
        prior = gaussian(GRID)
        if self._fixations is not None and self._counts is not None:
            counts = self._counts
            if self._leave_out:
                counts = counts - self._fixations.histogram(GRID, video)
            if counts.sum() > 0:
                density = cv2.GaussianBlur(counts, (0, 0), BLUR * GRID[1], borderType=cv2.BORDER_CONSTANT)
                prior = (1 - SMOOTHING) * density / density.sum() + SMOOTHING * prior
        scaled = cv2.resize(prior, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
        return scaled.astype(np.float64, copy=False)


def gaussian(size: tuple[int, int]) -> NDArray[np.float64]:
    """A Gaussian at the center that sums to 1."""
    rows, columns = (np.exp(-0.5 * ((np.arange(n) + 0.5) / n - 0.5) ** 2 / WIDE**2) for n in size)
    product = np.outer(rows, columns)
    density: NDArray[np.float64] = product / product.sum()
    return density
