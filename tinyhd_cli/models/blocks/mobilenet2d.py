"""MobileNetV2 without its last convolution and classifier.

Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, Table 2.

Shapes are ``(N, C, H, W)``.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .conv2d import ConvNorm
from .mobilenet3d import BLOCK_CHANNELS, DOWNSAMPLING_BLOCKS, EXPANSION, STEM_CHANNELS

TAPS = (1, 3, 6, 13, 17)
"""Blocks whose outputs are the features: the last ones at strides 2, 4, 8, 16 and 32."""


class InvertedResidual(nn.Module):
    """1 x 1 expansion, 3 x 3 depthwise convolution, and 1 x 1 projection without an activation."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, expansion: int = EXPANSION) -> None:
        super().__init__()
        hidden = expansion * in_channels
        self.expand = ConvNorm(in_channels, hidden, 1, activation=nn.ReLU6) if expansion != 1 else nn.Identity()
        self.depthwise = ConvNorm(hidden, hidden, 3, stride=stride, groups=hidden, activation=nn.ReLU6)
        self.project = ConvNorm(hidden, out_channels, 1, activation=None)
        self.skip = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.skip else y


class MobileNet2d(nn.Module):
    """The trunk, which turns a frame into features at strides 4, 4, 8, 16 and 32.

    Its tensors have the names of :class:`.mobilenet3d.MobileNet3d`.
    """

    title = "MobileNetV2"

    channels = tuple(BLOCK_CHANNELS[block - 1] for block in TAPS)
    """Channels of the features."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, STEM_CHANNELS, 3, stride=2, activation=nn.ReLU6)
        before = STEM_CHANNELS
        blocks: dict[str, nn.Module] = {}
        for number, channels in enumerate(BLOCK_CHANNELS, start=1):
            stride, expansion = 2 if number in DOWNSAMPLING_BLOCKS else 1, 1 if number == 1 else EXPANSION
            blocks[str(number)] = InvertedResidual(before, channels, stride=stride, expansion=expansion)
            before = channels
        self.blocks = nn.ModuleDict(blocks)

    def forward(self, frame: Tensor) -> list[Tensor]:
        """Return the five features of a frame ``(N, 3, H, W)``; the first is max pooled, like the stem of ResNet."""
        features = []
        x = self.stem(frame)
        for number, block in self.blocks.items():
            x = block(x)
            if int(number) in TAPS:
                features.append(x)
        return [F.max_pool2d(features[0], 3, 2, 1), *features[1:]]
