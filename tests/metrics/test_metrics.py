"""Metrics of one frame are compared with the results of the MATLAB code, with brute force, and with their definitions.

``metrics_golden.npz`` contains results of the MATLAB code of cvzoya/saliency (commit 5951cdc), which the DHF1K
benchmark uses, computed in GNU Octave: ``<case>/expected`` in the order of ``METRICS``, with the exact expectations of
the three AUCs, and ``<case>/octave``, 60 runs of the random procedures of the AUCs.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from tinyhd_cli.errors import InputError
from tinyhd_cli.evaluation.results import Results
from tinyhd_cli.evaluation.scoring import VideoScores
from tinyhd_cli.metrics import METRICS, FrameScorer, auc, resize, score_frame
from tinyhd_cli.metrics.auc import THRESHOLDS

GOLDEN = np.load(Path(__file__).with_name("metrics_golden.npz"))
CASES = sorted({name.split("/")[0] for name in GOLDEN.files if name.endswith("/expected")})
AUCS = METRICS[:3]

ROUNDING = 1e-12
"""Tolerance for rounding errors of sums over about ten thousand pixels, for values that should be 0."""


def golden(case):
    """Return the arguments of ``score_frame``, the expected scores, and the random scores of the MATLAB code."""
    inputs = [GOLDEN[f"{case}/{name}"] for name in ("pred", "dens", "fix", "other")]
    expected = dict(zip(METRICS, GOLDEN[f"{case}/expected"].tolist(), strict=True))
    return (*inputs, GOLDEN["base"]), expected, dict(zip(AUCS, GOLDEN[f"{case}/octave"], strict=True))


SHARED_CASES = ("dhf1k_u8", "one_fixation", "one_nan_pixel")
"""Cases that are too large for the repository."""

SHARED_NAMES = dict(zip(METRICS, "AUCJ AUCB sAUC CC NSS SIM KLDiv IG".split(), strict=True))


def shared_golden(shared, case):
    with np.load(shared / "metrics" / "golden.npz") as values:
        inputs = tuple(values[f"{case}/{name}"] for name in ("pred", "dens", "fix", "other", "base"))
        expected = {metric: float(values[f"{case}/expected/{name}"]) for metric, name in SHARED_NAMES.items()}
        return inputs, expected, {name: values[f"{case}/octave/{SHARED_NAMES[name]}"] for name in AUCS}


def assert_scores(scores, expected):
    assert list(scores) == list(expected)
    for name, score in expected.items():
        noise = ROUNDING if abs(score) < 1e-6 else 0
        assert scores[name] == pytest.approx(score, rel=1e-9, abs=noise, nan_ok=True), name


def assert_mean(draws, expected):
    """Assert that the mean of random draws is within 4 standard errors of its expectation."""
    draws = np.asarray(draws)
    if np.isnan(expected):
        assert np.isnan(draws).all()
    else:
        standard_error = draws.std(ddof=1) / np.sqrt(draws.size)
        assert abs(draws.mean() - expected) <= 4 * standard_error + ROUNDING


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_matlab(case):
    inputs, expected, draws = golden(case)
    assert_scores(score_frame(*inputs), expected)
    for name in AUCS:
        assert_mean(draws[name], expected[name])


@pytest.mark.parametrize("case", SHARED_CASES)
def test_agrees_with_matlab_on_large_maps(shared, case):
    """The cases are a DHF1K frame, a single fixation, and a map with one NaN.

    For the map with NaN, Octave computes AUCs, whereas ``score_frame`` returns NaN.
    """
    inputs, expected, draws = shared_golden(shared, case)
    assert_scores(score_frame(*inputs), expected)
    if case != "one_nan_pixel":
        for name in AUCS:
            assert_mean(draws[name], expected[name])


@pytest.mark.parametrize("case", CASES)
def test_mean_of_the_random_procedure_is_the_exact_value(case):
    (prediction, _, fixation, other, _), expected, _ = golden(case)
    runs = [score_frame(prediction, None, fixation, other, rng=np.random.default_rng(seed)) for seed in range(20)]
    for name in AUCS:
        assert_mean([run[name] for run in runs], expected[name])


@pytest.mark.parametrize("case", ["ties_5levels", "sparse_zeros"])
def test_random_procedure_has_the_standard_deviation_of_matlab(case):
    """60 runs of both have a similar standard deviation, so the number of negatives and of splits is the same."""
    (prediction, _, fixation, other, _), _, octave = golden(case)
    runs = [score_frame(prediction, None, fixation, other, rng=np.random.default_rng(seed)) for seed in range(60)]
    for name in AUCS:
        assert 0.7 < np.std([run[name] for run in runs]) / np.std(octave[name]) < 1.4, name


def test_borji_draws_pixels_with_replacement():
    """Without replacement, drawing as many negatives as pixels would not be random."""
    prediction = np.arange(12).reshape(3, 4)
    everywhere = np.ones((3, 4))
    runs = {score_frame(prediction, None, everywhere, rng=np.random.default_rng(seed))["AUC-B"] for seed in range(5)}
    assert len(runs) == 5


def test_random_procedure_is_reproducible_with_a_seed():
    (prediction, density, fixation, other, base), expected, _ = golden("ties_5levels")
    first, again, another = (
        score_frame(prediction, density, fixation, other, base, rng=np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    assert first == again
    assert all(first[name] != another[name] for name in AUCS)
    assert_scores({name: first[name] for name in METRICS[3:]}, {name: expected[name] for name in METRICS[3:]})


# --- independent computations


def small_frames(count=40):
    """Yield small random maps with many ties: prediction, density, fixation and other fixations."""
    rng = np.random.default_rng(2023)
    for _ in range(count):
        height, width = rng.integers(3, 9, 2)
        levels = int(rng.choice([2, 3, 6, 200]))
        prediction = rng.integers(0, levels, (height, width)).astype(np.uint8)
        prediction.flat[rng.choice(prediction.size, 2, replace=False)] = 0, levels  # never constant
        density = rng.integers(0, 256, (height, width)).astype(np.uint8)
        fixation, other = rng.random((2, height, width)) < rng.uniform(0.1, 0.6)
        fixation.flat[:2], fixation.flat[2] = True, False
        other.flat[-1] = True
        yield prediction, density, fixation, other


def area(points):
    """Return the area under a curve through points, in this order."""
    return sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in itertools.pairwise(points))


def judd_of_distinct(values, fixation):
    """Return AUC-Judd of a map without ties, by its definition."""
    thresholds = sorted(values[fixation], reverse=True)
    n, others = len(thresholds), int((~fixation).sum())
    points = [(((values >= t).sum() - i) / others, i / n) for i, t in enumerate(thresholds, 1)]
    return area([(0, 0), *points, (1, 1)])


def test_judd_is_the_mean_over_all_orders_of_tied_pixels():
    """With the jitter, every order of the tied pixels is equally likely; this test enumerates them."""
    prediction = np.array([[3, 1, 1], [0, 1, 1]])
    fixation = np.array([[0, 1, 0], [0, 1, 0]], bool)
    tied = np.argwhere(prediction == 1)
    areas = []
    for order in itertools.permutations(range(len(tied))):
        jittered = prediction.astype(float)
        jittered[tuple(tied.T)] += np.array(order) / 100
        areas.append(judd_of_distinct(jittered, fixation))
    assert score_frame(prediction, None, fixation)["AUC-J"] == pytest.approx(np.mean(areas), rel=1e-12)


def test_judd_agrees_with_the_mean_over_jitters():
    rng = np.random.default_rng(7)
    for prediction, _, fixation, _ in small_frames(6):
        jitters = rng.random((2000, *prediction.shape)) / 1000
        assert_mean(
            [judd_of_distinct(prediction + jitter, fixation) for jitter in jitters],
            score_frame(prediction, None, fixation)["AUC-J"],
        )


def test_judd_without_ties_agrees_with_its_definition():
    rng = np.random.default_rng(8)
    for _, _, fixation, _ in small_frames(20):
        prediction = rng.random(fixation.shape)
        expected = judd_of_distinct(prediction, fixation)
        assert score_frame(prediction, None, fixation)["AUC-J"] == pytest.approx(expected, rel=1e-12)


def test_borji_and_shuffled_agree_with_brute_force():
    """The expected false alarm rate is the rate over all pixels from which negatives are drawn."""
    for prediction, _, fixation, other in small_frames():
        scaled = (prediction - float(prediction.min())) / float(np.ptp(prediction))
        scores = score_frame(prediction, None, fixation, other)
        for name, negatives in (("AUC-B", scaled.ravel()), ("s-AUC", scaled[other])):
            rates = [
                (np.mean([v >= t for v in negatives]), np.mean([v >= t for v in scaled[fixation]]))
                for t in reversed(THRESHOLDS)
            ]
            assert scores[name] == pytest.approx(area([(0, 0), *rates, (1, 1)]), rel=1e-12)


def test_8_bit_maps_have_the_scores_of_the_same_values_in_float():
    for prediction, density, fixation, other in small_frames():
        base = density[::-1]
        fast = score_frame(prediction, density, fixation, other, base)
        for kind in (np.float32, np.float64, np.int32, np.uint16):
            same = score_frame(prediction.astype(kind), density.astype(kind), fixation, other, base.astype(kind))
            assert same == pytest.approx(fast, rel=1e-9, abs=ROUNDING), kind


def test_metrics_do_not_depend_on_the_scale_and_judd_only_on_the_order():
    for prediction, density, fixation, other in small_frames(10):
        base = density[:, ::-1]
        scores = score_frame(prediction, density, fixation, other, base)
        scaled = score_frame(prediction / 64, density / 255, fixation * 255, other, base * 1e-3)
        assert scaled == pytest.approx(scores, rel=1e-9, abs=ROUNDING)
        nonlinear = score_frame(prediction.astype(float) ** 3 + 2, None, fixation)
        assert nonlinear["AUC-J"] == pytest.approx(scores["AUC-J"], rel=1e-12)


def to_distribution(values):
    scaled = (values - values.min()) / (values.max() - values.min())
    return scaled / scaled.sum()


def test_map_metrics_agree_with_their_definitions():
    rng = np.random.default_rng(9)
    eps = 2.0**-52
    for prediction, density, fixation, _ in small_frames():
        p, g, b = prediction.astype(float), density.astype(float), rng.random(prediction.shape)
        scores = score_frame(prediction, density, fixation, None, b)
        assert scores["CC"] == pytest.approx(np.corrcoef(p.ravel(), g.ravel())[0, 1], rel=1e-9)
        assert scores["NSS"] == pytest.approx(((p - p.mean()) / p.std(ddof=1))[fixation].mean(), rel=1e-9, abs=1e-12)
        assert scores["SIM"] == pytest.approx(np.minimum(to_distribution(p), to_distribution(g)).sum(), rel=1e-9)
        q, h = p / p.sum(), g / g.sum()
        assert scores["KLDiv"] == pytest.approx((h * np.log(eps + h / (q + eps))).sum(), rel=1e-9)
        gain = np.log2(eps + to_distribution(p)) - np.log2(eps + to_distribution(b))
        assert scores["IG"] == pytest.approx(gain[fixation].mean(), rel=1e-9)


def test_scores_of_known_maps():
    """The predictions are the density itself and its negative."""
    density = np.array([[0, 1, 2], [3, 4, 8]])
    fixation = density >= 4
    scores = score_frame(density, density, fixation, ~fixation)
    assert [scores[name] for name in ("CC", "SIM", "KLDiv")] == pytest.approx([1, 1, 0], abs=ROUNDING)
    # All fixated pixels are above all others.
    assert scores["AUC-J"] == scores["s-AUC"] == 1
    assert score_frame(8 - density, density)["CC"] == pytest.approx(-1)
    assert score_frame(8 - density, None, fixation, ~fixation)["s-AUC"] < 0.1


# --- edge cases


def some_frame(size=(12, 16), seed=1):
    rng = np.random.default_rng(seed)
    fixation, other = rng.random((2, *size)) < 0.1
    return rng.random(size), rng.random(size), fixation, other, rng.random(size)


@pytest.mark.parametrize("value", [0, 0.1, 7, 200])
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("seed", [None, 3])
def test_constant_prediction(value, kind, seed):
    """AUC-J is defined: all pixels are tied."""
    prediction, density, fixation, other, base = some_frame()
    rng = None if seed is None else np.random.default_rng(seed)
    prediction = np.full(prediction.shape, value, kind)
    comparison = FrameScorer(prediction, density, fixation, other, base, rng=rng)
    scores = comparison.scores()
    assert comparison.constant
    for name in ("CC", "NSS", "AUC-B", "s-AUC", "IG"):
        assert np.isnan(scores[name]), name
    if prediction.any():
        assert np.isnan(scores["SIM"])
        assert scores["KLDiv"] == pytest.approx(np.log(density.size) + negative_entropy(density), rel=1e-9)
    else:
        assert scores["SIM"] == 0
    if rng is None:
        n = int(fixation.sum())
        assert scores["AUC-J"] == pytest.approx(0.5 + 1 / (2 * (n + 1)))


def negative_entropy(density):
    """Return the sum of g ln g of a map that is normalized to a sum of 1."""
    g = density / density.sum()
    return float((g * np.log(g)).sum())


@pytest.mark.parametrize("value", [0.1, 7])
def test_constant_density_and_baseline(value):
    """Rounding errors of constant maps must not be correlated."""
    prediction, density, fixation, other, _ = some_frame()
    flat = np.full(density.shape, value)
    scores = score_frame(prediction, flat, fixation, other, flat)
    assert [name for name in METRICS if np.isnan(scores[name])] == ["CC", "SIM", "IG"]


@pytest.mark.parametrize("seed", [None, 3])
def test_frame_without_fixations(seed):
    """In MATLAB, SIM and KLDiv are 0 in such frames."""
    prediction, density, fixation, other, base = some_frame()
    rng = None if seed is None else np.random.default_rng(seed)
    scores = score_frame(prediction, density * 0, fixation & False, other, base, rng=rng)
    assert {name for name in METRICS if not np.isnan(scores[name])} == {"SIM", "KLDiv"}
    assert scores["SIM"] == scores["KLDiv"] == 0


@pytest.mark.parametrize("seed", [None, 3])
def test_borji_is_not_defined_for_one_fixation(seed):
    prediction, density, fixation, other, base = some_frame()
    single = np.zeros_like(fixation)
    single[3, 4] = True
    rng = None if seed is None else np.random.default_rng(seed)
    scores = score_frame(prediction, density, single, other, base, rng=rng)
    assert [name for name in METRICS if np.isnan(scores[name])] == ["AUC-B"]


@pytest.mark.parametrize("seed", [None, 3])
def test_all_pixels_fixated_and_no_other_fixations(seed):
    prediction, _, fixation, other, _ = some_frame()
    rng = None if seed is None else np.random.default_rng(seed)
    assert np.isnan(score_frame(prediction, None, fixation | True, rng=rng)["AUC-J"])
    assert np.isnan(score_frame(prediction, None, fixation, other & False, rng=rng)["s-AUC"])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [(12, 16), (6, 8)])
def test_prediction_with_nan_or_infinity_has_no_score(value, size):
    _, *truth = some_frame()
    prediction, *_ = some_frame(size)
    prediction[2, 3] = value
    comparison = FrameScorer(prediction, *truth)
    assert not comparison.finite
    scores = comparison.scores()
    assert tuple(scores) == METRICS
    assert np.isnan(list(scores.values())).all()


def test_exactly_the_metrics_whose_inputs_are_given():
    prediction, *truth = some_frame()
    needs = {
        **{"AUC-J": {1}, "AUC-B": {1}, "s-AUC": {1, 2}, "CC": {0}, "NSS": {1}},
        **{"SIM": {0}, "KLDiv": {0}, "IG": {1, 3}},
    }
    assert tuple(needs) == METRICS
    everything = score_frame(prediction, *truth)
    for given in itertools.product([False, True], repeat=4):
        inputs = [item if there else None for item, there in zip(truth, given, strict=True)]
        there = set(np.flatnonzero(given))
        expected = {name: everything[name] for name in METRICS if needs[name] <= there}
        scores = score_frame(prediction, *inputs)
        assert list(scores.items()) == list(expected.items())


# --- accepted and rejected inputs


def test_memory_layouts_and_types_of_arrays():
    """Lists, read-only arrays, views, Fortran order and big-endian arrays with the same values have the same scores."""
    rng = np.random.default_rng(4)
    arrays = [rng.integers(0, 200, (9, 14)).astype(np.uint8) for _ in range(2)]
    masks = [rng.random((9, 14)) < 0.3 for _ in range(2)]
    inputs = [*arrays, *masks, rng.random((9, 14))]
    expected = score_frame(*inputs)

    def read_only(array):
        copy = array.copy()
        copy.flags.writeable = False
        return copy

    def view(array):
        return array.repeat(2, axis=0).repeat(3, axis=1)[::2, ::3]

    def flipped(array):
        return np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1]

    for change in (read_only, view, flipped, np.asfortranarray):
        assert score_frame(*map(change, inputs)) == pytest.approx(expected, rel=1e-12), change
    assert score_frame(*(array.tolist() for array in inputs)) == pytest.approx(expected, rel=1e-9)
    big_endian = [array.astype(array.dtype.newbyteorder(">")) for array in inputs]
    assert score_frame(*big_endian) == pytest.approx(expected, rel=1e-12)
    for value in (1, 255, -1, 0.5):
        marked = [np.where(mask, value, 0) for mask in masks]
        assert score_frame(*inputs[:2], *marked, inputs[4]) == expected


def test_inputs_are_not_modified():
    inputs = some_frame()
    before = [array.copy() for array in inputs]
    score_frame(*inputs)
    score_frame(*inputs, rng=np.random.default_rng(0))
    for array, copy in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_binary_prediction():
    """A boolean map is a map with two values."""
    _, density, fixation, other, base = some_frame()
    scores = score_frame(other, density, fixation, ~other, base)
    assert scores == pytest.approx(score_frame(other.astype(float), density, fixation, ~other, base), rel=1e-12)


def test_16_bits_and_negative_integers():
    _, density, fixation, other, base = some_frame()
    prediction = np.random.default_rng(0).integers(0, 65536, fixation.shape).astype(np.uint16)
    expected = score_frame(prediction / 65535, density, fixation, other, base)
    assert score_frame(prediction, density, fixation, other, base) == pytest.approx(expected, rel=1e-9)
    lowered = prediction.astype(np.int64) - 70000
    scores = score_frame(lowered, None, fixation, other, base)
    assert scores == pytest.approx({name: expected[name] for name in scores}, rel=1e-9)


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 5, 3)), np.zeros(7), np.float64(3), np.zeros((0, 4)), np.full((2, 2), "a")]
)
@pytest.mark.parametrize("name", ["prediction", "density", "fixation", "other_fixation", "baseline"])
def test_invalid_maps_are_rejected_by_name(name, bad):
    prediction, density, fixation, other, base = some_frame()
    truth = {"density": density, "fixation": fixation, "other_fixation": other, "baseline": base}
    with pytest.raises(InputError, match=rf"^{name}: must be a numeric array of shape \(height, width\), not "):
        score_frame(**{"prediction": prediction, **truth, name: bad})


def test_ground_truth_of_different_sizes_is_rejected():
    prediction, density, fixation, other, _ = some_frame()
    with pytest.raises(
        InputError, match=r"^the maps of a frame must have the same size, not density 16 x 12, fixation 12 x 16$"
    ):
        score_frame(prediction, density, fixation.T)
    with pytest.raises(InputError, match=r"fixation 16 x 12, other_fixation 15 x 12$"):
        score_frame(prediction, None, fixation, other[:, 1:])


def test_negative_prediction_is_rejected_if_kldiv_is_computed():
    prediction, density, fixation, *_ = some_frame()
    prediction[6, 4] = -1e-6
    with pytest.raises(InputError, match=r"^prediction: has negative values, for which KLDiv is not defined$"):
        score_frame(prediction, density, fixation)
    with pytest.raises(InputError, match="has negative values"):  # before resizing, which may hide it
        score_frame(prediction[::2, ::2], density, fixation)
    assert set(score_frame(prediction, None, fixation)) == {"AUC-J", "AUC-B", "NSS"}


def test_overshoot_of_resizing_is_not_a_negative_prediction():
    prediction = np.zeros((6, 8))
    prediction[2:4, 3:5] = 1
    density = np.random.default_rng(0).random((12, 16))
    assert FrameScorer(prediction, density).prediction.min() < 0
    assert np.isfinite(score_frame(prediction, density)["KLDiv"])


# --- resizing


def test_upsampling_by_two_has_the_weights_of_matlab():
    """Output samples lie at one and three quarters between pixels, with the weights of Keys' kernel for a = -1/2."""
    near, far, behind, ahead = 0.8671875, 0.2265625, -0.0703125, -0.0234375
    row = np.array([[10.0, 20, 40, 80, 160, 320]])
    enlarged = resize(row, (1, 12))[0]
    for pixel in range(2, 4):
        left, here, right = row[0, pixel - 1], row[0, pixel], row[0, pixel + 1]
        expected = behind * right + near * here + far * left + ahead * row[0, pixel - 2]
        assert enlarged[2 * pixel] == pytest.approx(expected, rel=1e-12)
        expected = behind * left + near * here + far * right + ahead * row[0, pixel + 2]
        assert enlarged[2 * pixel + 1] == pytest.approx(expected, rel=1e-12)
    # Borders are mirrored: 10 is preceded by 10 and 20.
    assert enlarged[0] == pytest.approx(near * 10 + far * 10 + behind * 20 + ahead * 20, rel=1e-12)


