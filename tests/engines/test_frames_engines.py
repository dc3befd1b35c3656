"""Engines that compute the maps of many consecutive frames at once, compared with PyTorch clip by clip."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from helpers.networks import lively
from helpers.pair import PairFamily, write_pair
from torch import nn

from tinyhd_cli import load_model, models, weights
from tinyhd_cli.engines import generic, self_test
from tinyhd_cli.engines.builders import frames_batch
from tinyhd_cli.inference.windows import sliding
from tinyhd_cli.models import registry

FRAMES = [np.ascontiguousarray(frame) for frame in self_test.self_test_clip((3, 60, 64, 64)).swapaxes(0, 1)]


class Clips(nn.Module):
    """All pairs of consecutive frames, run as one batch of clips."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, frames):
        return self.network(torch.stack([frames[:-1], frames[1:]], 2))


class Swapped(Clips):
    """The wrong order of the frames of a pair."""

    def forward(self, frames):
        return self.network(torch.stack([frames[1:], frames[:-1]], 2))


class Branching(Clips):
    """A branch that depends on the input, which exporters cannot follow."""

    def forward(self, frames):
        return super().forward(frames) if frames.sum() < 1e9 else frames[:-1, :1]


@pytest.fixture
def family(monkeypatch, tmp_path):
    """A family with a form for many frames, and an engine cache of its own; ``family.form`` is that form."""

    class OverFrames(PairFamily):
        form = Clips

        def over_frames(self, network):
            return self.form(network)

    monkeypatch.setenv("TINYHD_ENGINE_CACHE", str(tmp_path / "engines"))
    monkeypatch.setattr(registry, "_registered", {})
    registered = OverFrames()
    models.register(registered)
    return registered


@pytest.fixture
def pair_file(family, tmp_path):
    return write_pair(tmp_path / "pair.safetensors")


@pytest.mark.parametrize(
    ("size", "precision", "batch"),
    [
        ((64, 64), "float32", 4),
        ((64, 64), "bf16", 8),
        ((32, 32), "float32", 16),
        ((32, 32), "bf16", 32),
        ((256, 256), "float32", 4),
        ((16, 16), "float32", 32),
    ],
)
def test_batches_fit_into_the_cache(size, precision, batch):
    spec = models.named_spec("uva-64").with_size(size)
    assert frames_batch(spec, "cpu", precision) == batch
    assert frames_batch(spec, "cuda", precision) == 64


def maps_of(model, count):
    found = list(model.maps(enumerate(FRAMES[:count])))
    assert [number for number, _ in found] == list(range(count))
    return np.stack([saliency for _, saliency in found])


def clip_by_clip(model, count):
    return np.stack([saliency for _, saliency in sliding(model.spec, enumerate(FRAMES[:count]), model.infer)])


@pytest.mark.parametrize("engine", ["torch", "openvino", "onnx"])
def test_maps_are_those_of_single_clips(pair_file, engine):
    model = load_model(pair_file, "cpu", engine=engine)
    assert (model.frames_engine is None) == (engine == "onnx")
    reference = load_model(pair_file, "cpu", engine="torch")
    batch = model.frames_engine.batch if model.frames_engine else 4
    for count in (1, batch, batch + 1, 3 * batch - 1, 60):
        expected = clip_by_clip(reference, count)
        assert expected.std() > 1e-3
        np.testing.assert_allclose(maps_of(model, count), expected, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_the_coupled_network(tmp_path, precision):
    network = lively("uva-64")
    weights.save(tmp_path / "uva.safetensors", network.state_dict(), models.named_spec("uva-64"))
    model = load_model(tmp_path / "uva.safetensors", "cpu", engine="openvino", precision=precision)
    assert model.frames_engine is not None
    assert model.frames_engine.precision == model.engine.precision
    maps, expected = (
        maps_of(model, 18),
        clip_by_clip(load_model(tmp_path / "uva.safetensors", "cpu", engine="torch"), 18),
    )
    limits = self_test.LIMITS[model.engine.precision]
    difference, correlation = self_test.compare(maps, expected)
    assert difference <= limits.difference
    assert correlation >= limits.correlation


def test_streams_are_independent(pair_file):
    """Two videos at the same time, and one that ends early."""
    model = load_model(pair_file, "cpu", engine="openvino")
    expected = maps_of(model, 60)
    early = model.maps(enumerate(FRAMES))
    assert len(list(islice(early, 5))) == 5
    pairs = zip(model.maps(enumerate(FRAMES)), model.maps(enumerate(FRAMES[::-1])), strict=True)
    first, second = (np.stack([saliency for _, saliency in found]) for found in zip(*pairs, strict=True))
    early.close()
    np.testing.assert_array_equal(first, expected)
    assert np.abs(second - expected).max() > 1e-3


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_form_with_other_maps_is_not_used(family, pair_file, caplog, engine):
    family.form = Swapped
    model = load_model(pair_file, "cpu", engine=engine)
    np.testing.assert_allclose(
        maps_of(model, 20), clip_by_clip(load_model(pair_file, "cpu", engine="torch"), 20), atol=1e-5
    )
    assert "pair-64: not run on many frames at once: maps differ from PyTorch's" in caplog.text
    assert "clips are run one by one" in caplog.text


def test_a_form_that_cannot_be_converted_is_not_used(family, pair_file, caplog):
    family.form = Branching
    model = load_model(pair_file, "cpu", engine="openvino")
    np.testing.assert_allclose(
        maps_of(model, 20), clip_by_clip(load_model(pair_file, "cpu", engine="torch"), 20), atol=1e-5
    )
    assert "many frames at once: the network cannot be converted to OpenVINO" in caplog.text


def test_compiled_networks_and_verdicts_are_cached(pair_file, monkeypatch):
    calls = []
    convert, mismatch = generic.to_openvino, self_test.frames_mismatch
    monkeypatch.setattr(
        generic, "to_openvino", lambda *rest, **options: calls.append("convert") or convert(*rest, **options)
    )
    monkeypatch.setattr(
        "tinyhd_cli.engines.selection.frames_mismatch", lambda *rest: calls.append("test") or mismatch(*rest)
    )
    first = maps_of(load_model(pair_file, "cpu", engine="openvino"), 20)
    assert calls == ["convert", "convert", "test"]  # one clip, and many frames
    np.testing.assert_array_equal(maps_of(load_model(pair_file, "cpu", engine="openvino"), 20), first)
    assert len(calls) == 3


def test_single_clips_do_not_need_the_form(family, pair_file):
    """Live runs one clip at a time."""
    family.form = None
    model = load_model(pair_file, "cpu", engine="openvino")
    assert model.infer(np.stack(FRAMES[:2], axis=1)).shape == (1, 64, 64)
