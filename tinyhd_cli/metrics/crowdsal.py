"""The metrics by which the organizers of CrowdSAL, NTIRE 2026 and AViMoS (AIM 2024) score: CC, SIM, NSS, AUC-J.

They differ from the metrics of the DHF1K benchmark in ``frame``: both maps are stretched to 0..1, deviations are those
of a population, repeated fixations count, and AUC-J has no jitter.
"""

from __future__ import annotations

import functools
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from . import auc
from .inputs import check_same_size, is_finite, to_map, to_mask

EPS = 1e-7
"""Added to deviations, sums and products, as in the organizers' code."""

LEVELS = 1 << 16
"""Number of bins in which the pixels of a large map are counted."""

NAN = float("nan")

UnitMap = NDArray[np.float32]
"""A map ``(H, W)`` with values in 0..1."""

Points = NDArray[np.int64]
"""Row and column of each fixation, ``(n, 2)``; repeated fixations are repeated."""


class CrowdsalScorer:
    """Computes the metrics of a prediction and the ground truth of its frame, one by one or all at once.

    The prediction is stretched to 0..1 and then resized bilinearly, without antialiasing, to the size of the ground
    truth. A constant map becomes 0 everywhere; its CC, SIM and NSS are 0.

    Args:
        prediction: saliency map ``(h, w)`` in any scale.
        density: density map ``(H, W)`` in any scale. For CC and SIM.
        fixation: row and column of each fixation, integers ``(n, 2)``; or a fixation map ``(H, W)``, boolean or of the
            density's size, nonzero at fixated pixels. For NSS and AUC-J.
        size: height and width of the ground truth, for rows and columns without a density; None for the prediction's.

    Attributes:
        prediction: the prediction at the size of the ground truth, float32 ``(H, W)``; as given if it is not finite.
        density: the stretched density, float32 ``(H, W)``, or None.
        points: row and column of each fixation, ``(n, 2)``, or None.
        finite: whether the prediction contains neither NaN nor infinity.
        constant: whether the prediction has the same value at all pixels.

    Raises:
        InputError: an argument is not as described, or a fixation is outside of the map.
    """

    def __init__(
        self,
        prediction: ArrayLike,
        density: ArrayLike | None = None,
        fixation: ArrayLike | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        given, truth = to_map("prediction", prediction), to_map("density", density)
        assert given is not None
        mask = to_mask("fixation", fixation) if is_mask(fixation, truth) else None
        size = check_same_size({"density": truth, "fixation": mask}) or size or (given.shape[0], given.shape[1])
        self.points = None if fixation is None else to_points(fixation, size) if mask is None else np.argwhere(mask)
        self.density = None if truth is None else stretch(truth)
        self.finite = is_finite(given)
        self.constant = self.finite and bool(given.min() == given.max())
        self.prediction = self._ranked = given
        if self.finite:
            unit = stretch(given)
            self.prediction = unit if unit.shape == size else np.asarray(cv2.resize(unit, size[::-1]), np.float32)
        if given.shape != size or given.dtype not in (np.uint8, np.uint16):
            self._ranked = self.prediction

    def scores(self) -> dict[str, float]:
        """Return all metrics whose inputs are given, by name; NaN if the prediction is not finite."""
        with_density, with_points = self.density is not None, self.points is not None
        computed = {
            "AUC-J": self.auc_judd if with_points else None,
            "CC": self.cc if with_density else None,
            "NSS": self.nss if with_points else None,
            "SIM": self.sim if with_density else None,
        }
        return {name: metric() if self.finite else NAN for name, metric in computed.items() if metric is not None}

    @functools.cached_property
    def _moments(self) -> tuple[float, float]:
        """Mean and population deviation of the prediction."""
        return moments(self.prediction)

    @functools.cached_property
    def _density_moments(self) -> tuple[float, float]:
        """Mean and population deviation of the density."""
        assert self.density is not None
        return moments(self.density)

    def cc(self) -> float:
        """Return the linear correlation coefficient of the standardized maps: -1..1."""
        assert self.density is not None
        pixels = self.density.size
        mean, deviation = self._moments
        other_mean, other_deviation = self._density_moments
        if not deviation or not other_deviation:  # else rounding errors of a constant map would be correlated
            return 0.0
        squares = deviation**2 + mean**2 + other_deviation**2 + other_mean**2
        product = (squares - cv2.norm(self.prediction, self.density, cv2.NORM_L2SQR) / pixels) / 2
        scales = (deviation + EPS) * (other_deviation + EPS)
        energy = (pixels * deviation * other_deviation / scales) ** 2
        return float(pixels * (product - mean * other_mean) / scales / np.sqrt(energy + EPS))

    def sim(self) -> float:
        """Return the similarity, the intersection of both maps divided by their sums: 0..1."""
        assert self.density is not None
        pixels = self.density.size
        total, other_total = self._moments[0] * pixels, self._density_moments[0] * pixels
        if not total or not other_total:
            return 0.0
        ratio = (total + EPS) / (other_total + EPS)
        difference = cv2.norm(self.prediction, self.density * np.float32(ratio), cv2.NORM_L1)
        return float((total + ratio * other_total - difference) / 2 / (total + EPS))

    def nss(self) -> float:
        """Return the mean of the standardized prediction at the fixations; chance is 0. NaN without fixations."""
        assert self.points is not None
        if not len(self.points):
            return NAN
        mean, deviation = self._moments
        fixated = self.prediction[self.points[:, 0], self.points[:, 1]]
        return float((fixated.mean(dtype=np.float64) - mean) / (deviation + EPS))

    def auc_judd(self) -> float:
        """Return AUC-Judd: 0..1, chance is about 1/2. NaN without fixations.

        Thresholds are the values at the n fixations in descending order; repetitions are thresholds, too. At the k-th,
        k / n of the fixations are hits, and the rate of false alarms is (pixels at or above it - k) / (pixels - 2).

        The 2 is a slip of the original, which exact scores must share. It corrects the number of pixels for repeated
        fixations, by the number of different ones, but counts the unique columns of the array ``(n, 2)`` instead of its
        rows: 2, or 1 if row and column of every fixation are equal. Without the slip, n different fixations would be
        left out of the pixels.
        """
        assert self.points is not None
        rows, columns = self.points.T
        n, pixels, counted = len(rows), self._ranked.size, 1 if (rows == columns).all() else 2
        if not n or pixels <= counted:
            return NAN
        thresholds = np.sort(self._ranked[rows, columns])[::-1]
        rank = np.arange(1, n + 1)
        false_alarms = (at_least(self._ranked, thresholds) - rank) / (pixels - counted)
        return auc.area_under_curve(rank / n, false_alarms)


def is_mask(fixation: ArrayLike | None, density: NDArray[Any] | None) -> bool:
    """Return whether fixations are given as a map, not as rows and columns."""
    if fixation is None:
        return False
    array = np.asarray(fixation)
    return array.dtype.kind == "b" or (density is not None and array.shape == density.shape)


def to_points(fixation: ArrayLike, size: tuple[int, int]) -> Points:
    """Convert rows and columns to an array ``(n, 2)``; ``InputError`` if one is outside of a map of ``size``."""
    points = np.asarray(fixation)
    if not points.size:
        return np.zeros((0, 2), np.int64)
    if points.ndim != 2 or points.shape[1] != 2 or points.dtype.kind not in "ui":
        raise InputError(
            "fixation: must be integers of shape (n, 2), row and column, or a map of the density's size,"
            f" not {points.dtype} {points.shape}"
        )
    outside = ((points < 0) | (points >= size)).any(axis=1)
    if outside.any():
        row, column = points[outside][0].tolist()
        raise InputError(f"fixation: row {row}, column {column} is outside of the map, {size[1]} x {size[0]} pixels")
    return points.astype(np.int64)


def stretch(values: NDArray[Any]) -> UnitMap:
    """Stretch a finite map to 0..1; a constant map becomes 0.

    The original adds the float32 epsilon to the range, which changes no integer map; floating-point maps may have a
    range as small as that, and are stretched without it.
    """
    kind = np.float32 if values.dtype.kind in "bu" and values.dtype.itemsize <= 2 else np.float64
    low, high = values.min(), values.max()
    if low == high:
        return np.zeros(values.shape, np.float32)
    unit = np.subtract(values, low, dtype=kind)
    unit /= kind(high) - kind(low)
    scaled: UnitMap = unit.astype(np.float32, copy=False)
    return scaled


def moments(values: UnitMap) -> tuple[float, float]:
    """Return mean and population deviation of a map; OpenCV sums in float64."""
    mean: float = cv2.mean(values)[0]
    variance = cv2.norm(values, cv2.NORM_L2SQR) / values.size - mean**2
    return mean, float(np.sqrt(max(variance, 0.0)))


def at_least(values: NDArray[Any], limits: NDArray[Any]) -> NDArray[np.int64]:
    """Return the number of values at or above each limit.

    In a large floating-point map, values are counted in bins, and only those in bins of limits are compared.

    Args:
        values: a map: uint8, uint16, or float32 in 0..1.
        limits: some of its values.
    """
    if values.dtype != np.float32 or values.size < auc.MANY:
        return auc.Distribution(values).at_least(limits)
    bins, wanted = to_bins(values), to_bins(limits)
    marked = np.zeros(LEVELS, np.uint8)
    marked[wanted] = 1
    near = auc.Distribution(values[look_up(marked, bins).view(bool)])
    others = auc.histogram(bins)
    others[wanted] = 0
    above: NDArray[np.int64] = others.sum() - np.cumsum(others)
    return above[wanted] + near.at_least(limits)


def to_bins(values: UnitMap) -> NDArray[np.uint16]:
    """Return the bin of each value, which never decreases with the value."""
    return (values * np.float32(LEVELS - 1)).astype(np.uint16)


def look_up(table: NDArray[np.uint8], indices: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return ``table[indices]``; OpenCV has tables for 16 bits from version 5 on, which are 8 times as fast."""
    try:
        return np.asarray(cv2.LUT(indices, table), np.uint8)
    except cv2.error:
        return table[indices]
