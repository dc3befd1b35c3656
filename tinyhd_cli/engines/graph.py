"""The intermediate representation of a network: a graph of operations that every engine can be built from.

It depends only on NumPy. Tensors have the shape ``(C, T, H, W)``: one clip, without a batch dimension.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[np.float32]
Shape = tuple[int, int, int, int]
Size3 = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Node:
    """An operation and its result."""

    shape: Shape
    """Shape of the result."""
    inputs: tuple[Node, ...] = field(default=(), repr=False)


@dataclass(frozen=True, eq=False)
class Input(Node):
    """The input of the network."""


@dataclass(frozen=True, eq=False)
class Conv(Node):
    """A 3D convolution with bias."""

    weight: Array = field(kw_only=True)
    """``(out, in / groups, kt, kh, kw)``."""
    bias: Array = field(kw_only=True)
    """``(out,)``."""
    stride: Size3 = (1, 1, 1)
    padding: Size3 = (0, 0, 0)
    depthwise: bool = False
    """Whether each channel has its own kernel (groups = channels)."""
    back: int | None = None
    """Padding after the last frame; None: as before the first, ``padding[0]``."""

    @property
    def end_padding(self) -> Size3:
        """Padding at the end of each dimension."""
        return (self.padding[0] if self.back is None else self.back, *self.padding[1:])


@dataclass(frozen=True, eq=False)
class PixelShuffle(Node):
    """Pixel shuffle of each frame, as a transposed convolution with kernel and stride (1, 2, 2) and weights 0 and 1."""

    weight: Array = field(kw_only=True)
    """``(4 C, C, 1, 2, 2)``."""


@dataclass(frozen=True, eq=False)
class Interpolate(Node):
    """Trilinear interpolation to the shape, with aligned corners."""


@dataclass(frozen=True, eq=False)
class Mix(Node):
    """Weighted sums of time steps."""

    weight: Array = field(kw_only=True)
    """``(T of the result, T of the input)``; at most two values of a row are not 0."""


@dataclass(frozen=True, eq=False)
class Relu6(Node):
    """ReLU6: values clipped to 0..6."""


@dataclass(frozen=True, eq=False)
class Sigmoid(Node):
    """Elementwise logistic function."""


@dataclass(frozen=True, eq=False)
class Add(Node):
    """Elementwise sum of two inputs; an input with one time step is broadcast over time."""


@dataclass(frozen=True, eq=False)
class Concat(Node):
    """Concatenation of channels."""


@dataclass(frozen=True, eq=False)
class Scale(Node):
    """``factor * x + offset``, elementwise."""

    factor: float = 1.0
    offset: float = 0.0


def aligned(*shape: int, dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Return an uninitialized array aligned to 64 bytes, with 64 readable bytes after its end."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + 128, np.uint8)
    first = -memory.ctypes.data % 64
    return memory[first : first + size].view(dtype).reshape(shape)


def used_taps(frames: int, kernel: int, stride: int, padding: int) -> range:
    """Return the temporal taps of a kernel that read a frame at any position; the others only read padding."""
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
    """Return a convolution in its cheapest form.

    Temporal taps that only read padding are removed. A 1x1x1 convolution of an interpolation is moved before the
    interpolation, where the tensor is smaller: both are linear, and the bias is unchanged because the weights of an
    interpolation sum to 1.
    """
    if isinstance(x, Interpolate) and math.prod(weight.shape[2:]) == 1 and not depthwise:
        before = convolve(x.inputs[0], weight, bias, stride=stride, padding=padding)
        return Interpolate((len(weight), *x.shape[1:]), (before,))
    frames, kernel = x.shape[1], weight.shape[2]
    used = used_taps(frames, kernel, stride[0], padding[0])
    front = padding[0] - used.start
    steps = (frames + 2 * padding[0] - kernel) // stride[0] + 1
    if (frames + 2 * front - len(used)) // stride[0] + 1 == steps:  # padding is symmetric
        weight = np.ascontiguousarray(weight[:, :, used.start : used.stop])
        padding = (front, *padding[1:])
    sides = zip(x.shape[1:], weight.shape[2:], stride, padding, strict=True)
    time, height, width = ((side + 2 * pad - k) // step + 1 for side, k, step, pad in sides)
    shape = (len(weight), time, height, width)
    return Conv(shape, (x,), weight=weight, bias=bias, stride=stride, padding=padding, depthwise=depthwise)


def shuffle(x: Node) -> Node:
    """Return the pixel shuffle of each frame: ``(4 C, T, H, W)`` to ``(C, T, 2 H, 2 W)``."""
    channels, time, height, width = x.shape
    weight = np.zeros((channels, channels // 4, 1, 2, 2), np.float32)
    source = np.arange(channels)
    weight[source, source // 4, 0, source % 4 // 2, source % 2] = 1
    return PixelShuffle((channels // 4, time, 2 * height, 2 * width), (x,), weight=weight)


def interpolate(x: Node, *, time: int = 1, space: int = 1) -> Node:
    """Return a trilinear upsampling by integer factors, with aligned corners; ``x`` if both factors are 1."""
    if time == 1 and space == 1:
        return x
    channels, frames, height, width = x.shape
    return Interpolate((channels, time * frames, space * height, space * width), (x,))


def mix(x: Node, rows: Sequence[Mapping[int, float]]) -> Node:
    """Return weighted sums of the time steps of a node: of each result step, the weights by step of ``x``."""
    weight = np.zeros((len(rows), x.shape[1]), np.float32)
    for number, row in enumerate(rows):
        for step, value in row.items():
            weight[number, step] += value
    if np.array_equal(weight, np.eye(x.shape[1])):
        return x
    return Mix((x.shape[0], len(rows), *x.shape[2:]), (x,), weight=weight)


def relu6(x: Node) -> Node:
    """Return the values clipped to 0..6."""
    return Relu6(x.shape, (x,))


def sigmoid(x: Node) -> Node:
    """Return the elementwise logistic function."""
    return Sigmoid(x.shape, (x,))


def scale(x: Node, factor: float, offset: float = 0.0) -> Node:
    """Return ``factor * x + offset``."""
    return Scale(x.shape, (x,), factor, offset)


def add(x: Node, y: Node) -> Node:
    """Return the sum of two nodes; a node with one time step is broadcast over time."""
    return Add((x.shape[0], max(x.shape[1], y.shape[1]), *x.shape[2:]), (x, y))


def concat(*xs: Node) -> Node:
    """Return the concatenation of channels."""
    return xs[0] if len(xs) == 1 else Concat((sum(x.shape[0] for x in xs), *xs[0].shape[1:]), xs)


def operations(result: Node) -> list[Node]:
    """Return every node that a result depends on, each once, inputs before their users."""
    found: dict[Node, None] = {}

    def visit(node: Node) -> None:
        if node not in found:
            for source in node.inputs:
                visit(source)
            found[node] = None

    visit(result)
    return list(found)


def multiply_adds(result: Node) -> int:
    """Return the multiply-adds of all convolutions, counting padded positions."""
    convolutions = [node for node in operations(result) if isinstance(node, Conv)]
    return sum(math.prod(node.shape) * math.prod(node.weight.shape[1:]) for node in convolutions)
