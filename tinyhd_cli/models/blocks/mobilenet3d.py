"""MobileNetV2 inflated to three dimensions: the encoder of TinyHD.

Sources: Sandler et al., CVPR 2018 (MobileNetV2, Table 2); Hu et al., WACV 2023, section 3.2 (inflation, and, as in
FastSal, the concatenation of the features of all blocks into four streams).

Shapes are ``(N, C, T, H, W)``; the comments give those of the full-width network for 16 x 192 x 256.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Size3 = tuple[int, int, int]

# Output channels of the blocks at full width: the stem (block 0), blocks 1 to 17, and the head (block 18).
STEM_CHANNELS = 32
BLOCK_CHANNELS = (16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320)
HEAD_CHANNELS = 1280

# Blocks with spatial stride 2.
DOWNSAMPLING_BLOCKS = (2, 4, 7, 14)

# Blocks with temporal stride 1. In all others it equals the spatial stride: time is reduced by 8, space by 32.
KEEPS_TIME = (2, 14)

EXPANSION = 6

# Blocks whose outputs are concatenated into one group of features.
GROUPS = ((1,), (2, 3), (4, 5, 6), (7, 8, 9, 10, 11, 12, 13), (14, 15, 16, 17, 18))


def pixel_shuffle_frames(x: Tensor) -> Tensor:
    """Apply a pixel shuffle to each frame: ``(N, 4C, T, H, W)`` to ``(N, C, T, 2H, 2W)``."""
    x = F.pixel_shuffle(x.transpose(1, 2), 2)  # (N, T, C, 2H, 2W)
    return x.transpose(1, 2)


def interpolate(x: Tensor, *, time: int = 1, space: int = 1) -> Tensor:
    """Upsample trilinearly by integer factors, with aligned corners."""
    if time == 1 and space == 1:
        return x
    return F.interpolate(x, scale_factor=(time, space, space), mode="trilinear", align_corners=True)


class Upsampling(nn.Module):
    """Optionally a pixel shuffle of each frame, then trilinear interpolation; a module, so that it can be replaced."""

    def forward(self, x: Tensor, *, shuffle: bool = False, time: int = 1, space: int = 1) -> Tensor:
        return interpolate(pixel_shuffle_frames(x) if shuffle else x, time=time, space=space)


class ConvNorm(nn.Sequential):
    """Convolution, BatchNorm and, with ``activation``, ReLU6."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: Size3 = (1, 1, 1),
        stride: Size3 = (1, 1, 1),
        padding: Size3 = (0, 0, 0),
        groups: int = 1,
        activation: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm3d(out_channels)
        if activation:
            self.activation = nn.ReLU6(inplace=True)


class InvertedResidual(nn.Module):
    """1x1x1 expansion, depthwise convolution, 1x1x1 projection without an activation (MobileNetV2, Figure 4b).

    With ``skip=None``, the input is added if the shapes match, as in MobileNetV2. TinyHD's decoders never add it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        expansion: int = EXPANSION,
        kernel: Size3 = (3, 3, 3),
        stride: Size3 = (1, 1, 1),
        padding: Size3 = (1, 1, 1),
        skip: bool | None = None,
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.expand = ConvNorm(in_channels, hidden) if expansion != 1 else nn.Identity()
        self.depthwise = ConvNorm(hidden, hidden, kernel=kernel, stride=stride, padding=padding, groups=hidden)
        self.project = ConvNorm(hidden, out_channels, activation=False)
        self.skip = (stride == (1, 1, 1) and in_channels == out_channels) if skip is None else skip

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.skip else y


class MobileNet3d(nn.Module):
    """The encoder, which turns a clip into four streams of features.

    Args:
        outputs: ``"single"`` keeps two time steps in the deepest blocks, ``"multi"`` reduces them to one: the depthwise
            kernel of block 14 spans two frames without padding, those of blocks 15 to 17 span one.
        width_divisor: 1, 2 or 4; all numbers of channels except the three of the input are divided by it.
    """

    def __init__(self, outputs: Literal["single", "multi"], width_divisor: int = 1) -> None:
        super().__init__()
        stem = STEM_CHANNELS // width_divisor
        self.stem = ConvNorm(3, stem, kernel=(3, 3, 3), stride=(2, 2, 2), padding=(1, 1, 1))

        channels = stem
        blocks: dict[str, nn.Module] = {}
        for index, full_width in enumerate(BLOCK_CHANNELS, start=1):
            space = 2 if index in DOWNSAMPLING_BLOCKS else 1
            time = 1 if index in KEEPS_TIME else space
            kernel, padding = (3, 3, 3), (1, 1, 1)
            if outputs == "multi" and index >= 14:
                kernel, padding = (2 if index == 14 else 1, 3, 3), (0, 1, 1)
            blocks[str(index)] = InvertedResidual(
                channels,
                full_width // width_divisor,
                expansion=1 if index == 1 else EXPANSION,
                kernel=kernel,
                stride=(time, space, space),
                padding=padding,
            )
            channels = full_width // width_divisor
        blocks["18"] = ConvNorm(channels, HEAD_CHANNELS // width_divisor)
        self.blocks = nn.ModuleDict(blocks)
        self.upsampling = Upsampling()

    @staticmethod
    def stream_channels(width_divisor: int = 1) -> tuple[int, int, int, int]:
        """Return the channels of the four streams: 28, 24, 136, 520 at full width."""
        widths = (*BLOCK_CHANNELS, HEAD_CHANNELS)
        first, *others = [sum(widths[block - 1] for block in group) // width_divisor for group in GROUPS]
        shuffled = [channels // 4 for channels in others]
        return first + shuffled[0], shuffled[1], shuffled[2], shuffled[3]

    def forward(self, clip: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the features of a clip ``(N, 3, 16, H, W)`` at spatial strides 2, 4, 8 and 16, shallow to deep.

        They have 8, 4, 2, and 2 (single) or 1 (multi) time steps.
        """
        x = self.stem(clip)  # (N, 32, 8, 96, 128)
        groups: list[Tensor] = []
        for group in GROUPS:
            taps = []
            for block in group:
                x = self.blocks[str(block)](x)
                taps.append(x)
            groups.append(torch.cat(taps, dim=1))
        # (16, 8, 96, 128) | (48, 8, 48, 64) | (96, 4, 24, 32)... All but the first double their resolution.
        shallow, *deeper = groups
        half, quarter, eighth, sixteenth = (self.upsampling(group, shuffle=True) for group in deeper)
        return torch.cat([shallow, half], dim=1), quarter, eighth, sixteenth
