"""Evaluate, train and distill on CrowdSAL, NTIRE 2026 and AViMoS, with portrait videos beside landscape ones."""

from __future__ import annotations

import csv
import json

import cv2
import numpy as np
import pytest
from helpers import crowdsal
from helpers.networks import lively
from helpers.training_data import OPTIONS, SIZE

from tinyhd_cli import weights
from tinyhd_cli.datasets import open_dataset
from tinyhd_cli.errors import InputError
from tinyhd_cli.models import named_spec
from tinyhd_cli.training.clip_cache import decode, form_of, key_of

LAYOUTS = ("crowdsal", "ntire2026", "avimos")

FRAMES = 5

FORM = form_of(named_spec("tinyhd-s-quarter"))


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Return a folder with a dataset in each layout; in that of CrowdSAL, half of the videos are portrait."""
    root = tmp_path_factory.mktemp("datasets")
    for layout in LAYOUTS:
        crowdsal.make(layout, root / layout, videos=4, frames=FRAMES, portrait=2 if layout == "crowdsal" else 1)
    return root


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Return a weights file of a network with a small input."""
    network = lively("tinyhd-m-quarter")
    path = tmp_path_factory.mktemp("weights") / "teacher.safetensors"
    weights.save(path, network.state_dict(), network.spec, input_size=SIZE)
    return path


def decoded(video, root):
    """Return a video as decoded for training, in the size of the tests."""
    return decode(video, root, SIZE, FORM.preprocess)


def losses(out):
    """Return the losses of the training steps of a run."""
    with (out / "log.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["split"] == "train"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_evaluate(datasets, teacher, tmp_path, tinyhd, layout):
    """Every frame of landscape and portrait videos is scored; the density maps themselves have the best scores."""
    command = ["evaluate", "--dataset", layout, "--root", datasets / layout, "--workers", "1", "--quiet"]
    assert tinyhd(*command, "--weights", teacher, "--device", "cpu", "--json", "scores.json") == 0
    maps = {video.name: video.density_video for video in open_dataset(layout, datasets / layout).videos}
    for name, path in maps.items():
        (tmp_path / f"{name}.mp4").symlink_to(path)
    assert tinyhd(*command, "--pred-dir", tmp_path, "--json", "best.json") == 0
    scores, best = (json.loads((tmp_path / "here" / name).read_text()) for name in ("scores.json", "best.json"))
    for found in (scores, best):
        assert found["frames"]["scored"] == len(maps) * FRAMES
        assert {"CC", "SIM", "NSS", "AUC-J"} <= set(found["mean"])
    assert best["mean"]["CC"] > 0.99 > scores["mean"]["CC"]
    assert best["mean"]["NSS"] > 1 > scores["mean"]["NSS"]


def test_clips_for_training(datasets, tmp_path):
    """Stored maps are the resized density maps with black at zero; fixations keep their place in portrait videos."""
    videos = open_dataset("crowdsal", datasets / "crowdsal", "train").videos
    for video, size in zip(videos, [crowdsal.SIZE] * 2 + [crowdsal.SIZE[::-1]] * 2, strict=True):
        stored = decoded(video, tmp_path)
        assert (stored.frames, stored.size, stored.labeled) == (FRAMES, SIZE, True)
        for index in range(FRAMES):
            points = crowdsal.fixations(video.name, index + 1, size)
            density = cv2.resize(
                crowdsal.density(points, size).astype(np.float32), SIZE[::-1], interpolation=cv2.INTER_AREA
            )
            expected = np.rint(density * 255 / density.max())
            np.testing.assert_allclose(stored.ground_truth("density")[index], expected, atol=1)
            pixels = {(row * SIZE[0] // size[1], column * SIZE[1] // size[0]) for row, column in points}
            assert {tuple(place) for place in np.argwhere(stored.ground_truth("fixation")[index])} == pixels


def test_maps_with_a_pedestal(datasets, tmp_path):
    """Black of limited range, 64 of 1023, is not part of the target."""
    video = open_dataset("crowdsal", datasets / "crowdsal", "train").videos[0]
    plain = decoded(video, tmp_path).ground_truth("density")[:]
    key, original = key_of(video, SIZE, FORM.preprocess), video.density_video.read_bytes()
    try:
        video.density_video.unlink()
        maps = (crowdsal.density(crowdsal.fixations(video.name, n + 1)) for n in range(FRAMES))
        crowdsal.write_maps(
            video.density_video, (64 + (values * (876 / 1023)).round().astype(np.uint16) for values in maps)
        )
        assert key_of(video, SIZE, FORM.preprocess) != key
        np.testing.assert_allclose(decoded(video, tmp_path).ground_truth("density"), plain, atol=1)
        video.density_video.write_bytes(b"<html>404</html>")
        damaged = open_dataset("crowdsal", datasets / "crowdsal", "train").videos[0]
        with pytest.raises(InputError, match=r"0001\.mp4: not a video that FFmpeg can read"):
            decoded(damaged, tmp_path)
    finally:
        video.density_video.write_bytes(original)


def train(tinyhd, datasets, layouts, out, *options):
    """Train for four steps on datasets and return the losses."""
    data = [argument for layout in layouts for argument in ("--data", f"{layout}:{datasets / layout}")]
    command = ["distill" if "--teacher" in options else "train", *data, "--model", "tinyhd-s-quarter", "--steps", "4"]
    assert tinyhd(*command, *OPTIONS, "--batch-size", "1", *options, "--out", out) == 0
    return losses(out)


@pytest.mark.parametrize("layouts", [LAYOUTS, *(pytest.param((layout,), marks=pytest.mark.slow) for layout in LAYOUTS)])
def test_train_and_distill(datasets, teacher, tmp_path, tinyhd, layouts):
    trained = train(tinyhd, datasets, layouts, tmp_path / "trained")
    distilled = train(tinyhd, datasets, layouts, tmp_path / "distilled", "--teacher", teacher)
    assert len(trained) == len(distilled) == 4
    assert np.isfinite([trained, distilled]).all()
    assert trained != distilled
    info, _ = weights.inspect(tmp_path / "distilled" / "best.safetensors")
    assert all(str(datasets / layout) in info.training_data for layout in layouts)
