"""Run the full-resolution tail of a network in C kernels (``csrc/blocks.c``), after an OpenVINO prefix.

At full resolution the decoders have few channels and most of the pixels. These layers take two thirds of an engine's
time, most of it spent moving single-use intermediate values through memory. The kernels compute two structures, each
in one pass:

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
from ctypes import POINTER, c_float
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .graph import Add, Array, Conv, Interpolate, Node, PixelShuffle, Relu6, Scale, Sigmoid, aligned
from .kernels import (
    GAP,
    MAX_MAPS,
    MAX_TAPS,
    PLANES,
    SHUFFLED,
    UPSAMPLED,
    CBlock,
    CFusion,
    CProgram,
    available_isas,
    load,
)


class UnsupportedGraph(Exception):
    """The kernels do not support the last operations of a graph."""


@dataclass(frozen=True, eq=False)
class Block:
    """An inverted residual at full resolution, ``(C, T, H, W)``: expansion, depthwise convolution, projection."""

    source: Node | Block
    """Another block, or an output of the prefix at half the resolution."""
    kind: int
    """``PLANES``, ``SHUFFLED`` or ``UPSAMPLED``: how the source is read."""
    added: Node | None
    """An output of the prefix that is added to the result after a pixel shuffle."""
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
    reader = BlockReader()
    fusion = read_fusion(result, reader)
    blocks = list(reader.blocks.values())
    for block in blocks:
        check(block, result.shape[2:])
    return blocks, fusion, list(reader.prefix_outputs)


class BlockReader:
    """Reads blocks from a graph and collects the nodes that the prefix must output."""

    def __init__(self) -> None:
        self.blocks: dict[Node, Block] = {}
        """Blocks by their last convolution, each after the blocks that it reads."""
        self.prefix_outputs: dict[Node, None] = {}

    def block(self, node: Node) -> Block:
        """Return the block that ends at a node."""
        if node not in self.blocks:
            self.blocks[node] = self._read(node)
        return self.blocks[node]

    def _read(self, node: Node) -> Block:
        added: Node | None = None
        match node:
            case (
                Add(inputs=(PixelShuffle() as shuffled, Conv() as project))
                | Add(inputs=(Conv() as project, PixelShuffle() as shuffled))
            ):
                if shuffled.shape != project.shape:
                    raise UnsupportedGraph(f"a tensor of {shuffled.shape} is added to one of {project.shape}")
                added = self._prefix_output(before_shuffle(shuffled))
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
                return Block(self._prefix_output(x), UPSAMPLED, added, expand, depthwise, project)
            case Conv(inputs=(PixelShuffle() as x,)) as expand:
                return Block(self._prefix_output(before_shuffle(x)), SHUFFLED, added, expand, depthwise, project)
            case Conv(inputs=(x,)) as expand:
                return Block(self.block(x), PLANES, added, expand, depthwise, project)
        raise UnsupportedGraph("a block without an expansion")

    def _prefix_output(self, node: Node) -> Node:
        self.prefix_outputs[node] = None
        return node


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


def before_shuffle(shuffle: PixelShuffle) -> Node:
    """Return the input of a pixel shuffle, before its temporal interpolation if any."""
    (x,) = shuffle.inputs
    return x.inputs[0] if isinstance(x, Interpolate) and x.inputs[0].shape[2:] == x.shape[2:] else x


def check(block: Block, size: Sequence[int]) -> None:
    """Check that the kernels support a block.

    Args:
        block: the block.
        size: height and width of the maps.

    Raises:
        UnsupportedGraph: they do not.
    """
    kernel = block.depthwise
    taps, *sides = kernel.weight.shape[2:]
    height, width = size
    if sides != [3, 3] or taps > MAX_TAPS or (kernel.padding[1:], kernel.stride[1:]) != ((1, 1), (1, 1)):
        raise UnsupportedGraph(f"a depthwise convolution with a weight of {kernel.weight.shape}")
    for conv in (block.expand, block.project):
        if conv.depthwise or (math.prod(conv.weight.shape[2:]), conv.stride, conv.padding) != (1, (1, 1, 1), (0, 0, 0)):
            raise UnsupportedGraph("a block whose expansion or projection is not a plain 1x1x1 convolution")
    sources = [block.added] if block.added else []
    sources += [block.source] if isinstance(block.source, Node) else []
    if kernel.shape[2:] != size or height % 8 or width % 32:
        raise UnsupportedGraph(f"a block of {kernel.shape} for maps of {width} x {height}")
    if any(node.shape[2:] != (height // 2, width // 2) for node in sources):
        raise UnsupportedGraph(f"a block of {kernel.shape} with inputs of {[node.shape for node in sources]}")


# ------------------------------------------------------------------------------------------------------------ engine


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
        precision: precision of the prefix; the kernels always compute in float32.
        threads: number of CPU threads.
        isa: instruction set, one of :func:`available_isas`; None for the fastest.

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
        kernels = load(isa or available_isas()[0])
        blocks, fusion, prefix_outputs = partition(result)
        self._prefix = make_prefix(prefix_outputs)
        self.graph = self._prefix.graph
        self._result = aligned(*result.shape[1:])
        self._referenced: list[Any] = []  # keeps alive the memory that the program points to
        arrays: dict[Node | Block, Array] = dict(zip(prefix_outputs, self._prefix.outputs, strict=True))
        self._program = self._compile(blocks, fusion, arrays, result.shape[2:])
        size = kernels.scratch(ctypes.byref(self._program))
        self._scratch = [aligned(size) for _ in range(max(threads, 1))]
        self._run = kernels.run
        self._lock = threading.Lock()
        self._helpers = ThreadPoolExecutor(max(threads - 1, 1), "tinyhd-kernel")

    def _compile(
        self, blocks: Sequence[Block], fusion: Fusion, arrays: dict[Node | Block, Array], size: Sequence[int]
    ) -> CProgram:
        """Return the program for the kernels.

        Args:
            blocks: the blocks, in the order in which they run.
            fusion: the last step.
            arrays: the prefix's outputs by node; the result of each block is added.
            size: height and width of the maps.
        """
        c_blocks = (CBlock * len(blocks))()
        for c_block, block in zip(c_blocks, blocks, strict=True):
            arrays[block] = aligned(len(block.project.bias), int(np.prod(block.project.shape[1:])) + GAP)
            self._fill(c_block, block, arrays)
        c_fusion = CFusion(bias=fusion.bias, count=len(fusion.maps), frames_out=fusion.frames)
        c_fusion.result = self._pointer(self._result)
        for i, (block, weight) in enumerate(zip(fusion.maps, fusion.weights, strict=True)):
            c_fusion.maps[i], c_fusion.weights[i] = self._pointer(arrays[block]), weight
            c_fusion.frames[i] = block.project.shape[1]
        self._referenced.append(c_blocks)
        return CProgram(blocks=c_blocks, fusion=c_fusion, count=len(blocks), height=size[0], width=size[1])

    def _fill(self, c_block: CBlock, block: Block, arrays: dict[Node | Block, Array]) -> None:
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
            "source": arrays[block.source],
            "result": arrays[block],
        }
        if block.added is not None:
            parts["added"] = arrays[block.added]
            c_block.added_frames = block.added.shape[1]
        for name, values in parts.items():
            setattr(c_block, name, self._pointer(values))
        c_block.kind = block.kind
        c_block.channels, c_block.inner, c_block.outer = len(parts["expand"]), len(used), len(block.project.bias)
        source = block.source.project if isinstance(block.source, Block) else block.source
        c_block.source_frames = source.shape[1]
        c_block.frames_in, c_block.frames_out = block.depthwise.inputs[0].shape[1], block.depthwise.shape[1]
        c_block.taps = block.depthwise.weight.shape[2]
        c_block.stride, c_block.padding = block.depthwise.stride[0], block.depthwise.padding[0]

    def _pointer(self, values: Array) -> Any:
        """Return a pointer to an array's data, and keep the array alive."""
        values = np.ascontiguousarray(values, np.float32)
        self._referenced.append(values)
        return values.ctypes.data_as(POINTER(c_float))

    def infer(self, clip: Array) -> Array:
        """Return the saliency ``(T, H, W)`` of a clip ``(3, 16, H, W)``. Calls from several threads run one by one."""
        with self._lock:
            self._prefix.infer(clip)
            for step in (*self._program.blocks[: self._program.count], self._program.fusion):
                step.next = step.done = 0
            program = ctypes.byref(self._program)
            first, *others = [scratch.ctypes.data_as(POINTER(c_float)) for scratch in self._scratch]
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
