"""The same layers, trained faster on a graphics card, by kernels in Triton.

PyTorch's depthwise 3D convolutions are slow there, most of all by their kernel, and it gives each channel of BatchNorm
one block of threads, though these networks have few channels of millions of numbers. Here

- depthwise convolutions and their gradients are kernels of a few lines;
- BatchNorm and ReLU6 are one pass over memory for the statistics and one for the rest, forward and backward;
- a 1x1x1 convolution is a matrix product.

Parameters and their names are those of the network, and so are the maps, to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from ..models.mobilenet3d import ConvNorm, Size3

BLOCK = 1024
"""Numbers that a program works on at once."""

ROUNDS = 16
"""Blocks that one program sums over."""

SIZES = ("channels", "time", "height", "width", "time_out", "height_out", "width_out", "shift", "per_frame")
SIZES += ("pad_t", "pad_h", "pad_w")
"""Arguments for whose values no kernels of their own are compiled, which would be dozens."""


@triton.jit(do_not_specialize=SIZES)
def convolve_kernel(
    x, kernel, y, channels, time, height, width, time_out, height_out, width_out, pad_t, pad_h, pad_w, shift, per_frame,
    stride_t: tl.constexpr, stride_h: tl.constexpr, stride_w: tl.constexpr,
    KT: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Depthwise convolution: one block of places of one frame of one channel of one clip."""
    plane, t = tl.program_id(0), tl.program_id(1) // per_frame
    place = (tl.program_id(1) % per_frame) * BLOCK + tl.arange(0, BLOCK)
    size = height_out * width_out
    there = place < size
    h, w = place >> shift, place & (width_out - 1)
    source = x + plane.to(tl.int64) * (time * height * width)
    weights = kernel + (plane % channels) * (KT * KH * KW)
    total = tl.zeros((BLOCK,), tl.float32)
    for a in tl.static_range(KT):
        i = t * stride_t - pad_t + a
        for b in tl.static_range(KH):
            j = h * stride_h - pad_h + b
            inside = there & (i >= 0) & (i < time) & (j >= 0) & (j < height)
            row = (i * height + j) * width
            for c in tl.static_range(KW):
                k = w * stride_w - pad_w + c
                value = tl.load(source + row + k, mask=inside & (k >= 0) & (k < width), other=0.0)
                total += value.to(tl.float32) * tl.load(weights + (a * KH + b) * KW + c).to(tl.float32)
    tl.store(y + (plane.to(tl.int64) * time_out + t) * size + place, total.to(y.dtype.element_ty), mask=there)


