"""Layers that train faster on a GPU, with Triton kernels.

PyTorch's depthwise 3D convolutions are slow on GPUs, most of all the gradient with respect to the kernel. Its BatchNorm
runs one block of threads per channel, although these networks have few channels with millions of values each. Therefore

- depthwise convolutions and their gradients run in short Triton kernels;
- BatchNorm and ReLU6 read memory once for the statistics and once for the result, forward and backward;
- a 1x1x1 convolution is a matrix product.

Parameters keep their names, and the maps are those of the original network, up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..models.blocks.mobilenet3d import Size3
from .fast_layers import Apply, FastConvNorm, replace_layers
from .gpu_kernels import (
    apply_kernel,
    convolve_kernel,
    gradient_kernel,
    gradient_sums_kernel,
    input_gradient_kernel,
    kernel_gradient_kernel,
    sums_kernel,
)

BLOCK = 1024
"""Values processed by one program at a time."""

ROUNDS = 16
"""Blocks summed by one program."""


def blocks(count: int, block: int, rounds: int = 1) -> int:
    """Return the number of programs for ``count`` values."""
    return -(-count // (block * rounds))


def is_supported_width(width: int) -> bool:
    """Return whether the kernels support rows of this width: a power of two, because they divide by shifting."""
    return width & (width - 1) == 0


def kernel_sizes(x: Tensor, y: Tensor, frames: Tensor, stride: Size3, padding: Size3) -> tuple[int, ...]:
    """Return the sizes of a convolution's input and output, and how ``frames`` is divided among programs."""
    shift, per_frame = frames.shape[4].bit_length() - 1, blocks(frames.shape[3] * frames.shape[4], BLOCK)
    return (x.shape[1], *x.shape[2:], *y.shape[2:], *padding, shift, per_frame, *stride)


def launch_grid(frames: Tensor) -> tuple[int, int]:
    """Return the launch grid: planes (clips x channels) and blocks of their frames."""
    return frames.shape[0] * frames.shape[1], frames.shape[2] * blocks(frames.shape[3] * frames.shape[4], BLOCK)


class Depthwise(torch.autograd.Function):
    """Depthwise 3D convolution without bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, stride: Size3, padding: Size3) -> Tensor:
        x = x.contiguous()
        taps = kernel.shape[2:]
        sizes = [(side + 2 * p - k) // s + 1 for side, p, k, s in zip(x.shape[2:], padding, taps, stride, strict=True)]
        y = x.new_empty((*x.shape[:2], *sizes))
        convolve_kernel[launch_grid(y)](x, kernel, y, *kernel_sizes(x, y, y, stride, padding), *taps, BLOCK)
        ctx.save_for_backward(x, kernel)
        ctx.stride, ctx.padding = stride, padding
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, kernel = ctx.saved_tensors
        grad, taps = grad.contiguous(), kernel.shape[2:]
        input_gradient = None
        if ctx.needs_input_grad[0]:
            input_gradient = torch.empty_like(x)
            sizes = kernel_sizes(x, grad, x, ctx.stride, ctx.padding)
            input_gradient_kernel[launch_grid(x)](grad, kernel, input_gradient, *sizes, *taps, BLOCK)
        kernel_gradient = torch.zeros(kernel.shape, device=x.device)
        sizes = kernel_sizes(x, grad, grad, ctx.stride, ctx.padding)
        grid = (x.shape[1], taps[0] * taps[1], len(x) * grad.shape[2])
        kernel_gradient_kernel[grid](grad, x, kernel_gradient, *sizes, *taps, BLOCK)
        return input_gradient, kernel_gradient.to(kernel.dtype), None, None


class NormActivation(torch.autograd.Function):
    """BatchNorm in training mode, optionally followed by ReLU6. Statistics are float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: nn.BatchNorm3d, weight: Tensor, bias: Tensor, activated: bool) -> Tensor:
        x = x.contiguous()
        count, size = x.numel() // x.shape[1], x[0, 0].numel()
        sums = torch.zeros((2, x.shape[1]), device=x.device)
        sums_kernel[x.shape[1], blocks(count, BLOCK, ROUNDS)](x, sums, len(x), x.shape[1], size, ROUNDS, BLOCK)
        mean, square = sums / count
        var = (square - mean.square()).clamp_min(0)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.lerp_(mean, norm.momentum or 0.0)
        norm.running_var.lerp_(var * (count / max(1, count - 1)), norm.momentum or 0.0)
        inverse = (var + norm.eps).rsqrt()
        scale = weight * inverse
        shift = bias - mean * scale
        ctx.save_for_backward(x, scale, shift, mean, inverse)
        ctx.activated = activated
        return scale_and_shift(x, scale, shift, activated)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, Tensor, None]:
        x, scale, shift, mean, inverse = ctx.saved_tensors
        grad = grad.contiguous()
        channels, size = x.shape[1], x[0, 0].numel()
        count = len(x) * size
        sums = torch.zeros((2, channels), device=x.device)
        options = (len(x), channels, size, ROUNDS, ctx.activated, BLOCK)
        gradient_sums_kernel[channels, blocks(count, BLOCK, ROUNDS)](grad, x, scale, shift, mean, sums, *options)
        x_scale = -scale * inverse.square() * sums[1] / count
        constant = -scale * sums[0] / count - x_scale * mean
        result = torch.empty_like(x)
        gradient_kernel[len(x) * channels, blocks(size, BLOCK)](
            grad, x, scale, shift, x_scale, constant, result, channels, size, ctx.activated, BLOCK
        )
        return result, None, sums[1] * inverse, sums[0], None


def scale_and_shift(x: Tensor, scale: Tensor, shift: Tensor, activated: bool) -> Tensor:
    """Return ``x * scale + shift`` per channel, optionally followed by ReLU6."""
    y = torch.empty_like(x)
    planes = x.shape[0] * x.shape[1]
    apply_kernel[planes, blocks(x[0, 0].numel(), BLOCK)](
        x, scale, shift, y, x.shape[1], x[0, 0].numel(), activated, BLOCK
    )
    return y


class GpuConvNorm(FastConvNorm):
    """A convolution with BatchNorm and optional ReLU6 that trains faster on a GPU."""

    def convolve(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Run the convolution with the fastest implementation for its kind."""
        conv = self.conv
        if conv.kernel_size == (1, 1, 1):
            product = torch.matmul(kernel.flatten(1), x.flatten(2))
            return product.view(*product.shape[:2], *x.shape[2:])
        if conv.groups > 1 and is_supported_width(x.shape[4]):
            apply: Apply = Depthwise.apply
            return apply(x, kernel, conv.stride, conv.padding)
        return torch.nn.functional.conv3d(x, kernel, None, conv.stride, conv.padding, 1, conv.groups)

    def normalize(self, x: Tensor) -> Tensor:
        """Run BatchNorm and, if the layer has it, ReLU6."""
        norm = self.norm
        if self.training:
            apply: Apply = NormActivation.apply
            return apply(x, norm, norm.weight, norm.bias, self.activated)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        return scale_and_shift(x.contiguous(), scale, norm.bias - norm.running_mean * scale, self.activated)


def accelerate(network: nn.Module) -> None:
    """Replace a network's layers by fast ones that share its parameters."""
    replace_layers(network, GpuConvNorm)
