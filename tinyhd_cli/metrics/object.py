"""Compute the metrics of salient objects of one frame: a probability map against a binary mask.

All measures except weighted F depend only on how often each 8-bit value occurs inside and outside the mask, in each of
the four parts that the S-measure cuts the frame into. The pixels are therefore counted once, and the measures are
computed from the counts. ``object_definition`` has the same measures pixel by pixel.

The definitions, as in the library pysodmetrics:

- F-measure: Achanta et al., Frequency-tuned Salient Region Detection, CVPR 2009; MAE: Perazzi et al., Saliency
  Filters, CVPR 2012;
- S-measure: Fan et al., Structure-measure: A New Way to Evaluate Foreground Maps, ICCV 2017;
- E-measure: Fan et al., Enhanced-alignment Measure for Binary Foreground Map Evaluation, IJCAI 2018;
- weighted F-measure: Margolin et al., How to Evaluate Foreground Maps?, CVPR 2014, see ``weighted_f``.
"""

from __future__ import annotations

import functools
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from .frame import EPS
from .inputs import to_map
from .weighted_f import weighted_f

OBJECT_METRICS = ("MAE", "maxF", "meanF", "adpF", "S", "maxE", "meanE", "adpE", "wF")
"""Names of the metrics of salient objects, in the order of tables. For MAE lower is better, for all others higher."""

BETA2 = 0.3
"""Weight of recall relative to precision in the F-measure, squared."""

ALPHA = 0.5
"""Weight of the objects relative to the regions in the S-measure."""

THRESHOLDS = np.arange(256)
"""Thresholds of the curves, in 8 bits."""

SMOOTHING = 1e-4
"""Added to numerator and denominator of precision and recall in the definition of STDistill."""

Curve = NDArray[np.float64]
"""Values at ``THRESHOLDS``, ``(256,)``."""


def score_object_frame(prediction: ArrayLike, mask: ArrayLike) -> dict[str, float]:
    """Score the map of a frame against the mask of its salient object.

    Args:
        prediction: map ``(h, w)``, see :func:`to_eight_bits`; resized bilinearly if its size differs from the mask.
        mask: mask ``(H, W)``, see :func:`to_binary`.

    Returns:
        The metrics by the names of ``OBJECT_METRICS``. Maximum and mean of F and E are those of the frame's own curve;
        for several frames, :class:`ObjectScores` averages the curves first. If the mask is empty, all F-measures are 0.

    Raises:
        InputError: an array is not two-dimensional, or the prediction contains NaN or infinity.
    """
    return ObjectScorer(prediction, mask).scores()


def to_binary(mask: ArrayLike) -> NDArray[np.uint8]:
    """Return a mask as 0 and 1, uint8 ``(H, W)``: above 127 is the object, or above 0 if there is nothing above 1."""
    values = to_map("mask", mask)
    assert values is not None
    if values.dtype == np.bool_:
        return np.ascontiguousarray(values).view(np.uint8)
    limit = 127 if values.max() > 1 else 0
    return np.ascontiguousarray(values > limit).view(np.uint8)


