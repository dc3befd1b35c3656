"""Static twins: 2D networks whose maps are those of the original 3D network for clips of identical frames.

Inflation (Hu et al., WACV 2023, section 3.2) is undone by summing each kernel over time. There are more photographs
than videos with recorded fixations, and a 2D network trains on them several times as fast. Afterward the kernels are
put back into the 3D network.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


@torch.no_grad()
def make_kernels_static(network: nn.Module) -> None:
    """Sum the kernels of all 3D convolutions over time, in place; strides and padding in time become 1 and 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            module.weight = nn.Parameter(module.weight.sum(2, keepdim=True))
            for name in ("kernel_size", "stride", "padding"):
                _, *space = getattr(module, name)
                setattr(module, name, (0 if name == "padding" else 1, *space))


def with_time(state_dict: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a static twin as tensors of the network for clips.

    A kernel goes to the middle frame of its span (to both middle frames of an even span). Spread over all of them, the
    zero padding before and after a clip would darken the deepest layers, which have one or two time steps.

    Args:
        state_dict: tensors of a network after :func:`make_kernels_static`.
        like: tensors of the network for clips, for their shapes.
    """
    moved = {}
    for name, value in state_dict.items():
        frames = like[name].shape[2] if like[name].dim() == 5 else 1
        if frames > 1:
            taps = torch.zeros_like(like[name])
            middle = slice((frames - 1) // 2, frames // 2 + 1)
            taps[:, :, middle] = value / (middle.stop - middle.start)
            value = taps
        moved[name] = value
    return moved
