"""Common base of the layers that train faster than PyTorch's own, on a CPU and on a GPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.blocks.mobilenet3d import ConvNorm

HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
"""Attributes of a module with the functions that PyTorch calls when the module runs."""

Apply = Callable[..., Tensor]
"""Type of ``torch.autograd.Function.apply``, which PyTorch leaves without one."""


class FastConvNorm(nn.Module):
    """Replacement of a :class:`ConvNorm` with the same parameters under the same names.

    Subclasses implement :meth:`convolve` and :meth:`normalize`.

    Args:
        layer: Layer to replace; the new one shares its parameters.
    """

    memory_format = torch.preserve_format
    """Memory format of the input that :meth:`convolve` expects."""

    def __init__(self, layer: ConvNorm) -> None:
        super().__init__()
        self.conv, self.norm = layer.conv, layer.norm
        self.activated = hasattr(layer, "activation")

    def forward(self, x: Tensor) -> Tensor:
        device, dtype = x.device.type, compute_dtype(x, self.conv.weight)
        with torch.autocast(device, enabled=False):
            x = x.to(dtype, memory_format=self.memory_format)
            return self.normalize(self.convolve(x, self.conv.weight.to(dtype)))

    @property
    def is_hooked(self) -> bool:
        """Whether its convolution or its BatchNorm must run as a module, because functions are called when it does."""
        return is_hooked(self.conv) or is_hooked(self.norm)

    def as_modules(self, x: Tensor) -> Tensor:
        """Run PyTorch's own layers, in the type of their weights."""
        dtype = compute_dtype(x, self.conv.weight)
        with torch.autocast(x.device.type, enabled=False):
            y: Tensor = self.norm(self.conv(x.to(self.conv.weight.dtype)))
            return (F.relu6(y) if self.activated else y).to(dtype)

    def convolve(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Run the convolution with the fastest implementation for its kind."""
        raise NotImplementedError

    def normalize(self, x: Tensor) -> Tensor:
        """Run BatchNorm and, if the layer has it, ReLU6."""
        raise NotImplementedError


def compute_dtype(x: Tensor, weight: Tensor) -> torch.dtype:
    """Return the type in which a layer computes: that of autocast, if enabled, else that of its weights."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def is_hooked(module: nn.Module) -> bool:
    """Return whether functions are registered that PyTorch calls when a module runs."""
    return any(getattr(module, name) for name in HOOKS)


def is_replaceable(layer: ConvNorm) -> bool:
    """Return whether fast layers compute the same as a layer: true for those that nobody has changed."""
    conv, norm = layer.conv, layer.norm
    values = (norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.num_batches_tracked, norm.momentum)
    if any(value is None for value in values) or any(map(is_hooked, layer.modules())):
        return False
    if conv.bias is not None or conv.dilation != (1, 1, 1) or conv.padding_mode != "zeros":
        return False
    if isinstance(conv.padding, str):
        return False
    if conv.groups == 1:
        return conv.kernel_size != (1, 1, 1) or (conv.stride == (1, 1, 1) and conv.padding == (0, 0, 0))
    return conv.groups == conv.in_channels == conv.out_channels


def replace_layers(network: nn.Module, layer_type: type[FastConvNorm]) -> None:
    """Replace every :class:`ConvNorm` of a network by a fast layer that shares its parameters, if it has one."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ConvNorm) and is_replaceable(child):
                setattr(module, name, layer_type(child))


def pool(mean: Tensor, var: Tensor, count: int) -> tuple[Tensor, Tensor, int]:
    """Return the statistics per channel over the batches of all processes.

    Args:
        mean: of this process, float64.
        var: of this process, float64.
        count: number of values per channel of this process.
    """
    if world_size() == 1:
        return mean, var, count
    totals = torch.cat([mean * count, (var + mean.square()) * count, mean.new_tensor([float(count)])])
    dist.all_reduce(totals)
    count = int(totals[-1])
    mean, square = (totals[:-1] / count).view(2, -1)
    return mean, (square - mean.square()).clamp_min(0), count


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def follow(norm: nn.BatchNorm3d, mean: Tensor, var: Tensor, count: int) -> None:
    """Update the running statistics of BatchNorm with those of a batch."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.momentum is not None
    norm.running_mean.lerp_(mean.to(norm.running_mean), norm.momentum)
    norm.running_var.lerp_((var * (count / max(1, count - 1))).to(norm.running_var), norm.momentum)
