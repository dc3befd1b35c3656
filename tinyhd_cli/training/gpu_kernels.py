# mypy: ignore-errors
"""Triton kernels for training on a GPU: depthwise 3D convolution, and BatchNorm with ReLU6.

Launched by :mod:`.gpu_layers`. Sums are accumulated in float32, whatever the dtype of inputs and outputs.
"""

import triton
import triton.language as tl

SIZES = ("channels", "time", "height", "width", "time_out", "height_out", "width_out", "shift", "per_frame")
SIZES += ("pad_t", "pad_h", "pad_w")
"""Arguments that Triton must not specialize: it would compile another kernel for each combination of their values."""


@triton.jit(do_not_specialize=SIZES)
def convolve_kernel(
    x, kernel, y, channels, time, height, width, time_out, height_out, width_out,
    pad_t, pad_h, pad_w, shift, per_frame,
    stride_t: tl.constexpr, stride_h: tl.constexpr, stride_w: tl.constexpr,
    KT: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Compute a depthwise convolution. Each program computes one block of pixels of one frame of one channel."""
    plane, t = tl.program_id(0), tl.program_id(1) // per_frame
    index = (tl.program_id(1) % per_frame) * BLOCK + tl.arange(0, BLOCK)
    size = height_out * width_out
    valid = index < size
    h, w = index >> shift, index & (width_out - 1)
    source = x + plane.to(tl.int64) * (time * height * width)
    weights = kernel + (plane % channels) * (KT * KH * KW)
    total = tl.zeros((BLOCK,), tl.float32)
    for a in tl.static_range(KT):
        i = t * stride_t - pad_t + a
        for b in tl.static_range(KH):
            j = h * stride_h - pad_h + b
            inside = valid & (i >= 0) & (i < time) & (j >= 0) & (j < height)
            row = (i * height + j) * width
            for c in tl.static_range(KW):
                k = w * stride_w - pad_w + c
                value = tl.load(source + row + k, mask=inside & (k >= 0) & (k < width), other=0.0)
                total += value.to(tl.float32) * tl.load(weights + (a * KH + b) * KW + c).to(tl.float32)
    tl.store(y + (plane.to(tl.int64) * time_out + t) * size + index, total.to(y.dtype.element_ty), mask=valid)


@triton.jit(do_not_specialize=SIZES)
def input_gradient_kernel(
    grad, kernel, y, channels, time, height, width, time_out, height_out, width_out,
    pad_t, pad_h, pad_w, shift, per_frame,
    stride_t: tl.constexpr, stride_h: tl.constexpr, stride_w: tl.constexpr,
    KT: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Compute the gradient ``y`` of a depthwise convolution with respect to its input.

    Each program computes one block of pixels of one frame of one channel.
    """
    plane, t = tl.program_id(0), tl.program_id(1) // per_frame
    index = (tl.program_id(1) % per_frame) * BLOCK + tl.arange(0, BLOCK)
    size = height * width
    valid = index < size
    h, w = index >> shift, index & (width - 1)
    source = grad + plane.to(tl.int64) * (time_out * height_out * width_out)
    weights = kernel + (plane % channels) * (KT * KH * KW)
    total = tl.zeros((BLOCK,), tl.float32)
    for a in tl.static_range(KT):
        i = t + pad_t - a
        valid_time = (i >= 0) & (i % stride_t == 0) & (i // stride_t < time_out)
        for b in tl.static_range(KH):
            j = h + pad_h - b
            inside = valid & valid_time & (j >= 0) & (j % stride_h == 0) & (j // stride_h < height_out)
            row = ((i // stride_t) * height_out + j // stride_h) * width_out
            for c in tl.static_range(KW):
                k = w + pad_w - c
                mask = inside & (k >= 0) & (k % stride_w == 0) & (k // stride_w < width_out)
                value = tl.load(source + row + k // stride_w, mask=mask, other=0.0)
                total += value.to(tl.float32) * tl.load(weights + (a * KH + b) * KW + c).to(tl.float32)
    tl.store(y + (plane.to(tl.int64) * time + t) * size + index, total.to(y.dtype.element_ty), mask=valid)


@triton.jit(do_not_specialize=SIZES)
def kernel_gradient_kernel(
    grad, x, y, channels, time, height, width, time_out, height_out, width_out,
    pad_t, pad_h, pad_w, shift, per_frame,
    stride_t: tl.constexpr, stride_h: tl.constexpr, stride_w: tl.constexpr,
    KT: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add the gradient of a depthwise convolution with respect to its kernel to ``y``.

    Each program adds the part of one output frame to one row of three taps of one channel.
    """
    tl.static_assert(KW == 3)
    channel, a, b = tl.program_id(0), tl.program_id(1) // KH, tl.program_id(1) % KH
    clip, t = tl.program_id(2) // time_out, tl.program_id(2) % time_out
    plane = (clip * channels + channel).to(tl.int64)
    size = height_out * width_out
    i = t * stride_t - pad_t + a
    grad_frame = grad + (plane * time_out + t) * size
    x_frame = x + (plane * time + i) * (height * width)
    first = tl.zeros((BLOCK,), tl.float32)
    second = tl.zeros((BLOCK,), tl.float32)
    third = tl.zeros((BLOCK,), tl.float32)
    if (i >= 0) & (i < time):
        for round_ in range(per_frame):
            index = round_ * BLOCK + tl.arange(0, BLOCK)
            valid = index < size
            h, w = index >> shift, index & (width_out - 1)
            j, k = h * stride_h - pad_h + b, w * stride_w - pad_w
            inside = valid & (j >= 0) & (j < height)
            g = tl.load(grad_frame + index, mask=valid, other=0.0).to(tl.float32)
            row = x_frame + j * width + k
            first += g * tl.load(row, mask=inside & (k >= 0) & (k < width), other=0.0).to(tl.float32)
            second += g * tl.load(row + 1, mask=inside & (k >= -1) & (k < width - 1), other=0.0).to(tl.float32)
            third += g * tl.load(row + 2, mask=inside & (k >= -2) & (k < width - 2), other=0.0).to(tl.float32)
        target = y + (channel * (KT * KH) + a * KH + b) * KW
        tl.atomic_add(target, tl.sum(first, 0))
        tl.atomic_add(target + 1, tl.sum(second, 0))
        tl.atomic_add(target + 2, tl.sum(third, 0))


@triton.jit(do_not_specialize=("clips", "channels"))
def sums_kernel(x, y, clips, channels, size, ROUNDS: tl.constexpr, BLOCK: tl.constexpr):
    """Add the sums and sums of squares of the channels to ``y`` ``(2, C)``. Each program sums ``ROUNDS`` blocks."""
    channel = tl.program_id(0)
    first = tl.zeros((BLOCK,), tl.float32)
    second = tl.zeros((BLOCK,), tl.float32)
    for round_ in range(ROUNDS):
        index = (tl.program_id(1) * ROUNDS + round_) * BLOCK + tl.arange(0, BLOCK)
        offset = ((index // size) * channels + channel).to(tl.int64) * size + index % size
        value = tl.load(x + offset, mask=index < clips * size, other=0.0).to(tl.float32)
        first += value
        second += value * value
    tl.atomic_add(y + channel, tl.sum(first, 0))
    tl.atomic_add(y + channels + channel, tl.sum(second, 0))


@triton.jit(do_not_specialize=("clips", "channels"))
def apply_kernel(x, scale, shift, y, channels, size, ACTIVATED: tl.constexpr, BLOCK: tl.constexpr):
    """Compute ``x * scale + shift`` and optionally ReLU6. Each program computes one block of one clip's channel."""
    plane = tl.program_id(0)
    index = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    offset = plane.to(tl.int64) * size + index
    channel = plane % channels
    value = tl.load(x + offset, mask=index < size, other=0.0).to(tl.float32)
    value = value * tl.load(scale + channel) + tl.load(shift + channel)
    if ACTIVATED:
        value = tl.minimum(tl.maximum(value, 0.0), 6.0)
    tl.store(y + offset, value.to(y.dtype.element_ty), mask=index < size)


@triton.jit(do_not_specialize=("clips", "channels"))
def gradient_sums_kernel(
    grad, x, scale, shift, mean, y, clips, channels, size,
    ROUNDS: tl.constexpr, ACTIVATED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add the sums of the gradient, and of the gradient times ``x - mean``, to ``y`` ``(2, C)``."""
    channel = tl.program_id(0)
    a, b, center = tl.load(scale + channel), tl.load(shift + channel), tl.load(mean + channel)
    first = tl.zeros((BLOCK,), tl.float32)
    second = tl.zeros((BLOCK,), tl.float32)
    for round_ in range(ROUNDS):
        index = (tl.program_id(1) * ROUNDS + round_) * BLOCK + tl.arange(0, BLOCK)
        valid = index < clips * size
        offset = ((index // size) * channels + channel).to(tl.int64) * size + index % size
        value = tl.load(x + offset, mask=valid, other=0.0).to(tl.float32)
        g = tl.load(grad + offset, mask=valid, other=0.0).to(tl.float32)
        if ACTIVATED:
            activation_input = value * a + b
            g = tl.where((activation_input > 0.0) & (activation_input < 6.0), g, 0.0)
        first += g
        second += g * (value - center)
    tl.atomic_add(y + channel, tl.sum(first, 0))
    tl.atomic_add(y + channels + channel, tl.sum(second, 0))


@triton.jit(do_not_specialize=("clips", "channels"))
def gradient_kernel(
    grad, x, scale, shift, x_scale, constant, y, channels, size, ACTIVATED: tl.constexpr, BLOCK: tl.constexpr
):
    """Compute ``grad * scale + x * x_scale + constant``; ``grad`` first passes back through ReLU6, if there is one.

    Each program computes one block of one channel of one clip.
    """
    plane = tl.program_id(0)
    index = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    offset = plane.to(tl.int64) * size + index
    channel = plane % channels
    a = tl.load(scale + channel)
    value = tl.load(x + offset, mask=index < size, other=0.0).to(tl.float32)
    g = tl.load(grad + offset, mask=index < size, other=0.0).to(tl.float32)
    if ACTIVATED:
        activation_input = value * a + tl.load(shift + channel)
        g = tl.where((activation_input > 0.0) & (activation_input < 6.0), g, 0.0)
    result = g * a + value * tl.load(x_scale + channel) + tl.load(constant + channel)
    tl.store(y + offset, result.to(y.dtype.element_ty), mask=index < size)
