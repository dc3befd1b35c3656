"""Networks with folded BatchNorm, compared with the same networks before folding."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tinyhd_cli.engines.fuse_batchnorm import fold


class PreActivation(nn.Module):
    """BatchNorm before its convolution, and a sum of both branches."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x):
        return x + self.conv(torch.relu(self.norm(x)))


class Reversed(nn.Sequential):
    """Layers that are applied from the last to the first one."""

    def forward(self, x):
        for layer in reversed(self):
            x = layer(x)
        return x


class NormAndActivation(nn.BatchNorm2d):
    """BatchNorm followed by ReLU, as some libraries have it."""

    def forward(self, x):
        return torch.relu(super().forward(x))


class Standardized(nn.Conv2d):
    """A convolution with a standardized kernel."""

    def forward(self, x):
        weight = (self.weight - self.weight.mean()) / self.weight.std()
        return nn.functional.conv2d(x, weight, self.bias, padding=self.padding)


class Named(nn.Module):
    """A convolution and its norm by their names, and a sequence of others."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.rest = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))

    def forward(self, x):
        return self.rest(torch.relu(self.norm(self.conv(x))))


def conv(kind=nn.Conv2d):
    return kind(4, 4, 3, padding=1)


def shared_activation():
    """Return a sequence in which one ReLU is used twice, the second time between a convolution and a norm."""
    relu = nn.ReLU()
    return nn.Sequential(relu, conv(), relu, nn.BatchNorm2d(4))


def shared_convolution():
    """Return a sequence that applies one convolution twice, with different norms."""
    shared = conv()
    return nn.Sequential(shared, nn.BatchNorm2d(4), nn.ReLU(), shared, nn.BatchNorm2d(4))


NETWORKS = {
    "plain": lambda: nn.Sequential(conv(), nn.BatchNorm2d(4), nn.ReLU(), conv()),
    "first": lambda: nn.Sequential(nn.BatchNorm2d(4), conv(), nn.ReLU(), nn.BatchNorm2d(4)),
    "two norms": lambda: nn.Sequential(conv(), nn.BatchNorm2d(4), nn.BatchNorm2d(4)),
    "pre-activation": PreActivation,
    "another order": lambda: Reversed(conv(), nn.BatchNorm2d(4)),
    "transposed": lambda: nn.Sequential(conv(nn.ConvTranspose2d), nn.BatchNorm2d(4)),
    "transposed in groups": lambda: nn.Sequential(nn.ConvTranspose2d(4, 4, 4, 2, 1, groups=2), nn.BatchNorm2d(4)),
    "transposed, other width": lambda: nn.Sequential(
        nn.ConvTranspose2d(4, 6, 4, 2, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU()
    ),
    "shared activation": shared_activation,
    "shared convolution": shared_convolution,
    "norm with activation": lambda: nn.Sequential(conv(), NormAndActivation(4)),
    "standardized kernel": lambda: nn.Sequential(conv(Standardized), nn.BatchNorm2d(4)),
    "no statistics": lambda: nn.Sequential(conv(), nn.BatchNorm2d(4, track_running_stats=False)),
    "no scale": lambda: nn.Sequential(conv(), nn.BatchNorm2d(4, affine=False)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_folded_network_has_the_same_output(name):
    torch.manual_seed(0)
    network = NETWORKS[name]().double()
    x = torch.randn(4, 4, 8, 8, dtype=torch.float64) * 3 + 1
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -1, 1)
    with torch.no_grad():
        network(x)
        folded = copy.deepcopy(network.eval())
        fold(folded)
        torch.testing.assert_close(folded(x), network(x))


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("plain", 0),
        ("shared convolution", 0),
        ("two norms", 1),
        ("transposed, other width", 0),
        ("transposed in groups", 1),
    ],
)
def test_norms_after_a_convolution_are_folded(name, left):
    network = NETWORKS[name]().eval()
    fold(network)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == left


def test_norms_are_found_by_name_and_in_sequences():
    torch.manual_seed(0)
    network = Named().double()
    x = torch.randn(4, 4, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        network(x)
        expected = network.eval()(x)
        fold(network, by_name=True)
        torch.testing.assert_close(network(x), expected)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
