"""Engines with hierarchical maps give the maps of PyTorch."""

import logging

import numpy as np
import pytest
import torch
from helpers.networks import lively
from torch import nn

from tinyhd_cli import models
from tinyhd_cli.engines import hierarchy, selection
from tinyhd_cli.engines.fuse_batchnorm import fold
from tinyhd_cli.engines.loaded import LoadedNetwork, clip_shape
from tinyhd_cli.engines.self_test import self_test_clip
from tinyhd_cli.models import Family, ModelSpec, registry

SIZE = (64, 96)


def loaded(name: str) -> LoadedNetwork:
    network = lively(name)
    fold(network)
    return LoadedNetwork(network.spec.with_size(SIZE), lambda: network, sha256=name)


def largest_difference(found, expected) -> float:
    assert [one.shape for one in found] == [one.shape for one in expected]
    return max(float(np.abs(one - other).max()) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", ["tinyhd-m-quarter", "tinyhd-s-quarter"])
@pytest.mark.parametrize("engine", hierarchy.BUILDERS)
def test_outputs_of_each_engine(name, engine):
    network = loaded(name)
    clip = self_test_clip(clip_shape(network.spec))
    found = hierarchy.usable(engine, "float32", network)
    assert (found.name, found.precision) == (engine, "float32")
    outputs = found.outputs(clip)
    assert [one.shape for one in outputs] == [(network.spec.maps, *SIZE), (4, 1, *SIZE)]
    assert largest_difference(outputs, hierarchy.TorchHierarchy(network).outputs(clip)) < 1e-3
    again = found.outputs(np.ascontiguousarray(clip[:, ::-1]))
    assert largest_difference(again, outputs) > 0.01
    assert largest_difference(found.outputs(clip), outputs) == 0


@pytest.mark.parametrize("engine", hierarchy.BUILDERS)
def test_networks_that_lack_the_hierarchy_of_their_family(engine):
    network = lively("tinyhd-s-quarter", decoders=("d2", "d3"))
    fold(network)
    made = LoadedNetwork(network.spec.with_size(SIZE), lambda: network, sha256="without d1")
    clip = self_test_clip(clip_shape(made.spec))
    outputs = hierarchy.usable(engine, "float32", made).outputs(clip)
    assert [one.shape for one in outputs] == [(1, *SIZE)]
    assert largest_difference(outputs, hierarchy.TorchHierarchy(made).outputs(clip)) < 1e-3


class Pyramid(nn.Module):
    """A network with two hierarchical maps, of brightness and of contrast."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec, self.conv = spec, nn.Conv3d(3, 2, (1, 3, 3), padding=(0, 1, 1))

    def forward(self, clip, intermediate=False):
        maps = torch.sigmoid(self.conv(clip))
        saliency = maps.mean(1)
        return (saliency, {"maps": maps.mean(2, keepdim=True)}) if intermediate else saliency


class PyramidFamily(Family):
    name = "pyramid"
    specs = (
        ModelSpec(
            "pyramid", "pyramid", clip_frames=4, maps=4, input_size=(32, 48), size_multiple=8, side_limits=(16, 64)
        ),
    )
    intermediate = True
    hierarchy = "maps"

    def build(self, spec):
        return Pyramid(spec)


@pytest.fixture
def pyramid(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    models.register(PyramidFamily())
    network = models.create("pyramid").eval()
    return LoadedNetwork(network.spec, lambda: network, sha256="pyramid")


def test_networks_without_a_lowering(pyramid, caplog):
    clip = self_test_clip(clip_shape(pyramid.spec))
    found = hierarchy.choose(pyramid, exact=True)
    assert found.name == "openvino"
    assert largest_difference(found.outputs(clip), hierarchy.TorchHierarchy(pyramid).outputs(clip)) < 1e-5
    assert not [record for record in caplog.records if record.name == "tinyhd"]


def test_an_engine_whose_hierarchical_maps_differ_is_not_used(pyramid, monkeypatch, caplog):
    class Wrong(hierarchy.TorchHierarchy):
        def outputs(self, clip):
            saliency, deep = super().outputs(clip)
            return [saliency, deep[::-1]]

    monkeypatch.setitem(hierarchy.BUILDERS, "openvino", lambda network, precision: Wrong(network))
    assert hierarchy.choose(pyramid, exact=True) is None
    [record] = [record for record in caplog.records if record.name == "tinyhd"]
    assert record.levelno == logging.WARNING
    assert "maps differ from PyTorch's" in record.message
    assert record.message.endswith("using PyTorch, which is several times slower")


def test_bf16_is_not_reported_where_it_is_missing(monkeypatch, caplog):
    monkeypatch.setattr("tinyhd_cli.engines.openvino.has_bf16", lambda: False)
    found = hierarchy.choose(loaded("tinyhd-m-quarter"), exact=False)
    assert (found.name, found.precision) == (selection.ENGINES[0], "float32")
    assert not [record for record in caplog.records if record.name == "tinyhd"]
