"""A network as a list of operations that any engine can be given. Knows no engine, and only NumPy.

Tensors are those of one clip: shapes are written ``(C, T, H, W)``, without the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Shape = tuple[int, int, int, int]
Size3 = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Node:
    """An operation, and what comes out of it."""

    shape: Shape
    """Of its result."""
    inputs: tuple[Node, ...] = ()


@dataclass(frozen=True, eq=False)
class Input(Node):
    """What goes into the network."""


@dataclass(frozen=True, eq=False)
class Conv(Node):
    """A convolution with its bias."""

    weight: Array = field(kw_only=True)
    """``(out, in / groups, kt, kh, kw)``."""
    bias: Array = field(kw_only=True)
    """``(out,)``."""
    stride: Size3 = (1, 1, 1)
    padding: Size3 = (0, 0, 0)
    depthwise: bool = False
    """Whether each channel is filtered on its own."""


@dataclass(frozen=True, eq=False)
class PixelShuffle(Node):
    """Channels into space: a transposed convolution of kernel and stride (1, 2, 2), whose weight is 0 and 1."""

    weight: Array = field(kw_only=True)
    """``(4 C, C, 1, 2, 2)``."""


@dataclass(frozen=True, eq=False)
class Interpolate(Node):
    """Trilinear interpolation to the shape, corners aligned."""


@dataclass(frozen=True, eq=False)
class Relu6(Node):
    """Values clipped to 0..6."""


@dataclass(frozen=True, eq=False)
class Sigmoid(Node):
    """The logistic function."""


@dataclass(frozen=True, eq=False)
class Add(Node):
    """A sum of two; either may have one time step for all."""


@dataclass(frozen=True, eq=False)
class Concat(Node):
    """Channels one after the other."""


@dataclass(frozen=True, eq=False)
class Scale(Node):
    """``factor`` times the input plus ``offset``."""

    factor: float = 1.0
    offset: float = 0.0


def aligned(*shape: int) -> Array:
    """An array that begins at a cache line, with another cache line behind its end that may be read."""
    size = math.prod(shape)
    memory = np.empty(size + 32, np.float32)
    first = -memory.ctypes.data % 64 // 4
    return memory[first : first + size].reshape(shape)


def used_taps(frames: int, kernel: int, stride: int, padding: int) -> range:
    """The taps of a kernel in time that see any of the frames, rather than only padding around them."""
    steps = (frames + 2 * padding - kernel) // stride + 1
    used = [tap for tap in range(kernel) if any(0 <= t * stride + tap - padding < frames for t in range(steps))]
    return range(used[0], used[-1] + 1)


def convolve(
    x: Node,
    weight: Array,
    bias: Array,
    *,
    stride: Size3 = (1, 1, 1),
    padding: Size3 = (0, 0, 0),
    depthwise: bool = False,
) -> Node:
    """A convolution, in its cheapest form.

    Taps in time that only ever see padding are left out. A 1x1x1 convolution of what was interpolated goes before the
    interpolation, where there is less to do: both are linear, and since the weights of an interpolation sum to 1, the
    bias stays what it is.
    """
    if isinstance(x, Interpolate) and math.prod(weight.shape[2:]) == 1 and not depthwise:
        before = convolve(x.inputs[0], weight, bias, stride=stride, padding=padding)
        return Interpolate((len(weight), *x.shape[1:]), (before,))
    frames, kernel = x.shape[1], weight.shape[2]
    used = used_taps(frames, kernel, stride[0], padding[0])
    front = padding[0] - used.start
    steps = (frames + 2 * padding[0] - kernel) // stride[0] + 1
    if (frames + 2 * front - len(used)) // stride[0] + 1 == steps:  # the padding must be the same at both ends
        weight = np.ascontiguousarray(weight[:, :, used.start : used.stop])
        padding = (front, *padding[1:])
    sides = zip(x.shape[1:], weight.shape[2:], stride, padding, strict=True)
    time, height, width = ((side + 2 * pad - k) // step + 1 for side, k, step, pad in sides)
    shape = (len(weight), time, height, width)
    return Conv(shape, (x,), weight=weight, bias=bias, stride=stride, padding=padding, depthwise=depthwise)


def shuffle(x: Node) -> Node:
    """Pixel shuffle of each frame: ``(4 C, T, H, W)`` to ``(C, T, 2 H, 2 W)``."""
    channels, time, height, width = x.shape
    weight = np.zeros((channels, channels // 4, 1, 2, 2), np.float32)
    source = np.arange(channels)
    weight[source, source // 4, 0, source % 4 // 2, source % 2] = 1
    return PixelShuffle((channels // 4, time, 2 * height, 2 * width), (x,), weight=weight)


def interpolate(x: Node, *, time: int = 1, space: int = 1) -> Node:
    """Trilinear upsampling by whole factors, corners aligned."""
    if time == 1 and space == 1:
        return x
    channels, frames, height, width = x.shape
    return Interpolate((channels, time * frames, space * height, space * width), (x,))


def relu6(x: Node) -> Node:
    """Values clipped to 0..6."""
    return Relu6(x.shape, (x,))


def sigmoid(x: Node) -> Node:
    """The logistic function."""
    return Sigmoid(x.shape, (x,))


def scale(x: Node, factor: float, offset: float = 0.0) -> Node:
    """``factor`` times the input plus ``offset``."""
    return Scale(x.shape, (x,), factor, offset)


def add(x: Node, y: Node) -> Node:
    """A sum; where one has a single time step, it counts for all of the other's."""
    return Add((x.shape[0], max(x.shape[1], y.shape[1]), *x.shape[2:]), (x, y))


def concat(*xs: Node) -> Node:
    """Channels one after the other."""
    return xs[0] if len(xs) == 1 else Concat((sum(x.shape[0] for x in xs), *xs[0].shape[1:]), xs)


def operations(result: Node) -> list[Node]:
    """All that a result needs, each once, inputs before what reads them."""
    found: dict[Node, None] = {}

    def visit(node: Node) -> None:
        if node not in found:
            for one in node.inputs:
                visit(one)
            found[node] = None

    visit(result)
    return list(found)


def multiply_adds(result: Node) -> int:
    """Multiplications that the convolutions of a graph take, those with the zeros of padding included."""
    convolutions = [node for node in operations(result) if isinstance(node, Conv)]
    return sum(math.prod(node.shape) * math.prod(node.weight.shape[1:]) for node in convolutions)
