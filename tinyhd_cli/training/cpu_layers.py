"""Layers that train faster on a CPU.

Inverted residuals, and single layers of their kinds, run in compiled kernels: see :mod:`.fast_blocks`; pixel shuffles
and interpolations too: see :mod:`.fast_upsampling`. The layers of
this module are for packages built without a compiler, and for layers and types that the kernels do not support.
PyTorch's 3D convolutions are slow on CPUs, most of all the backward pass of depthwise ones, and so is BatchNorm in
channels-last layout. Therefore every tensor stays channels-last, and

- the gradient of a depthwise convolution with respect to its input is a convolution with the flipped kernel; the
  gradient with respect to its kernel is computed with 2D convolutions, one time step of the kernel after the other;
- a 1x1x1 convolution is a matrix product;
- a dense 3D convolution always runs in float32, even if the others run in bf16: see :func:`dense_conv`;
- BatchNorm and ReLU6 share a backward pass, in chunks that fit the cache. With several processes, BatchNorm uses the
  statistics of the whole batch, which PyTorch supports on GPUs only.

Parameters keep their names, and the outputs are those of the original network, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.blocks.mobilenet3d import InvertedResidual, Size3, Upsampling
from .fast_blocks import DENSE, Stage, fits, run_chain, supported
from .fast_layers import (
    Apply,
    FastConvNorm,
    compute_dtype,
    follow,
    is_hooked,
    pool,
    replace_layers,
    world_size,
)
from .fast_upsampling import CpuUpsampling

CHANNELS_LAST = torch.channels_last_3d
CHUNK_SIZE = 1 << 18
"""Values of a tensor that are processed at a time: 1 MB in float32."""

MIN_ROW_WIDTH = 512
"""Minimum number of values in a row of a matrix that is processed in chunks, if the matrix can be reshaped to it."""

MALLOC_KEEP_BYTES = (2 << 30) - 1
"""Bytes of freed memory to keep while training, because each step allocates and frees gigabytes."""

convolution_backward = torch.ops.aten.convolution_backward


def as_matrix(x: Tensor) -> Tensor:
    """Return a channels-last tensor ``(N, C, T, H, W)`` as a matrix ``(N T H W, C)``, without copying."""
    return x.permute(0, 2, 3, 4, 1).view(-1, x.shape[1])


class Depthwise(torch.autograd.Function):
    """Depthwise 3D convolution of a channels-last tensor, without bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, stride: Size3, padding: Size3) -> Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.stride, ctx.padding = stride, padding
        return F.conv3d(x, kernel.to(memory_format=CHANNELS_LAST), None, stride, padding, 1, len(kernel))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, kernel = ctx.saved_tensors
        grad = grad.contiguous(memory_format=CHANNELS_LAST)
        x_gradient = input_gradient(grad, x, kernel, ctx.stride, ctx.padding) if ctx.needs_input_grad[0] else None
        taps_gradient = kernel_gradient(grad, x, kernel, ctx.stride, ctx.padding) if ctx.needs_input_grad[1] else None
        return x_gradient, taps_gradient, None, None


def input_gradient(grad: Tensor, x: Tensor, kernel: Tensor, stride: Size3, padding: Size3) -> Tensor:
    """Return the gradient of a depthwise convolution with respect to its input."""
    channels, _, taps, height, width = kernel.shape
    if stride[1:] != (1, 1):
        kernel = kernel.to(memory_format=CHANNELS_LAST)
        settings = (list(stride), list(padding), [1, 1, 1], False, [0, 0, 0], channels, [True, False, False])
        gradient: Tensor = convolution_backward(grad, x, kernel, None, *settings)[0]
        return gradient
    if stride[0] > 1:  # insert zeros for the skipped frames
        n, _, _, h, w = grad.shape
        frames = x.shape[2] + 2 * padding[0] - taps + 1
        spread = torch.zeros((n, frames, h, w, channels), dtype=grad.dtype).movedim(-1, 1)
        spread[:, :, :: stride[0]] = grad
        grad = spread
    flipped = kernel.flip(2, 3, 4).to(memory_format=CHANNELS_LAST)
    full_padding = (taps - 1 - padding[0], height - 1 - padding[1], width - 1 - padding[2])
    return F.conv3d(grad, flipped, None, 1, full_padding, 1, channels)


