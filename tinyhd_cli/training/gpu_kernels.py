# mypy: ignore-errors
"""Triton kernels for training on a GPU: depthwise 3D convolution, and BatchNorm with ReLU6.

Launched by :mod:`.gpu`. Sums are float32, whatever the dtype of inputs and outputs.
"""

import triton
import triton.language as tl

SIZES = ("channels", "time", "height", "width", "time_out", "height_out", "width_out", "shift", "per_frame")
SIZES += ("pad_t", "pad_h", "pad_w")
"""Arguments that are not specialized: each combination of their values would compile another kernel."""


@triton.jit(do_not_specialize=SIZES)
def convolve_kernel(
    x, kernel, y, channels, time, height, width, time_out, height_out, width_out,
    pad_t, pad_h, pad_w, shift, per_frame,
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
    grad, kernel, y, channels, time, height, width, time_out, height_out, width_out,
    pad_t, pad_h, pad_w, shift, per_frame,
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
    grad, x, y, channels, time, height, width, time_out, height_out, width_out,
    pad_t, pad_h, pad_w, shift, per_frame,
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