def to_eight_bits(prediction: ArrayLike, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a map in 8 bits, as the benchmarks score it, at the size of the mask.

    Args:
        prediction: map ``(h, w)``: uint8; or probabilities 0..1 of another type, which are rounded to 8 bits; or other
            numbers, whose range is stretched to 8 bits.
        size: height and width of the mask.

    Raises:
        InputError: the array is not two-dimensional, or contains NaN or infinity.
    """
    values = to_map("prediction", prediction)
    assert values is not None
    if values.dtype != np.uint8:
        values = values.astype(np.float32, copy=False)
        low, high = float(values.min()), float(values.max())
        if not np.isfinite(low) or not np.isfinite(high):
            raise InputError("the map contains NaN or infinity")
        if low < 0 or high > 1:
            values = (values - low) / max(high - low, float(EPS))
    values = np.ascontiguousarray(values)
    if values.shape != size:
        values = cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR)
    eight_bits: NDArray[np.uint8] = values if values.dtype == np.uint8 else cv2.convertScaleAbs(values, alpha=255)  # type: ignore[assignment]
    return eight_bits


class ObjectScorer:
    """Computes the metrics of a prediction and the mask of its frame. Arguments and errors: :func:`score_object_frame`.

    In the measures, p is the prediction with its range stretched to 0..1 (a constant one is not stretched: p = value /
    255), and g is the mask, 0 or 1.

    Attributes:
        prediction: the map in 8 bits at the size of the mask, ``(H, W)``.
        mask: the mask, uint8 0 or 1, ``(H, W)``.
        pixels: number of pixels.
        area: number of pixels inside the mask.
    """

    def __init__(self, prediction: ArrayLike, mask: ArrayLike) -> None:
        self.mask = to_binary(mask)
        self.prediction = to_eight_bits(prediction, self.mask.shape)
        self.pixels = self.mask.size
        self.area = cv2.countNonZero(self.mask)

    def scores(self) -> dict[str, float]:
        """Return all metrics by name."""
        f, e = self.f_curve, self.e_curve
        values = (
            self.mae(),
            *(float(f.max()), float(f.mean()), self.adaptive_f()),
            self.s(),
            *(float(e.max()), float(e.mean()), self.adaptive_e()),
            self.weighted_f(),
        )
        return dict(zip(OBJECT_METRICS, values, strict=True))

    @functools.cached_property
    def _split(self) -> tuple[int, int]:
        """Row and column at which the S-measure cuts the frame: behind the center of mass of the mask."""
        cuts = []
        for axis, side in enumerate(self.mask.shape):
            sums = cv2.reduce(self.mask, 1 - axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel()
            center = int(sums @ np.arange(side)) / self.area if self.area else side / 2
            cuts.append(round(center) + 1)
        return cuts[0], cuts[1]

    @functools.cached_property
    def _counts(self) -> NDArray[np.int64]:
        """Number of pixels of each value outside and inside the mask, in each part: ``(4, 256, 2)``."""
        (height, width), (row, column) = self.mask.shape, self._split
        x, y, w, h = cv2.boundingRect(cv2.bitwise_or(self.prediction, self.mask))
        counts = np.zeros((4, 256, 2), np.int64)
        parts = [(0, row, 0, column), (0, row, column, width), (row, height, 0, column), (row, height, column, width)]
        for number, (top, bottom, left, right) in enumerate(parts):
            rows, columns = slice(max(top, y), min(bottom, y + h)), slice(max(left, x), min(right, x + w))
            if rows.start < rows.stop and columns.start < columns.stop:
                maps = [self.prediction[rows, columns], self.mask[rows, columns]]
                counts[number] = cv2.calcHist(maps, [0, 1], None, [256, 2], [0, 256, 0, 2])
            # Both maps are 0 outside the rectangle, which saves counting the background of most frames.
            counts[number, 0, 0] += (bottom - top) * (right - left) - counts[number].sum()
        return counts

    @functools.cached_property
    def _totals(self) -> NDArray[np.int64]:
        """Number of pixels of each value outside and inside the mask, in the whole frame: ``(256, 2)``."""
        totals: NDArray[np.int64] = self._counts.sum(axis=0)
        return totals

    @functools.cached_property
    def limits(self) -> tuple[int, int]:
        """Minimum and maximum of the prediction."""
        low, high, _, _ = cv2.minMaxLoc(self.prediction)
        return int(low), int(high)

    @functools.cached_property
    def _levels(self) -> NDArray[np.float64]:
        """The p of each 8-bit value, ``(256,)``; rounding errors are those of the library."""
        low, high = self.limits
        values = THRESHOLDS / 255
        return (values - values[low]) / (values[high] - values[low]) if low < high else values

    @functools.cached_property
    def _mean(self) -> float:
        """Mean of p."""
        return float(self._totals.sum(axis=1) @ self._levels) / self.pixels

    @functools.cached_property
    def _positives(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """True and false positives at all thresholds, and at last those at the adaptive one: each ``(257,)``."""
        quantized = np.floor(255 * self._levels)
        adaptive = self._levels.searchsorted(min(2 * self._mean, 1.0))
        first = np.append(quantized.searchsorted(THRESHOLDS), adaptive)
        at_least = self._at_least[first]
        return at_least[:, 1], at_least[:, 0]

    @functools.cached_property
    def _at_least(self) -> NDArray[np.int64]:
        """Number of pixels with at least each value, outside and inside the mask: ``(257, 2)``."""
        sums = np.zeros((257, 2), np.int64)
        sums[:256] = self._totals[::-1].cumsum(axis=0)[::-1]
        return sums

    def mae(self) -> float:
        """Return the mean of |p - g|, 0..1; 0 is best."""
        background, inside = self._totals.T @ self._levels
        return float(background + self.area - inside) / self.pixels

    @functools.cached_property
    def _f(self) -> NDArray[np.float64]:
        return f_measure(*self._positives, self.area)

    @property
    def f_curve(self) -> Curve:
        """F-measure of the map binarized by p >= k / 255, where p is rounded down to a multiple of 1 / 255."""
        return self._f[:256]

    def adaptive_f(self) -> float:
        """Return the F-measure of the map binarized by p >= twice the mean of p, at most 1."""
        return float(self._f[256])

    @functools.cached_property
    def _e(self) -> NDArray[np.float64]:
        return e_measure(*self._positives, self.area, self.pixels)

    @property
    def e_curve(self) -> Curve:
        """E-measure of the map binarized as for the F-measure."""
        return self._e[:256]

    def adaptive_e(self) -> float:
        """Return the E-measure of the map binarized by p >= twice the mean of p, at most 1."""
        return float(self._e[256])

    def precision_recall(self) -> tuple[Curve, Curve]:
        """Return precision and recall of p > k / 255 as STDistill defines them; its F is computed from their means."""
        above = self._at_least[self._levels.searchsorted(THRESHOLDS / 255, side="right")]
        hits = above[:, 1] + SMOOTHING
        precision: Curve = hits / (above.sum(axis=1) + SMOOTHING)
        return precision, np.asarray(hits / (self.area + SMOOTHING))

    def s(self) -> float:
        """Return the S-measure, 0..1: the similarity of the objects and of four regions.

        For an empty mask it is 1 - mean p, for a full one mean p.
        """
        if not self.area:
            return 1 - self._mean
        if self.area == self.pixels:
            return self._mean
        share = self.area / self.pixels
        outside, inside = self._totals.T
        objects = share * object_similarity(inside, self._levels)
        objects += (1 - share) * object_similarity(outside, 1 - self._levels)
        regions = sum(region_similarity(part, *self.limits) * int(part.sum()) for part in self._counts) / self.pixels
        return max(0.0, ALPHA * objects + (1 - ALPHA) * regions)

    def weighted_f(self) -> float:
        """Return the weighted F-measure, 0..1; 0 for an empty mask."""
        return weighted_f(self.prediction, self.mask, self._totals, self._levels) if self.area else 0.0


def f_measure(hits: NDArray[Any], false_alarms: NDArray[Any], area: int) -> NDArray[np.float64]:
    """Return (1 + beta^2) precision recall / (beta^2 precision + recall); 0 without hits.

    Args:
        hits: number of positive pixels inside the mask, for each threshold.
        false_alarms: number of positive pixels outside.
        area: number of pixels inside the mask.
    """
    # With precision = hits / positive and recall = hits / area, the fraction simplifies to this one.
    f: NDArray[np.float64] = (1 + BETA2) * hits / np.maximum(BETA2 * area + hits + false_alarms, EPS)
    return f


def combine(precision: Curve, recall: Curve) -> Curve:
    """Return the F-measure of precision and recall, both above 0."""
    return (1 + BETA2) * precision * recall / (BETA2 * precision + recall)


def e_measure(hits: NDArray[Any], false_alarms: NDArray[Any], area: int, pixels: int) -> NDArray[np.float64]:
    """Return the E-measure of binary maps: the alignment of both maps minus their means, which has four values a frame.

    Args:
        hits: number of positive pixels inside the mask, for each threshold.
        false_alarms: number of positive pixels outside.
        area: number of pixels inside the mask.
        pixels: number of pixels.

    Returns:
        The sum over pixels, divided by their number minus 1, as the library does: values slightly above 1 are possible.
    """
    positive = hits + false_alarms
    if not area or area == pixels:
        total = positive if area else pixels - positive
    else:
        u = np.stack([1 - positive / pixels, -positive / pixels])
        v = np.array([[1 - area / pixels], [-area / pixels]])
        # Two rows for positive and negative pixels, first inside the mask, then outside.
        counts = np.stack([hits, area - hits]), np.stack([false_alarms, pixels - area - false_alarms])
        total = np.zeros(len(positive))
        for number, of_mask in zip(counts, v, strict=True):
            alignment = 2 * u * of_mask / (u * u + of_mask * of_mask + EPS)
            total += (number * (alignment + 1) ** 2).sum(axis=0) / 4
    e: NDArray[np.float64] = total / max(pixels - 1, 1)
    return e


def object_similarity(counts: NDArray[np.int64], levels: NDArray[np.float64]) -> float:
    """Return 2 mean / (mean^2 + 1 + std) of the values of p inside the mask, or of 1 - p outside.

    Args:
        counts: number of pixels of each level, not all 0.
        levels: the values, ``(256,)``.
    """
    number = int(counts.sum())
    mean = float(counts @ levels) / number
    variance = float(counts @ (levels - mean) ** 2) / max(number - 1, 1)
    return float(2 * mean / (mean * mean + 1 + variance**0.5 + EPS))


def region_similarity(counts: NDArray[np.int64], low: int, high: int) -> float:
    """Return the structural similarity of p and g in one part of the frame.

    The sums are those of integers, so that the covariance with a constant map is exactly 0.

    Args:
        counts: number of pixels of each 8-bit value outside and inside the mask, ``(256, 2)``.
        low: minimum of the prediction.
        high: its maximum.
    """
    number, inside = int(counts.sum()), int(counts[:, 1].sum())
    if not number:
        return 0.0
    low, span = (low, high - low) if low < high else (0, 255)
    values = THRESHOLDS - low
    both = counts.sum(axis=1)
    first, second, common = int(values @ both), int(values**2 @ both), int(values @ counts[:, 1])
    # The common factor 1 / (number (number - 1)) of all variances cancels.
    covariance = (number * common - first * inside) / span
    variances = (number * second - first * first) / span**2 + number * inside - inside * inside
    x, y = first / (number * span), inside / number
    numerator, denominator = 4 * x * y * covariance, (x * x + y * y) * variances
    if numerator:
        return numerator / denominator
    return 0.0 if denominator else 1.0
