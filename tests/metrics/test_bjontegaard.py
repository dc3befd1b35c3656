"""Bjøntegaard delta rate against published values and a reference implementation."""

from __future__ import annotations

import pytest

from tinyhd_cli.metrics.bjontegaard import bd_rate

# Rates in kbit/s and PSNR in dB, from the examples of two published implementations.
ANCHOR = ([686.76, 309.58, 157.11, 85.95], [40.28, 37.18, 34.24, 31.42])
OTHER = ([893.34, 407.8, 204.93, 112.75], [40.39, 37.21, 34.17, 31.24])
HEVC = ([9487.76, 4593.60, 2486.44, 1358.24], [40.037, 38.615, 36.845, 34.851])
HEVC_CHANGED = ([9787.80, 4469.00, 2451.52, 1356.24], [40.121, 38.651, 36.970, 34.987])
CROSSING = ([100, 300, 1000, 2000, 6000], [26, 33, 34, 41, 42])
OTHER_CROSSING = ([150, 250, 900, 2500, 5000], [27, 30, 36, 37, 43])


@pytest.mark.parametrize(
    ("anchor", "other", "expected"),
    [
        (ANCHOR, OTHER, 31.379878202397627),
        (HEVC, HEVC_CHANGED, -4.417485350589045),
        (CROSSING, OTHER_CROSSING, 43.52357208398261),
    ],
)
def test_reference(anchor, other, expected):
    """Expected: method "pchip" of the package bjontegaard 1.3.0, which equals JVET's spreadsheet."""
    assert bd_rate(*anchor, *other) == pytest.approx(expected, rel=1e-9)
    order = [2, 0, 3, 1]  # in any order of the points
    shuffled = [[values[index] for index in order] + list(values[4:]) for values in other]
    assert bd_rate(*anchor, *shuffled) == pytest.approx(expected, rel=1e-9)


def test_properties():
    rates, qualities = ANCHOR
    assert bd_rate(rates, qualities, [0.9 * rate for rate in rates], qualities) == pytest.approx(-10)
    assert bd_rate(rates, qualities, rates, qualities) == 0
    assert bd_rate([1, 2], [30, 33], [2, 4], [30, 33]) == pytest.approx(100)


def test_no_curves():
    rates, qualities = ANCHOR
    assert bd_rate(rates, qualities, rates, [quality + 20 for quality in qualities]) is None
    assert bd_rate(rates, qualities, rates, qualities[::-1]) is None
    assert bd_rate([1], [30], [1], [30]) is None
