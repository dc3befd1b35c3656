"""Run the first layers of a network and most of its decoders in C kernels (``csrc/blocks.c``), the rest in OpenVINO.

:mod:`.partition` says which layers the kernels compute, and why.
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from ctypes import POINTER, c_float, c_int32, c_void_p
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .graph import Array, Concat, Input, Mix, Node, Shape, aligned
from .kernels import GAP, HALF, PLANES, CBlock, CCopy, CFusion, CProgram, CTensor, available_isas, load
from .lifetimes import Lifetimes
from .partition import Block, Partition, Source, partition


def fastest_isa(precision: str, blocks: Sequence[Block]) -> str:
    """Return the instruction set that computes these blocks the fastest; half precision is enough for ``bf16``."""
    if precision == "bf16" and all(block.node.shape[3] % 64 == 0 for block in blocks):
        return (available_isas(half=True) + available_isas())[0]
    return available_isas()[0]


def two_steps(weight: Array) -> tuple[NDArray[np.int32], Array]:
    """Return the two time steps, and their weights, of each row of a :class:`Mix`; the same step twice if it is one."""
    steps = np.argsort(-np.abs(weight), axis=1, kind="stable")[:, [0, min(1, weight.shape[1] - 1)]]
    weights = np.take_along_axis(weight, steps, 1)
    steps[:, 1] = np.where(weights[:, 1] == 0, steps[:, 0], steps[:, 1])
    return np.ascontiguousarray(steps, np.int32), weights


class Middle(Protocol):
    """An engine for the operations between the blocks, with outputs ``(T, H, W, C)``."""

    graph: str
    """Digest of the compiled graph in the cache; empty if it is not cached."""

    @property
    def outputs(self) -> Sequence[Array]:
        """The output arrays, the same objects for every clip."""
        ...

    def infer(self, clip: Array) -> None:
        """Compute the outputs for an input ``(C, T, H, W)``."""
        ...


class Fused:
    """An engine that runs the first and the last operations of a graph in the kernels, the others in another engine.

    Args:
        result: the graph's output.
        make_middle: makes the engine that outputs the given nodes, from a graph with one input.
        precision: precision of that engine. The kernels compute in half precision for ``bf16`` if the CPU supports it,
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
        make_middle: Callable[[list[Node]], Middle],
        precision: str,
        threads: int,
        isa: str | None = None,
    ) -> None:
        self.precision = precision
        parts = partition(result)
        isa = isa or fastest_isa(precision, parts.head + parts.tail)
        self.number: type[np.floating[Any]] = np.float16 if isa in HALF else np.float32
        """Type of the kernels' tensors."""
        kernels = load(isa)
        self._middle = make_middle(parts.middle)
        self.graph = self._middle.graph
        self._result = aligned(*result.shape[1:])
        self._referenced: list[Any] = []  # keeps alive the memory that the programs point to
        self._planes: dict[Node, NDArray[Any]] = {}
        self._lifetimes = Lifetimes(parts)
        self._allocate()
        self._head = self._program(parts.head, 0, result.shape)
        self._tail = self._program(parts.tail, len(parts.head) + 1, result.shape)
        self._add_copies(parts)
        self._add_fusion(parts)
        self._steps = parts.steps
        self._middle_input = None if isinstance(parts.middle_input, Input) else parts.middle_input
        size = max(kernels.scratch(ctypes.byref(program)) for program in (self._head, self._tail))
        self._scratch = [aligned(size, dtype=np.uint8) for _ in range(max(threads, 1))]
        self._run = kernels.run
        self._lock = threading.Lock()
        self._helpers = ThreadPoolExecutor(max(threads - 1, 1), "tinyhd-kernel")

    def _allocate(self) -> None:
        """Allocate the planes of all tensors. Parts of a concatenation are views of its planes."""
        memory = aligned(self._lifetimes.size, dtype=self.number)
        for node, offset in self._lifetimes.offsets.items():
            step = math.prod(node.shape[1:]) + GAP
            planes = memory[offset : offset + node.shape[0] * step].reshape(-1, step)
            self._planes[node] = planes
            if isinstance(node, Concat):
                sides = np.cumsum([one.shape[0] for one in node.inputs])[:-1]
                self._planes |= zip(node.inputs, np.split(planes, sides), strict=True)

    def _program(self, blocks: Sequence[Block], first: int, shape: Shape) -> CProgram:
        """Return a program that computes blocks.

        Args:
            blocks: the blocks, in the order in which they run.
            first: step of the first block, see ``Lifetime``.
            shape: shape of the maps.
        """
        c_blocks = (CBlock * max(len(blocks), 1))()
        numbers = {block.node: number for number, block in enumerate(blocks)}
        for c_block, block in zip(c_blocks, blocks, strict=False):
            self._fill(c_block, block)
            for side, source in enumerate((block.source, block.added)):
                c_block.after[side] = numbers.get(source.node, -1) if source else -1
            parts = (numbers.get(node, -1) for node in block.parts)
            c_block.until = max(self._lifetimes.waits_for(block) - first, -1, *parts)
        self._referenced.append(c_blocks)
        return CProgram(blocks=c_blocks, count=len(blocks), height=shape[2], width=shape[3])

    def _add_copies(self, parts: Partition) -> None:
        """Let the tail begin with the copies of the middle's outputs."""
        copies = (CCopy * max(len(parts.outputs), 1))()
        for copy, node, array in zip(copies, parts.outputs, self._middle.outputs, strict=False):
            copy.from_, copy.to = self._pointer(array), self._pointer(self._planes[node])
            copy.channels, copy.pixels = node.shape[0], math.prod(node.shape[1:])
        self._referenced.append(copies)
        self._tail.copies, self._tail.copies_count = copies, len(parts.outputs)

    def _add_fusion(self, parts: Partition) -> None:
        """Let the tail end with the fusion."""
        fusion = parts.fusion
        c_fusion = CFusion(bias=fusion.bias, count=len(fusion.maps), frames_out=fusion.frames)
        c_fusion.result = self._pointer(self._result)
        for i, (node, weight) in enumerate(zip(fusion.maps, fusion.weights, strict=True)):
            c_fusion.maps[i], c_fusion.weights[i] = self._pointer(self._planes[node]), weight
            c_fusion.frames[i] = node.shape[1]
        self._tail.fusion = c_fusion

    def _fill(self, c_block: CBlock, block: Block) -> None:
        """Set the fields of a C block, except its position among the others."""
        c_block.result = self._pointer(self._planes[block.node])
        c_block.result_step = self._planes[block.node].shape[1]
        c_block.outer, c_block.frames_out, c_block.height, c_block.width = block.node.shape
        c_block.taps = c_block.stride = c_block.space = 1
        if isinstance(block.node, Mix):
            steps, weights = two_steps(block.node.weight)
            self._referenced.append(steps)
            c_block.mixed, c_block.mix_weights = steps.ctypes.data_as(POINTER(c_int32)), self._numbers(weights)
        if block.source:
            c_block.source = self._tensor(block.source)
        if block.added:
            c_block.added = self._tensor(block.added)
        parts: dict[str, Array] = {}
        used: NDArray[np.intp] = np.arange(0)
        if block.filter:
            used = np.arange(block.filter.inputs[0].shape[0])
            c_block.frames_in = block.filter.inputs[0].shape[1]
            c_block.taps, c_block.dense = block.filter.weight.shape[2], not block.filter.depthwise
            c_block.stride, c_block.space = block.filter.stride[:2]
            c_block.padding = block.filter.padding[0]
        if block.project:
            project = block.project.weight.reshape(len(block.project.weight), -1)
            if block.expand and project.any():
                # Drop channels with an all-zero projection: they only padded the engine's vectors.
                used = np.flatnonzero(project.any(axis=0))
            parts |= {"project": project[:, used].T, "project_bias": block.project.bias}
        if block.filter:
            channels = slice(None) if c_block.dense else used
            parts |= {"filter": block.filter.weight[channels], "filter_bias": block.filter.bias[channels]}
        if block.expand:
            expand = block.expand.weight.reshape(len(block.expand.weight), -1)
            parts |= {"expand": expand[used].T, "expand_bias": block.expand.bias[used]}
            c_block.channels = expand.shape[1]
        for name, values in parts.items():
            setattr(c_block, name, self._numbers(values))
        c_block.inner = len(used)

    def _tensor(self, source: Source) -> CTensor:
        """Return the C structure of a tensor. The clip is set before each run."""
        frames, pixels = source.node.shape[1], math.prod(source.node.shape[1:])
        if source.node not in self._planes:
            return CTensor(step=pixels, kind=PLANES, frames=frames)
        return CTensor(self._pointer(self._planes[source.node]), pixels + GAP, source.kind, frames)

    def _pointer(self, values: NDArray[Any]) -> Any:
        """Return a pointer to an array's data, and keep the array alive."""
        self._referenced.append(values)
        return values.ctypes.data_as(POINTER(c_float))

    def _numbers(self, values: Array) -> Any:
        """Return a pointer to a copy of weights, in the type of the kernels' tensors."""
        return self._pointer(np.ascontiguousarray(values, self.number))

    def infer(self, clip: Array) -> Array:
        """Return the saliency ``(T, H, W)`` of a clip ``(3, 16, H, W)``. Calls from several threads run one by one."""
        return self.infer_with([], clip)[0]

    def infer_with(self, nodes: Sequence[Node], clip: Array) -> tuple[Array, list[Array]]:
        """Return the saliency of a clip, and the values, before the sigmoid, of nodes that the fusion reads.

        Args:
            nodes: maps, each ``(1, T1, H, W)``.
            clip: ``(3, 16, H, W)``.
        """
        if self._steps is not None:
            clip = np.take(clip, self._steps, axis=1)
        with self._lock:
            if self._middle_input is None:
                self._middle.infer(clip)
            else:
                clip = np.ascontiguousarray(clip, np.float32)
                for block in self._head.blocks[: self._head.count]:
                    if block.dense:
                        block.source.data = clip.ctypes.data_as(POINTER(c_float))
                self._execute(self._head)
                self._middle.infer(self._values(self._middle_input))
            self._execute(self._tail)
            return self._result.copy(), [self._values(node) for node in nodes]

    def _values(self, node: Node) -> Array:
        """Return a copy of the present values of a node that a block computes, float32 ``(C, T, H, W)``."""
        values: Array = self._planes[node][:, :-GAP].astype(np.float32).reshape(node.shape)
        return values

    def _execute(self, program: CProgram) -> None:
        """Run a program on all threads."""
        for step in (program, *program.blocks[: program.count], program.fusion):
            step.next = step.done = 0
        pointer = ctypes.byref(program)
        first, *others = [c_void_p(scratch.ctypes.data) for scratch in self._scratch]
        helpers: list[Future[None]] = []
        try:
            for scratch in others:
                helpers.append(self._helpers.submit(self._run, pointer, scratch))
            self._run(pointer, first)
        finally:
            # Cancel helpers that have not started; wait for the rest, because their scratch memory is reused.
            for helper in helpers:
                if not helper.cancel():
                    helper.result()
