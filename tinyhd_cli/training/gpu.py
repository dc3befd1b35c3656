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

TAP_BLOCK, TAP_ROUNDS = 128, 64
"""Places that a program multiplies with all taps of a kernel at once, and how many times."""


SIZES = ("clips", "channels", "time", "height", "width", "time_out", "height_out", "width_out")
SIZES += ("pad_t", "pad_h", "pad_w")
"""Arguments for whose values no kernels of their own are compiled, which would be dozens."""


@triton.jit(do_not_specialize=SIZES)
def convolve_kernel(
    x, kernel, y, channels, time, height, width, time_out, height_out, width_out,
    pad_t, pad_h, pad_w, stride_t: tl.constexpr, stride_h: tl.constexpr, stride_w: tl.constexpr,
    KT: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Depthwise convolution: one block of places of one channel of one clip."""
    plane = tl.program_id(0)
    size = time_out * height_out * width_out
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = place < size
    w = place % width_out
    h = (place // width_out) % height_out
    t = place // (width_out * height_out)
    source = x + plane.to(tl.int64) * (time * height * width)
    weights = kernel + (plane % channels) * (KT * KH * KW)
    total = tl.zeros((BLOCK,), tl.float32)
    for a in tl.static_range(KT):
        for b in tl.static_range(KH):
            for c in tl.static_range(KW):
                i, j, k = t * stride_t - pad_t + a, h * stride_h - pad_h + b, w * stride_w - pad_w + c
                inside = there & (i >= 0) & (i < time) & (j >= 0) & (j < height) & (k >= 0) & (k < width)
                value = tl.load(source + (i * height + j) * width + k, mask=inside, other=0.0).to(tl.float32)
                total += value * tl.load(weights + (a * KH + b) * KW + c).to(tl.float32)
    tl.store(y + plane.to(tl.int64) * size + place, total.to(y.dtype.element_ty), mask=there)


@triton.jit(do_not_specialize=SIZES)
def input_gradient_kernel(
    grad, kernel, y, channels, time, height, width, time_out, height_out, width_out,
    pad_t, pad_h, pad_w, stride_t: tl.constexpr, stride_h: tl.constexpr, stride_w: tl.constexpr,
    KT: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradient of a depthwise convolution by its input, ``y``: one block of places of one channel of one clip."""
    plane = tl.program_id(0)
    size = time * height * width
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = place < size
    w = place % width
    h = (place // width) % height
    t = place // (width * height)
    source = grad + plane.to(tl.int64) * (time_out * height_out * width_out)
    weights = kernel + (plane % channels) * (KT * KH * KW)
    total = tl.zeros((BLOCK,), tl.float32)
    for a in tl.static_range(KT):
        for b in tl.static_range(KH):
            for c in tl.static_range(KW):
                i, j, k = t + pad_t - a, h + pad_h - b, w + pad_w - c
                inside = there & (i >= 0) & (j >= 0) & (k >= 0)
                inside = inside & (i % stride_t == 0) & (j % stride_h == 0) & (k % stride_w == 0)
                i, j, k = i // stride_t, j // stride_h, k // stride_w
                inside = inside & (i < time_out) & (j < height_out) & (k < width_out)
                value = tl.load(source + (i * height_out + j) * width_out + k, mask=inside, other=0.0).to(tl.float32)
                total += value * tl.load(weights + (a * KH + b) * KW + c).to(tl.float32)
    tl.store(y + plane.to(tl.int64) * size + place, total.to(y.dtype.element_ty), mask=there)


@triton.jit(do_not_specialize=SIZES)
def kernel_gradient_kernel(
    grad, x, y, clips, channels, time, height, width, time_out, height_out, width_out,
    pad_t, pad_h, pad_w, stride_t: tl.constexpr, stride_h: tl.constexpr, stride_w: tl.constexpr,
    ROUNDS: tl.constexpr, KT: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, TAPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradient of a depthwise convolution by its kernel, added to ``y``: some blocks of places of one channel."""
    channel = tl.program_id(0)
    size = time_out * height_out * width_out
    tap = tl.arange(0, TAPS)
    c = (tap % KW)[:, None]
    b = ((tap // KW) % KH)[:, None]
    a = (tap // (KW * KH))[:, None]
    real = tap < KT * KH * KW
    total = tl.zeros((TAPS, BLOCK), tl.float32)
    for turn in range(ROUNDS):
        place = (tl.program_id(1) * ROUNDS + turn) * BLOCK + tl.arange(0, BLOCK)
        there = place < clips * size
        clip = place // size
        rest = place % size
        w = rest % width_out
        h = (rest // width_out) % height_out
        t = rest // (width_out * height_out)
        plane = (clip * channels + channel).to(tl.int64)
        g = tl.load(grad + plane * size + rest, mask=there, other=0.0).to(tl.float32)
        i = (t * stride_t - pad_t)[None, :] + a
        j = (h * stride_h - pad_h)[None, :] + b
        k = (w * stride_w - pad_w)[None, :] + c
        inside = there[None, :] & real[:, None] & (i >= 0) & (i < time) & (j >= 0) & (j < height)
        inside = inside & (k >= 0) & (k < width)
        source = x + (plane * (time * height * width))[None, :] + (i * height + j) * width + k
        total += tl.load(source, mask=inside, other=0.0).to(tl.float32) * g[None, :]
    tl.atomic_add(y + channel * (KT * KH * KW) + tap, tl.sum(total, 1), mask=real)


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


def geometry(x: Tensor, y: Tensor, stride: Size3, padding: Size3) -> tuple[int, ...]:
    """Channels, sizes of input and output, padding and stride, as the kernels take them."""
    return (x.shape[1], *x.shape[2:], *y.shape[2:], *padding, *stride)


class Depthwise(torch.autograd.Function):
    """Depthwise 3D convolution without bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, stride: Size3, padding: Size3) -> Tensor:
        x = x.contiguous()
        taps = kernel.shape[2:]
        sizes = [(side + 2 * p - k) // s + 1 for side, p, k, s in zip(x.shape[2:], padding, taps, stride, strict=True)]
        y = x.new_empty((*x.shape[:2], *sizes))
        programs = (x.shape[0] * x.shape[1], blocks(y[0, 0].numel(), BLOCK))
        convolve_kernel[programs](x, kernel, y, *geometry(x, y, stride, padding), *taps, BLOCK)
        ctx.save_for_backward(x, kernel)
        ctx.stride, ctx.padding = stride, padding
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, kernel = ctx.saved_tensors
        grad = grad.contiguous()
        taps, shape = kernel.shape[2:], geometry(x, grad, ctx.stride, ctx.padding)
        by_input = None
        if ctx.needs_input_grad[0]:
            by_input = torch.empty_like(x)
            programs = (x.shape[0] * x.shape[1], blocks(x[0, 0].numel(), BLOCK))
            input_gradient_kernel[programs](grad, kernel, by_input, *shape, *taps, BLOCK)
        by_kernel = torch.zeros(kernel.shape, device=x.device)
        programs = (x.shape[1], blocks(len(x) * grad[0, 0].numel(), TAP_BLOCK, TAP_ROUNDS))
        count = triton.next_power_of_2(taps.numel())
        kernel_gradient_kernel[programs](grad, x, by_kernel, len(x), *shape, TAP_ROUNDS, *taps, count, TAP_BLOCK, num_warps=8)
        return by_input, by_kernel.to(kernel.dtype), None, None


class NormActivation(torch.autograd.Function):
    """BatchNorm in training mode, then ReLU6 if wanted. Statistics are float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: nn.BatchNorm3d, weight: Tensor, bias: Tensor, activated: bool) -> Tensor:
        x = x.contiguous()
        count, size = x.numel() // x.shape[1], x[0, 0].numel()
        sums = torch.zeros((2, x.shape[1]), device=x.device)
        programs = (x.shape[1], blocks(count, BLOCK, ROUNDS))
        sums_kernel[programs](x, sums, len(x), x.shape[1], size, ROUNDS, BLOCK)
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
        programs = (channels, blocks(count, BLOCK, ROUNDS))
        facts = (len(x), channels, size, ROUNDS, ctx.activated, BLOCK)
        gradient_sums_kernel[programs](grad, x, scale, shift, mean, sums, *facts)
        by_x = -scale * inverse.square() * sums[1] / count
        constant = -scale * sums[0] / count - by_x * mean
        result = torch.empty_like(x)
        programs = (len(x) * channels, blocks(size, BLOCK))
        gradient_kernel[programs](
            grad, x, scale, shift, by_x, constant, result, channels, size, ctx.activated, BLOCK
        )
        return result, None, sums[1] * inverse, sums[0], None


def applied(x: Tensor, scale: Tensor, shift: Tensor, activated: bool) -> Tensor:
    """``x * scale + shift`` by channel, then ReLU6 if wanted."""
    y = torch.empty_like(x)
    programs = (x.shape[0] * x.shape[1], blocks(x[0, 0].numel(), BLOCK))
    apply_kernel[programs](x, scale, shift, y, x.shape[1], x[0, 0].numel(), activated, BLOCK)
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
        if conv.groups > 1:
            return Depthwise.apply(x, kernel, conv.stride, conv.padding)  # type: ignore[no-any-return,no-untyped-call]
        return torch.nn.functional.conv3d(x, kernel, None, conv.stride, conv.padding)


def accelerate(network: nn.Module) -> None:
    """Replace a network's layers by the fast ones, which share its parameters."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ConvNorm):
                setattr(module, name, FastConvNorm(child))
