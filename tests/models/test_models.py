"""The networks against the values of the original implementation."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
import torch
from helpers.networks import lively

from tinyhd_cli.engines.fuse_batchnorm import fold
from tinyhd_cli.errors import UsageError, WeightsError
from tinyhd_cli.models import create, from_dict
from tinyhd_cli.models.blocks.mobilenet3d import MobileNet3d
from tinyhd_cli.models.families.tinyhd import FAMILY as TINYHD
from tinyhd_cli.models.families.tinyhd.network import make_static
from tinyhd_cli.models.original_names import convert, recognize
from tinyhd_cli.models.registry import family
from tinyhd_cli.models.static import with_time

# The original's names of the networks, and parameters (Hu et al. 2023, Table 5a, to the unit).
NETWORKS = {
    "tinyhd-s": ("tinyhd-s-x1", 3_940_981),
    "tinyhd-s-half": ("tinyhd-s-x2", 1_370_291),
    "tinyhd-s-quarter": ("tinyhd-s-x4", 513_121),
    "tinyhd-m": ("tinyhd-m-x1", 3_922_405),
    "tinyhd-m-half": ("tinyhd-m-x2", 1_366_979),
    "tinyhd-m-quarter": ("tinyhd-m-x4", 515_281),
    "hd2s": ("hd2s", 29_795_597),
}

# Table 3, single output.
HOMOGENEOUS = {
    ("d1",): 2_552_217,
    ("d1", "d1"): 2_750_385,
    ("d1", "d1", "d1"): 2_948_553,
    ("d2",): 3_568_598,
    ("d2", "d2"): 4_783_147,
    ("d2", "d2", "d2"): 5_997_696,
    ("d3",): 2_528_264,
    ("d3", "d3"): 2_702_479,
    ("d3", "d3", "d3"): 2_876_694,
}


def parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.fixture(scope="module")
def upstream(shared):
    """Procedural weights and the original's answers to them."""
    folder = shared / "upstream"
    spec = importlib.util.spec_from_file_location("procedural", folder / "procedural.py")
    procedural = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(procedural)
    shapes = json.loads((folder / "state_dict_shapes.json").read_text())
    expected = np.load(folder / "procedural_expected.npz")
    return procedural, shapes, expected


