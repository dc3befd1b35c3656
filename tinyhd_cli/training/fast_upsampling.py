"""Pixel shuffles and linear interpolations that train faster on a CPU, with compiled kernels.

Tensors are planes, ``(N, C, T, H, W)``, contiguous: see ``engines/csrc/training.c``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..models.blocks.mobilenet3d import Upsampling
from . import block_kernels
from .block_kernels import TYPES, Pass
from .fast_layers import Apply


class Shuffle(torch.autograd.Function):
    """Pixel shuffle of each frame: ``(N, 4C, T, H, W)`` to ``(N, C, T, 2H, 2W)``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        clips, channels, frames, height, width = x.shape
        result = x.new_empty(clips, channels // 4, frames, 2 * height, 2 * width)
        block_kernels.run(Pass.SHUFFLE, x.dtype, x.shape, input=x, result=result, outputs=channels // 4)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        result = grad.new_empty(ctx.shape)
        fields: dict[str, Any] = {"gradient": grad.contiguous(), "result": result, "outputs": grad.shape[1]}
        block_kernels.run(Pass.SHUFFLE_GRADIENT, grad.dtype, ctx.shape, **fields)
        return result


class Interpolate(torch.autograd.Function):
    """Trilinear interpolation to another size ``(T, H, W)``, with aligned corners."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: tuple[int, int, int]) -> Tensor:
        ctx.shape = x.shape
        ctx.size = dict(zip(("frames_out", "height_out", "width_out"), size, strict=True))
        result = x.new_empty(*x.shape[:2], *size)
        block_kernels.run(Pass.INTERPOLATE, x.dtype, x.shape, input=x, result=result, **ctx.size)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        result = grad.new_empty(ctx.shape)
        fields: dict[str, Any] = {"gradient": grad.contiguous(), "result": result, **ctx.size}
        block_kernels.run(Pass.INTERPOLATE_GRADIENT, grad.dtype, ctx.shape, **fields)
        return result, None


class CpuUpsampling(Upsampling):
    """Upsampling that trains faster on a CPU."""

    def forward(self, x: Tensor, *, shuffle: bool = False, time: int = 1, space: int = 1) -> Tensor:
        plain = x.dim() == 5 and x.numel() > 0 and (not shuffle or x.shape[1] % 4 == 0)
        if not plain or x.device.type != "cpu" or x.dtype not in TYPES or block_kernels.load() is None:
            return super().forward(x, shuffle=shuffle, time=time, space=space)
        shuffled: Apply = Shuffle.apply
        interpolated: Apply = Interpolate.apply
        if shuffle:
            x = shuffled(x.contiguous())
        if time == 1 and space == 1:
            return x
        frames, height, width = x.shape[2:]
        return interpolated(x.contiguous(), (time * frames, space * height, space * width))
