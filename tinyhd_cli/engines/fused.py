"""The full-resolution end of a network, in kernels of our own (``blocks.c``); OpenVINO does what is before it.

At full resolution the decoders have few channels and most of the pixels: two thirds of an engine's time, most of it for
carrying values that are used once to memory and back. Here the end of the graph is read as

- :class:`Block`: an inverted residual, with the upsampling of what it reads and of what is added to it,
- :class:`Fusion`: the weighted sum of the maps between its sigmoids,

and each of them is done in one go. :func:`partition` finds them; what they read is what the engine has to give.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import math
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from ctypes import POINTER, c_float, c_int32, c_int64
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .graph import Add, Array, Conv, Interpolate, Node, PixelShuffle, Relu6, Scale, Sigmoid, aligned

FLAGS = {"avx512": "avx512f", "avx2": "avx2"}
"""Instruction sets that the kernels are compiled for, the fastest first, and what Linux calls them."""

PLANES, SHUFFLED, UPSAMPLED = range(3)
"""How a block reads its source: as it is, after a pixel shuffle, after a trilinear interpolation."""

MAX_TAPS, MAX_MAPS, GAP = 3, 8, 16
"""Frames that a depthwise kernel spans, maps that are fused, numbers between the channels of a result: as in C."""


class UnsupportedGraph(Exception):
    """The end of a graph is not what the kernels are for."""


@dataclass(frozen=True, eq=False)
class Block:
    """An inverted residual at full resolution, ``(C, T, H, W)``: expansion, depthwise convolution, projection."""

    source: Node | Block
    """What it reads: of the engine's, where it is shuffled or stretched."""
    kind: int
    added: Node | None
    """What is added to its result after a pixel shuffle."""
    expand: Conv
    depthwise: Conv
    project: Conv


@dataclass(frozen=True)
class Fusion:
    """The logistic function of a weighted sum of the maps' logistic functions."""

    maps: tuple[Block, ...]
    weights: tuple[float, ...]
    bias: float
    frames: int


def partition(result: Node) -> tuple[list[Block], Fusion, list[Node]]:
    """The end of a graph: its blocks, each after those it reads; the fusion; what an engine has to give them.

    Raises:
        UnsupportedGraph: the graph ends in another way.
    """
    made: dict[Node, Block] = {}
    given: dict[Node, None] = {}

    def source(x: Node) -> Node:
        given[x] = None
        return x

    def block(node: Node) -> Block:
        if node not in made:
            made[node] = read(node)
        return made[node]

    def read(node: Node) -> Block:
        added: Node | None = None
        match node:
            case (
                Add(inputs=(PixelShuffle() as more, Conv() as project))
                | Add(inputs=(Conv() as project, PixelShuffle() as more))
            ):
                if more.shape != project.shape:
                    raise UnsupportedGraph(f"{more.shape} is added to {project.shape}")
                added = source(before_shuffle(more))
            case Conv() as project:
                pass
            case _:
                raise UnsupportedGraph(f"{type(node).__name__} where the last convolution of a block was expected")
        match project.inputs[0]:
            case Relu6(inputs=(Conv(depthwise=True, inputs=(Relu6(inputs=(first,)),)) as depthwise,)):
                pass
            case _:
                raise UnsupportedGraph("a block without a depthwise convolution")
        match first:
            case Interpolate(inputs=(Conv(inputs=(x,)) as expand,)):
                return Block(source(x), UPSAMPLED, added, expand, depthwise, project)
            case Conv(inputs=(PixelShuffle() as x,)) as expand:
                return Block(source(before_shuffle(x)), SHUFFLED, added, expand, depthwise, project)
            case Conv(inputs=(x,)) as expand:
                return Block(block(x), PLANES, added, expand, depthwise, project)
        raise UnsupportedGraph("a block without an expansion")

    fusion = read_fusion(result, block)
    blocks = list(made.values())
    for one in blocks:
        check(one, result.shape[2:])
    return blocks, fusion, list(given)


def read_fusion(result: Node, block: Callable[[Node], Block]) -> Fusion:
    """The fusion at the end of a graph."""
    maps, weights = list[Block](), list[float]()
    node: Node
    match result:
        case Sigmoid(inputs=(node,)):
            pass
        case _:
            raise UnsupportedGraph("the last operation is no sigmoid")
    bias = 0.0
    terms = [node]
    while terms:
        match terms.pop():
            case Add(inputs=(one, other)):
                terms += [other, one]
            case Scale(inputs=(Sigmoid(inputs=(map_,)),)) as term:
                if map_.shape[0] > 1:
                    raise UnsupportedGraph(f"a map of {map_.shape[0]} channels")
                maps.append(block(map_))
                weights.append(term.factor)
                bias += term.offset
            case other:
                raise UnsupportedGraph(f"{type(other).__name__} in the fusion")
    if len(maps) > MAX_MAPS:
        raise UnsupportedGraph(f"{len(maps)} maps")
    return Fusion(tuple(maps), tuple(weights), bias, result.shape[1])


