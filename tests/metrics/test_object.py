"""Metrics of salient objects are compared with the reference library, with plain definitions, and in extreme cases."""

from __future__ import annotations

import importlib
import json
import sys

import cv2
import numpy as np
import pytest

from tinyhd_cli.errors import InputError
from tinyhd_cli.metrics import (
    OBJECT_METRICS,
    ObjectScorer,
    ObjectScores,
    object_definition,
    score_object_frame,
    weighted_f,
)
from tinyhd_cli.metrics.weighted_f import FAR

LIBRARY_NAMES = dict(
    zip(OBJECT_METRICS, "MAE F_max F_mean F_adaptive S E_max E_mean E_adaptive F_weighted".split(), strict=True)
)


@pytest.fixture(scope="module")
def reference(shared):
    """Return the inputs of the reference values as a function of the case, and the values."""
    added = [str(shared / "upstream"), str(shared / "reference")]
    sys.path[:0] = added
    try:
        case = importlib.import_module("inputs").sod_case
    finally:
        for path in added:
            sys.path.remove(path)
    return case, json.loads((shared / "reference" / "sod_metrics_expected.json").read_text())


@pytest.mark.parametrize("number", range(6))
def test_frames_of_the_reference(reference, number):
    case, expected = reference
    scores = score_object_frame(*case(number))
    assert list(scores) == list(OBJECT_METRICS)
    for name, theirs in LIBRARY_NAMES.items():
        assert scores[name] == pytest.approx(expected[f"case{number}"][theirs], abs=1e-6), name


def test_set_of_the_reference(reference):
    """Over several frames, curves are averaged before the maximum; STDistill averages precision and recall."""
    case, values = reference
    expected = values["set of cases 0-2"]
    scores, stdistill = ObjectScores(), ObjectScores("stdistill")
    for number in range(3):
        scores.add(*case(number))
        stdistill.add(*case(number))
    compared = {name: theirs for name, theirs in LIBRARY_NAMES.items() if theirs in expected}
    assert len(compared) == 7
    for name, theirs in compared.items():
        assert scores.means()[name] == pytest.approx(expected[theirs], abs=1e-6), name
    assert scores.means()["maxF"] < np.mean([frame["maxF"] for frame in scores.frames])
    assert stdistill.means() == pytest.approx(
        {"MAE": expected["MAE_stdistill"], "maxF": expected["F_max_stdistill"]}, abs=1e-6
    )


