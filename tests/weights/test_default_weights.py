"""The embedded weights: their maps and their scores."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.objects import scene
from helpers.training_data import write_png

from tinyhd_cli import load_model, predict, weights
from tinyhd_cli.video.reader import VideoReader

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

FRAME = 12
"""Frame of the example clip, counted from 0."""

EXPECTED = {
    (67, 212): 0.192092,  # on the face of the portrait, near the maximum
    (60, 200): 0.092122,
    (96, 128): 0.005276,
    (150, 60): 0.000367,
    (180, 240): 0.000305,
    (20, 30): 0.000340,
}
"""Values of the map of that frame, by row and column."""


@pytest.fixture(scope="module")
def model():
    return load_model(engine="torch", device="cpu")


def test_the_default_is_embedded_and_matches_the_registry():
    info, located = weights.inspect(weights.default_name())
    assert located is not None
    assert located.source == "embedded"
    assert weights.verify(info.name).state == "ok"
    assert info.license == "Apache-2.0"
    assert info.scores["NSS"] > 2
    assert "# tinyhd-m-quarter.v3" in weights.card(info)


def test_maps_of_the_example_clip(model):
    maps = [m for _, m in itertools.islice(predict(EXAMPLES / "gallery.mp4", model=model), 16)]
    found = {pixel: float(maps[FRAME][pixel]) for pixel in EXPECTED}
    assert found == pytest.approx(EXPECTED, rel=2e-3)


def test_a_static_clip_does_not_flicker(model):
    """The mean change between maps is below 1 % of their range, also between windows."""
    with VideoReader(EXAMPLES / "gallery.mp4") as reader:
        static = model.prepare(next(iter(reader)).rgb())
    maps = np.stack([m for _, m in model.maps((number, static) for number in range(40))])
    assert np.abs(np.diff(maps, axis=0)).mean() < 0.01 * np.ptp(maps)


def test_scores_exceed_those_of_a_center_bias(shared, tinyhd):
    """The video shows a diver off the center. A Gaussian at the center scores CC 0.40 and NSS 1.97."""
    root = shared / "data" / "val" / "ucfsports"
    assert tinyhd("evaluate", "--dataset", "ucf-sports", "--root", root, "--json", "scores.json", "--quiet") == 0
    mean = json.loads(Path("scores.json").read_text())["mean"]
    assert mean["CC"] > 0.55
    assert mean["NSS"] > 2.8


@pytest.mark.parametrize(
    ("name", "parameters"), [("uva-64.v1", 169_460), ("uva-32.v1", 169_460), ("stkd-lite.v1", 2_103_914)]
)
def test_further_weights_are_embedded(name, parameters):
    info, located = weights.inspect(name)
    assert located is not None
    assert located.source == "embedded"
    assert weights.verify(name).state == "ok"
    assert info.license == "Apache-2.0"
    assert info.parameters == parameters
    assert f"# {name}" in weights.card(info)
    assert weights.inspect(name.partition(".")[0])[0] == info


@pytest.mark.parametrize(("name", "nss"), [("uva-64", 2.4), ("uva-32", 2.0)])
def test_scores_of_uva_net(shared, tinyhd, name, nss):
    """The video shows a diver off the center. A Gaussian at the center scores CC 0.40 and NSS 1.97."""
    root = shared / "data" / "val" / "ucfsports"
    arguments = ["--dataset", "ucf-sports", "--root", root, "--model", name, "--json", "scores.json", "--quiet"]
    assert tinyhd("evaluate", *arguments) == 0
    mean = json.loads(Path("scores.json").read_text())["mean"]
    assert mean["CC"] > 0.45
    assert mean["NSS"] > nss


def test_the_object_is_found(tinyhd):
    """A photograph of a disc on a plain ground: the mask is the disc, and its surroundings stay empty."""
    image, mask = scene(7, 320, 240)
    write_png(Path("photo.png"), image)
    assert tinyhd("predict", "photo.png", "--model", "stkd-lite", "--npz", "map.npz", "--quiet") == 0
    with np.load("map.npz") as arrays:
        probability = arrays["saliency"][0]
    inside = cv2.resize(mask, probability.shape[::-1], interpolation=cv2.INTER_AREA) > 127
    found = probability > 0.5
    assert (found & inside).sum() > 0.8 * (found | inside).sum()
    assert probability[~inside].mean() < 0.1
