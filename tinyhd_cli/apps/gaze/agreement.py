"""Scores of observers against each other, and of a model against observers, in one frame.

A density is a sum of separable Gaussians, so its mean, its deviation and its correlation with another density follow
from sums over pairs of points. Only the AUC needs values at many pixels, which are taken on a grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .density import Gaussians, at_points
from .points import Indices, Numbers

FEW_VALUES = 8
"""Number of values up to which it is faster to compare each with all others than to sort these."""


@dataclass(frozen=True)
class MapValues:
    """All values of ``m`` maps of a frame that their scores need.

    Attributes:
        at: values at the pixels of the frame's ``n`` points, ``(m, n)``.
        mean: mean over the pixels, ``(m,)``.
        variance: variance over the pixels, ``(m,)``.
        products: sums over the pixels of the map times each of ``k`` observers' density, ``(m, k)``.
        grid: values at the pixels of the grid, ``(m, g)``.
    """

    at: Numbers
    mean: Numbers
    variance: Numbers
    products: Numbers
    grid: Numbers


class ObserverDensities:
    """The densities of the observers with gaze in a frame.

    Attributes:
        observers: numbers of the ``k`` observers, in order, ``(k,)``.
    """

    def __init__(self, gaussians: Gaussians) -> None:
        self._gaussians, self._canvas = gaussians, gaussians.canvas
        points = gaussians.points
        self.observers, owner = np.unique(points.observer, return_inverse=True)
        self._owns = owner == np.arange(len(self.observers))[:, np.newaxis]
        owns = self._owns.astype(np.float64)
        self._at = owns @ at_points(gaussians, points.rows, points.columns)
        self._sums = owns @ (gaussians.rows.sum(axis=1) * gaussians.columns.sum(axis=1))
        pairs = (gaussians.rows @ gaussians.rows.T) * (gaussians.columns @ gaussians.columns.T)
        self._products = owns @ pairs @ owns.T
        down, across = self._canvas.grid
        rows, columns = gaussians.rows[:, down], gaussians.columns[:, across]
        grid = np.empty((len(self._owns), rows.shape[1], columns.shape[1]))
        for own, density in zip(self._owns, grid, strict=True):
            np.matmul(rows[own].T, columns[own], out=density)
        self._grid = grid.reshape(len(grid), -1)

    def _moments(self, weights: Numbers) -> tuple[Numbers, Numbers]:
        """Return mean and variance of weighted sums of the observers' densities; ``weights`` are ``(m, k)``."""
        mean = weights @ self._sums / self._canvas.pixels
        squares = np.einsum("mk,mk->m", weights @ self._products, weights)
        return mean, np.maximum(squares / self._canvas.pixels - mean**2, 0)

    def sums(self, weights: Numbers) -> MapValues:
        """Return the values of weighted sums of the observers' densities; ``weights`` are ``(m, k)``."""
        return MapValues(weights @ self._at, *self._moments(weights), weights @ self._products, weights @ self._grid)

    def of_map(self, saliency: Numbers) -> MapValues:
        """Return the values of a map ``(height, width)`` of the frame."""
        gaussians, points = self._gaussians, self._gaussians.points
        products = np.einsum("nw,nw->n", gaussians.rows @ saliency, gaussians.columns)
        down, across = self._canvas.grid
        return MapValues(
            saliency[points.rows, points.columns][np.newaxis],
            saliency.mean(keepdims=True).ravel(),
            saliency.var(keepdims=True).ravel(),
            (self._owns.astype(np.float64) @ products)[np.newaxis],
            saliency[down, across].reshape(1, -1),
        )

    def score(self, maps: MapValues, targets: NDArray[np.bool_]) -> Numbers:
        """Score maps against the gaze of observers.

        Args:
            maps: one map for each target, or one for all.
            targets: the observers of each target, ``(t, k)``.

        Returns:
            NSS, AUC and CC for each target, ``(t, 3)``. NaN for constant maps.
        """
        chosen, owned = targets.astype(np.float64), targets @ self._owns
        count = self._canvas.pixels
        mean, variance = self._moments(chosen)
        with np.errstate(divide="ignore", invalid="ignore"):
            deviation = np.sqrt(maps.variance * count / (count - 1))  # as in MATLAB's NSS
            nss = (np.where(owned, maps.at, 0).sum(axis=1) / owned.sum(axis=1) - maps.mean) / deviation
            covariance = (maps.products * chosen).sum(axis=1) / count - maps.mean * mean
            cc = covariance / np.sqrt(maps.variance * variance)
        at, grid = (np.broadcast_to(part, (len(targets), part.shape[1])) for part in (maps.at, maps.grid))
        auc = [area_under_curve(at[row][own], grid[row]) for row, own in enumerate(owned)]
        scores = np.stack([nss, np.array(auc), cc], axis=1)
        scores[np.broadcast_to(~(maps.variance > 0), nss.shape)] = np.nan
        return scores

    def leave_one_out(self) -> tuple[MapValues, NDArray[np.bool_]]:
        """Return the sum of the other observers' densities for each observer, and the targets: each observer alone."""
        alone = np.eye(len(self.observers), dtype=bool)
        return self.sums((~alone).astype(np.float64)), alone

    def halves(self, rng: np.random.Generator) -> tuple[MapValues, NDArray[np.bool_]]:
        """Return the densities of two random halves of the observers, and the targets: the respective other half."""
        first = np.zeros(len(self.observers), bool)
        first[rng.permutation(len(first))[: len(first) // 2]] = True
        targets = np.stack([~first, first])
        return self.sums((~targets).astype(np.float64)), targets


def area_under_curve(values: Numbers, everywhere: Numbers) -> float:
    """Return the probability that a value exceeds one of ``everywhere``, where equal values count half.

    It is the area under the ROC curve. Unlike AUC-Judd, which adds the area of a first trapezoid, it is 1/2 by chance
    for any number of values, also for the single fixation of one observer.
    """
    if len(values) <= FEW_VALUES:
        below = sum(int(np.count_nonzero(everywhere < value)) for value in values)
        ranks = below + sum(int(np.count_nonzero(everywhere <= value)) for value in values)
    else:
        ordered = np.sort(everywhere)
        ranks = sum(int(np.searchsorted(ordered, values, side=side).sum()) for side in ("left", "right"))
    return ranks / (2 * len(everywhere) * len(values))


@dataclass(frozen=True)
class FrameScores:
    """Scores of one frame: NSS, AUC and CC along the last axis, NaN where one is not defined."""

    observers: Indices
    """Numbers of the observers with gaze in the frame, ``(k,)``."""
    alone: Numbers
    """The density of all others against each observer, ``(k, 3)``."""
    halves: Numbers
    """The density of each half against the other, ``(2, 3)``."""
    model_alone: Numbers | None
    """The model's map against each observer, ``(k, 3)``; None without a model."""
    model_halves: Numbers | None
    """The model's map against each half, ``(2, 3)``."""


def score_gaze(gaussians: Gaussians, seed: Sequence[int], saliency: Numbers | None = None) -> FrameScores | None:
    """Score the observers of a frame against each other, and a model's map against the same gaze.

    Args:
        gaussians: of the gaze in the frame.
        seed: selects the random halves.
        saliency: the model's map in the frame's size, ``(height, width)``.

    Returns:
        The scores; None if fewer than two observers have gaze in the frame.
    """
    frame = ObserverDensities(gaussians)
    if len(frame.observers) < 2:
        return None
    (others, alone), (half, other_half) = frame.leave_one_out(), frame.halves(np.random.default_rng(seed))
    model = None if saliency is None else frame.of_map(saliency)
    return FrameScores(
        frame.observers,
        frame.score(others, alone),
        frame.score(half, other_half),
        None if model is None else frame.score(model, alone),
        None if model is None else frame.score(model, other_half),
    )
