"""The TinyHD network (Hu et al., WACV 2023, Figure 4): one encoder, several decoders, and a fusion of their maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal, overload

import torch
from torch import Tensor, nn

from ...blocks.mobilenet3d import ConvNorm, MobileNet3d
from ...spec import ModelSpec
from ...static import make_kernels_static
from .decoders import DECODERS, Decoder
from .options import WIDTHS


def numbered(decoders: Iterable[str]) -> dict[str, str]:
    """Return decoder names by kind, in the order of the fusion; a repeated kind is numbered: d1, d1_2, d1_3."""
    seen: Counter[str] = Counter()
    names = {}
    for kind in decoders:
        seen[kind] += 1
        names[kind if seen[kind] == 1 else f"{kind}_{seen[kind]}"] = kind
    return names


class TinyHD(nn.Module):
    """The network, which outputs one saliency map per clip (single) or one per frame (multi)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.frames = spec.maps
        """Maps per clip; 1 for a static twin."""
        outputs, self.width_divisor = spec.options["outputs"], WIDTHS[spec.options["width"]]
        self.encoder = MobileNet3d(outputs, self.width_divisor)
        kinds = numbered(spec.options["decoders"])
        self.decoders = nn.ModuleDict(
            {name: DECODERS[kind](outputs, self.width_divisor) for name, kind in kinds.items()}
        )
        maps = sum(DECODERS[kind].maps for kind in kinds.values())
        self.fusion = nn.Conv3d(maps, 1, kernel_size=1)

    @overload
    def forward(self, clip: Tensor, intermediate: Literal[False] = False) -> Tensor: ...

    @overload
    def forward(self, clip: Tensor, intermediate: Literal[True]) -> tuple[Tensor, dict[str, Tensor]]: ...

    def forward(self, clip: Tensor, intermediate: bool = False) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Predict the saliency of a clip.

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

        # d1 outputs one frame for the whole clip, in multi-output networks too.
        aligned = [m.expand(-1, -1, self.frames, -1, -1) for m in maps.values()]
        saliency = torch.sigmoid(self.fusion(torch.cat(aligned, dim=1))).squeeze(1)  # (N, T, H, W)
        return (saliency, maps) if intermediate else saliency


@torch.no_grad()
def make_static(network: TinyHD) -> None:
    """Turn a network into its static twin, in place: ``(N, 3, 1, H, W)`` to ``(N, 1, H, W)``."""
    make_kernels_static(network)
    for module in network.modules():
        if isinstance(module, Decoder):
            module.multi = False  # no temporal upsampling
    network.frames = 1


DECODER_BIAS = -2.0
"""Initial bias of a decoder's map before its sigmoid: 0.12 where the features are zero."""

FUSION_WEIGHT, FUSION_BIAS = 2.0, -4.0


@torch.no_grad()
def init_output_bias(network: TinyHD) -> None:
    """Set the output biases so that new decoders and their fusion produce mostly dark maps.

    Source: the prior of Lin et al., ICCV 2017, section 3.3, for outputs that are rarely on.
    """
    for decoder in network.decoders.values():
        for layer in decoder.modules():
            if isinstance(layer, ConvNorm) and layer.conv.out_channels == 1:
                layer.norm.bias.fill_(DECODER_BIAS)
    network.fusion.weight.fill_(FUSION_WEIGHT)
    assert network.fusion.bias is not None
    network.fusion.bias.fill_(FUSION_BIAS)
