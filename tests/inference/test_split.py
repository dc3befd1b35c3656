"""Videos that are predicted in parts have exactly the results of the whole video."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers import clips
from helpers.networks import lively

from tinyhd_cli import weights
from tinyhd_cli.inference import Outputs, PredictOptions, load_model, predict_file
from tinyhd_cli.inference.split_join import join_parts
from tinyhd_cli.inference.split_part import predict_part
from tinyhd_cli.inference.split_plan import make_parts, read_plan, replan

AREAS = ("left=0%,0%,40%,100%", "disc=30%,40%,40%,40%")


def predict_in_parts(video, model, outputs, options, seconds, without_index=False):
    """Predict a video in parts, one after the other, and return the summary and the number of parts."""
    parts = make_parts(video, outputs, options, seconds, seconds, "test", keep=False)
    if without_index:
        parts = replan(parts, read_plan(parts[0].folder))
    for only_maps in (True, False) if parts[0].passes > 1 else (False,):
        parts = [replace(part, only_maps=only_maps) for part in parts]
        for part in parts:
            predict_part(video, part, model, outputs, options)
    return join_parts(video, parts, outputs, options), len(parts)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Return a clip of 100 frames at a variable rate, with audio, B-frames and a keyframe every 12 frames."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return clips.make(path, frames=101, durations=(20, 17, 31), audio="aac", options={"g": "12", "bf": "3"})


def small(folder, name):
    """Return a model of a network with random weights and small maps."""
    network = lively(name)
    path = folder / f"{name}.safetensors"
    weights.save(path, network.state_dict(), network.spec.with_size((64, 64)))
    return load_model(path, "cpu", engine="torch", precision="float32")


LARGE = ("tinyhd-s-quarter", "hd2s", "thtdnet", "stkd-pair", "stkd")
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in LARGE]


@pytest.mark.parametrize("name", ["tinyhd-m-quarter", "uva-32", *SLOW])
def test_maps_of_each_family(tmp_path, clip, name):
    model = small(tmp_path, name)
    paths = {
        kind: Outputs(npz=tmp_path / kind / "maps.npz", csv=tmp_path / kind / "maps.csv") for kind in ("whole", "parts")
    }
    predict_file(clip, model, paths["whole"])
    summary, count = predict_in_parts(clip, model, paths["parts"], PredictOptions(), 1.0)
    assert (summary.frames, count) == (101, 4)
    for kind in ("npz", "csv"):
        assert getattr(paths["whole"], kind).read_bytes() == getattr(paths["parts"], kind).read_bytes()
