"""The networks of UVA-Net and DIS: layers, options, and the dependence on both frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tinyhd_cli import load_model, weights
from tinyhd_cli.errors import UsageError
from tinyhd_cli.models import create
from tinyhd_cli.models.blocks.conv2d import CARes, ChannelAttention
from tinyhd_cli.models.families.uvanet.network import MaxPool, OverFrames, ResponseNorm
from tinyhd_cli.models.original_names import recognize
from tinyhd_cli.models.registry import family


def parameters(network):
    return sum(one.numel() for one in network.parameters())


def network_for(name, seed=0, **options):
    """Return a network with seeded weights and the statistics of noise, in evaluation mode."""
    torch.manual_seed(seed)
    network = create(name, **options)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network(noise(4, 64))
    return network.eval()


def noise(count, side, seed=1):
    return torch.rand(count, 3, 2, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_parameters_are_those_of_the_paper():
    """The paper: 0.16 M."""
    for side in (32, 64):
        assert parameters(create(f"uva-{side}")) == 169_460
    assert 160_000 <= 169_460 <= 180_000
    assert parameters(create("dis-256", heads="two")) == 343_956
    assert parameters(create("dis-256")) == 318_498


@pytest.mark.parametrize("trunk", ["dis", "uva"])
@pytest.mark.parametrize("side", [32, 44, 64])
def test_shapes(trunk, side):
    for heads, paths in (("fused", []), ("two", ["spatial", "temporal"])):
        network = create(f"{trunk}-64", heads=heads, input_size=(side, side)).eval()
        with torch.no_grad():
            saliency, maps = network(torch.zeros(3, 3, 2, side, side), intermediate=True)
            alone = network(torch.zeros(3, 3, 2, side, side))
        assert saliency.shape == (3, 1, side, side)
        assert torch.equal(saliency, alone)
        assert list(maps) == paths
        assert all(one.shape == saliency.shape for one in maps.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": "three"}, "heads=three"),
        ({"trunk": "vgg"}, "trunk=vgg"),
        ({"output": "softmax"}, "output=softmax"),
        ({"input_size": (62, 62)}, "multiples of 4"),
        ({"depth": 3}, "depth"),
    ],
    ids=str,
)
def test_wrong_options(options, message):
    with pytest.raises(UsageError, match=message):
        create("uva-64", **options)


@pytest.mark.parametrize("trunk", ["dis", "uva"])
def test_the_output_activation(trunk):
    raw = network_for(f"{trunk}-32")
    sigmoid = create(f"{trunk}-32", output="sigmoid").eval()
    sigmoid.load_state_dict(raw.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(sigmoid(noise(2, 32)), raw(noise(2, 32)).sigmoid())


def test_response_normalization_by_its_formula():
    x = torch.randn(2, 16, 3, 5, dtype=torch.float64)
    found = ResponseNorm()(x)
    for channel in range(16):
        window = x[:, max(0, channel - 5) : channel + 6].square().sum(1)
        torch.testing.assert_close(found[:, channel], x[:, channel] / (2e-5 + 1e-4 * window) ** 0.75)


def test_pooling_is_padded_at_the_bottom_and_right():
    x = -torch.arange(16.0).view(1, 1, 4, 4)  # the maximum of a window is its first pixel, never the padding
    assert MaxPool()(x).flatten().tolist() == [0.0, -2.0, -8.0, -10.0]
    assert MaxPool()(-x).flatten().tolist() == [10.0, 11.0, 14.0, 15.0]


def test_channel_attention_uses_mean_and_maximum_through_one_mlp():
    torch.manual_seed(0)
    attention = ChannelAttention(48).eval()
    x = torch.rand(1, 48, 8, 8)
    other = x.clone()
    other[0, 5, 0, 0] += 6  # another maximum of a channel, and the same mean
    other[0, 5, 7] -= 6 / 8
    torch.testing.assert_close(other.mean((2, 3)), x.mean((2, 3)))
    flat = x.mean((2, 3), keepdim=True).expand_as(x)  # the same mean; the maximum is the mean
    with torch.no_grad():
        weights, others, flats = (attention(one)[..., 3, 3] / one[..., 3, 3] for one in (x, other, flat))
        assert (others - weights).abs().max() > 1e-3
        assert (flats - weights).abs().max() > 1e-3
        first, relu, last = attention.mlp
        expected = sum(
            last(relu(first(one))) for one in (x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True))
        ).sigmoid()
        torch.testing.assert_close(attention(x), x * expected)
    assert parameters(attention) == parameters(attention.mlp) == 48 * 8 + 8 + 8 * 48 + 48


def test_every_block_of_uva_net_has_channel_attention():
    for heads, count in (("fused", 9), ("two", 11)):
        network = create("uva-64", heads=heads)
        blocks = [module for module in network.modules() if isinstance(module, CARes)]
        assert len(blocks) == count
        assert all(isinstance(block.attention, ChannelAttention) for block in blocks)
        assert not any(isinstance(module, CARes) for module in create("dis-64", heads=heads).modules())


def test_residual_connections():
    with_skip, wider, smaller = CARes(24, 24).eval(), CARes(24, 32).eval(), CARes(24, 24, stride=2).eval()
    x = torch.randn(1, 24, 8, 8)
    with torch.no_grad():
        for block in (with_skip, wider, smaller):
            nn.init.zeros_(block.project.norm.weight)
        assert torch.equal(with_skip(x), x)
        assert not wider(x).any()
        assert smaller(x).shape == (1, 24, 4, 4)
        assert not smaller(x).any()


@pytest.mark.parametrize("trunk", ["dis", "uva"])
def test_only_the_temporal_path_depends_on_the_next_frame(trunk):
    network = network_for(f"{trunk}-64", heads="two")
    clip = noise(2, 64)
    other = clip.clone()
    other[:, :, 1] = noise(2, 64, seed=2)[:, :, 1]
    with torch.no_grad():
        (_, one), (_, two) = network(clip, intermediate=True), network(other, intermediate=True)
    assert torch.equal(one["spatial"], two["spatial"])
    assert (one["temporal"] - two["temporal"]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["dis-64", "uva-64", "uva-32"])
def test_over_frames_equals_the_network_on_pairs(name):
    network = network_for(name)
    frames = torch.rand(6, 3, *network.spec.input_size, generator=torch.Generator().manual_seed(3)) * 2 - 1
    over_frames = family(network.spec).over_frames(network)
    assert isinstance(over_frames, OverFrames)
    with torch.no_grad():
        pairs = network(torch.stack([frames[:-1], frames[1:]], 2))
        together = over_frames(frames)
    assert together.shape == pairs.shape
    assert pairs.std(0).max() > 1e-3
    torch.testing.assert_close(together, pairs, atol=1e-5 * float(pairs.abs().max()), rtol=0)


@pytest.mark.parametrize("name", ["dis-64", "uva-32"])
def test_the_last_frame_is_paired_with_itself(tmp_path, name):
    network = network_for(name)
    weights.save(tmp_path / "lively.safetensors", network.state_dict(), network.spec)
    model = load_model(tmp_path / "lively.safetensors", "cpu", engine="torch")
    images = np.random.default_rng(0).integers(0, 256, (3, *network.spec.input_size, 3), np.uint8)
    frames = [(index, model.prepare(image)) for index, image in enumerate(images)]
    maps = np.stack([one for _, one in model.maps(frames)])
    clip = torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        expected = network(torch.stack([clip, clip[[1, 2, 2]]], 2))[:, 0].numpy()
    assert expected.min() < 0  # maps with negative values are shifted
    expected = expected - np.minimum(expected.min((1, 2), keepdims=True), 0)
    np.testing.assert_allclose(maps, expected, atol=2e-5 * np.abs(expected).max(), rtol=0)
    assert np.abs(expected[2] - expected[1]).max() > 0.01 * np.abs(expected).max()


@pytest.mark.parametrize("trunk", ["uva", "dis"])
@pytest.mark.parametrize("heads", ["fused", "two", "spatial", "temporal"])
def test_networks_are_recognized_by_their_tensors(trunk, heads):
    spec = recognize(create(f"{trunk}-64", heads=heads).state_dict())
    assert (spec.options["trunk"], spec.options["heads"]) == (trunk, heads)
