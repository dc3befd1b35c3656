"""TinyHD: one encoder, several decoders, and a 1x1 fusion of their maps.

Source: Hu et al., "TinyHD: Efficient Video Saliency Prediction with Heterogeneous Decoders using Hierarchical Maps
Distillation", WACV 2023, Figure 4.
"""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor, nn

from ..blocks.mobilenet3d import MobileNet3d
from ..blocks.tinyhd_decoders import DECODERS
from ..spec import TinyHDConfig


class TinyHD(nn.Module):
    """A clip in, one saliency map (single) or one a frame (multi) out."""

    def __init__(self, config: TinyHDConfig) -> None:
        super().__init__()
        self.config = config
        self.frames = config.frames_out
        """Maps that come out for a clip."""
        self.encoder = MobileNet3d(config.outputs, config.width_divisor)
        self.decoders = nn.ModuleDict(
            {name: DECODERS[kind](config.outputs, config.width_divisor) for name, kind in config.decoder_names.items()},
        )
        maps = sum(DECODERS[kind].maps for kind in config.decoders)
        self.fusion = nn.Conv3d(maps, 1, kernel_size=1)

    @overload
    def forward(self, clip: Tensor, intermediate: Literal[False] = False) -> Tensor: ...

    @overload
    def forward(self, clip: Tensor, intermediate: Literal[True]) -> tuple[Tensor, dict[str, Tensor]]: ...

    def forward(self, clip: Tensor, intermediate: bool = False) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Saliency of a clip.

        Args:
            clip: float32 ``(N, 3, 16, H, W)``, ImageNet-normalized RGB; H and W multiples of 32 (the paper: 192 x 256).
            intermediate: also return the decoders' maps.

        Returns:
            Saliency ``(N, T, H, W)`` in 0..1, T 16 (multi) or 1 (single, the map of the last frame). With
            ``intermediate`` a pair of it and a dict from decoder name to its maps after the sigmoid: ``d1``
            ``(N, 4, 1, H, W)`` shallow to deep, ``d2`` and ``d3`` ``(N, 1, T, H, W)``.
        """
        streams = self.encoder(clip)
        maps = {name: torch.sigmoid(decoder(streams)) for name, decoder in self.decoders.items()}

        # d1 of a multi-output network gives one frame for the whole clip.
        aligned = [m.expand(-1, -1, self.frames, -1, -1) for m in maps.values()]
        saliency = torch.sigmoid(self.fusion(torch.cat(aligned, dim=1))).squeeze(1)  # (N, T, H, W)
        return (saliency, maps) if intermediate else saliency