def procedural_weights(upstream, original):
    procedural, shapes, _ = upstream
    return {name: torch.from_numpy(value) for name, value in procedural.state_dict(shapes[original]).items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_agrees_with_the_original(upstream, name):
    procedural, _, expected = upstream
    original, _ = NETWORKS[name]
    network = create(name).eval()
    network.load_state_dict(convert(procedural_weights(upstream, original), name))
    with torch.inference_mode():
        saliency, maps = network(torch.from_numpy(procedural.clip()), intermediate=True)
    saliency_step, saliency_tolerance, maps_tolerance = (4, 1e-5, 1e-5) if name == "hd2s" else (4, 1e-4, 5e-4)
    ours = saliency[..., ::saliency_step, ::saliency_step].numpy().squeeze()
    np.testing.assert_allclose(ours, expected[f"{original}/saliency"].squeeze(), atol=saliency_tolerance, rtol=0)
    if name == "hd2s":
        compared = {f"map{i + 1}": maps["maps"][:, i, :, ::4, ::4] for i in range(4)}
    else:
        compared = {key: value[..., ::8, ::8] for key, value in maps.items()}
    assert len(compared) == (4 if name == "hd2s" else 3)
    for key, value in compared.items():
        theirs = expected[f"{original}/{key}"].squeeze()
        np.testing.assert_allclose(value.numpy().squeeze(), theirs, atol=maps_tolerance, rtol=0, err_msg=key)


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_of_the_paper(name):
    with torch.device("meta"):
        assert parameters(create(name)) == NETWORKS[name][1]


@pytest.mark.parametrize("decoders", HOMOGENEOUS, ids="x".join)
def test_parameters_of_homogeneous_decoders(decoders):
    with torch.device("meta"):
        assert parameters(create("tinyhd-s", decoders=decoders)) == HOMOGENEOUS[decoders]


@pytest.mark.parametrize("width", ["full", "half", "quarter"])
@pytest.mark.parametrize("outputs", ["single", "multi"])
def test_shapes(outputs, width):
    spec = TINYHD.spec(outputs, width, ("d3", "d1", "d1"))
    network = create(spec.name, decoders=spec.options["decoders"]).eval()
    with torch.inference_mode():
        saliency, maps = network(torch.zeros(2, 3, 16, 64, 96), intermediate=True)
        alone = network(torch.zeros(2, 3, 16, 64, 96))
    frames = 16 if outputs == "multi" else 1
    assert saliency.shape == (2, frames, 64, 96)
    assert torch.equal(saliency, alone)
    assert list(maps) == ["d3", "d1", "d1_2"]
    assert maps["d1"].shape == maps["d1_2"].shape == (2, 4, 1, 64, 96)
    assert maps["d3"].shape == (2, 1, frames, 64, 96)


def test_stream_channels():
    assert MobileNet3d.stream_channels() == (28, 24, 136, 520)


def test_fusion_order_is_that_of_the_decoders():
    """The same network with its decoders in another order is another function, once its fusion is permuted the same."""
    one = lively("tinyhd-s-quarter")
    other = create("tinyhd-s-quarter", decoders=("d2", "d3", "d1")).eval()
    state = one.state_dict()
    clip = torch.rand(1, 3, 16, 64, 64)
    other.load_state_dict(state)
    with torch.inference_mode():
        assert not torch.allclose(one(clip), other(clip), atol=1e-5)
        state["fusion.weight"] = state["fusion.weight"][:, [4, 5, 0, 1, 2, 3]]
        other.load_state_dict(state)
        torch.testing.assert_close(one(clip), other(clip))


@pytest.mark.parametrize("name", NETWORKS)
def test_folding_changes_nothing_but_the_rounding(name):
    """In float64: networks without training multiply rounding errors."""
    network = lively(name).double()
    clip = torch.randn(1, 3, 16, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        before = network(clip)
    fold(network, by_name=family(network.spec).named_norms)
    with torch.inference_mode():
        after = network(clip)
    assert not any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in network.modules())
    assert before.std() > 0.01
    torch.testing.assert_close(after, before, atol=1e-9, rtol=0)


def test_convert_is_strict(upstream):
    weights = procedural_weights(upstream, "tinyhd-s-x4")
    with pytest.raises(WeightsError, match="not weights of tinyhd-m-quarter"):
        convert(weights, "tinyhd-m-quarter")
    with pytest.raises(WeightsError, match="no tensor 'surprise'"):
        convert({**weights, "surprise": torch.zeros(1)}, "tinyhd-s-quarter")
    weights.pop("encoder.encoder.5.conv.2.weight")
    with pytest.raises(WeightsError, match=r"lack 'encoder.blocks.5.project.conv.weight'"):
        convert(weights, "tinyhd-s-quarter")


@pytest.mark.parametrize("name", NETWORKS)
def test_recognizes_originals_by_shape(upstream, name):
    assert recognize(procedural_weights(upstream, NETWORKS[name][0])).name == name


def test_recognizes_the_fusion_order_by_the_file_name(upstream):
    weights = procedural_weights(upstream, "tinyhd-m-x1")
    assert recognize(weights, "d1d2d3_M_lt").options["decoders"] == ("d2", "d3", "d1")
    assert recognize(weights, "ucf_d123m").options["decoders"] == ("d1", "d2", "d3")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: create("tinyhd-x"), "did you mean tinyhd-"),
        (lambda: create("tinyhd-m", decoders=("d1", "d4")), "not d4"),
        (lambda: create("tinyhd-m", decoders=()), "not an empty list"),
        (lambda: create("tinyhd-m", depth=3), "depth"),
        (lambda: create("hd2s", width="half"), "width"),
        (lambda: TINYHD.spec(width="third"), "third"),
        (lambda: from_dict({"architecture": "hd2s", "width": "half"}), "width"),
    ],
)
def test_wrong_configurations(call, message):
    with pytest.raises(UsageError, match=message):
        call()


@pytest.mark.parametrize("name", ["tinyhd-m-quarter", "tinyhd-s-quarter"])
def test_a_still_network_becomes_one_for_clips_with_the_same_maps(name):
    picture = torch.randn(2, 3, 1, 64, 96, generator=torch.Generator().manual_seed(3))
    network = lively(name)
    make_static(network)
    with torch.no_grad():
        saliency, maps = network(picture, intermediate=True)
    assert saliency.shape == (2, 1, 64, 96)
    moving = create(name).eval()
    moving.load_state_dict(with_time(network.state_dict(), moving.state_dict()))
    with torch.no_grad():
        of_clip, its_maps = moving(picture.expand(-1, -1, 16, -1, -1), intermediate=True)
    torch.testing.assert_close(of_clip, saliency.expand_as(of_clip), rtol=1e-4, atol=1e-5)
    for decoder, expected in maps.items():
        torch.testing.assert_close(its_maps[decoder], expected.expand_as(its_maps[decoder]), rtol=1e-4, atol=1e-5)


def test_a_still_network_has_the_sums_of_the_kernels_over_time():
    network = lively("tinyhd-m-quarter")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    make_static(network)
    for name, value in network.state_dict().items():
        expected = before[name].sum(2, keepdim=True) if value.dim() == 5 else before[name]
        assert torch.equal(value, expected), name
