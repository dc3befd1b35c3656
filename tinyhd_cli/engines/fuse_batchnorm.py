"""Fold BatchNorm into convolutions, for inference."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import cast

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

CONVOLUTIONS, NORMS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d), (nn.BatchNorm2d, nn.BatchNorm3d)
"""Layers that are folded; not their subclasses, which may compute something else."""


def can_fold(conv: nn.Module | None, norm: nn.Module | None) -> bool:
    """Return whether a norm has statistics and can be folded into a convolution."""
    if type(conv) not in CONVOLUTIONS or type(norm) not in NORMS or getattr(norm, "running_mean", None) is None:
        return False
    return not (isinstance(conv, nn.ConvTranspose2d) and conv.groups > 1)  # PyTorch cannot fold these


def convolution_of(norm: str) -> str:
    """Return the name of the convolution before a norm: of ``norm``, ``NAME_norm``, or torchvision's ``bn1``."""
    return "conv" if norm == "norm" else re.sub(r"^bn(?=\d+$)", "conv", norm.removesuffix("_norm"))


def fold(network: nn.Module, *, by_name: bool = False) -> None:
    """Fold BatchNorm layers into the convolutions before them, and store 3D kernels channels last. Changes the network.

    A PReLU with one slope becomes a LeakyReLU, which exporters keep as one operation, so that OpenVINO fuses it with
    the convolution before it; STKD takes 8 % less time.

    The output agrees with the unfolded network's up to float32 rounding. On a CPU, TinyHD-M then takes 40 % less time,
    because PyTorch's 3D depthwise convolutions are faster channels last, and its peak memory is 100 MB smaller.

    Args:
        network: in evaluation mode.
        by_name: whether each norm called ``norm`` (``NAME_norm``, ``bn1``) is applied to the output of its sibling
            ``conv`` (``NAME``, ``conv1``). A norm that follows a convolution in an ``nn.Sequential`` is folded anyway.
    """
    for module in list(network.modules()):
        # Not named_children(): it leaves out the second place of a module that occurs twice.
        names = list(module._modules)
        pairs = list(pairwise(names)) if type(module).forward is nn.Sequential.forward else []
        if by_name:
            pairs += [(convolution_of(name), name) for name in names]
        for before, name in pairs:
            conv, norm = module._modules.get(before), module._modules[name]
            if can_fold(conv, norm):
                transposed = isinstance(conv, nn.ConvTranspose2d)
                fused = fuse_conv_bn_eval(cast(nn.Conv2d, conv), cast(nn.BatchNorm2d, norm), transposed)
                setattr(module, before, fused)
                setattr(module, name, nn.Identity())
        for name, layer in list(module._modules.items()):
            if type(layer) is nn.PReLU and layer.num_parameters == 1 and not layer.weight.is_meta:
                setattr(module, name, nn.LeakyReLU(layer.weight.item()))
    for parameter in network.parameters():
        if parameter.dim() == 5:
            # Not contiguous(): it keeps the strides of shapes that fit both layouts, such as (C, 1, 3, 3, 3).
            parameter.data = parameter.data.to(memory_format=torch.channels_last_3d)