def test_downsampling_by_two_is_antialiased():
    """The kernel is twice as wide, with eight taps that average a checkerboard of single pixels."""
    taps = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
    column = np.random.default_rng(2).random((16, 1))
    shrunk = resize(column, (8, 1))[:, 0]
    for row in range(2, 6):
        assert shrunk[row] == pytest.approx(taps @ column[2 * row - 3 : 2 * row + 5, 0], rel=1e-12)
    board = np.indices((32, 32)).sum(axis=0) % 2
    assert np.abs(resize(board, (8, 8))[2:-2, 2:-2] - 0.5).max() < 0.01


@pytest.mark.parametrize("size", [(5, 7), (11, 3), (40, 60), (1, 1), (13, 17)])
def test_resizing_preserves_constants_and_symmetry(size):
    np.testing.assert_allclose(resize(np.full((13, 17), 0.3), size), 0.3, rtol=1e-12)
    image = np.random.default_rng(1).random((13, 17))
    np.testing.assert_allclose(resize(image[::-1, ::-1], size), resize(image, size)[::-1, ::-1], atol=1e-12)
    np.testing.assert_allclose(resize(image.T, size[::-1]), resize(image, size).T, atol=1e-12)
    assert resize(image.astype(np.float32), size).dtype == np.float64


def test_upsampling_preserves_linear_gradients():
    """The pixel centers are aligned as in MATLAB."""
    line = np.arange(12.0)[np.newaxis]
    for width in (17, 24, 30):
        centers = (np.arange(width) + 0.5) * 12 / width - 0.5
        inside = (centers > 3) & (centers < 8)
        np.testing.assert_allclose(resize(line, (1, width))[0][inside], centers[inside], atol=1e-12)