def before_shuffle(shuffle: PixelShuffle) -> Node:
    """What is shuffled, before the interpolation in time if there is one."""
    (x,) = shuffle.inputs
    return x.inputs[0] if isinstance(x, Interpolate) and x.inputs[0].shape[2:] == x.shape[2:] else x


def check(block: Block, size: Sequence[int]) -> None:
    """Whether the kernels can do a block; ``size`` is that of the picture."""
    kernel = block.depthwise
    taps, *sides = kernel.weight.shape[2:]
    height, width = size
    if sides != [3, 3] or taps > MAX_TAPS or (kernel.padding[1:], kernel.stride[1:]) != ((1, 1), (1, 1)):
        raise UnsupportedGraph(f"a depthwise convolution of {kernel.weight.shape}")
    for conv in (block.expand, block.project):
        if conv.depthwise or (math.prod(conv.weight.shape[2:]), conv.stride, conv.padding) != (1, (1, 1, 1), (0, 0, 0)):
            raise UnsupportedGraph("a block whose expansion or projection is no plain 1x1x1 convolution")
    read = [block.added] if block.added else []
    read += [block.source] if isinstance(block.source, Node) else []
    if kernel.shape[2:] != size or height % 8 or width % 32:
        raise UnsupportedGraph(f"a block of {kernel.shape} for a picture of {width} x {height}")
    if any(node.shape[2:] != (height // 2, width // 2) for node in read):
        raise UnsupportedGraph(f"a block of {kernel.shape} that reads {[node.shape for node in read]}")


class CBlock(ctypes.Structure):
    """``struct block``."""

    _fields_ = [
        *((name, POINTER(c_float)) for name in ("source", "added", "result")),
        *((f"{name}{part}", POINTER(c_float)) for name in ("expand", "depthwise", "project") for part in ("", "_bias")),
        *((name, c_int32) for name in ("kind", "channels", "inner", "outer")),
        *((name, c_int32) for name in ("source_frames", "added_frames", "frames_in", "frames_out")),
        *((name, c_int32) for name in ("taps", "stride", "padding", "next", "done")),
    ]


class CFusion(ctypes.Structure):
    """``struct fusion``."""

    _fields_ = [
        ("maps", POINTER(c_float) * MAX_MAPS),
        ("weights", c_float * MAX_MAPS),
        ("frames", c_int32 * MAX_MAPS),
        ("result", POINTER(c_float)),
        ("bias", c_float),
        *((name, c_int32) for name in ("count", "frames_out", "next", "done")),
    ]


class CProgram(ctypes.Structure):
    """``struct program``."""

    _fields_ = [
        ("blocks", POINTER(CBlock)),
        ("fusion", CFusion),
        *((name, c_int32) for name in ("count", "height", "width")),
    ]


def library(level: str) -> Path:
    """The kernels for an instruction set: not there where the package was put together without a compiler."""
    return Path(__file__).parent / "csrc" / f"_blocks_{level}.so"


@functools.cache
def available_isas() -> list[str]:
    """Instruction sets for which there are kernels here, the fastest first."""
    try:
        found = re.search(r"^flags\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return []  # no Linux: no kernels
    flags = found[1].split() if found else []
    return [level for level, flag in FLAGS.items() if {flag, "fma"} <= set(flags) and library(level).exists()]


def load(level: str) -> ctypes.CDLL:
    """The kernels for an instruction set; ``OSError`` if they cannot be loaded or are of another version."""
    found = ctypes.CDLL(str(library(level)))
    alike = [*map(ctypes.sizeof, (CBlock, CFusion, CProgram)), MAX_TAPS, MAX_MAPS, GAP]
    try:
        theirs = list((c_int32 * len(alike)).in_dll(found, "layout"))
    except ValueError:  # no such name
        theirs = []
    if theirs != alike:
        raise OSError("the kernels were compiled for another version of tinyhd: install it again")
    return found


def fingerprint() -> str:
    """What changes when the kernels do; nothing where there are none."""
    return "".join(hashlib.sha256(library(level).read_bytes()).hexdigest() for level in available_isas()[:1])


class Head(Protocol):
    """An engine for the beginning of a graph, whose outputs are ``(T, H, W, C)``."""

    graph: str
    """Digest of the compiled graph in the cache; empty if it is not cached."""

    @property
    def outputs(self) -> Sequence[Array]:
        """Always the same arrays."""
        ...

    def infer(self, clip: Array) -> None:
        """Fill them with what belongs to a clip ``(3, 16, H, W)``."""
        ...


class Fused:
    """An engine for the beginning of a graph, and kernels for its end.

    Args:
        result: the graph.
        head: makes an engine that gives some nodes of it.
        precision: the engine's; the end is always in float32.
        threads: how many processor cores to use.
        level: instruction set, one of :func:`available_isas`; None: the fastest.

    Raises:
        UnsupportedGraph: the graph does not end as the kernels need it.
    """

    name = "fused"

    def __init__(
        self, result: Node, head: Callable[[list[Node]], Head], precision: str, threads: int, level: str | None = None
    ) -> None:
        self.precision = precision
        kernels = load(level or available_isas()[0])
        blocks, fusion, given = partition(result)
        self._head = head(given)
        self.graph = self._head.graph
        self._result = aligned(*result.shape[1:])
        self._kept: list[Any] = []  # what the program points to
        arrays: dict[Node | Block, Array] = dict(zip(given, self._head.outputs, strict=True))
        self._program = self._compile(blocks, fusion, arrays, result.shape[2:])
        kernels.scratch.restype = c_int64
        size = kernels.scratch(ctypes.byref(self._program))
        self._scratch = [aligned(size) for _ in range(max(threads, 1))]
        self._run = kernels.run
        self._run.restype = None
        self._busy = threading.Lock()
        self._helpers = ThreadPoolExecutor(max(threads - 1, 1), "tinyhd-kernel")

    def _compile(
        self, blocks: Sequence[Block], fusion: Fusion, arrays: dict[Node | Block, Array], size: Sequence[int]
    ) -> CProgram:
        """The program in C.

        Args:
            blocks: what it is to do.
            fusion: what it ends with.
            arrays: what the engine gives; the results of the blocks are added.
            size: height and width.
        """
        made = (CBlock * len(blocks))()
        for one, block in zip(made, blocks, strict=True):
            arrays[block] = aligned(len(block.project.bias), int(np.prod(block.project.shape[1:])) + GAP)
            # Channels that nothing comes of were only there to fill up an engine's vectors.
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
                one.added_frames = block.added.shape[1]
            for name, values in parts.items():
                setattr(one, name, self._pointer(values))
            one.kind = block.kind
            one.channels, one.inner, one.outer = len(parts["expand"]), len(used), len(block.project.bias)
            source = block.source.project if isinstance(block.source, Block) else block.source
            one.source_frames = source.shape[1]
            one.frames_in, one.frames_out = block.depthwise.inputs[0].shape[1], block.depthwise.shape[1]
            one.taps = block.depthwise.weight.shape[2]
            one.stride, one.padding = block.depthwise.stride[0], block.depthwise.padding[0]
        last = CFusion(bias=fusion.bias, count=len(fusion.maps), frames_out=fusion.frames)
        last.result = self._pointer(self._result)
        for i, (block, weight) in enumerate(zip(fusion.maps, fusion.weights, strict=True)):
            last.maps[i], last.weights[i] = self._pointer(arrays[block]), weight
            last.frames[i] = block.project.shape[1]
        self._kept.append(made)
        return CProgram(blocks=made, fusion=last, count=len(blocks), height=size[0], width=size[1])

    def _pointer(self, values: Array) -> Any:
        """Where an array begins; it is kept."""
        values = np.ascontiguousarray(values, np.float32)
        self._kept.append(values)
        return values.ctypes.data_as(POINTER(c_float))

    def infer(self, clip: Array) -> Array:
        """Saliency ``(T, H, W)`` of a clip ``(3, 16, H, W)``; one at a time, whatever thread asks."""
        with self._busy:
            self._head.infer(clip)
            for one in (*self._program.blocks[: self._program.count], self._program.fusion):
                one.next = one.done = 0
            program = ctypes.byref(self._program)
            first, *others = [scratch.ctypes.data_as(POINTER(c_float)) for scratch in self._scratch]
            helpers: list[Future[None]] = []
            try:
                for scratch in others:
                    helpers.append(self._helpers.submit(self._run, program, scratch))
                self._run(program, first)
            finally:
                # Who has not begun by now is not needed; who has must be done before the memory is used again.
                for helper in helpers:
                    if not helper.cancel():
                        helper.result()
            return self._result.copy()
