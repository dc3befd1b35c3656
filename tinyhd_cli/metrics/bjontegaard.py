"""Compare two encoders by the mean difference of their bit rates at equal quality (Bjøntegaard delta rate).

Definition: G. Bjøntegaard, "Calculation of average PSNR differences between RD-curves", ITU-T VCEG-M33, 2001; with the
piecewise cubic interpolation (PCHIP) of the common test conditions of JCT-VC and JVET instead of one polynomial, which
can oscillate between the points.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def bd_rate(
    anchor_rates: Sequence[float],
    anchor_qualities: Sequence[float],
    rates: Sequence[float],
    qualities: Sequence[float],
) -> float | None:
    """Return the mean difference of the bit rate at equal quality, in percent; negative if the rate is lower.

    Args:
        anchor_rates: bit rates of the encoder to compare with, in any unit.
        anchor_qualities: qualities at these rates, such as PSNR in dB.
        rates: bit rates of the other encoder, in the same unit.
        qualities: qualities at these rates.

    Returns:
        The difference; None if the curves have fewer than two points, their quality does not increase with the rate, or
        they have no quality in common.
    """
    anchor = log_rates_by_quality(anchor_rates, anchor_qualities)
    other = log_rates_by_quality(rates, qualities)
    if anchor is None or other is None:
        return None
    low = max(anchor[0][0], other[0][0])
    high = min(anchor[0][-1], other[0][-1])
    if low >= high:
        return None
    difference = (integral(*other, low, high) - integral(*anchor, low, high)) / (high - low)
    return float(100 * np.expm1(difference))


def log_rates_by_quality(rates: Sequence[float], qualities: Sequence[float]) -> tuple[Values, Values] | None:
    """Return qualities in increasing order and the logarithms of their rates; None if they are not a curve."""
    order = np.argsort(rates)
    quality = np.asarray(qualities, np.float64)[order]
    rate = np.asarray(rates, np.float64)[order]
    if len(rate) < 2 or rate[0] <= 0 or not np.isfinite(quality).all() or (np.diff(quality) <= 0).any():
        return None
    return quality, np.log(rate)


def integral(x: Values, y: Values, low: float, high: float) -> float:
    """Return the integral from ``low`` to ``high`` of the piecewise cubic through n points; x and y: ``(n,)``."""
    step = np.diff(x)
    slope = np.diff(y) / step
    tangent = tangents(step, slope)
    # On each interval: y + tangent t + quadratic t^2 + cubic t^3, with t from 0 to step.
    quadratic = (3 * slope - 2 * tangent[:-1] - tangent[1:]) / step
    cubic = (tangent[:-1] + tangent[1:] - 2 * slope) / step**2

    def antiderivative(t: Values) -> Values:
        value: Values = t * (y[:-1] + t * (tangent[:-1] / 2 + t * (quadratic / 3 + t * cubic / 4)))
        return value

    start, end = (np.clip(limit - x[:-1], 0, step) for limit in (low, high))
    return float((antiderivative(end) - antiderivative(start)).sum())


def tangents(step: Values, slope: Values) -> Values:
    """Return the slope in each of n points, ``(n,)``, without overshoot; step and slope: ``(n - 1,)``.

    Method: F. N. Fritsch and J. Butland, "A method for constructing local monotone piecewise cubic interpolants", SIAM
    Journal on Scientific and Statistical Computing 5(2), 1984, with the three-point formula at the ends.
    """
    if len(slope) == 1:
        return np.repeat(slope, 2)
    found = np.zeros(len(step) + 1)
    before, after = 2 * step[1:] + step[:-1], step[1:] + 2 * step[:-1]
    same = slope[:-1] * slope[1:] > 0
    found[1:-1][same] = ((before + after) / (before / slope[:-1] + after / slope[1:]))[same]
    found[0] = end_tangent(step[0], step[1], slope[0], slope[1])
    found[-1] = end_tangent(step[-1], step[-2], slope[-1], slope[-2])
    return found


def end_tangent(step: float, next_step: float, slope: float, next_slope: float) -> float:
    """Return the slope at an end of the interpolation, from the two intervals next to it."""
    found = ((2 * step + next_step) * slope - step * next_slope) / (step + next_step)
    if found * slope <= 0:
        return 0.0
    if slope * next_slope <= 0 and abs(found) > 3 * abs(slope):
        return 3 * slope
    return found