def test_predictions_are_resized_to_the_ground_truth():
    prediction = some_frame((7, 9))[0] + 1
    _, density, fixation, other, base = some_frame()
    scores = score_frame(prediction, density, fixation, other, base)
    assert scores == pytest.approx(
        score_frame(resize(prediction, density.shape), density, fixation, other, base), rel=1e-9
    )
    small = (prediction * 100).astype(np.uint8)
    assert FrameScorer(small, density).prediction.dtype == np.float64  # between 8-bit levels, not rounded to them


# --- large maps and aggregation


def test_histograms_and_pixels_give_the_same_scores(monkeypatch):
    """Small 8-bit maps are counted with histograms, other maps pixel by pixel."""
    rng = np.random.default_rng(3)
    prediction, density = rng.integers(0, 256, (2, 90, 160)).astype(np.uint8)
    fixation = rng.random(prediction.shape) < 0.01
    shortcut = score_frame(prediction, density, fixation)
    monkeypatch.setattr(auc, "EXACT_IN_FLOAT32", 0)
    assert score_frame(prediction, density, fixation) == pytest.approx(shortcut, rel=1e-9)


def test_means_exclude_nan_and_count_it():
    """The three videos have different lengths and NaN in some frames."""
    columns = [GOLDEN[f"agg/video{index}"] for index in range(3)]
    videos = []
    for index, column in enumerate(columns):
        video = VideoScores(f"{index}")
        for number, score in enumerate(column.tolist(), 1):
            video.add(number, {"NSS": score})
        videos.append(video)
    results = Results(tuple(videos), {}, {}, {})
    everything = np.concatenate(columns)
    assert np.isnan(everything).sum() > 0
    assert results.mean()["NSS"] == pytest.approx(np.nanmean(everything), rel=1e-9)
    assert results.macro_mean()["NSS"] == pytest.approx(np.mean([np.nanmean(column) for column in columns]), rel=1e-9)
    assert results.mean()["NSS"] != pytest.approx(results.macro_mean()["NSS"], rel=1e-3)
    assert results.undefined() == {"NSS": int(np.isnan(everything).sum())}
    assert results.frames["scored"] == everything.size


def test_means_of_metrics_that_some_frames_lack():
    """The first frame has only a density, later ones have fixations, and in one video a metric is always NaN."""
    some, none = VideoScores("some"), VideoScores("none")
    some.add(1, {"CC": 0.2})
    some.add(2, {"NSS": 1.0, "CC": 0.4})
    some.add(5, {"NSS": 2.0})
    none.add(1, {"NSS": float("nan")})
    results = Results((some, none), {}, {}, {})
    assert results.metrics == ["CC", "NSS"]
    assert results.mean() == pytest.approx({"CC": 0.3, "NSS": 1.5})
    assert results.macro_mean() == pytest.approx({"CC": 0.3, "NSS": 1.5})
    assert results.undefined() == {"CC": 1, "NSS": 2}
    assert results.to_dict()["videos"]["none"]["NSS"] is None
