"""The metrics of CrowdSAL's organizers: their own values, a definition pixel by pixel, and special cases."""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
import pytest

from tinyhd_cli.errors import InputError
from tinyhd_cli.metrics import auc, score_frame
from tinyhd_cli.metrics.crowdsal import CrowdsalScorer, at_least

METRICS = ["AUC-J", "CC", "NSS", "SIM"]


def score(*inputs):
    return score_frame(*inputs, protocol="crowdsal")


def frame(rng, size, prediction_size, kind, count):
    """Return a random smooth prediction, a density of type ``kind``, and ``count`` fixations, some of them repeated."""
    height, width = size
    maps = [cv2.GaussianBlur(rng.random(shape), (0, 0), 2) for shape in (prediction_size, size)]
    prediction, density = (values - values.min() for values in maps)
    prediction = np.round(prediction * (255 / prediction.max())).astype(np.uint8)
    density = np.round(density * (np.iinfo(kind).max / density.max())).astype(kind)
    points = np.stack([rng.integers(0, height, count), rng.integers(0, width, count)], axis=1)
    points[: count // 5] = points[0]
    return prediction, density, points


def stretched(rows):
    low, high = min(map(min, rows)), max(map(max, rows))
    return [[(value - low) / (high - low + 2**-23) for value in row] for row in rows]


def enlarged(rows, height, width):
    """Resize bilinearly, with the centers of pixels at halves and repeated borders."""

    def taps(n, old):
        for at in range(n):
            place = min(max((at + 0.5) * old / n - 0.5, 0), old - 1)
            yield int(place), min(int(place) + 1, old - 1), place - int(place)

    return [
        [
            (1 - v) * ((1 - u) * rows[top][left] + u * rows[top][right])
            + v * ((1 - u) * rows[bottom][left] + u * rows[bottom][right])
            for left, right, u in taps(width, len(rows[0]))
        ]
        for top, bottom, v in taps(height, len(rows))
    ]


def standardized(values):
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    return [(value - mean) / (deviation + 1e-7) for value in values]


def definition(prediction, density, points):
    """Return the metrics as the organizers define them, in plain Python."""
    height, width = len(density), len(density[0])
    rows = enlarged(stretched(prediction.tolist()), height, width)
    p, d = (list(itertools.chain.from_iterable(values)) for values in (rows, stretched(density.tolist())))
    n = len(points)
    zp, zd = standardized(p), standardized(d)
    energy = math.fsum(z * z for z in zp) * math.fsum(z * z for z in zd)
    sums = math.fsum(p) + 1e-7, math.fsum(d) + 1e-7
    hits, false_alarms = [0.0], [0.0]
    counted = len({tuple(column) for column in points.T.tolist()})  # the slip: columns of (n, 2), not its rows
    pixels = height * width + n - counted
    for k, threshold in enumerate(sorted((rows[row][column] for row, column in points), reverse=True), start=1):
        hits.append(k / n)
        false_alarms.append((sum(value >= threshold for value in p) - k) / (pixels - n))
    curve = list(zip([*false_alarms, 1.0], [*hits, 1.0], strict=True))
    return {
        "AUC-J": sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in itertools.pairwise(curve)),
        "CC": math.fsum(a * b for a, b in zip(zp, zd, strict=True)) / math.sqrt(energy + 1e-7),
        "NSS": sum(zp[row * width + column] for row, column in points) / n,
        "SIM": math.fsum(min(a / sums[0], b / sums[1]) for a, b in zip(p, d, strict=True)),
    }


def test_organizers_values(shared):
    with np.load(shared / "reference" / "crowdsal" / "golden.npz") as golden:
        names = golden["metrics"].tolist()
        for case in golden["names"].tolist():
            inputs = [golden[f"{case}/{name}"] for name in ("prediction", "density", "fixations_row_col")]
            found = score(*inputs)
            assert list(found) == METRICS
            assert [found[name] for name in names] == pytest.approx(golden[f"{case}/expected"], rel=0, abs=1e-6), case