def kernel_gradient(grad: Tensor, x: Tensor, kernel: Tensor, stride: Size3, padding: Size3) -> Tensor:
    """Return the gradient of a depthwise convolution with respect to its kernel."""
    result = torch.zeros_like(kernel)
    channels, frames_in, frames_out = len(kernel), x.shape[2], grad.shape[2]
    step, before = stride[0], padding[0]
    settings = (list(stride[1:]), list(padding[1:]), [1, 1], False, [0, 0], channels, [False, True, False])
    for tap in range(kernel.shape[2]):
        # Output frames for which this tap lies inside the clip, and the input frames under it.
        first = max(0, -((tap - before) // step))
        last = min(frames_out - 1, (frames_in - 1 + before - tap) // step)
        if last < first:
            continue
        start = first * step + tap - before
        plane = kernel[:, :, tap].contiguous(memory_format=torch.channels_last)
        grad_frames = grad.transpose(1, 2)[:, first : last + 1]
        x_frames = x.transpose(1, 2)[:, start : start + (last - first) * step + 1 : step]
        contiguous = grad_frames.shape[1] == frames_out and x_frames.shape[1] == frames_in
        # Reshaping several clips would copy unless all of their frames are used, so process them one by one.
        for clip in [slice(None)] if contiguous else [slice(n, n + 1) for n in range(len(x))]:
            pair = [part[clip].reshape(-1, *part.shape[2:]) for part in (grad_frames, x_frames)]
            result[:, :, tap] += convolution_backward(*pair, plane, None, *settings)[1]
    return result


class NormActivation(torch.autograd.Function):
    """BatchNorm in training mode, optionally followed by ReLU6, of a channels-last tensor. Statistics are float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: nn.BatchNorm3d, weight: Tensor, bias: Tensor, activation: bool) -> Tensor:
        x = x.contiguous(memory_format=CHANNELS_LAST)  # copies in float64 only
        mean, var, count = batch_statistics(x)
        follow(norm, mean, var, count)
        inverse = (var + norm.eps).rsqrt()
        y = torch.empty_like(x, memory_format=CHANNELS_LAST)
        source, target = as_wide_matrix(x), as_wide_matrix(y)
        repeats = source.shape[1] // x.shape[1]
        scale = (weight * inverse).repeat(repeats)
        shift = (bias - mean * weight * inverse).repeat(repeats)
        for chunk in chunks(source):
            values = torch.addcmul(shift, source[chunk].to(shift.dtype), scale)
            target[chunk] = values.clamp_(0, 6) if activation else values
        ctx.save_for_backward(x, y if activation else None, weight, mean, inverse)
        ctx.count = count
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, Tensor, None]:
        x, y, weight, mean, inverse = ctx.saved_tensors
        channels = x.shape[1]
        result = torch.empty_like(x, memory_format=CHANNELS_LAST)
        source = as_wide_matrix(grad.contiguous(memory_format=CHANNELS_LAST))
        target, inputs = as_wide_matrix(result), as_wide_matrix(x)
        repeats = source.shape[1] // channels
        dtype = torch.promote_types(x.dtype, torch.float32)
        wide_sums = torch.zeros(2, source.shape[1], dtype=dtype)
        center = mean.repeat(repeats)
        for chunk in chunks(inputs):
            g = source[chunk]
            if y is not None:
                g = torch.ops.aten.hardtanh_backward.grad_input(
                    g, as_wide_matrix(y)[chunk], 0.0, 6.0, grad_input=target[chunk]
                )
            g = g.to(dtype)
            wide_sums[0] += g.sum(0)
            wide_sums[1] += (g * (inputs[chunk].to(dtype) - center)).sum(0)
        sums = wide_sums.view(2, repeats, channels).sum(1)
        bias_gradient, weight_gradient = sums[0].clone(), sums[1] * inverse
        if world_size() > 1:
            dist.all_reduce(sums)
        # weight * inverse * (g - mean(g) - x_normalized * mean(g * x_normalized)), written as a + b x + scale g
        scale = weight * inverse
        b = -scale * inverse.square() * sums[1] / ctx.count
        a = -scale * sums[0] / ctx.count - b * mean
        a, b, scale = (values.repeat(repeats) for values in (a, b, scale))
        after_relu = source if y is None else target
        for chunk in chunks(inputs):
            shifted = torch.addcmul(a, inputs[chunk].to(dtype), b)
            target[chunk] = shifted.addcmul_(after_relu[chunk].to(dtype), scale)
        return result, None, weight_gradient, bias_gradient, None


def as_wide_matrix(x: Tensor) -> Tensor:
    """Return a channels-last tensor as a matrix with several pixels per row, ``(rows, pixels * C)``, without copying.

    Loops over the few channels of one pixel would be too short for the CPU's vector instructions.
    """
    matrix = as_matrix(x)
    count, channels = matrix.shape
    repeats = 1
    while repeats * channels < MIN_ROW_WIDTH and count % (2 * repeats) == 0:
        repeats *= 2
    return matrix.view(count // repeats, repeats * channels)


def chunks(matrix: Tensor) -> Iterator[slice]:
    """Return slices of a matrix's rows that fit the cache."""
    step = max(1, CHUNK_SIZE // matrix.shape[1])
    return (slice(first, first + step) for first in range(0, len(matrix), step))


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor, int]:
    """Return the mean, the variance and the number of values per channel, over the batches of all processes."""
    matrix, channels = as_wide_matrix(x), x.shape[1]
    dtype = torch.promote_types(x.dtype, torch.float32)
    sums = torch.zeros(2, matrix.shape[1], dtype=torch.float64)
    # Subtract an estimate of the mean first; otherwise the variance would be the difference of two large numbers.
    estimate = matrix[: max(1, CHUNK_SIZE // matrix.shape[1])].to(dtype).mean(0).view(-1, channels).mean(0)
    center = estimate.repeat(matrix.shape[1] // channels)
    for chunk in chunks(matrix):
        difference = matrix[chunk].to(dtype) - center
        sums[0] += difference.sum(0)
        sums[1] += difference.square_().sum(0)
    count = x.numel() // channels
    mean, square = sums.view(2, -1, channels).sum(1) / count
    var = square - mean.square()
    mean, var, count = pool(mean + estimate, var, count)
    return mean.to(dtype), var.clamp_min(0).to(dtype), count


class CpuConvNorm(FastConvNorm):
    """A convolution with BatchNorm and optional ReLU6 that trains faster on a CPU."""

    memory_format = CHANNELS_LAST

    @property
    def stage(self) -> Stage:
        """The layer as a stage for the compiled kernels."""
        return Stage(self.conv, self.norm, self.activated)

    def forward(self, x: Tensor) -> Tensor:
        dtype, stage = compute_dtype(x, self.conv.weight), self.stage
        if self.is_hooked or not fits([stage], x.shape):
            return self.as_modules(x)
        if not supported([stage], x, dtype):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            if stage.kind == DENSE:
                x = dense_conv(x.to(dtype), self.conv.weight, None, self.conv.stride, self.conv.padding)
            return run_chain([stage], x, dtype)

    def convolve(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Run the convolution with the fastest implementation for its kind."""
        conv = self.conv
        if conv.groups > 1:
            apply: Apply = Depthwise.apply
            return apply(x, kernel, conv.stride, conv.padding)
        if conv.kernel_size == (1, 1, 1):
            return F.linear(x.permute(0, 2, 3, 4, 1), kernel.flatten(1)).permute(0, 4, 1, 2, 3)
        return dense_conv(x, kernel, None, conv.stride, conv.padding)

    def normalize(self, x: Tensor) -> Tensor:
        """Run BatchNorm and, if the layer has it, ReLU6."""
        norm = self.norm
        if self.training:
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked += 1
            apply: Apply = NormActivation.apply
            return apply(x, norm, norm.weight, norm.bias, self.activated)
        y = cast(Tensor, norm(x))
        return y.clamp_(0, 6) if self.activated else y


class CpuInvertedResidual(nn.Module):
    """An inverted residual that trains faster on a CPU.

    Args:
        block: the block to replace, whose layers are already replaced; the new one shares them.
    """

    def __init__(self, block: InvertedResidual) -> None:
        super().__init__()
        self.expand, self.depthwise, self.project, self.skip = block.expand, block.depthwise, block.project, block.skip

    @staticmethod
    def replaces(block: InvertedResidual) -> bool:
        """Return whether all layers of a block are replaced."""
        expand = isinstance(block.expand, CpuConvNorm | nn.Identity)
        return expand and isinstance(block.depthwise, CpuConvNorm) and isinstance(block.project, CpuConvNorm)

    def forward(self, x: Tensor) -> Tensor:
        layers = [layer for layer in (self.expand, self.depthwise, self.project) if isinstance(layer, CpuConvNorm)]
        stages, dtype = [layer.stage for layer in layers], compute_dtype(x, layers[0].conv.weight)
        hooked = any(is_hooked(layer) or layer.is_hooked for layer in layers) or is_hooked(self.expand)
        if not hooked and fits(stages, x.shape, self.skip) and supported(stages, x, dtype):
            with torch.autocast("cpu", enabled=False):
                return run_chain(stages, x, dtype, self.skip)
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.skip else y


class DenseConv(nn.Module):
    """A dense 3D convolution in float32, with the parameters and names of ``nn.Conv3d``; see :func:`dense_conv`."""

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self._geometry = conv.stride, conv.padding, conv.dilation, conv.groups

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return dense_conv(x, self.weight, self.bias, *self._geometry)


def dense_conv(x: Tensor, kernel: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:
    """Convolve in float32 (float64 for float64 input) and return the dtype of ``x``.

    In bf16 on CPUs with AMX, PyTorch's weight gradient of a dense 3D convolution writes past the end of its buffer
    (oneDNN's ``brgconv_bwd_w``, seen in PyTorch 2.13), and training crashes with a segmentation fault.
    """
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    kernel = kernel.to(dtype, memory_format=CHANNELS_LAST)
    bias = None if bias is None else bias.to(dtype)
    return F.conv3d(x.to(dtype), kernel, bias, *geometry).to(x.dtype)


def accelerate(network: nn.Module) -> None:
    """Replace a network's layers by fast ones that share its parameters; not those with hooks, which would be lost."""
    replace_layers(network, CpuConvNorm)
    for module in list(network.modules()):
        if isinstance(module, CpuConvNorm):
            continue  # it runs its convolution itself
        for name, child in list(module.named_children()):
            if is_hooked(child):
                continue
            if isinstance(child, InvertedResidual) and CpuInvertedResidual.replaces(child):
                setattr(module, name, CpuInvertedResidual(child))
            elif isinstance(child, Upsampling):
                setattr(module, name, CpuUpsampling())
            elif isinstance(child, nn.Conv3d) and child.groups == 1 and child.padding_mode == "zeros":
                setattr(module, name, DenseConv(child))
