"""Density maps: the sum of one Gaussian per fixation, exact, because a Gaussian is a product of two curves.

A frame's density is the matrix product of the curves along y and along x, which costs less than a truncated filter over
the frame and has no error beyond rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .points import Indices, Numbers, Points

STEPS_PER_SIGMA = 3
"""Steps of the grid in a Gaussian's sigma; finer grids change the AUC by less than 0.001."""

GRID_SIDE = 128
"""Minimum number of steps along the longer side of a frame, because a model's map may be finer than the Gaussians."""

DRAWN_SIDE = 256
"""Longer side of a density that is drawn, at least; the Gaussians are smooth."""


@dataclass(frozen=True)
class Canvas:
    """The frames for which densities are computed."""

    width: int
    height: int
    sigma: tuple[float, float]
    """Standard deviation of a Gaussian along x and along y, in pixels."""

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.width * self.height

    @cached_property
    def grid(self) -> tuple[slice, slice]:
        """Rows and columns of the grid on which maps are ranked."""
        finest = max(self.width, self.height) // GRID_SIDE
        across, down = (max(1, min(int(sigma / STEPS_PER_SIGMA), finest)) for sigma in self.sigma)
        return centered(self.height, down), centered(self.width, across)


def centered(length: int, step: int) -> slice:
    """Return every ``step``-th of a number of pixels, with equal margins at both ends."""
    return slice((length - 1) % step // 2, None, step)


class Gaussians:
    """The Gaussians of the points of a frame, which have a peak of 1.

    Attributes:
        points: the points, all inside the frame.
        canvas: the frame.
        rows: curves along y, at the centers of the pixels, ``(n, height)``.
        columns: curves along x, ``(n, width)``.
    """

    def __init__(self, points: Points, canvas: Canvas) -> None:
        self.points, self.canvas = points, canvas
        self.rows = curves(points.y, canvas.height, canvas.sigma[1])
        self.columns = curves(points.x, canvas.width, canvas.sigma[0])

    def density(self) -> Numbers:
        """Return the sum of the Gaussians, ``(height, width)``."""
        return self.rows.T @ self.columns


def curves(centers: Numbers, length: int, sigma: float) -> Numbers:
    """Return a Gaussian curve of ``length`` pixels for each center, ``(n, length)``."""
    distance = (np.arange(length) + 0.5 - centers[:, np.newaxis]) / sigma
    curve: Numbers = np.exp(-0.5 * distance**2)
    return curve


def to_density_image(density: Numbers) -> NDArray[np.uint8]:
    """Return a density map as a grayscale image, in which the maximum is 255."""
    peak = float(density.max())
    return (density * (255 / peak if peak > 0 else 0.0) + 0.5).astype(np.uint8)


def to_fixation_image(points: Points, canvas: Canvas) -> NDArray[np.uint8]:
    """Return a fixation map: 255 at the pixels of the points, 0 elsewhere."""
    image = np.zeros((canvas.height, canvas.width), np.uint8)
    image[points.rows, points.columns] = 255
    return image


def at_points(gaussians: Gaussians, rows: Indices, columns: Indices) -> Numbers:
    """Return the value of each Gaussian at some pixels, ``(n, pixels)``."""
    values: Numbers = gaussians.rows[:, rows] * gaussians.columns[:, columns]
    return values


def small_density(gaussians: Gaussians) -> NDArray[np.float32]:
    """Return the density of a frame for the overlay, which has a longer side of at least ``DRAWN_SIDE`` pixels."""
    canvas = gaussians.canvas
    if not len(gaussians.points):
        return np.zeros((1, 1), np.float32)
    factor = max(1, max(canvas.width, canvas.height) // DRAWN_SIDE)
    # The product of the blocks' means is the mean over the blocks, as of area averaging.
    rows, columns = (block_means(values, factor) for values in (gaussians.rows, gaussians.columns))
    small: NDArray[np.float32] = (rows.T @ columns).astype(np.float32)
    return small


def block_means(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return the means of blocks of neighboring columns; the last block may be smaller."""
    starts = np.arange(0, values.shape[1], size)
    sizes = np.diff(np.append(starts, values.shape[1]))
    return np.asarray(np.add.reduceat(values, starts, axis=1) / sizes)
