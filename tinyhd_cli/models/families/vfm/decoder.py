"""SalFoM's decoder: three branches over the features of a video model, and a map from all of them.

Source: Moradi et al., "SalFoM: Dynamic Saliency Prediction with Video Foundation Models", ICPR 2024, and its authors'
program. Shapes in comments are those of the published sizes: 1024 x 16 x 14 x 14 features, maps of 224 x 224.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...blocks.swin3d import Block

STEPS = 16
"""Steps in time that the decoder reads. Features with fewer steps are interpolated, those with more are averaged."""

DEPTH = 6
"""Blocks of an attention stage."""

HEADS = 8
DROP = 0.2
"""Probability that a branch of the last block of an attention stage is dropped in training."""


def enlarged(x: Tensor, factor: int) -> Tensor:
    """Return features enlarged in space, ``(N, C, H, W)`` or ``(N, C, T, H, W)``, by linear interpolation."""
    if x.dim() == 4:
        return F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)
    count, channels, steps, height, width = x.shape
    large = enlarged(x.transpose(1, 2).flatten(0, 1), factor)  # 2D interpolation is faster
    return large.view(count, steps, channels, factor * height, factor * width).transpose(1, 2)


def resampled(features: Tensor) -> Tensor:
    """Return features ``(N, C, T, H, W)`` with ``STEPS`` steps in time."""
    steps = features.shape[2]
    if steps == STEPS:
        return features
    flat = features.flatten(3)
    if steps > STEPS:
        flat = F.adaptive_avg_pool2d(flat, (STEPS, flat.shape[3]))
    else:
        flat = F.interpolate(flat, (STEPS, flat.shape[3]), mode="bilinear", align_corners=False)
    return flat.view(*flat.shape[:3], *features.shape[3:])


class AttentionStage(nn.Module):
    """Attention over time at each place, after merging ``merge`` steps in time.

    Args:
        in_channels: of the input.
        channels: of the output.
        merge: steps that are merged, and steps of a window.
    """

    def __init__(self, in_channels: int, channels: int, merge: int) -> None:
        super().__init__()
        self.embed = nn.Conv3d(in_channels, channels, (merge, 1, 1), (merge, 1, 1))
        heads, window = min(HEADS, channels), (merge, 1, 1)
        self.blocks = nn.Sequential(
            *(
                Block(channels, shifted=index % 2 == 1, drop=DROP * index / (DEPTH - 1), window=window, heads=heads)
                for index in range(DEPTH)
            )
        )
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, C, T / merge, H, W)``."""
        features: Tensor = self.norm(self.blocks(self.embed(x).permute(0, 2, 3, 4, 1)))
        return features.permute(0, 4, 1, 2, 3)


class Conv(nn.Sequential):
    """A 3 x 3 convolution in space without bias, over ``steps`` steps in time, and ReLU."""

    def __init__(self, in_channels: int, channels: int, steps: int = 1) -> None:
        kernel, stride, padding = (steps, 3, 3), (steps, 1, 1), (0, 1, 1)
        convolution = nn.Conv3d(in_channels, channels, kernel, stride, padding, bias=False)
        super().__init__(convolution, nn.ReLU(inplace=True))


def flat_conv(in_channels: int, channels: int) -> nn.Sequential:
    """Return a 3 x 3 convolution of images without bias, and ReLU."""
    return nn.Sequential(nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), nn.ReLU(inplace=True))


def halving(channels: int, count: int) -> nn.Sequential:
    """Return ``count`` convolutions over time that halve the number of steps, each with ReLU."""
    layers: list[nn.Module] = []
    for _ in range(count):
        layers += [nn.Conv3d(channels, channels, (3, 1, 1), (2, 1, 1), (1, 0, 0)), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class Decoder(nn.Module):
    """The decoder.

    Args:
        in_channels: channels of the features.
        width: channels of the first layer of the 3D branch, a multiple of 32; 512 as published. All other layers are
            in proportion.
    """

    def __init__(self, in_channels: int, width: int = 512) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth, last = (width >> shift for shift in range(1, 6))
        self.attend1 = AttentionStage(in_channels, half, 2)
        self.attend2 = AttentionStage(half, eighth, 2)
        self.attend3 = AttentionStage(eighth, last, 4)

        self.conv1 = Conv(in_channels, width)
        self.conv2 = Conv(width, half, 2)
        self.conv3 = Conv(half, quarter)
        self.conv4 = Conv(quarter, eighth, 2)
        self.conv5 = Conv(eighth, sixteenth, 2)
        self.conv6 = Conv(sixteenth, last, 2)

        self.squeeze = nn.Sequential(*(Conv(in_channels, in_channels, 2) for _ in range(4)))
        self.coarse = nn.Sequential(flat_conv(in_channels, width), flat_conv(width, half), flat_conv(half, half))
        self.middle = nn.ModuleList([flat_conv(half, quarter), flat_conv(quarter, eighth), flat_conv(eighth, eighth)])
        self.fine = nn.ModuleList([flat_conv(eighth, sixteenth), flat_conv(sixteenth, last), flat_conv(last, last)])
        self.time2 = halving(half, 3)
        self.time3 = halving(eighth, 2)

        self.out = nn.Sequential(
            flat_conv(3 * last, 2 * last), flat_conv(2 * last, last), nn.Conv2d(last, 1, 3, padding=1, bias=False)
        )

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Return maps in 0..1, ``(N, 1, H, W)``.

        Args:
            features: ``(N, C, T, h, w)``.
            size: height and width of the maps.
        """
        x = resampled(features)
        first = self.attend1(x)  # 256 x 8 x 14 x 14
        second = enlarged(self.attend2(first), 4)  # 64 x 4 x 56 x 56
        third = enlarged(self.attend3(second), 4)[:, :, 0]  # 16 x 224 x 224

        after2 = self.conv2(self.conv1(x)) + first
        after4 = enlarged(self.conv4(enlarged(self.conv3(after2), 2)), 2) + second
        deep = enlarged(self.conv6(enlarged(self.conv5(after4), 2)), 2)[:, :, 0]

        flat = self.coarse(self.squeeze(x)[:, :, 0]) + self.time2(after2)[:, :, 0]
        flat = self.upward(self.middle, flat) + self.time3(after4)[:, :, 0]
        flat = self.upward(self.fine, flat)

        maps: Tensor = self.out(torch.cat([flat, third, deep], 1))
        if tuple(maps.shape[-2:]) != size:
            maps = F.interpolate(maps, size, mode="bilinear", align_corners=False)
        return torch.sigmoid(maps)

    def upward(self, layers: nn.ModuleList, x: Tensor) -> Tensor:
        """Return features after three convolutions; the last two enlarge them by 2 each."""
        for index, layer in enumerate(layers):
            x = layer(x) if index == 0 else enlarged(layer(x), 2)
        return x
