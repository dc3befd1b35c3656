"""SalFoM's decoder: its sizes, and its values against a second implementation."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from tinyhd_cli.models.families.vfm.decoder import STEPS, AttentionStage, Decoder, resampled

WIDTH = 256
"""Width of the decoders that are run; the last layers have 8 channels, one per head."""


@pytest.fixture(scope="module")
def decoder():
    """Return a decoder in float64 whose random values keep the scale of features, so that every layer counts."""
    torch.manual_seed(0)
    made = Decoder(8, WIDTH).double().eval()
    with torch.no_grad():
        for name, value in made.named_parameters():
            if value.dim() > 2:
                value.normal_(0, (2 / value[0].numel()) ** 0.5)
            elif value.dim() == 2:
                value.normal_(0, 1 if "bias_table" in name else value.shape[1] ** -0.5)
            else:
                value.normal_(1 if "norm" in name and name.endswith("weight") else 0, 0.2)
    return made


@pytest.fixture(scope="module")
def features():
    return torch.randn(2, 8, 16, 2, 3, generator=torch.Generator().manual_seed(1)).double()


class Published:
    """The decoder as published, in plain convolutions and attention.

    Args:
        values: its state dict.
        without: names of terms to leave out.
    """

    def __init__(self, values, without=()):
        self.values, self.without = values, without

    def conv(self, x, name, steps=1):
        return F.conv3d(x, self.values[f"{name}.weight"], None, (steps, 1, 1), (0, 1, 1)).relu()

    def conv2d(self, x, name):
        return F.conv2d(x, self.values[f"{name}.weight"], padding=1)

    def over_time(self, x, name, count):
        for index in range(count):
            weight, bias = self.values[f"{name}.{2 * index}.weight"], self.values[f"{name}.{2 * index}.bias"]
            x = F.conv3d(x, weight, bias, (2, 1, 1), (1, 0, 0)).relu()
        assert x.shape[2] == 1
        return x[:, :, 0]

    @staticmethod
    def up(x, factor=2):
        if x.dim() == 4:
            return F.interpolate(x, scale_factor=factor, mode="bilinear")
        return F.interpolate(x, scale_factor=(1, factor, factor), mode="trilinear")

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.values[f"{name}.weight"], self.values[f"{name}.bias"])

    def linear(self, x, name):
        return F.linear(x, self.values[f"{name}.weight"], self.values[f"{name}.bias"])

    def attend(self, x, name, merge):
        """Attention of windows of ``merge`` steps at each place, in every second block shifted by half of them."""
        x = F.conv3d(x, self.values[f"{name}.embed.weight"], self.values[f"{name}.embed.bias"], (merge, 1, 1))
        count, channels, steps, height, width = x.shape
        x = x.permute(0, 3, 4, 2, 1).reshape(-1, steps, channels)
        for index in range(6):
            block = f"{name}.blocks.{index}"
            shift = merge // 2 if index % 2 and steps > merge else 0
            starts = [0, *range(shift, steps, merge)] if shift else range(0, steps, merge)
            ends = [*starts[1:], steps]
            queries = self.linear(self.norm(x, f"{block}.norm1"), f"{block}.attn.qkv")
            parts = [self.window(queries[:, a:b], block, merge) for a, b in zip(starts, ends, strict=True)]
            x = x + self.linear(torch.cat(parts, 1), f"{block}.attn.proj")
            inner = F.gelu(self.linear(self.norm(x, f"{block}.norm2"), f"{block}.mlp.0"))
            x = x + self.linear(inner, f"{block}.mlp.3")
        x = self.norm(x, f"{name}.norm")
        return x.view(count, height, width, steps, channels).permute(0, 4, 3, 1, 2)

    def window(self, queries, block, merge):
        """Attention with 8 heads among the steps of one window."""
        places, steps, channels = queries.shape
        query, key, value = queries.view(places, steps, 3, 8, channels // 24).unbind(2)
        table = self.values[f"{block}.attn.relative_position_bias_table"]
        distance = torch.arange(steps)[:, None] - torch.arange(steps)
        logits = torch.einsum("pihc,pjhc->pijh", query, key) / (channels // 24) ** 0.5 + table[distance + merge - 1]
        return torch.einsum("pijh,pjhc->pihc", logits.softmax(2), value).flatten(2)

    def add(self, x, name, other):
        return x if name in self.without else x + other

    def maps(self, y):
        """Return the maps of features ``(N, C, 16, h, w)``."""
        up, conv, conv2d = self.up, self.conv, self.conv2d
        a1 = self.attend(y, "attend1", 2)
        a2 = self.attend(a1, "attend2", 2)
        u2 = up(a2, 4)
        u3 = up(self.attend(u2, "attend3", 4), 4)
        c2 = self.add(conv(conv(y, "conv1.0"), "conv2.0", 2), "A1", a1)
        c4 = self.add(up(conv(up(conv(c2, "conv3.0")), "conv4.0", 2)), "U2", u2)
        c6 = up(conv(up(conv(c4, "conv5.0", 2)), "conv6.0", 2))
        x = y
        for index in range(4):
            x = conv(x, f"squeeze.{index}.0", 2)
        x = x[:, :, 0]
        for index in range(3):
            x = conv2d(x, f"coarse.{index}.0").relu()
        x = self.add(x, "t2", self.over_time(c2, "time2", 3))
        x = conv2d(x, "middle.0.0").relu()
        x = up(conv2d(up(conv2d(x, "middle.1.0").relu()), "middle.2.0").relu())
        x = self.add(x, "t3", self.over_time(c4, "time3", 2))
        x = conv2d(x, "fine.0.0").relu()
        x = up(conv2d(up(conv2d(x, "fine.1.0").relu()), "fine.2.0").relu())
        x = torch.cat([x, u3[:, :, 0], c6[:, :, 0]], 1)
        return conv2d(conv2d(conv2d(x, "out.0.0").relu(), "out.1.0").relu(), "out.2").sigmoid()


def test_values_are_those_of_the_published_decoder(decoder, features):
    """In float64, term by term; each term that the branches exchange changes the maps."""
    values = decoder.state_dict()
    with torch.no_grad():
        maps, expected = decoder(features, (32, 48)), Published(values).maps(features)
        assert torch.allclose(maps, expected, rtol=1e-9, atol=1e-9)
        assert float(expected.std()) > 0.01
        for term in ("A1", "U2", "t2", "t3"):
            assert float((Published(values, {term}).maps(features) - expected).abs().max()) > 1e-3, term


def test_sizes_of_the_published_decoder():
    """96.2 million parameters, 75.5 of them in the four convolutions over time; the shapes of SalFoM."""
    with torch.device("meta"):
        decoder = Decoder(1024)
        shapes = {}
        for name in ("attend1", "attend2", "attend3", "conv2", "conv4", "conv6", "squeeze", "time2", "time3"):
            layer = decoder.get_submodule(name)
            layer.register_forward_hook(lambda _, inputs, out, name=name: shapes.update({name: tuple(out.shape[1:])}))
        maps = decoder(torch.empty(1, 1024, 16, 14, 14), (224, 224))
    assert sum(one.numel() for one in decoder.parameters()) == 96_237_520
    assert sum(one.numel() for one in decoder.squeeze.parameters()) == 75_497_472
    assert maps.shape == (1, 1, 224, 224)
    assert shapes == {
        "attend1": (256, 8, 14, 14),
        "attend2": (64, 4, 14, 14),
        "attend3": (16, 1, 56, 56),
        "conv2": (256, 8, 14, 14),
        "conv4": (64, 4, 28, 28),
        "conv6": (16, 1, 112, 112),
        "squeeze": (1024, 1, 14, 14),
        "time2": (256, 1, 14, 14),
        "time3": (64, 1, 56, 56),
    }


def test_attention_is_over_time_only():
    """A place depends on no other place; steps are merged in pairs and see their neighbors."""
    torch.manual_seed(0)
    stage = AttentionStage(6, 8, 2).eval()
    x = torch.randn(1, 6, 16, 3, 4)
    changed = x.clone()
    changed[:, :, 9, 1, 2] += 2
    with torch.no_grad():
        difference = (stage(changed) - stage(x)).abs().sum(1)[0]
    assert difference.shape == (8, 3, 4)
    assert set(map(tuple, difference.sum(0).nonzero().tolist())) == {(1, 2)}
    assert int(difference[:, 1, 2].argmax()) == 9 // 2
    assert int((difference[:, 1, 2] > 0).sum()) > 2  # shifted windows connect the pairs


def test_steps_in_time():
    ramp = torch.arange(8.0).view(1, 1, 8, 1, 1).expand(1, 2, 8, 3, 5)
    longer = resampled(ramp)
    assert longer.shape == (1, 2, STEPS, 3, 5)
    assert torch.allclose(longer[0, 0, :, 0, 0], ((torch.arange(16) + 0.5) / 2 - 0.5).clamp(0, 7))
    assert torch.equal(resampled(longer), longer)
    shorter = resampled(torch.arange(32.0).view(1, 1, 32, 1, 1))
    assert torch.equal(shorter.flatten(), torch.arange(16) * 2 + 0.5)


def test_half_precision(decoder, features):
    """In bfloat16, as on GPUs, the maps are nearly the same, relative to their range."""
    single, x = copy.deepcopy(decoder).float(), features.float()
    with torch.no_grad():
        maps = single(x, (32, 48))
        with torch.autocast("cpu", torch.bfloat16):
            half = single(x, (32, 48)).float()
    assert float((half - maps).norm() / (maps - maps.mean()).norm()) < 0.05
