"""A network in two dimensions: what TinyHD is to a clip that stands still, at a fraction of the work.

Its kernels span one frame and are the sums over time of those of the network it comes from, which is how inflation
(Hu et al., WACV 2023, section 3.2) is undone. Photographs, of which there are more with measured fixations than
videos, are learned from sooner that way; then the kernels go back to where time begins.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .blocks.tinyhd_decoders import Decoder
from .families.tinyhd import TinyHD


@torch.no_grad()
def make_still(network: TinyHD) -> None:
    """Make a network one for single frames: ``(N, 3, 1, H, W)`` in, ``(N, 1, H, W)`` out. Changes the network."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            module.weight = nn.Parameter(module.weight.sum(2, keepdim=True))
            for name in ("kernel_size", "stride", "padding"):
                _, *space = getattr(module, name)
                setattr(module, name, (0 if name == "padding" else 1, *space))
        elif isinstance(module, Decoder):
            module.multi = False  # which doubles no frames
    network.frames = 1


def with_time(state: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a still network as those of one for clips, which gives a still clip the same maps.

    A kernel goes to the middle of the frames that it is to span (to both halves of an even number): repeated over all
    of them, the zeros before and after a clip would darken the deepest layers, which have one or two frames.

    Args:
        state: of a network after :func:`make_still`.
        like: tensors of the network for clips, for their shapes.
    """
    moved = {}
    for name, value in state.items():
        frames = like[name].shape[2] if like[name].dim() == 5 else 1
        if frames > 1:
            taps = torch.zeros_like(like[name])
            middle = slice((frames - 1) // 2, frames // 2 + 1)
            taps[:, :, middle] = value / (middle.stop - middle.start)
            value = taps
        moved[name] = value
    return moved
