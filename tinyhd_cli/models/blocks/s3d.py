"""S3D: an Inception network whose 3D convolutions are separated into space and time. The encoder of HD2S.

Source: Xie et al., "Rethinking Spatiotemporal Feature Learning", ECCV 2018. Shapes are ``(N, C, T, H, W)``; the
comments give those for 16 x 192 x 256.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

EPS = 1e-3
"""BatchNorm's epsilon throughout S3D."""


class Conv(nn.Module):
    """Convolution, 1x1x1 by default, with BatchNorm and ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: tuple[int, int, int] = (1, 1, 1),
        stride: tuple[int, int, int] = (1, 1, 1),
    ) -> None:
        super().__init__()
        time, height, width = kernel
        padding = (time // 2, height // 2, width // 2)
        self.conv = nn.Conv3d(in_channels, out_channels, kernel, stride, padding, bias=False)
        self.norm = nn.BatchNorm3d(out_channels, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)))


class SeparableConv(nn.Module):
    """A k x k x k convolution, separated into 1 x k x k in space and k x 1 x 1 in time."""

    def __init__(self, in_channels: int, out_channels: int, size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.space = Conv(in_channels, out_channels, kernel=(1, size, size), stride=(1, stride, stride))
        self.time = Conv(out_channels, out_channels, kernel=(size, 1, 1), stride=(stride, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.time(self.space(x))
        return y


class Inception(nn.Module):
    """Four parallel branches: 1x1x1 | 1x1x1, 3x3x3 | 1x1x1, 3x3x3 | pooling, 1x1x1; ``widths`` in this order."""

    def __init__(self, in_channels: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        point, reduce1, separable1, reduce2, separable2, pooled = widths
        self.branch0 = Conv(in_channels, point)
        self.branch1 = nn.Sequential(Conv(in_channels, reduce1), SeparableConv(reduce1, separable1))
        self.branch2 = nn.Sequential(Conv(in_channels, reduce2), SeparableConv(reduce2, separable2))
        self.branch3 = nn.Sequential(nn.MaxPool3d(3, stride=1, padding=1), Conv(in_channels, pooled))
        self.out_channels = point + separable1 + separable2 + pooled

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)], dim=1)


# Widths of the Inception blocks of stages 3, 4 and 5 (Szegedy et al. 2015, Table 1).
STAGE3 = ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64))
STAGE4 = (
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
)
STAGE5 = ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128))


def inception_stage(in_channels: int, stage: tuple[tuple[int, int, int, int, int, int], ...]) -> nn.Sequential:
    """Return a sequence of Inception blocks."""
    blocks = []
    for widths in stage:
        blocks.append(Inception(in_channels, widths))
        in_channels = blocks[-1].out_channels
    return nn.Sequential(*blocks)


class S3D(nn.Module):
    """The encoder, which returns the features of four stages, each after the max pooling that follows it."""

    channels = (192, 480, 832, 1024)

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = SeparableConv(3, 64, size=7, stride=2)
        self.stage2 = nn.Sequential(Conv(64, 64), SeparableConv(64, 192))
        self.stage3 = inception_stage(192, STAGE3)
        self.stage4 = inception_stage(480, STAGE4)
        self.stage5 = inception_stage(832, STAGE5)
        self.pool_space = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        self.pool3 = nn.MaxPool3d(3, stride=2, padding=1)
        self.pool4 = nn.MaxPool3d(2, stride=2)

    def forward(self, clip: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the features of a clip ``(N, 3, 16, H, W)``: strides 8, 16, 32, 32 in space, 2, 4, 8, 8 in time."""
        x = self.pool_space(self.stage1(clip))  # (N, 64, 8, 48, 64)
        x2 = self.pool_space(self.stage2(x))  # (N, 192, 8, 24, 32)
        x3 = self.pool3(self.stage3(x2))  # (N, 480, 4, 12, 16)
        x4 = self.pool4(self.stage4(x3))  # (N, 832, 2, 6, 8)
        x5 = self.stage5(x4)  # (N, 1024, 2, 6, 8)
        return x2, x3, x4, x5
