"""The three heterogeneous decoders of TinyHD.

Source: Hu et al., WACV 2023, section 3.2.1 and Figure 4. All three read the encoder's four streams

    x0 (28 channels, stride 2)   x1 (24, stride 4)   x2 (136, stride 8)   x3 (520, stride 16)

and output maps at full resolution, before the sigmoid. Besides their wiring, the networks differ in:

- single output: depthwise kernels of temporal stride 2 reduce time to one step;
- multi output: interpolation extends time to 16 steps (d2, d3); d1 outputs one step for the whole clip;
- half and quarter width: interpolation replaces some pixel shuffles, which divide the channels by four.
"""

from __future__ import annotations

from functools import partial
from typing import Final, Literal

import torch
from torch import Tensor, nn

from ...blocks.mobilenet3d import InvertedResidual, MobileNet3d, Upsampling

Streams = tuple[Tensor, Tensor, Tensor, Tensor]
Outputs = Literal["single", "multi"]

# Temporal behavior of a decoder block's depthwise kernel.
FOLD: Final = "fold"  # 3 frames, stride 2: halves the time steps
FRAME: Final = "frame"  # 1 frame: space only
KEEP: Final = "keep"  # 3 frames, stride 1
Temporal = Literal["fold", "frame", "keep"]


def block(in_channels: int, out_channels: int, temporal: Temporal) -> InvertedResidual:
    """Return an inverted residual of expansion 2 without a skip connection, the only block of all three decoders."""
    frames = 1 if temporal == FRAME else 3
    return InvertedResidual(
        in_channels,
        out_channels,
        expansion=2,
        kernel=(frames, 3, 3),
        stride=(2 if temporal == FOLD else 1, 1, 1),
        padding=(frames // 2, 1, 1),
        skip=False,
    )


class Decoder(nn.Module):
    """Base class of the decoders."""

    maps = 1
    """Number of maps per time step."""

    def __init__(self, outputs: Outputs, width_divisor: int) -> None:
        super().__init__()
        self.multi = outputs == "multi"
        self.width_divisor = width_divisor
        self.upsampling = Upsampling()

    def temporal(self, single: Temporal) -> Temporal:
        """Return the temporal behavior of a kernel: ``single``, or ``KEEP`` in multi-output networks."""
        return KEEP if self.multi else single

    def up(self, x: Tensor) -> Tensor:
        """Double the resolution by pixel shuffle and, in multi-output networks, the time steps by interpolation."""
        y: Tensor = self.upsampling(x, shuffle=True, time=2 if self.multi else 1)
        return y

    def stretch(self, x: Tensor) -> Tensor:
        """Double the same dimensions by interpolation only, which keeps the number of channels."""
        y: Tensor = self.upsampling(x, time=2 if self.multi else 1, space=2)
        return y


class HierarchicalDecoder(Decoder):
    """d1: one map from each stream (hierarchical aggregation, as in HD2S).

    The output is ``(N, 4, 1, H, W)``, from the shallowest stream to the deepest.
    """

    maps = 4

    def __init__(self, outputs: Outputs, width_divisor: int) -> None:
        super().__init__(outputs, width_divisor)
        c0, c1, c2, c3 = MobileNet3d.stream_channels(width_divisor)
        # d1 folds time in both kinds of network. Where single has one-frame kernels, multi has three-frame kernels.
        frame: Temporal = self.temporal(FRAME)
        self.x0 = nn.ModuleList(
            [block(c0, 24, FOLD), block(24, 48, frame), block(12, 24, FOLD), block(24, 1, FOLD)],
        )
        self.x1 = nn.ModuleList(
            [block(c1, 56, FOLD), block(14, 56, frame), block(14, 28, FOLD), block(28, 1, frame)],
        )
        self.x2 = nn.ModuleList(
            [block(c2, 56, FOLD), block(14, 56, frame), block(14, 56, frame), block(14, 1, frame)],
        )
        # The deepest stream starts with 2 time steps (single) or 1 (multi). At quarter width, it has too few channels
        # for a pixel shuffle before the first block.
        self.interpolates_x3 = width_divisor == 4
        c3 = c3 if self.interpolates_x3 else c3 // 4
        self.x3 = nn.ModuleList(
            [block(c3, 136, self.temporal(FOLD)), block(34, 136, frame), block(34, 136, frame), block(34, 1, frame)],
        )

    def forward(self, streams: Streams) -> Tensor:
        x0, x1, x2, x3 = streams
        shuffle = partial(self.upsampling, shuffle=True)

        a = shuffle(self.x0[1](self.x0[0](x0)))  # (N, 12, 4, 192, 256)
        a = self.x0[3](self.x0[2](a))

        b = shuffle(self.x1[1](shuffle(self.x1[0](x1))))  # (N, 14, 2, 192, 256)
        b = self.x1[3](self.x1[2](b))

        c = shuffle(self.x2[1](shuffle(self.x2[0](x2))))  # (N, 14, 1, 96, 128)
        c = self.x2[3](shuffle(self.x2[2](c)))

        d = self.upsampling(x3, space=2) if self.interpolates_x3 else shuffle(x3)  # (N, 130, ., 24, 32)
        d = self.x3[1](shuffle(self.x3[0](d)))
        d = self.x3[3](shuffle(self.x3[2](shuffle(d))))

        return torch.cat([a, b, c, d], dim=1)


class UNetDecoder(Decoder):
    """d2: upsamples the deepest stream and adds the next shallower one at each step (U-Net).

    The output is ``(N, 1, T, H, W)``, T 1 (single) or 16 (multi).
    """

    def __init__(self, outputs: Outputs, width_divisor: int) -> None:
        super().__init__(outputs, width_divisor)
        c0, c1, c2, c3 = MobileNet3d.stream_channels(width_divisor)
        fold, frame = self.temporal(FOLD), self.temporal(FRAME)
        self.from_x3 = block(c3, 4 * c2, frame)
        self.from_x2 = block(c2, 4 * c1, frame)
        self.lateral_x1 = block(c1, c1, fold)
        self.from_x1 = block(c1, 4 * c0, frame)
        self.lateral_x0 = nn.Sequential(block(c0, c0, fold), block(c0, c0, fold))
        self.from_x0 = block(c0, c0, fold)
        # In narrow networks, the last upsampling keeps the channels.
        self.interpolates_last = width_divisor > 1
        self.to_map = block(c0 if self.interpolates_last else c0 // 4, 1, fold)

    def forward(self, streams: Streams) -> Tensor:
        x0, x1, x2, x3 = streams
        y = self.up(self.from_x3(x3)) + x2  # (N, 136, 2, 24, 32)
        y = self.up(self.from_x2(y)) + self.lateral_x1(x1)  # (N, 24, 2 | 4, 48, 64)
        y = self.up(self.from_x1(y)) + self.lateral_x0(x0)  # (N, 28, 2 | 8, 96, 128)
        y = self.from_x0(y)
        y = self.stretch(y) if self.interpolates_last else self.up(y)  # (N, 7, 1 | 16, 192, 256)
        maps: Tensor = self.to_map(y)
        return maps


class AggregationDecoder(Decoder):
    """d3: merges neighboring resolutions in stages until one is left (deep layer aggregation, Yu et al., CVPR 2018).

    The output is ``(N, 1, T, H, W)``, T 1 (single) or 16 (multi).
    """

    def __init__(self, outputs: Outputs, width_divisor: int) -> None:
        super().__init__(outputs, width_divisor)
        x = MobileNet3d.stream_channels(width_divisor)
        self.interpolates_streams = width_divisor > 1
        u = x if self.interpolates_streams else tuple(channels // 4 for channels in x)
        fold, frame = self.temporal(FOLD), self.temporal(FRAME)
        # Stage 1 adds each stream to the upsampled deeper one: its four levels have the channels u.
        self.lateral1 = nn.ModuleList([block(x[0], u[1], fold), block(x[1], u[2], fold), block(x[2], u[3], frame)])
        # Each later stage has one level fewer: channels (2, 8, 32), (2, 8), (2).
        self.up2 = nn.ModuleList([block(u[1], 8, frame), block(u[2], 32, frame), block(u[3], 128, fold)])
        self.lateral2 = nn.ModuleList([block(u[0], 2, fold), block(u[1], 8, fold), block(u[2], 32, fold)])
        self.lateral3 = nn.ModuleList([block(2, 2, fold), block(8, 8, fold)])
        self.lateral4 = block(2, 2, fold)
        self.to_map = block(2, 1, frame)

    def forward(self, streams: Streams) -> Tensor:
        upsample = self.stretch if self.interpolates_streams else self.up
        u = [upsample(x) for x in streams]
        one = [u[0]] + [u[i + 1] + self.lateral1[i](streams[i]) for i in range(3)]
        two = [self.up(self.up2[i](one[i + 1])) + self.lateral2[i](one[i]) for i in range(3)]
        three = [self.up(two[i + 1]) + self.lateral3[i](two[i]) for i in range(2)]
        four = self.up(three[1]) + self.lateral4(three[0])
        maps: Tensor = self.to_map(four)
        return maps


DECODERS: dict[str, type[Decoder]] = {"d1": HierarchicalDecoder, "d2": UNetDecoder, "d3": AggregationDecoder}
