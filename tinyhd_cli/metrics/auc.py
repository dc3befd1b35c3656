"""Areas under ROC curves as exact expectations, where the MATLAB code draws random numbers.

AUC-Judd adds a tiny jitter to break ties; AUC-Borji and shuffled AUC average over 100 random sets of negatives. The
area is linear in what is drawn, so its expectation needs no drawing.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]

THRESHOLDS = np.arange(11) / 10
"""Of AUC-Borji and shuffled AUC, on predictions scaled to 0..1."""


EXACT_IN_FLOAT32 = 2**24
"""Up to here OpenCV, which counts in float32, counts right."""


def histogram(values: Values) -> NDArray[np.int64]:
    """How often each of the 256 values of uint8 occurs."""
    if not 0 < values.size < EXACT_IN_FLOAT32:
        return np.bincount(values.ravel(), minlength=256)
    counts = cv2.calcHist([np.ascontiguousarray(values).reshape(1, -1)], [0], None, [256], [0, 256])
    return counts.ravel().astype(np.int64)


class Distribution:
    """Values in order, to count how many are above something: 256 bins for uint8, else sorted once.

    Attributes:
        count: how many values there are.
    """

    def __init__(self, values: Values) -> None:
        self.count = values.size
        if values.dtype == np.uint8:
            self._levels: Values = np.arange(256)
            self._below = np.concatenate([[0], np.cumsum(histogram(values))])
        else:
            self._levels = np.sort(values, axis=None)
            self._below = np.arange(values.size + 1)

    def above(self, limits: Values) -> NDArray[np.int64]:
        """How many values are greater than each limit."""
        above: NDArray[np.int64] = self.count - self._below[np.searchsorted(self._levels, limits, side="right")]
        return above

    def at_least(self, limits: Values) -> NDArray[np.int64]:
        """How many values are each limit or greater."""
        at_least: NDArray[np.int64] = self.count - self._below[np.searchsorted(self._levels, limits, side="left")]
        return at_least

    def fractions_at_thresholds(self, low: float, high: float) -> NDArray[np.float64]:
        """The share of values that reach each of ``THRESHOLDS`` once ``low..high`` is scaled to 0..1."""
        scaled = (self._levels - low) / (high - low)
        shares: NDArray[np.float64] = (self.count - self._below[np.searchsorted(scaled, THRESHOLDS)]) / self.count
        return shares


def judd(everywhere: Distribution, fixated: Values) -> float:
    """AUC-Judd: thresholds at the fixated values, the expectation over the jitter.

    Without ties it is the probability that a fixated pixel is more salient than another one, plus what the first
    trapezoid of the original adds.

    Args:
        everywhere: the prediction's values at all pixels.
        fixated: those at the ``n`` fixated pixels.

    Returns:
        0..1; NaN if no pixel is fixated, or all are.
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
    """The area under a curve through (0, 0), the rates at descending thresholds, and (1, 1)."""
    hits = np.concatenate([[0.0], hit_rates, [1.0]])
    false_alarms = np.concatenate([[0.0], false_alarm_rates, [1.0]])
    return float(np.trapezoid(hits, false_alarms))


def expected_over_splits(positives: Values, negatives: Distribution, low: float, high: float) -> float:
    """AUC-Borji or shuffled AUC over infinitely many random splits.

    Args:
        positives: the prediction's values at the fixated pixels.
        negatives: its values at the pixels that negatives are drawn from.
        low: least value of the prediction, which becomes 0.
        high: its greatest value, which becomes 1.

    Returns:
        0..1; NaN if the prediction is constant or either set is empty.
    """
    if not positives.size or not negatives.count or not low < high:
        return float("nan")
    hit_rates = Distribution(positives).fractions_at_thresholds(low, high)
    return area_under_curve(hit_rates[::-1], negatives.fractions_at_thresholds(low, high)[::-1])
