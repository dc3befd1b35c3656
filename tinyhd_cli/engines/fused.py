"""Run most of the decoders of a network in C kernels (``csrc/blocks.c``), after an OpenVINO prefix.

At high resolution the decoders have few channels and most of the pixels. These layers take most of an engine's time,
which it spends moving single-use intermediate values through memory. The kernels compute two structures, each in one
pass:

- :class:`Block`: an inverted residual, including the upsampling of its source and of the tensor added to its result,
- :class:`Fusion`: the sigmoid of the weighted sum of the maps' sigmoids.

:func:`partition` finds them in a graph. The nodes that they read are the outputs of the prefix.
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from ctypes import POINTER, c_float, c_void_p
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .graph import Add, Array, Conv, Interpolate, Node, PixelShuffle, Relu6, Scale, Shape, Sigmoid, aligned
from .kernels import (
    GAP,
    HALF,
    MAX_MAPS,
    MAX_TAPS,
    PLANES,
    SHUFFLED,
    UPSAMPLED,
    CBlock,
    CCopy,
    CFusion,
    CProgram,
    CTensor,
    available_isas,
    load,
)

LEVELS = 3
"""Number of resolutions, from that of the maps down, at which the kernels compute blocks."""


class UnsupportedGraph(Exception):
    """The kernels do not support the last operations of a graph."""


@dataclass(frozen=True, eq=False)
class Source:
    """A tensor that a block reads."""

    tensor: Node | Block
    """Another block, or an output of the prefix."""
    kind: int
    """``PLANES``, ``SHUFFLED`` or ``UPSAMPLED``: how it is read. In the last two, it has half the block's resolution.
    """


@dataclass(frozen=True, eq=False)
class Block:
    """An inverted residual at high resolution, ``(C, T, H, W)``: expansion, depthwise convolution, projection."""

    source: Source
    added: Source | None
    """Added to the result."""
    expand: Conv
    depthwise: Conv
    project: Conv


@dataclass(frozen=True)
class Fusion:
    """The sigmoid of a weighted sum of the maps' sigmoids."""

    maps: tuple[Block, ...]
    weights: tuple[float, ...]
    bias: float
    frames: int


# --------------------------------------------------------------------------------------------------------- partition


def partition(result: Node) -> tuple[list[Block], Fusion, list[Node]]:
    """Split a graph into a prefix and a tail that the kernels compute.

    Args:
        result: the graph's output, ``(1, T, H, W)``.

    Returns:
        The blocks, each after the blocks that it reads; the fusion; the outputs of the prefix.

    Raises:
        UnsupportedGraph: the kernels do not support the last operations of the graph.
    """
    reader = BlockReader(result.shape[2:])
    fusion = read_fusion(result, reader)
    return list(reader.blocks.values()), fusion, list(reader.prefix_outputs)


class BlockReader:
    """Reads blocks from a graph and collects the nodes that the prefix must output.

    Args:
        size: height and width of the maps.
    """

    def __init__(self, size: Sequence[int]) -> None:
        self.blocks: dict[Node, Block] = {}
        """Blocks by their last operation, each after the blocks that it reads."""
        self.prefix_outputs: dict[Node, None] = {}
        self._size = tuple(size)

    def block(self, node: Node) -> Block:
        """Return the block that ends at a node."""
        if node not in self.blocks:
            expand, depthwise, project, source, added = convolutions(node)
            check(expand, depthwise, project)
            self.blocks[node] = Block(
                self._source(*source), self._source(*added) if added else None, expand, depthwise, project
            )
        return self.blocks[node]

    def _source(self, node: Node, kind: int) -> Source:
        """Return a block's source: another block if possible, else an output of the prefix."""
        if node.shape[2] << LEVELS > self._size[0]:
            try:
                return Source(self.block(node), kind)
            except UnsupportedGraph:
                if node.shape[2:] == self._size:
                    raise
        self.prefix_outputs[node] = None
        return Source(node, kind)