def random_case(rng):
    """Return a small map and a mask: noise or blobs, coarse or fine, with few or many values."""
    size = tuple(rng.integers(1, 40, 2))
    coarse = rng.random((-(-size[0] // 6), -(-size[1] // 6))) < rng.choice([0.1, 0.5, 0.9])
    mask = np.kron(coarse, np.ones((6, 6), bool))[: size[0], : size[1]]
    if rng.random() < 0.5:
        mask = mask ^ (rng.random(size) < 0.05)
    noise = rng.random(size) * rng.choice([0.2, 1])
    prediction = np.clip(0.5 * mask + noise - rng.choice([0, 0.3]), 0, 1)
    steps = rng.choice([2, 10, 255])
    return (np.round(prediction * steps) * (255 / steps)).astype(np.uint8), mask


@pytest.fixture(params=["compiled", "OpenCV"])
def each_way(request, monkeypatch):
    """Compute weighted F with the compiled function, whatever the map is, and without it."""
    if request.param == "OpenCV":
        monkeypatch.setattr(weighted_f, "library", lambda: None)
    elif weighted_f.library() is None:
        pytest.skip("weighted_f.c is not compiled here")
    monkeypatch.setattr(weighted_f, "MAX_ALARMS", 2)


def test_random_maps_against_the_definitions(each_way):
    rng = np.random.default_rng(0)
    for number in range(150):
        prediction, mask = random_case(rng)
        expected = object_definition.score(prediction, mask)
        assert score_object_frame(prediction, mask) == pytest.approx(expected, abs=1e-6), number


def test_a_frame_larger_than_the_reach_of_weighted_f(each_way):
    """Pixels farther than ``FAR`` from the mask have the full weight; nearest pixels are exact at all borders."""
    rng = np.random.default_rng(1)
    mask = np.zeros((70, 3 * FAR), bool)
    mask[:9, :12] = mask[-3:, 30] = mask[40, 25:60] = True
    prediction = rng.integers(0, 256, mask.shape).astype(np.uint8)
    for maps in ((prediction, mask), (prediction[::-1, ::-1], mask[::-1, ::-1]), (prediction // 2 + 64, mask)):
        assert score_object_frame(*maps)["wF"] == pytest.approx(object_definition.score(*maps)["wF"], abs=1e-6)


EXTREMES = {
    "empty mask": (lambda p: p, lambda g: np.zeros_like(g)),
    "full mask": (lambda p: p, lambda g: np.ones_like(g)),
    "empty map": (np.zeros_like, lambda g: g),
    "full map": (lambda p: np.full_like(p, 255), lambda g: g),
    "gray map": (lambda p: np.full_like(p, 100), lambda g: g),
    "both empty": (np.zeros_like, np.zeros_like),
    "both full": (lambda p: np.full_like(p, 255), np.ones_like),
    "one pixel of the mask": (lambda p: p, lambda g: np.arange(g.size).reshape(g.shape) == 5),
    "all but one pixel": (lambda p: p, lambda g: np.arange(g.size).reshape(g.shape) != g.size - 1),
    "perfect": (lambda p: p // 128 * 255, lambda g: g),
    "one row": (lambda p: p[:1], lambda g: g[:1]),
    "one pixel": (lambda p: p[:1, :1], lambda g: g[:1, :1]),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_cases(name):
    rng = np.random.default_rng(2)
    prediction = rng.integers(0, 256, (24, 31)).astype(np.uint8)
    change_prediction, change_mask = EXTREMES[name]
    mask = change_mask(prediction > 127)
    prediction = change_prediction(prediction)
    with np.errstate(all="raise"):
        scores = score_object_frame(prediction, mask)
    most = mask.size / max(mask.size - 1, 1)  # of the E-measure, as in the library
    assert all(0 <= score <= most for score in scores.values())
    assert scores == pytest.approx(object_definition.score(prediction, mask), abs=1e-6)
    if name == "perfect":
        perfect = {**dict.fromkeys(OBJECT_METRICS, 1), "MAE": 0}
        perfect["meanF"], perfect["meanE"] = scores["meanF"], scores["meanE"]  # p >= 0 is true everywhere
        assert scores == pytest.approx(perfect, abs=2e-3)


def test_masks_and_maps_of_other_types():
    """0/1 masks, 0/255 masks and Boolean ones are equal; probabilities are rounded to 8 bits."""
    rng = np.random.default_rng(3)
    prediction = rng.integers(0, 256, (20, 30)).astype(np.uint8)
    mask = prediction > 90
    expected = score_object_frame(prediction, mask)
    for other in (mask.astype(np.uint8), mask.astype(np.uint8) * 255, mask.astype(float), mask[:, ::-1][:, ::-1]):
        assert score_object_frame(prediction, other) == expected
    for other in ((prediction / 255).astype(np.float32), prediction / 255, prediction[:, ::-1][:, ::-1]):
        assert score_object_frame(other, mask) == expected
    stretched = (prediction.astype(float) - prediction.min()) * 1000 - 500
    assert score_object_frame(stretched, mask) == pytest.approx(expected, abs=5e-3)


def test_another_size_is_resized_bilinearly():
    rng = np.random.default_rng(4)
    small = rng.random((9, 16)).astype(np.float32)
    mask = cv2.resize(small, (64, 36)) > 0.5
    large = cv2.resize(small, (64, 36), interpolation=cv2.INTER_LINEAR)
    assert score_object_frame(small, mask) == score_object_frame(large, mask)


@pytest.mark.parametrize(
    ("prediction", "mask", "message"),
    [
        (np.zeros((4, 4, 3)), np.zeros((4, 4)), "prediction: must be"),
        (np.zeros((4, 4)), np.zeros(4), "mask: must be"),
        (np.full((4, 4), np.nan), np.zeros((4, 4)), "NaN or infinity"),
        (np.full((4, 4), np.inf), np.zeros((4, 4)), "NaN or infinity"),
    ],
)
def test_unusable_input(prediction, mask, message):
    with pytest.raises(InputError, match=message):
        score_object_frame(prediction, mask)


@pytest.mark.parametrize("protocol", ["object", "stdistill"])
def test_accumulators_can_be_merged(protocol):
    """Scores of processes or videos are those of all their frames together."""
    rng = np.random.default_rng(5)
    frames = [random_case(rng) for _ in range(7)]
    whole, first, second = (ObjectScores(protocol) for _ in range(3))
    assert whole.means() == {}
    for number, frame in enumerate(frames):
        whole.add(*frame)
        (first if number < 3 else second).add(*frame)
    first.merge(second)
    first.merge(ObjectScores(protocol))
    assert first.frames == whole.frames
    assert first.means() == pytest.approx(whole.means(), rel=1e-12)
    with pytest.raises(ValueError, match="protocols"):
        first.merge(ObjectScores("object" if protocol == "stdistill" else "stdistill"))


def test_curves_of_one_frame_are_those_of_its_scores():
    rng = np.random.default_rng(6)
    prediction, mask = rng.integers(0, 256, (30, 20)), rng.random((30, 20)) < 0.3
    scorer, scores = ObjectScorer(prediction.astype(np.uint8), mask), ObjectScores()
    assert scores.add(prediction.astype(np.uint8), mask) == scorer.scores() == pytest.approx(scores.means())
    assert scorer.f_curve.shape == scorer.e_curve.shape == (256,)
