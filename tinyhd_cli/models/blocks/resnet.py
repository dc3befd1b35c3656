"""ResNet-50 with torchvision's tensor names, without its classifier.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; as in torchvision, the stride of a block
is in its 3 x 3 convolution.

Shapes are ``(N, C, H, W)``.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

EXPANSION = 4
"""Output channels of a block by those of its 3 x 3 convolution."""

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
"""Channels of the 3 x 3 convolutions, number of blocks, and stride of each stage."""


class Bottleneck(nn.Module):
    """Residual block: 1 x 1, 3 x 3 and 1 x 1 convolutions, each with BatchNorm."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = EXPANSION * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = (
            nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))
            if stride != 1 or in_channels != out_channels
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNet50(nn.Module):
    """The trunk, which turns a frame into features at strides 4, 4, 8, 16 and 32."""

    title = "ResNet-50"

    channels = (64, *(EXPANSION * channels for channels, _, _ in STAGES))
    """Channels of the features: of the stem after its max pooling, and of the four stages."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        before = 64
        for number, (channels, blocks, stride) in enumerate(STAGES, start=1):
            first = Bottleneck(before, channels, stride)
            before = EXPANSION * channels
            others = (Bottleneck(before, channels) for _ in range(blocks - 1))
            self.add_module(f"layer{number}", nn.Sequential(first, *others))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, frame: Tensor) -> list[Tensor]:
        """Return the five features of a frame ``(N, 3, H, W)``."""
        features = [F.max_pool2d(F.relu(self.bn1(self.conv1(frame))), 3, 2, 1)]
        for number in range(1, len(STAGES) + 1):
            features.append(self.get_submodule(f"layer{number}")(features[-1]))
        return features
