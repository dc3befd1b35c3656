"""The HD2S network (Bellitto et al., IJCV 2021): four decoders on S3D features, one map each, and their fusion."""

from __future__ import annotations

from typing import Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...blocks import s3d
from ...spec import ModelSpec


class DepthwiseSeparable(nn.Module):
    """3x3 depthwise and 1x1 pointwise convolution, each followed by BatchNorm and ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(channels)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.pointwise_norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.depthwise_norm(self.depthwise(x)))
        return torch.relu(self.pointwise_norm(self.pointwise(x)))


class DecoderLayer(nn.Module):
    """A 3x3 convolution, ``separable`` depthwise separable ones, and bilinear upsampling by two."""

    def __init__(self, in_channels: int, out_channels: int, separable: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, eps=s3d.EPS)
        self.separable = nn.Sequential(*[DepthwiseSeparable(out_channels) for _ in range(separable)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.separable(torch.relu(self.norm(self.conv(x))))
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class ConspicuityDecoder(nn.Module):
    """Turns one stage of features into one map: reduces time to one step, then decodes in space.

    Args:
        in_channels: channels of the stage.
        folds: number of temporal convolutions of stride 2 that reduce its time steps to one.
        layers: output channels and number of separable convolutions of each layer.
    """

    def __init__(self, in_channels: int, folds: int, layers: tuple[tuple[int, int], ...]) -> None:
        super().__init__()
        self.fold = nn.Sequential(
            *[s3d.Conv(in_channels, in_channels, kernel=(3, 1, 1), stride=(2, 1, 1)) for _ in range(folds)],
        )
        widths = [in_channels, *(width for width, _ in layers)]
        self.layers = nn.Sequential(
            *[DecoderLayer(widths[i], width, separable) for i, (width, separable) in enumerate(layers)],
        )
        self.to_map = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fold(x).squeeze(2)  # (N, C, T, h, w) to (N, C, h, w)
        return torch.sigmoid(self.to_map(self.layers(x)))  # (N, 1, H, W)


# Layers of the decoders, as (channels, separable convolutions); each halves the stride, down to 1.
LAYERS2 = ((128, 1), (64, 1), (3, 1))
LAYERS3 = ((256, 1), (128, 1), (64, 1), (3, 1))
LAYERS4 = LAYERS5 = ((512, 2), (256, 2), (128, 1), (64, 1), (3, 1))


class HD2S(nn.Module):
    """The network, which outputs the saliency map of a clip's last frame."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = s3d.S3D()
        c2, c3, c4, c5 = s3d.S3D.channels
        self.decoders = nn.ModuleList(
            [
                ConspicuityDecoder(c2, 3, LAYERS2),
                ConspicuityDecoder(c3, 2, LAYERS3),
                ConspicuityDecoder(c4, 1, LAYERS4),
                ConspicuityDecoder(c5, 1, LAYERS5),
            ],
        )
        self.fusion = nn.Conv2d(4, 1, 1)

    @overload
    def forward(self, clip: Tensor, intermediate: Literal[False] = False) -> Tensor: ...

    @overload
    def forward(self, clip: Tensor, intermediate: Literal[True]) -> tuple[Tensor, dict[str, Tensor]]: ...

    def forward(self, clip: Tensor, intermediate: bool = False) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Predict the saliency of a clip's last frame.

        Args:
            clip: float32 ``(N, 3, 16, H, W)``, RGB in -1..1; H and W multiples of 32.
            intermediate: also return the decoders' maps.

        Returns:
            Saliency ``(N, 1, H, W)`` in 0..1. With ``intermediate``, a pair of the saliency and
            ``{"maps": (N, 4, 1, H, W)}``, shallow to deep.
        """
        maps = [decoder(stage) for decoder, stage in zip(self.decoders, self.encoder(clip), strict=True)]
        saliency = torch.sigmoid(self.fusion(torch.cat(maps[::-1], dim=1)))  # the fusion expects the deepest map first
        return (saliency, {"maps": torch.stack(maps, dim=1)}) if intermediate else saliency
