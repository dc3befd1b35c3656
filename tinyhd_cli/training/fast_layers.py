"""Common base of the layers that train faster than PyTorch's own, on a CPU and on a GPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..models.blocks.mobilenet3d import ConvNorm

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
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.conv.weight.dtype
        with torch.autocast(device, enabled=False):
            x = x.to(dtype, memory_format=self.memory_format)
            return self.normalize(self.convolve(x, self.conv.weight.to(dtype)))

    def convolve(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Run the convolution with the fastest implementation for its kind."""
        raise NotImplementedError

    def normalize(self, x: Tensor) -> Tensor:
        """Run BatchNorm and, if the layer has it, ReLU6."""
        raise NotImplementedError


def replace_layers(network: nn.Module, layer_type: type[FastConvNorm]) -> None:
    """Replace every :class:`ConvNorm` of a network by a fast layer that shares its parameters."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ConvNorm):
                setattr(module, name, layer_type(child))
