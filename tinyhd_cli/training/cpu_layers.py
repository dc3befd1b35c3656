"""The same layers, trained faster on a CPU.

PyTorch's 3D convolutions are slow there, most of all backward through depthwise ones, and so is BatchNorm channels
last. Here every tensor stays channels last, and

- a depthwise convolution's gradient by its input is a convolution with the kernel turned round, and that by its kernel
  is taken frame by frame, one time step of the kernel after the other, as of 2D convolutions;
- a 1x1x1 convolution is a matrix product;
- a dense 3D convolution is always computed in float32, even if the others use bf16: see :func:`dense`;
- BatchNorm and ReLU6 go back together, in pieces that fit the cache. Over several processes BatchNorm's statistics are
  those of the whole batch, which PyTorch offers for GPUs only.

Parameters and their names are those of the network, and so are the answers, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.blocks.mobilenet3d import ConvNorm, Size3

CHANNELS_LAST = torch.channels_last_3d
PIECE = 1 << 18
"""Numbers of a tensor that are worked on at once: 1 MB in float32."""

WIDTH = 512
"""Numbers in a row of a matrix that is worked on, at least."""

MALLOC_KEEP_BYTES = (2 << 30) - 1
"""Bytes of free memory to hold on to while training: a step takes and frees gigabytes."""

Apply = Callable[..., Tensor]

convolution_backward = torch.ops.aten.convolution_backward


def rows(x: Tensor) -> Tensor:
    """A channels-last tensor ``(N, C, T, H, W)`` as a matrix ``(N T H W, C)``, without copying."""
    return x.permute(0, 2, 3, 4, 1).view(-1, x.shape[1])


class Depthwise(torch.autograd.Function):
    """Depthwise 3D convolution without bias of a channels-last tensor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, stride: Size3, padding: Size3) -> Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.stride, ctx.padding = stride, padding
        return F.conv3d(x, kernel.to(memory_format=CHANNELS_LAST), None, stride, padding, 1, len(kernel))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, kernel = ctx.saved_tensors
        grad = grad.contiguous(memory_format=CHANNELS_LAST)
        by_input = input_gradient(grad, x, kernel, ctx.stride, ctx.padding) if ctx.needs_input_grad[0] else None
        by_kernel = kernel_gradient(grad, x, kernel, ctx.stride, ctx.padding) if ctx.needs_input_grad[1] else None
        return by_input, by_kernel, None, None


def input_gradient(grad: Tensor, x: Tensor, kernel: Tensor, stride: Size3, padding: Size3) -> Tensor:
    """Gradient of a depthwise convolution by its input."""
    channels, _, taps, height, width = kernel.shape
    if stride[1:] != (1, 1):
        kernel = kernel.to(memory_format=CHANNELS_LAST)
        settings = (list(stride), list(padding), [1, 1, 1], False, [0, 0, 0], channels, [True, False, False])
        gradient: Tensor = convolution_backward(grad, x, kernel, None, *settings)[0]
        return gradient
    if stride[0] > 1:  # zeros for the frames that were skipped
        n, _, _, h, w = grad.shape
        frames = x.shape[2] + 2 * padding[0] - taps + 1
        spread = torch.zeros((n, frames, h, w, channels), dtype=grad.dtype).movedim(-1, 1)
        spread[:, :, :: stride[0]] = grad
        grad = spread
    turned = kernel.flip(2, 3, 4).to(memory_format=CHANNELS_LAST)
    around = (taps - 1 - padding[0], height - 1 - padding[1], width - 1 - padding[2])
    return F.conv3d(grad, turned, None, 1, around, 1, channels)


