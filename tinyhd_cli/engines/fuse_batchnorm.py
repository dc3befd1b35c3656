"""Fold BatchNorm into convolutions, for inference."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)


def fold(network: nn.Module, *, by_name: bool = False) -> None:
    """Fold BatchNorm layers into the convolutions before them, and store 3D kernels channels last. Changes the network.

    The output agrees with the unfolded network's up to float32 rounding. On a CPU, TinyHD-M then takes 40 % less time,
    because PyTorch's 3D depthwise convolutions are faster channels last, and its peak memory is 100 MB smaller.

    Args:
        network: in evaluation mode.
        by_name: whether each norm called ``norm`` (``NAME_norm``) is applied to the output of its sibling ``conv``
            (``NAME``). Otherwise only a norm that follows a convolution in an ``nn.Sequential`` is folded.
    """
    for module in list(network.modules()):
        previous = ""
        for name, norm in list(module.named_children()):
            if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
                before = ("conv" if name == "norm" else name.removesuffix("_norm")) if by_name else previous
                conv = getattr(module, before, None)
                in_order = by_name or type(module).forward is nn.Sequential.forward
                if in_order and isinstance(conv, CONVOLUTIONS):
                    setattr(module, before, fuse_conv_bn_eval(conv, norm))
                    setattr(module, name, nn.Identity())
            previous = name
    for parameter in network.parameters():
        if parameter.dim() == 5:
            # Not contiguous(): it keeps the strides of shapes that fit both layouts, such as (C, 1, 3, 3, 3).
            parameter.data = parameter.data.to(memory_format=torch.channels_last_3d)
