"""The same network, made cheaper to ask: for inference only."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold(network: nn.Module) -> None:
    """Fold each BatchNorm into the convolution before it, and lay 3D kernels out channels last. Changes the network.

    Answers agree with the unfolded network's to float32 rounding. On a CPU, multi-output networks then take 0.6 of the
    time, because PyTorch's 3D depthwise convolutions are faster channels last, and 100 MB less at their peak.

    Args:
        network: in evaluation mode; its norms are called ``norm`` after a ``conv``, or ``NAME_norm`` after a ``NAME``.
    """
    for module in network.modules():
        for name, norm in list(module.named_children()):
            if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
                before = "conv" if name == "norm" else name.removesuffix("_norm")
                setattr(module, before, fuse_conv_bn_eval(getattr(module, before), norm))
                setattr(module, name, nn.Identity())
    for parameter in network.parameters():
        if parameter.dim() == 5:
            # Not contiguous(): it leaves shapes alone whose order the format does not settle, such as (C, 1, 3, 3, 3).
            parameter.data = parameter.data.to(memory_format=torch.channels_last_3d)