def kernel_gradient(grad: Tensor, x: Tensor, kernel: Tensor, stride: Size3, padding: Size3) -> Tensor:
    """Gradient of a depthwise convolution by its kernel."""
    result = torch.zeros_like(kernel)
    channels, frames_in, frames_out = len(kernel), x.shape[2], grad.shape[2]
    step, before = stride[0], padding[0]
    settings = (list(stride[1:]), list(padding[1:]), [1, 1], False, [0, 0], channels, [False, True, False])
    for tap in range(kernel.shape[2]):
        # The output frames whose tap lies inside the clip, and the input frames that it lies on.
        first = max(0, -((tap - before) // step))
        last = min(frames_out - 1, (frames_in - 1 + before - tap) // step)
        if last < first:
            continue
        start = first * step + tap - before
        plane = kernel[:, :, tap].contiguous(memory_format=torch.channels_last)
        ours = grad.transpose(1, 2)[:, first : last + 1]
        theirs = x.transpose(1, 2)[:, start : start + (last - first) * step + 1 : step]
        whole = ours.shape[1] == frames_out and theirs.shape[1] == frames_in
        for clip in [slice(None)] if whole else [slice(n, n + 1) for n in range(len(x))]:  # else reshaping would copy
            pair = [part[clip].reshape(-1, *part.shape[2:]) for part in (ours, theirs)]
            result[:, :, tap] += convolution_backward(*pair, plane, None, *settings)[1]
    return result


class NormActivation(torch.autograd.Function):
    """BatchNorm in training mode, then ReLU6 if wanted, of a channels-last tensor. Statistics are float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: nn.BatchNorm3d, weight: Tensor, bias: Tensor, activation: bool) -> Tensor:
        x = x.contiguous(memory_format=CHANNELS_LAST)  # as it is already, but in float64
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean, var, count = statistics(x)
        norm.running_mean.lerp_(mean, norm.momentum or 0.0)
        norm.running_var.lerp_(var * (count / max(1, count - 1)), norm.momentum or 0.0)
        inverse = (var + norm.eps).rsqrt()
        y = torch.empty_like(x, memory_format=CHANNELS_LAST)
        source, target = wide(x), wide(y)
        repeats = source.shape[1] // x.shape[1]
        scale = (weight * inverse).repeat(repeats)
        shift = (bias - mean * weight * inverse).repeat(repeats)
        for piece in pieces(source):
            values = torch.addcmul(shift, source[piece].to(shift.dtype), scale)
            target[piece] = values.clamp_(0, 6) if activation else values
        ctx.save_for_backward(x, y if activation else None, weight, mean, inverse)
        ctx.count = count
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, Tensor, None]:
        x, y, weight, mean, inverse = ctx.saved_tensors
        channels = x.shape[1]
        result = torch.empty_like(x, memory_format=CHANNELS_LAST)
        source = wide(grad.contiguous(memory_format=CHANNELS_LAST))
        target, inputs = wide(result), wide(x)
        repeats = source.shape[1] // channels
        exact = torch.promote_types(x.dtype, torch.float32)
        wide_sums = torch.zeros(2, source.shape[1], dtype=exact)
        center = mean.repeat(repeats)
        for piece in pieces(inputs):
            g = source[piece]
            if y is not None:
                g = torch.ops.aten.hardtanh_backward.grad_input(g, wide(y)[piece], 0.0, 6.0, grad_input=target[piece])
            g = g.to(exact)
            wide_sums[0] += g.sum(0)
            wide_sums[1] += (g * (inputs[piece].to(exact) - center)).sum(0)
        sums = wide_sums.view(2, repeats, channels).sum(1)
        by_bias, by_weight = sums[0].clone(), sums[1] * inverse
        if processes() > 1:
            dist.all_reduce(sums)
        # weight * inverse * (g - mean of g - normalized x * mean of (g * normalized x)), as a + b x + scale g
        scale = weight * inverse
        b = -scale * inverse.square() * sums[1] / ctx.count
        a = -scale * sums[0] / ctx.count - b * mean
        a, b, scale = (values.repeat(repeats) for values in (a, b, scale))
        kept = source if y is None else target
        for piece in pieces(inputs):
            moved = torch.addcmul(a, inputs[piece].to(exact), b)
            target[piece] = moved.addcmul_(kept[piece].to(exact), scale)
        return result, None, by_weight, by_bias, None


def wide(x: Tensor) -> Tensor:
    """A channels-last tensor as a matrix with several pixels in a row, ``(rows, pixels * C)``, without copying.

    Loops over one pixel's few channels would be too short for a processor's vectors.
    """
    matrix = rows(x)
    count, channels = matrix.shape
    repeats = 1
    while repeats * channels < WIDTH and count % (2 * repeats) == 0:
        repeats *= 2
    return matrix.view(count // repeats, repeats * channels)


def pieces(matrix: Tensor) -> Iterator[slice]:
    """The rows of a matrix in pieces that fit the cache."""
    step = max(1, PIECE // matrix.shape[1])
    return (slice(first, first + step) for first in range(0, len(matrix), step))


def processes() -> int:
    """How many train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def statistics(x: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean and variance of each channel over the batches of all processes, and how many numbers they are of."""
    matrix, channels = wide(x), x.shape[1]
    exact = torch.promote_types(x.dtype, torch.float32)
    sums = torch.zeros(2, matrix.shape[1], dtype=torch.float64)
    # Squares of distances from about the mean: those from 0 would cancel.
    middle = matrix[: max(1, PIECE // matrix.shape[1])].to(exact).mean(0).view(-1, channels).mean(0)
    center = middle.repeat(matrix.shape[1] // channels)
    for piece in pieces(matrix):
        away = matrix[piece].to(exact) - center
        sums[0] += away.sum(0)
        sums[1] += away.square_().sum(0)
    count = x.numel() // channels
    mean, square = sums.view(2, -1, channels).sum(1) / count
    var = square - mean.square()
    mean = mean + middle
    if processes() > 1:
        whole = torch.cat([mean * count, (var + mean.square()) * count, torch.tensor([float(count)])])
        dist.all_reduce(whole)
        count = int(whole[-1])
        mean, square = (whole[:-1] / count).view(2, -1)
        var = square - mean.square()
    return mean.to(exact), var.clamp_min(0).to(exact), count


class FastConvNorm(nn.Module):
    """A :class:`ConvNorm` with the same parameters under the same names."""

    def __init__(self, layer: ConvNorm) -> None:
        super().__init__()
        self.conv, self.norm = layer.conv, layer.norm
        self.activated = hasattr(layer, "activation")

    def forward(self, x: Tensor) -> Tensor:
        mixed = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if mixed else self.conv.weight.dtype
        with torch.autocast("cpu", enabled=False):
            y = self.convolve(x.to(dtype, memory_format=CHANNELS_LAST), self.conv.weight.to(dtype))
            if self.training:
                assert self.norm.num_batches_tracked is not None
                self.norm.num_batches_tracked += 1
                apply: Apply = NormActivation.apply
                return apply(y, self.norm, self.norm.weight, self.norm.bias, self.activated)
            y = cast(Tensor, self.norm(y))
            return y.clamp_(0, 6) if self.activated else y

    def convolve(self, x: Tensor, kernel: Tensor) -> Tensor:
        """The convolution, by what is fastest for its kind."""
        conv = self.conv
        if conv.groups > 1:
            apply: Apply = Depthwise.apply
            return apply(x, kernel, conv.stride, conv.padding)
        if conv.kernel_size == (1, 1, 1):
            return F.linear(x.permute(0, 2, 3, 4, 1), kernel.flatten(1)).permute(0, 4, 1, 2, 3)
        return dense(x, kernel, None, conv.stride, conv.padding)


class DenseConv(nn.Module):
    """A dense 3D convolution in float32, with the parameters and names of ``nn.Conv3d``; see :func:`dense`."""

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self._shape = conv.stride, conv.padding, conv.dilation, conv.groups

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return dense(x, self.weight, self.bias, *self._shape)


def dense(x: Tensor, kernel: Tensor, bias: Tensor | None, *shape: Any) -> Tensor:
    """Convolve in float32 (float64 for float64 input) and return the dtype of ``x``.

    In bf16 on CPUs with AMX, PyTorch's weight gradient of a dense 3D convolution writes past the end of its buffer
    (oneDNN's ``brgconv_bwd_w``, seen in PyTorch 2.13), and training crashes with a segmentation fault.
    """
    exact = torch.float64 if x.dtype == torch.float64 else torch.float32
    kernel = kernel.to(exact, memory_format=CHANNELS_LAST)
    bias = None if bias is None else bias.to(exact)
    return F.conv3d(x.to(exact), kernel, bias, *shape).to(x.dtype)


def accelerate(network: nn.Module) -> None:
    """Replace a network's layers by the fast ones, which share its parameters."""
    for module in list(network.modules()):
        if isinstance(module, ConvNorm):
            continue  # replaced as a whole
        for name, child in list(module.named_children()):
            if isinstance(child, ConvNorm):
                setattr(module, name, FastConvNorm(child))
            elif isinstance(child, nn.Conv3d) and child.groups == 1:
                setattr(module, name, DenseConv(child))
