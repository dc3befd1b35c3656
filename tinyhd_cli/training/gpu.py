"""The same layers, trained faster on a graphics card: a 1x1x1 convolution as a matrix product, BatchNorm with ReLU6.

PyTorch gives each channel of BatchNorm one block of threads, and these networks have few channels of millions of
numbers. Parameters, their names and the maps are those of the network, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..models.mobilenet3d import ConvNorm

AXES = (0, 2, 3, 4)


class NormActivation(torch.autograd.Function):
    """BatchNorm in training mode, then ReLU6 if wanted; sums are float32 at least."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: nn.BatchNorm3d, weight: Tensor, bias: Tensor, activation: bool) -> Tensor:
        count, exact = x.numel() // x.shape[1], torch.promote_types(x.dtype, torch.float32)
        mean = x.sum(AXES, dtype=exact) / count
        var = torch.linalg.vector_norm(x, 2, AXES, dtype=exact).square() / count - mean.square()
        var = var.clamp_min(0)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked += 1
        share = 1.0 / norm.num_batches_tracked if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(mean, share)
        norm.running_var.lerp_(var * (count / max(1, count - 1)), share)
        inverse = (var + norm.eps).rsqrt()
        if x.is_cuda:
            y = torch.batch_norm_elemt(x, weight, bias, mean, inverse, norm.eps)
        else:
            y = torch.addcmul(column(bias - mean * weight * inverse, x), x, column(weight * inverse, x))
        if activation:
            y.clamp_(0, 6)
        ctx.save_for_backward(x, y if activation else None, weight, mean, inverse)
        ctx.count = count
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, Tensor, None]:
        x, y, weight, mean, inverse = ctx.saved_tensors
        if y is not None:
            grad = torch.ops.aten.hardtanh_backward(grad, y, 0.0, 6.0)
        exact = mean.dtype
        total = grad.sum(AXES, dtype=exact)
        away = (grad * x).sum(AXES, dtype=exact) - mean * total  # sum of grad * (x - mean)
        if x.is_cuda:
            count = torch.full((1,), ctx.count, dtype=torch.int32, device=x.device)
            moved = torch.batch_norm_backward_elemt(grad, x, mean, inverse, weight, total, away, count)
        else:
            scale = weight * inverse
            b = -scale * inverse.square() * away / ctx.count
            a = -scale * total / ctx.count - b * mean
            moved = torch.addcmul(column(a, x), x, column(b, x)).addcmul_(grad, column(scale, x))
        return moved, None, away * inverse, total, None


def column(values: Tensor, like: Tensor) -> Tensor:
    """Numbers of channels, to be combined with a tensor ``(N, C, T, H, W)`` in its precision."""
    return values.to(like.dtype).view(1, -1, 1, 1, 1)


class FastConvNorm(nn.Module):
    """A :class:`ConvNorm` with the same parameters under the same names."""

    def __init__(self, layer: ConvNorm, own_norm: bool = True) -> None:
        super().__init__()
        self.conv, self.norm = layer.conv, layer.norm
        self.activated, self.own_norm = hasattr(layer, "activation"), own_norm

    def forward(self, x: Tensor) -> Tensor:
        if self.conv.kernel_size == (1, 1, 1):
            y = torch.matmul(self.conv.weight.flatten(1), x.flatten(2)).unflatten(2, x.shape[2:])
        else:
            y = self.conv(x)
        if self.training and self.own_norm:
            apply: Callable[..., Tensor] = NormActivation.apply
            with torch.autocast(x.device.type, enabled=False):  # it would copy what is summed to float32
                return apply(y, self.norm, self.norm.weight, self.norm.bias, self.activated)
        y = self.norm(y)
        return y.clamp(0, 6) if self.activated else y


def accelerate(network: nn.Module, own_norm: bool = True) -> None:
    """Replace a network's layers by the fast ones, which share its parameters."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ConvNorm):
                setattr(module, name, FastConvNorm(child, own_norm))
