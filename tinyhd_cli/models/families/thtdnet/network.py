"""The THTD-Net network: one decoder on Video Swin features, which keeps 16 time steps for half of its depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....errors import WeightsError
from ...blocks.swin3d import Swin3D
from ...imagenet import fit
from ...spec import ModelSpec
from .original import PATCH_NORM, encoder_tensors

WIDTHS = {"narrow": (128, 96, 64, 64, 48, 32, 16), "wide": (0, 256, 128, 64, 32, 16, 8)}
"""Channels of the decoder: of the projection of the deepest features (0: there is none), and of its six layers."""


def enlarged(x: Tensor) -> Tensor:
    """Return features ``(N, C, T, H, W)`` at twice the height and width."""
    return F.interpolate(x, scale_factor=(1.0, 2.0, 2.0), mode="trilinear", align_corners=False)


class Decoder(nn.Module):
    """Turns the features of the four stages into one map.

    The first two layers keep the 16 time steps of a clip; each of the other four halves them. The published text states
    this design and the size of the weights file, but not the layers: their widths are this project's choice.

    Args:
        channels: of the four stages.
        widths: of the layers; see ``WIDTHS``.
        laterals: whether the features of stages 3, 2 and 1 are added after the first three layers.
    """

    def __init__(self, channels: Sequence[int], widths: Sequence[int], *, laterals: bool) -> None:
        super().__init__()
        first, *widths = widths
        self.project = nn.Linear(channels[3], first) if first else nn.Identity()
        pairs = zip([first or channels[3], *widths], widths, strict=False)
        self.layers = nn.ModuleList()
        for index, (before, after) in enumerate(pairs):
            kernel, stride, padding = (3, 1, 1) if index < 2 else (2, 2, 0)
            self.layers.append(nn.Conv3d(before, after, (kernel, 3, 3), (stride, 1, 1), (padding, 1, 1), bias=False))
        self.laterals = nn.ModuleList()
        if laterals:
            deep_to_shallow = zip(reversed(channels[:3]), widths, strict=False)
            self.laterals.extend(nn.Linear(wide, width) for wide, width in deep_to_shallow)
        self.to_map = nn.Conv3d(widths[-1], 1, (1, 3, 3), padding=(0, 1, 1), bias=False)

    def forward(self, y1: Tensor, y2: Tensor, y3: Tensor, y4: Tensor) -> Tensor:
        """Return the map ``(N, 1, H, W)`` of features of 1/4, 1/8, 1/16 and 1/32 of its size."""
        # Linear layers take the encoder's own layout (N, T, H, W, C), so that only their smaller output is copied.
        last, third, second, first = (features.permute(0, 2, 3, 4, 1) for features in (y4, y3, y2, y1))
        early = (first[:, ::2] + first[:, 1::2]) / 2  # layer 3 halves the time steps
        x = self.project(last).permute(0, 4, 1, 2, 3)  # (N, 128, 16, 7, 12)
        for index, layer in enumerate(self.layers):
            x = torch.relu(layer(x))
            if index < 5:
                x = enlarged(x)
            if index < len(self.laterals):
                x = x + self.laterals[index]((third, second, early)[index]).permute(0, 4, 1, 2, 3)
        return torch.sigmoid(self.to_map(x)).squeeze(2)


class THTDNet(nn.Module):
    """The network, which outputs the saliency map of a clip's last frame."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        options = spec.options
        self.encoder = Swin3D(
            options["channels"],
            options["depths"],
            drop_path=options["drop_path"],
            checkpointed=options["checkpoint"],
            patch_norm=options["patch_norm"],
        )
        self.decoder = Decoder(self.encoder.channels, WIDTHS[options["decoder"]], laterals=options["laterals"])

    def forward(self, clip: Tensor) -> Tensor:
        """Return the saliency ``(N, 1, H, W)`` in 0..1 of clips ``(N, 3, 32, H, W)``."""
        saliency: Tensor = self.decoder(*self.encoder(clip))
        return saliency


def load_encoder(network: THTDNet, state_dict: Mapping[str, Tensor]) -> None:
    """Load the weights of a Video Swin transformer into a network's encoder.

    Raises:
        WeightsError: a tensor is missing or of another shape, or only one of both has LayerNorm after the patches.
    """
    parameters, tensors = dict(network.encoder.named_parameters()), encoder_tensors(state_dict)
    if (PATCH_NORM in tensors) != (PATCH_NORM in parameters):
        has, needed = ("has a", "true") if PATCH_NORM in tensors else ("has no", "false")
        raise WeightsError(f"the encoder {has} LayerNorm after the patch embedding; add --set patch_norm={needed}")
    found = fit(tensors, parameters, "Video Swin transformer of this size")
    network.encoder.load_state_dict(network.encoder.state_dict() | found)