def convolutions(node: Node) -> tuple[Conv, Conv, Conv, tuple[Node, int], tuple[Node, int] | None]:
    """Return the three convolutions of the block that ends at a node, its source, and the tensor added to its result.

    Raises:
        UnsupportedGraph: no block ends at the node.
    """
    added: tuple[Node, int] | None = None
    match node:
        case (
            Add(inputs=(PixelShuffle() | Interpolate() as other, Conv() as project))
            | Add(inputs=(Conv() as project, PixelShuffle() | Interpolate() as other))
        ):
            added = upsampled(other)
            if other.shape != project.shape:
                raise UnsupportedGraph(f"a tensor of {other.shape} is added to one of {project.shape}")
        case Conv() as project:
            pass
        case _:
            raise UnsupportedGraph(f"{type(node).__name__} instead of the last convolution of a block")
    match project.inputs[0]:
        case Relu6(inputs=(Conv(depthwise=True, inputs=(Relu6(inputs=(first,)),)) as depthwise,)):
            pass
        case _:
            raise UnsupportedGraph("a block without a depthwise convolution")
    match first:
        case Interpolate(inputs=(Conv(inputs=(x,)) as expand,)):
            return expand, depthwise, project, (x, upsampled(first)[1]), added
        case Conv(inputs=(PixelShuffle() as x,)) as expand:
            return expand, depthwise, project, upsampled(x), added
        case Conv(inputs=(x,)) as expand:
            return expand, depthwise, project, (x, PLANES), added
    raise UnsupportedGraph("a block without an expansion")


def read_fusion(result: Node, reader: BlockReader) -> Fusion:
    """Read the fusion at the end of a graph, and the blocks of its maps."""
    maps, weights = list[Block](), list[float]()
    node: Node
    match result:
        case Sigmoid(inputs=(node,)):
            pass
        case _:
            raise UnsupportedGraph("the last operation is not a sigmoid")
    bias = 0.0
    terms = [node]
    while terms:
        match terms.pop():
            case Add(inputs=(one, other)):
                terms += [other, one]
            case Scale(inputs=(Sigmoid(inputs=(map_,)),)) as term:
                if map_.shape[0] > 1:
                    raise UnsupportedGraph(f"a map with {map_.shape[0]} channels")
                maps.append(reader.block(map_))
                weights.append(term.factor)
                bias += term.offset
            case other:
                raise UnsupportedGraph(f"{type(other).__name__} in the fusion")
    if len(maps) > MAX_MAPS:
        raise UnsupportedGraph(f"{len(maps)} maps; at most {MAX_MAPS} are supported")
    return Fusion(tuple(maps), tuple(weights), bias, result.shape[1])


def upsampled(node: PixelShuffle | Interpolate) -> tuple[Node, int]:
    """Return the tensor that a node upsamples, and how. A pixel shuffle may follow a temporal interpolation.

    Raises:
        UnsupportedGraph: the node does not double the resolution.
    """
    (x,) = node.inputs
    if isinstance(node, PixelShuffle) and isinstance(x, Interpolate) and x.inputs[0].shape[2:] == x.shape[2:]:
        (x,) = x.inputs
    if (2 * x.shape[2], 2 * x.shape[3]) != node.shape[2:]:
        raise UnsupportedGraph(f"a tensor of {x.shape} is upsampled to {node.shape}")
    return x, SHUFFLED if isinstance(node, PixelShuffle) else UPSAMPLED


def check(expand: Conv, depthwise: Conv, project: Conv) -> None:
    """Check that the kernels support the convolutions of a block.

    Raises:
        UnsupportedGraph: they do not.
    """
    taps, *sides = depthwise.weight.shape[2:]
    if sides != [3, 3] or taps > MAX_TAPS or (depthwise.padding[1:], depthwise.stride[1:]) != ((1, 1), (1, 1)):
        raise UnsupportedGraph(f"a depthwise convolution with a weight of {depthwise.weight.shape}")
    for conv in (expand, project):
        if conv.depthwise or (math.prod(conv.weight.shape[2:]), conv.stride, conv.padding) != (1, (1, 1, 1), (0, 0, 0)):
            raise UnsupportedGraph("a block whose expansion or projection is not a plain 1x1x1 convolution")
    if depthwise.shape[2] % 8 or depthwise.shape[3] % 32:
        raise UnsupportedGraph(f"a block of {depthwise.shape}")