@triton.jit(do_not_specialize=SIZES)
def input_gradient_kernel(
    grad, kernel, y, channels, time, height, width, time_out, height_out, width_out, pad_t, pad_h, pad_w, shift, per_frame,
    stride_t: tl.constexpr, stride_h: tl.constexpr, stride_w: tl.constexpr,
    KT: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradient of a depthwise convolution by its input, ``y``: one block of places of one frame of a channel."""
    plane, t = tl.program_id(0), tl.program_id(1) // per_frame
    place = (tl.program_id(1) % per_frame) * BLOCK + tl.arange(0, BLOCK)
    size = height * width
    there = place < size
    h, w = place >> shift, place & (width - 1)
    source = grad + plane.to(tl.int64) * (time_out * height_out * width_out)
    weights = kernel + (plane % channels) * (KT * KH * KW)
    total = tl.zeros((BLOCK,), tl.float32)
    for a in tl.static_range(KT):
        i = t + pad_t - a
        fits = (i >= 0) & (i % stride_t == 0) & (i // stride_t < time_out)
        for b in tl.static_range(KH):
            j = h + pad_h - b
            inside = there & fits & (j >= 0) & (j % stride_h == 0) & (j // stride_h < height_out)
            row = ((i // stride_t) * height_out + j // stride_h) * width_out
            for c in tl.static_range(KW):
                k = w + pad_w - c
                mask = inside & (k >= 0) & (k % stride_w == 0) & (k // stride_w < width_out)
                value = tl.load(source + row + k // stride_w, mask=mask, other=0.0)
                total += value.to(tl.float32) * tl.load(weights + (a * KH + b) * KW + c).to(tl.float32)
    tl.store(y + (plane.to(tl.int64) * time + t) * size + place, total.to(y.dtype.element_ty), mask=there)


@triton.jit(do_not_specialize=SIZES)
def kernel_gradient_kernel(
    grad, x, y, channels, time, height, width, time_out, height_out, width_out, pad_t, pad_h, pad_w, shift, per_frame,
    stride_t: tl.constexpr, stride_h: tl.constexpr, stride_w: tl.constexpr,
    KT: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradient of a depthwise convolution by a row of three of its kernel, added to ``y``: of one frame."""
    tl.static_assert(KW == 3)
    channel, a, b = tl.program_id(0), tl.program_id(1) // KH, tl.program_id(1) % KH
    clip, t = tl.program_id(2) // time_out, tl.program_id(2) % time_out
    plane = (clip * channels + channel).to(tl.int64)
    size = height_out * width_out
    i = t * stride_t - pad_t + a
    from_grad = grad + (plane * time_out + t) * size
    from_x = x + (plane * time + i) * (height * width)
    first = tl.zeros((BLOCK,), tl.float32)
    second = tl.zeros((BLOCK,), tl.float32)
    third = tl.zeros((BLOCK,), tl.float32)
    if (i >= 0) & (i < time):
        for turn in range(per_frame):
            place = turn * BLOCK + tl.arange(0, BLOCK)
            there = place < size
            h, w = place >> shift, place & (width_out - 1)
            j, k = h * stride_h - pad_h + b, w * stride_w - pad_w
            inside = there & (j >= 0) & (j < height)
            g = tl.load(from_grad + place, mask=there, other=0.0).to(tl.float32)
            row = from_x + j * width + k
            first += g * tl.load(row, mask=inside & (k >= 0) & (k < width), other=0.0).to(tl.float32)
            second += g * tl.load(row + 1, mask=inside & (k >= -1) & (k < width - 1), other=0.0).to(tl.float32)
            third += g * tl.load(row + 2, mask=inside & (k >= -2) & (k < width - 2), other=0.0).to(tl.float32)
        to = y + (channel * (KT * KH) + a * KH + b) * KW
        tl.atomic_add(to, tl.sum(first, 0))
        tl.atomic_add(to + 1, tl.sum(second, 0))
        tl.atomic_add(to + 2, tl.sum(third, 0))


@triton.jit(do_not_specialize=("clips", "channels"))
def sums_kernel(x, y, clips, channels, size, ROUNDS: tl.constexpr, BLOCK: tl.constexpr):
    """Sum and sum of squares of a channel, added to ``y`` ``(2, C)``: some blocks of its numbers."""
    channel = tl.program_id(0)
    first = tl.zeros((BLOCK,), tl.float32)
    second = tl.zeros((BLOCK,), tl.float32)
    for turn in range(ROUNDS):
        place = (tl.program_id(1) * ROUNDS + turn) * BLOCK + tl.arange(0, BLOCK)
        at = ((place // size) * channels + channel).to(tl.int64) * size + place % size
        value = tl.load(x + at, mask=place < clips * size, other=0.0).to(tl.float32)
        first += value
        second += value * value
    tl.atomic_add(y + channel, tl.sum(first, 0))
    tl.atomic_add(y + channels + channel, tl.sum(second, 0))


@triton.jit(do_not_specialize=("clips", "channels"))
def apply_kernel(x, scale, shift, y, channels, size, ACTIVATED: tl.constexpr, BLOCK: tl.constexpr):
    """``x * scale + shift``, then ReLU6 if wanted: one block of one channel of one clip."""
    plane = tl.program_id(0)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    at = plane.to(tl.int64) * size + place
    channel = plane % channels
    value = tl.load(x + at, mask=place < size, other=0.0).to(tl.float32)
    value = value * tl.load(scale + channel) + tl.load(shift + channel)
    if ACTIVATED:
        value = tl.minimum(tl.maximum(value, 0.0), 6.0)
    tl.store(y + at, value.to(y.dtype.element_ty), mask=place < size)


@triton.jit(do_not_specialize=("clips", "channels"))
def gradient_sums_kernel(
    grad, x, scale, shift, mean, y, clips, channels, size,
    ROUNDS: tl.constexpr, ACTIVATED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sums of the gradient, and of it times ``x - mean``, added to ``y`` ``(2, C)``."""
    channel = tl.program_id(0)
    a, b, middle = tl.load(scale + channel), tl.load(shift + channel), tl.load(mean + channel)
    first = tl.zeros((BLOCK,), tl.float32)
    second = tl.zeros((BLOCK,), tl.float32)
    for turn in range(ROUNDS):
        place = (tl.program_id(1) * ROUNDS + turn) * BLOCK + tl.arange(0, BLOCK)
        there = place < clips * size
        at = ((place // size) * channels + channel).to(tl.int64) * size + place % size
        value = tl.load(x + at, mask=there, other=0.0).to(tl.float32)
        g = tl.load(grad + at, mask=there, other=0.0).to(tl.float32)
        if ACTIVATED:
            before = value * a + b
            g = tl.where((before > 0.0) & (before < 6.0), g, 0.0)
        first += g
        second += g * (value - middle)
    tl.atomic_add(y + channel, tl.sum(first, 0))
    tl.atomic_add(y + channels + channel, tl.sum(second, 0))


@triton.jit(do_not_specialize=("clips", "channels"))
def gradient_kernel(
    grad, x, scale, shift, by_x, constant, y, channels, size, ACTIVATED: tl.constexpr, BLOCK: tl.constexpr
):
    """``grad * scale + x * by_x + constant``, with ReLU6's gradient: one block of one channel of one clip."""
    plane = tl.program_id(0)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    at = plane.to(tl.int64) * size + place
    channel = plane % channels
    a = tl.load(scale + channel)
    value = tl.load(x + at, mask=place < size, other=0.0).to(tl.float32)
    g = tl.load(grad + at, mask=place < size, other=0.0).to(tl.float32)
    if ACTIVATED:
        before = value * a + tl.load(shift + channel)
        g = tl.where((before > 0.0) & (before < 6.0), g, 0.0)
    result = g * a + value * tl.load(by_x + channel) + tl.load(constant + channel)
    tl.store(y + at, result.to(y.dtype.element_ty), mask=place < size)


def blocks(count: int, block: int, rounds: int = 1) -> int:
    """Programs for so many numbers."""
    return triton.cdiv(count, block * rounds)


def fits(width: int) -> bool:
    """Whether the kernels can do rows of so many numbers: they divide by shifting."""
    return width & (width - 1) == 0


def arguments(x: Tensor, y: Tensor, frames: Tensor, stride: Size3, padding: Size3) -> tuple[int, ...]:
    """Sizes of a convolution's input and output and how the frames that programs go over are divided."""
    shift, per_frame = frames.shape[4].bit_length() - 1, blocks(frames.shape[3] * frames.shape[4], BLOCK)
    return (x.shape[1], *x.shape[2:], *y.shape[2:], *padding, shift, per_frame, *stride)


def programs(frames: Tensor) -> tuple[int, int]:
    """The planes of channels and clips, and the blocks of their frames."""
    return frames.shape[0] * frames.shape[1], frames.shape[2] * blocks(frames.shape[3] * frames.shape[4], BLOCK)


class Depthwise(torch.autograd.Function):
    """Depthwise 3D convolution without bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, stride: Size3, padding: Size3) -> Tensor:
        x = x.contiguous()
        taps = kernel.shape[2:]
        sizes = [(side + 2 * p - k) // s + 1 for side, p, k, s in zip(x.shape[2:], padding, taps, stride, strict=True)]
        y = x.new_empty((*x.shape[:2], *sizes))
        convolve_kernel[programs(y)](x, kernel, y, *arguments(x, y, y, stride, padding), *taps, BLOCK)
        ctx.save_for_backward(x, kernel)
        ctx.stride, ctx.padding = stride, padding
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, kernel = ctx.saved_tensors
        grad, taps = grad.contiguous(), kernel.shape[2:]
        by_input = None
        if ctx.needs_input_grad[0]:
            by_input = torch.empty_like(x)
            facts = arguments(x, grad, x, ctx.stride, ctx.padding)
            input_gradient_kernel[programs(x)](grad, kernel, by_input, *facts, *taps, BLOCK)
        by_kernel = torch.zeros(kernel.shape, device=x.device)
        facts = arguments(x, grad, grad, ctx.stride, ctx.padding)
        parts = (x.shape[1], taps[0] * taps[1], len(x) * grad.shape[2])
        kernel_gradient_kernel[parts](grad, x, by_kernel, *facts, *taps, BLOCK)
        return by_input, by_kernel.to(kernel.dtype), None, None


class NormActivation(torch.autograd.Function):
    """BatchNorm in training mode, then ReLU6 if wanted. Statistics are float32."""

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
        return applied(x, scale, shift, activated)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, Tensor, None]:
        x, scale, shift, mean, inverse = ctx.saved_tensors
        grad = grad.contiguous()
        channels, size = x.shape[1], x[0, 0].numel()
        count = len(x) * size
        sums = torch.zeros((2, channels), device=x.device)
        facts = (len(x), channels, size, ROUNDS, ctx.activated, BLOCK)
        gradient_sums_kernel[channels, blocks(count, BLOCK, ROUNDS)](grad, x, scale, shift, mean, sums, *facts)
        by_x = -scale * inverse.square() * sums[1] / count
        constant = -scale * sums[0] / count - by_x * mean
        result = torch.empty_like(x)
        gradient_kernel[len(x) * channels, blocks(size, BLOCK)](
            grad, x, scale, shift, by_x, constant, result, channels, size, ctx.activated, BLOCK
        )
        return result, None, sums[1] * inverse, sums[0], None


def applied(x: Tensor, scale: Tensor, shift: Tensor, activated: bool) -> Tensor:
    """``x * scale + shift`` by channel, then ReLU6 if wanted."""
    y = torch.empty_like(x)
    planes = x.shape[0] * x.shape[1]
    apply_kernel[planes, blocks(x[0, 0].numel(), BLOCK)](x, scale, shift, y, x.shape[1], x[0, 0].numel(), activated, BLOCK)
    return y


class FastConvNorm(nn.Module):
    """A :class:`ConvNorm` with the same parameters under the same names."""

    def __init__(self, layer: ConvNorm) -> None:
        super().__init__()
        self.conv, self.norm = layer.conv, layer.norm
        self.activated = hasattr(layer, "activation")

    def forward(self, x: Tensor) -> Tensor:
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.conv.weight.dtype
        with torch.autocast(kind, enabled=False):
            y = self.convolve(x.to(dtype), self.conv.weight.to(dtype))
            norm = self.norm
            if self.training:
                return NormActivation.apply(y, norm, norm.weight, norm.bias, self.activated)  # type: ignore[no-any-return,no-untyped-call]
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
            return applied(y.contiguous(), scale, norm.bias - norm.running_mean * scale, self.activated)

    def convolve(self, x: Tensor, kernel: Tensor) -> Tensor:
        """The convolution, by what is fastest for its kind."""
        conv = self.conv
        if conv.kernel_size == (1, 1, 1):
            return torch.matmul(kernel.flatten(1), x.flatten(2)).unflatten(2, x.shape[2:])
        if conv.groups > 1 and fits(x.shape[4]):
            return Depthwise.apply(x, kernel, conv.stride, conv.padding)  # type: ignore[no-any-return,no-untyped-call]
        return torch.nn.functional.conv3d(x, kernel, None, conv.stride, conv.padding, 1, conv.groups)


def accelerate(network: nn.Module) -> None:
    """Replace a network's layers by the fast ones, which share its parameters."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ConvNorm):
                setattr(module, name, FastConvNorm(child))
