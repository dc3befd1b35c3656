"""Building blocks of two-dimensional networks: convolutions with BatchNorm, and the CA-Res block.

Shapes are ``(N, C, H, W)``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MOMENTUM = 0.05
"""Momentum of BatchNorm's running statistics (a decay of 0.95)."""

SQUEEZE = 16
"""Factor by which the MLP of the channel attention reduces the number of channels."""

MIN_SQUEEZED = 8
"""Minimum number of hidden channels in the MLP of the channel attention."""


class ConvNorm(nn.Sequential):
    """Convolution without bias, padded by half of its (odd) kernel; BatchNorm; and an activation, if any."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: type[nn.Module] | None = nn.ReLU,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, momentum=MOMENTUM)
        if activation:
            self.activation = activation()


class Upsample(nn.Sequential):
    """Transposed convolution without bias that doubles both sides; BatchNorm; and an activation, if any."""

    def __init__(self, in_channels: int, out_channels: int, *, activation: type[nn.Module] | None = None) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, 4, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, momentum=MOMENTUM)
        if activation:
            self.activation = activation()


class ChannelAttention(nn.Module):
    """Channel attention: each channel is multiplied by a weight in 0..1.

    The weights are the sigmoid of the sum of an MLP's outputs for the global average and the global maximum.

    Source: Fu et al., AAAI 2020 (CA-Res block).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(MIN_SQUEEZED, channels // SQUEEZE)
        self.mlp = nn.Sequential(nn.Conv2d(channels, squeezed, 1), nn.ReLU(), nn.Conv2d(squeezed, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        mean, peak = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        return x * torch.sigmoid(self.mlp(mean) + self.mlp(peak))


class CARes(nn.Module):
    """CA-Res block: an inverted residual of MobileNetV2 with channel attention before its projection.

    Source: Fu et al., AAAI 2020.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, expansion: int = 6) -> None:
        super().__init__()
        hidden = expansion * in_channels
        self.expand = ConvNorm(in_channels, hidden, 1, activation=nn.ReLU6)
        self.depthwise = ConvNorm(hidden, hidden, 3, stride=stride, groups=hidden, activation=nn.ReLU6)
        self.attention = ChannelAttention(hidden)
        self.project = ConvNorm(hidden, out_channels, 1, activation=None)
        self.skip = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.attention(self.depthwise(self.expand(x))))
        return x + y if self.skip else y
