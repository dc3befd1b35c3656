"""Compute areas under ROC curves as exact expectations, where the MATLAB code draws random numbers.

AUC-Judd adds a small jitter to break ties; AUC-Borji and shuffled AUC average over 100 random sets of negatives. The
area is linear in the random quantities, so its expectation can be computed without drawing them.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]

THRESHOLDS = np.arange(11) / 10
"""Thresholds of AUC-Borji and shuffled AUC, on predictions rescaled to 0..1."""

EXACT_IN_FLOAT32 = 2**24
"""Counts below this are exact in float32, which OpenCV's histograms use."""

MANY = 1 << 17
"""Number of values from which counting in 65536 bins is faster than sorting."""


def histogram(values: Values) -> NDArray[np.int64]:
    """Return the number of occurrences of each uint8 or uint16 value, ``(256,)`` or ``(65536,)``."""
    levels = 1 << 8 * values.dtype.itemsize
    if not 0 < values.size < EXACT_IN_FLOAT32:
        return np.bincount(values.ravel(), minlength=levels)
    counts = cv2.calcHist([np.ascontiguousarray(values).reshape(1, -1)], [0], None, [levels], [0, levels])
    return counts.ravel().astype(np.int64)


class Distribution:
    """Counts values above limits: a bin for each level of uint8 and of many uint16 values, otherwise the sorted values.

    Attributes:
        count: number of values.
    """

    def __init__(self, values: Values) -> None:
        self.count = values.size
        if values.dtype == np.uint8 or (values.dtype == np.uint16 and values.size >= MANY):
            self._below = np.concatenate([[0], np.cumsum(histogram(values))])
            self._levels: Values = np.arange(len(self._below) - 1)
        else:
            self._levels = np.sort(values, axis=None)
            self._below = np.arange(values.size + 1)

    def above(self, limits: Values) -> NDArray[np.int64]:
        """Return the number of values greater than each limit."""
        above: NDArray[np.int64] = self.count - self._below[np.searchsorted(self._levels, limits, side="right")]
        return above

    def at_least(self, limits: Values) -> NDArray[np.int64]:
        """Return the number of values greater than or equal to each limit."""
        at_least: NDArray[np.int64] = self.count - self._below[np.searchsorted(self._levels, limits, side="left")]
        return at_least

    def fractions_at_thresholds(self, low: float, high: float) -> NDArray[np.float64]:
        """Return the fraction of values at or above each of ``THRESHOLDS``, with ``low..high`` rescaled to 0..1."""
        scaled = (self._levels - low) / (high - low)
        fractions: NDArray[np.float64] = (self.count - self._below[np.searchsorted(scaled, THRESHOLDS)]) / self.count
        return fractions


def judd(everywhere: Distribution, fixated: Values) -> float:
    """Return AUC-Judd, with a threshold at each fixated value, as the expectation over the jitter.

    Without ties it is the probability that a fixated pixel is more salient than a pixel that is not, plus the area that
    the first trapezoid of the original code adds.

    Args:
        everywhere: values of the prediction at all pixels.
        fixated: its values at the ``n`` fixated pixels.

    Returns:
        The area, 0..1; NaN if no pixel or every pixel is fixated.
    """
    n, others = fixated.size, everywhere.count - fixated.size
    if not n or not others:
        return float("nan")
    hits = Distribution(fixated)
    others_above = everywhere.above(fixated) - hits.above(fixated)
    others_at_least = everywhere.at_least(fixated) - hits.at_least(fixated)
    pairs_won = n * others - (others_above.sum() + others_at_least.sum()) / 2
    lowest = fixated.argmin()
    tied_hits = n - int(hits.above(fixated[lowest]))
    tied_others = int(others_at_least[lowest] - others_above[lowest])
    first = int(others_above[lowest]) + tied_others * tied_hits / (tied_hits + 1)
    return float((pairs_won + first / 2) / (n * others))


def area_under_curve(hit_rates: NDArray[np.float64], false_alarm_rates: NDArray[np.float64]) -> float:
    """Return the area under the curve through (0, 0), the rates at descending thresholds, and (1, 1)."""
    hits = np.concatenate([[0.0], hit_rates, [1.0]])
    false_alarms = np.concatenate([[0.0], false_alarm_rates, [1.0]])
    return float(np.trapezoid(hits, false_alarms))


def expected_over_splits(positives: Values, negatives: Distribution, low: float, high: float) -> float:
    """Return the expectation of AUC-Borji or shuffled AUC over random splits.

    Args:
        positives: values of the prediction at the fixated pixels.
        negatives: its values at the pixels from which negatives are drawn.
        low: minimum of the prediction, which is mapped to 0.
        high: maximum of the prediction, which is mapped to 1.

    Returns:
        The area, 0..1; NaN if the prediction is constant or either set is empty.
    """
    if not positives.size or not negatives.count or not low < high:
        return float("nan")
    hit_rates = Distribution(positives).fractions_at_thresholds(low, high)
    return area_under_curve(hit_rates[::-1], negatives.fractions_at_thresholds(low, high)[::-1])