@pytest.mark.parametrize("size", [(27, 48), (48, 27)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_definition(size, kind):
    """Enlarged predictions and those of the same size have the scores of the definition in plain Python."""
    rng = np.random.default_rng(size[0])
    for prediction_size, count in (((18, 32), 40), (size, 40), (size, 1)):
        inputs = frame(rng, size, prediction_size, kind, count)
        assert score(*inputs) == pytest.approx(definition(*inputs), rel=0, abs=1e-6)


def test_the_slip():
    """AUC-J divides by the pixels but 2, or but 1 if row and column of all fixations are equal."""
    prediction = np.arange(12.0).reshape(3, 4)
    points = np.array([[2, 3], [2, 3], [0, 1]])  # the highest value twice, and the second lowest
    # False alarms at the thresholds: (1 - 1) / 10, (1 - 2) / 10, (11 - 3) / 10.
    assert score(prediction, None, points)["AUC-J"] == pytest.approx(-0.1 * 0.5 + 0.9 * 5 / 6 + 0.2)
    assert score(prediction, None, np.array([[2, 2]]))["AUC-J"] == pytest.approx(
        (12 - 1 - 1) / 11 / 2 * 0 + 1 - 0.5 / 11
    )


def test_repeated_fixations_count():
    rng = np.random.default_rng(0)
    prediction, density, points = frame(rng, (27, 48), (27, 48), np.uint8, 20)
    mask = np.zeros(density.shape, bool)
    mask[tuple(points.T)] = True
    once = np.argwhere(mask)
    assert len(once) < len(points)
    assert score(prediction, density, mask) == score(prediction, density, once)
    assert score(prediction, density, mask * np.uint8(255)) == score(prediction, density, once)
    assert score(prediction, density, points)["NSS"] != score(prediction, density, once)["NSS"]


@pytest.mark.parametrize("tables_of_16_bits", [True, False])
def test_large_maps_are_counted_exactly(monkeypatch, tables_of_16_bits):
    """The histogram of large maps gives the counts of a sort, for values next to each other and for equal ones, too."""
    if not tables_of_16_bits:  # before OpenCV 5

        def refuse(*inputs):
            raise cv2.error

        monkeypatch.setattr(cv2, "LUT", refuse)
    rng = np.random.default_rng(0)
    values = cv2.resize(rng.random((40, 60)).astype(np.float32), (600, 400))
    values[:100] = np.round(values[:100] * 8) / 8
    values[0, :2] = 0, 1
    limits = np.concatenate([values[50, :40], values[300, ::7], np.nextafter(values[300, :5], 1), [0.0, 1.0]])
    limits = limits.astype(np.float32)
    assert values.size >= auc.MANY
    assert at_least(values, limits).tolist() == [(values >= limit).sum() for limit in limits]
    levels = (values * 65535).astype(np.uint16)
    assert at_least(levels, levels[50]).tolist() == [(levels >= limit).sum() for limit in levels[50]]


def test_scale_and_type_of_the_maps_do_not_matter():
    prediction, density, points = frame(np.random.default_rng(1), (30, 40), (20, 25), np.uint8, 30)
    expected = score(prediction, density, points)
    for change in (
        lambda p: p.astype(np.uint16) * 4 + 64,  # limited range, 10 bits
        lambda p: p.astype(np.float32) / 255,
        lambda p: p / 1e12,  # a distribution over many pixels
        lambda p: p.astype(np.int32) - 1000,
    ):
        assert score(change(prediction), change(density), points) == pytest.approx(expected, abs=1e-6)


def test_special_maps():
    prediction, density, points = frame(np.random.default_rng(2), (30, 40), (30, 40), np.uint8, 30)
    constant = score(np.full((3, 4), 7), density, points)
    assert (constant["CC"], constant["SIM"], constant["NSS"]) == (0, 0, 0)
    assert constant["AUC-J"] < 0.05
    assert CrowdsalScorer(np.full((3, 4), 7), density).constant
    assert score(density, density)["CC"] == pytest.approx(1) and score(density, density)["SIM"] == pytest.approx(1)
    assert all(map(math.isnan, score(np.full((3, 4), np.nan), density, points).values()))
    assert list(score(prediction, density)) == ["CC", "SIM"] and list(score(prediction, None, points)) == [
        "AUC-J",
        "NSS",
    ]
    without = score(prediction, density, np.zeros((0, 2), int))
    assert math.isnan(without["AUC-J"]) and math.isnan(without["NSS"]) and without["CC"] > -1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"fixation": np.array([[1, 2], [30, 4]])}, "row 30, column 4 is outside of the map, 40 x 30 pixels"),
        ({"fixation": np.array([[-1, 2]])}, "row -1"),
        ({"fixation": np.zeros((5, 3), int)}, r"must be integers of shape \(n, 2\)"),
        ({"fixation": np.array([[1.0, 2.0]])}, "not float64"),
        ({"fixation": np.zeros((20, 40), bool)}, "must have the same size"),
        ({"baseline": np.ones((30, 40))}, "has no s-AUC, IG"),
        ({"protocol": "crowdsall"}, "did you mean crowdsal"),
        ({"prediction": np.zeros((2, 3, 4))}, "prediction: must be"),
    ],
)
def test_wrong_arguments(changed, message):
    prediction, density, points = frame(np.random.default_rng(3), (30, 40), (30, 40), np.uint8, 3)
    given = {"prediction": prediction, "density": density, "fixation": points, "protocol": "crowdsal"}
    with pytest.raises(InputError, match=message):
        score_frame(**(given | changed))