# ------------------------------------------------------------------------------------------------------------ engine


def fastest_isa(precision: str, blocks: Sequence[Block]) -> str:
    """Return the instruction set that computes these blocks the fastest; half precision is enough for ``bf16``."""
    if precision == "bf16" and all(block.project.shape[3] % 64 == 0 for block in blocks):
        return (available_isas(half=True) + available_isas())[0]
    return available_isas()[0]


class Prefix(Protocol):
    """An engine for the first operations of a graph, with outputs ``(T, H, W, C)``."""

    graph: str
    """Digest of the compiled graph in the cache; empty if it is not cached."""

    @property
    def outputs(self) -> Sequence[Array]:
        """The output arrays, the same objects for every clip."""
        ...

    def infer(self, clip: Array) -> None:
        """Compute the outputs for a clip ``(3, 16, H, W)``."""
        ...


class Fused:
    """An engine that runs the first operations of a graph in another engine, and the rest in the kernels.

    Args:
        result: the graph's output.
        make_prefix: makes the engine that outputs the given nodes.
        precision: precision of the prefix. The kernels compute in half precision for ``bf16`` if the CPU supports it,
            else in single precision.
        threads: number of CPU threads.
        isa: instruction set, one of :func:`available_isas`; None for the fastest of the precision.

    Raises:
        UnsupportedGraph: the kernels do not support the last operations of the graph.
    """

    name = "fused"

    def __init__(
        self,
        result: Node,
        make_prefix: Callable[[list[Node]], Prefix],
        precision: str,
        threads: int,
        isa: str | None = None,
    ) -> None:
        self.precision = precision
        blocks, fusion, prefix_outputs = partition(result)
        isa = isa or fastest_isa(precision, blocks)
        self.number: type[np.floating[Any]] = np.float16 if isa in HALF else np.float32
        """Type of the kernels' tensors."""
        kernels = load(isa)
        self._prefix = make_prefix(prefix_outputs)
        self.graph = self._prefix.graph
        self._result = aligned(*result.shape[1:])
        self._referenced: list[Any] = []  # keeps alive the memory that the program points to
        self._planes: dict[Node | Block, Array] = {}
        self._program = self._compile(blocks, fusion, prefix_outputs, result.shape[2:])
        size = kernels.scratch(ctypes.byref(self._program))
        self._scratch = [aligned(size, dtype=np.uint8) for _ in range(max(threads, 1))]
        self._run = kernels.run
        self._lock = threading.Lock()
        self._helpers = ThreadPoolExecutor(max(threads - 1, 1), "tinyhd-kernel")

    def _compile(
        self, blocks: Sequence[Block], fusion: Fusion, prefix_outputs: Sequence[Node], size: Sequence[int]
    ) -> CProgram:
        """Return the program for the kernels.

        Args:
            blocks: the blocks, in the order in which they run.
            fusion: the last step.
            prefix_outputs: the nodes that the prefix outputs.
            size: height and width of the maps.
        """
        copies = (CCopy * len(prefix_outputs))()
        for copy, node, array in zip(copies, prefix_outputs, self._prefix.outputs, strict=True):
            copy.from_, copy.to = self._pointer(array), self._pointer(self._allocated(node, node.shape))
            copy.channels, copy.pixels = node.shape[0], math.prod(node.shape[1:])
        c_blocks = (CBlock * len(blocks))()
        for c_block, block in zip(c_blocks, blocks, strict=True):
            self._allocated(block, block.project.shape)
            self._fill(c_block, block, blocks)
        c_fusion = CFusion(bias=fusion.bias, count=len(fusion.maps), frames_out=fusion.frames)
        c_fusion.result = self._pointer(self._result)
        for i, (block, weight) in enumerate(zip(fusion.maps, fusion.weights, strict=True)):
            c_fusion.maps[i], c_fusion.weights[i] = self._pointer(self._planes[block]), weight
            c_fusion.frames[i] = block.project.shape[1]
        self._referenced += [copies, c_blocks]
        counts = {"copies_count": len(copies), "count": len(blocks), "height": size[0], "width": size[1]}
        return CProgram(copies=copies, blocks=c_blocks, fusion=c_fusion, **counts)

    def _allocated(self, tensor: Node | Block, shape: Shape) -> Array:
        """Allocate the planes of a tensor of this shape."""
        self._planes[tensor] = aligned(shape[0], math.prod(shape[1:]) + GAP, dtype=self.number)
        return self._planes[tensor]

    def _fill(self, c_block: CBlock, block: Block, blocks: Sequence[Block]) -> None:
        """Set the fields of a C block."""
        # Drop channels with an all-zero projection: they only padded the engine's vectors.
        project = block.project.weight.reshape(len(block.project.weight), -1)
        used = np.flatnonzero(project.any(axis=0))
        used = used if len(used) else np.array([0])
        parts = {
            "expand": block.expand.weight.reshape(len(block.expand.weight), -1)[used].T,
            "expand_bias": block.expand.bias[used],
            "depthwise": block.depthwise.weight[used],
            "depthwise_bias": block.depthwise.bias[used],
            "project": project[:, used].T,
            "project_bias": block.project.bias,
        }
        for name, values in parts.items():
            setattr(c_block, name, self._numbers(values))
        c_block.result = self._pointer(self._planes[block])
        for number, (name, source) in enumerate((("source", block.source), ("added", block.added))):
            c_block.after[number] = -1
            if source is None:
                continue
            planes, tensor = self._planes[source.tensor], source.tensor
            frames = (tensor.project if isinstance(tensor, Block) else tensor).shape[1]
            setattr(c_block, name, CTensor(self._pointer(planes), planes.shape[1], source.kind, frames))
            if isinstance(tensor, Block):
                c_block.after[number] = blocks.index(tensor)
        c_block.height, c_block.width = block.project.shape[2:]
        c_block.channels, c_block.inner, c_block.outer = len(parts["expand"]), len(used), len(block.project.bias)
        c_block.frames_in, c_block.frames_out = block.depthwise.inputs[0].shape[1], block.depthwise.shape[1]
        c_block.taps = block.depthwise.weight.shape[2]
        c_block.stride, c_block.padding = block.depthwise.stride[0], block.depthwise.padding[0]

    def _pointer(self, values: NDArray[Any]) -> Any:
        """Return a pointer to an array's data, and keep the array alive."""
        self._referenced.append(values)
        return values.ctypes.data_as(POINTER(c_float))

    def _numbers(self, values: Array) -> Any:
        """Return a pointer to a copy of weights, in the type of the kernels' tensors."""
        return self._pointer(np.ascontiguousarray(values, self.number))

    def infer(self, clip: Array) -> Array:
        """Return the saliency ``(T, H, W)`` of a clip ``(3, 16, H, W)``. Calls from several threads run one by one."""
        with self._lock:
            self._prefix.infer(clip)
            for step in (self._program, *self._program.blocks[: self._program.count], self._program.fusion):
                step.next = step.done = 0
            program = ctypes.byref(self._program)
            first, *others = [c_void_p(scratch.ctypes.data) for scratch in self._scratch]
            helpers: list[Future[None]] = []
            try:
                for scratch in others:
                    helpers.append(self._helpers.submit(self._run, program, scratch))
                self._run(program, first)
            finally:
                # Cancel helpers that have not started; wait for the rest, because their scratch memory is reused.
                for helper in helpers:
                    if not helper.cancel():
                        helper.result()
            return self._result.copy()
