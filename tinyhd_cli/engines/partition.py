"""Find the parts of a graph that the C kernels (``csrc/blocks.c``) compute.

At high resolution, networks have few channels and most of the pixels. These layers take most of an engine's time, which
it spends moving single-use intermediate values through memory. The kernels compute two structures, each in one pass:

- :class:`Block`: an inverted residual, including the upsampling of its source and of the tensor added to its result,
- :class:`Fusion`: the sigmoid of the weighted sum of the maps' sigmoids.

:func:`partition` splits a graph into the first blocks of the encoder (the head), the layers at low resolution, which
another engine computes (the middle), and the blocks of the decoders with the fusion (the tail).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .graph import (
    Add,
    Concat,
    Conv,
    Input,
    Interpolate,
    Mix,
    Node,
    PixelShuffle,
    Relu6,
    Scale,
    Sigmoid,
    operations,
    relu6,
)
from .kernels import MAX_MAPS, MAX_PLANES, MAX_TAPS, PLANES, SHUFFLED, UPSAMPLED

LEVELS = 3
"""Number of resolutions, from that of the maps down, at which the kernels compute blocks."""


class UnsupportedGraph(Exception):
    """The kernels do not support the last operations of a graph."""


@dataclass(frozen=True, eq=False)
class Source:
    """A tensor that a block reads."""

    node: Node
    """The result of another block, a concatenation of such results, an output of the middle, or the clip."""
    kind: int
    """``PLANES``, ``SHUFFLED`` or ``UPSAMPLED``: how it is read. In the last two, it has half the block's resolution.
    """


@dataclass(frozen=True, eq=False)
class Block:
    """An inverted residual at high resolution, ``(C, T, H, W)``: expansion, depthwise convolution, projection.

    Three other operations are blocks without some parts: the encoder's first convolution, a pixel shuffle, and weighted
    sums of time steps (the node is a ``Mix``), whose rows have a sum of 1.
    """

    node: Node
    """The last operation."""
    source: Source | None
    added: Source | None
    """Added to the result."""
    expand: Conv | None
    filter: Conv | None
    """The depthwise convolution, or the encoder's first convolution."""
    project: Conv | None

    @property
    def sources(self) -> Iterator[Source]:
        """The tensors that are read."""
        return (source for source in (self.source, self.added) if source is not None)

    @property
    def parts(self) -> Iterator[Node]:
        """The parts of concatenations that are read."""
        waiting = [source.node for source in self.sources if isinstance(source.node, Concat)]
        while waiting:
            for node in waiting.pop().inputs:
                if isinstance(node, Concat):
                    waiting.append(node)
                yield node


@dataclass(frozen=True)
class Fusion:
    """The sigmoid of a weighted sum of the maps' sigmoids."""

    maps: tuple[Node, ...]
    weights: tuple[float, ...]
    bias: float
    frames: int


@dataclass(frozen=True)
class Partition:
    """The parts of a graph."""

    head: list[Block]
    """Blocks that the middle depends on, each after the blocks that it reads."""
    tail: list[Block]
    """The other blocks."""
    fusion: Fusion
    concats: list[Concat]
    """Concatenations of results of blocks, each after those it contains."""
    outputs: list[Node]
    """The outputs of the middle that blocks read."""
    middle: list[Node]
    """The same outputs, in a graph whose input is ``middle_input``."""
    middle_input: Node
    """The clip, or the result of a block of the head."""
    steps: list[int] | None
    """Time steps of the clip that the graph reads; None: all."""


def partition(result: Node) -> Partition:
    """Split a graph.

    Args:
        result: the graph's output, ``(1, T, H, W)``.

    Raises:
        UnsupportedGraph: the kernels do not support the last operations of the graph.
    """
    result, steps = with_movable_mixes(result)
    for encoder in (True, False):
        reader = Reader(result, encoder)
        cut, needed = reader.middle_inputs()
        if len(cut) == 1 and not needed & set(reader.outputs):
            break
    blocks = list(reader.blocks.values())
    head = [block for block in blocks if block.node in needed]
    outputs = list(reader.outputs)
    (middle_input,) = cut
    replaced: dict[Node, Node] = {middle_input: Input(middle_input.shape)}
    return Partition(
        head=head,
        tail=[block for block in blocks if block not in head],
        fusion=reader.fusion,
        concats=list(reader.concats),
        outputs=outputs,
        middle=[with_inputs(node, replaced) for node in outputs],
        middle_input=middle_input,
        steps=steps,
    )


def with_movable_mixes(result: Node) -> tuple[Node, list[int] | None]:
    """Move weighted sums of time steps to the boundaries of blocks: operations on single pixels may come first or last.

    Returns:
        The output of an equal graph, and the time steps of the clip that it reads; None: all.
    """
    new: dict[Node, Node] = {}
    steps: list[int] | None = None
    for node in operations(result):
        inputs = tuple(new[one] for one in node.inputs)
        moved = node if inputs == node.inputs else replace(node, inputs=inputs)
        match moved:
            case Mix(inputs=(Input() as clip,)) if is_gather(moved) and readers(result, clip) == 1:
                steps = [int(step) for step in moved.weight.argmax(1)]
                new[node] = Input(moved.shape)
            case Conv(depthwise=True, inputs=(Mix(inputs=(Relu6(inputs=(Conv() as expand,)),)) as mix,)) if is_gather(
                mix
            ) and is_pointwise(expand):
                new[node] = replace(moved, inputs=(relu6(after_mix(expand, mix)),))
            case Conv(inputs=(Mix(inputs=(Relu6() as filtered,)) as mix,)) if is_mean(mix) and is_pointwise(moved):
                before = replace(moved, shape=(moved.shape[0], filtered.shape[1], *moved.shape[2:]), inputs=(filtered,))
                new[node] = replace(mix, shape=moved.shape, inputs=(before,))
            case _:
                new[node] = moved
    return new[result], steps


def after_mix(conv: Conv, mix: Mix) -> Conv:
    """Return a 1x1x1 convolution whose input is mixed, instead of its result."""
    (x,) = conv.inputs
    steps = mix.shape[1]
    mixed = replace(mix, shape=(x.shape[0], steps, *x.shape[2:]), inputs=(x,))
    return replace(conv, shape=(conv.shape[0], steps, *conv.shape[2:]), inputs=(mixed,))


def readers(result: Node, node: Node) -> int:
    """Return the number of operations that read a node."""
    return sum(one is node for other in operations(result) for one in other.inputs)


def is_gather(mix: Mix) -> bool:
    """Return whether each result of a mix is a time step of its input."""
    return is_mean(mix) and bool(np.isin(mix.weight, (0, 1)).all())


def is_mean(mix: Mix) -> bool:
    """Return whether each result of a mix is a weighted mean of time steps."""
    return bool(np.allclose(mix.weight.sum(1), 1))


def is_pointwise(conv: Conv) -> bool:
    """Return whether a convolution is a plain 1x1x1 convolution."""
    plain = (math.prod(conv.weight.shape[2:]), conv.stride, conv.padding) == (1, (1, 1, 1), (0, 0, 0))
    return plain and not conv.depthwise


def with_inputs(node: Node, replaced: dict[Node, Node]) -> Node:
    """Return a node whose graph has some nodes replaced; adds the new nodes to ``replaced``."""
    if node not in replaced:
        replaced[node] = replace(node, inputs=tuple(with_inputs(one, replaced) for one in node.inputs))
    return replaced[node]


class Reader:
    """Reads the blocks of a graph.

    Args:
        result: the graph's output.
        encoder: whether blocks may belong to the encoder. If not, the middle starts at the clip.
    """

    def __init__(self, result: Node, encoder: bool) -> None:
        self.blocks: dict[Node, Block] = {}
        """Blocks by their last operation, each after the blocks that it reads."""
        self.concats: dict[Concat, None] = {}
        self.outputs: dict[Node, None] = {}
        """Outputs of the middle."""
        self._size = result.shape[2:]
        self._encoder = encoder
        self.fusion = self._fusion(result)
        self._drop_unused()

    def _fusion(self, result: Node) -> Fusion:
        """Read the fusion at the end of the graph, and the blocks of its maps."""
        maps, weights = list[Node](), list[float]()
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
                    self._read(map_)
                    maps.append(map_)
                    weights.append(term.factor)
                    bias += term.offset
                case other:
                    raise UnsupportedGraph(f"{type(other).__name__} in the fusion")
        if len(maps) > MAX_MAPS:
            raise UnsupportedGraph(f"{len(maps)} maps; at most {MAX_MAPS} are supported")
        return Fusion(tuple(maps), tuple(weights), bias, result.shape[1])

    def _read(self, node: Node) -> None:
        """Read the block that ends at a node, or the blocks of a concatenation, and the tensors that they read."""
        if node in self.blocks or node in self.concats:
            return
        if isinstance(node, Concat) and self._encoder:
            placed = {one for concat in self.concats for one in concat.inputs}
            if any(isinstance(one, Concat) or one in placed for one in node.inputs):
                raise UnsupportedGraph("a tensor in two concatenations")
            for one in node.inputs:
                self._read(one)
            self.concats[node] = None
            return
        block = block_at(node, self._encoder)
        check(block)
        for source in block.sources:
            self._read_source(source)
        self.blocks[node] = block

    def _read_source(self, source: Source) -> None:
        """Make a tensor available: the result of a block if possible, else an output of the middle."""
        node = source.node
        if isinstance(node, Input) and source.kind == PLANES and self._encoder:
            return
        if node.shape[2] << LEVELS > self._size[0]:
            try:
                self._read(node)
                return
            except UnsupportedGraph:
                if node.shape[2:] == self._size:
                    raise
        self.outputs[node] = None

    def _drop_unused(self) -> None:
        """Remove all blocks and outputs that were read for a concatenation that then was not supported."""
        used = self._needed(self.fusion.maps)
        self.blocks = {node: block for node, block in self.blocks.items() if node in used}
        self.concats = {node: None for node in self.concats if node in used}
        self.outputs = {node: None for node in self.outputs if node in used}

    def _needed(self, nodes: Sequence[Node]) -> set[Node]:
        """Return the tensors that are needed to compute some results of blocks, including these."""
        found = set[Node]()
        waiting = list(nodes)
        while waiting:
            node = waiting.pop()
            if node not in found:
                found.add(node)
                if node in self.blocks:
                    waiting += [source.node for source in self.blocks[node].sources]
                elif node in self.concats:
                    waiting += node.inputs
        return found

    def middle_inputs(self) -> tuple[set[Node], set[Node]]:
        """Return the nodes at which the middle starts, and all tensors that are needed for them."""
        cut, found = set[Node](), set[Node]()
        waiting = list(self.outputs)
        while waiting:
            node = waiting.pop()
            if node not in found:
                found.add(node)
                if isinstance(node, Input) or (self._encoder and node in self.blocks):
                    cut.add(node)
                else:
                    waiting += node.inputs
        return cut, self._needed([node for node in cut if node in self.blocks])


def block_at(node: Node, encoder: bool) -> Block:
    """Return the block that ends at a node.

    Args:
        node: the node.
        encoder: whether the block may have a structure that only encoders have.

    Raises:
        UnsupportedGraph: no block ends at the node.
    """
    added: Source | None = None
    other: Node
    match node:
        case Relu6(inputs=(Conv(depthwise=False, inputs=(Input() as clip,)) as first,)) if encoder:
            return Block(node, Source(clip, PLANES), None, None, first, None)
        case PixelShuffle() if encoder:
            return Block(node, None, upsampled(node), None, None, None)
        case Mix(inputs=(other,)) if encoder and is_mean(node):
            return Block(node, Source(other, PLANES), None, None, None, None)
        case (
            Add(inputs=(PixelShuffle() | Interpolate() as other, Conv() as project))
            | Add(inputs=(Conv() as project, PixelShuffle() | Interpolate() as other))
        ):
            added = upsampled(other)
        case Add(inputs=(other, Conv() as project)) if encoder:
            added = Source(other, PLANES)
        case Conv() as project:
            other = node
        case _:
            raise UnsupportedGraph(f"{type(node).__name__} instead of the last convolution of a block")
    if other.shape != project.shape:
        raise UnsupportedGraph(f"a tensor of {other.shape} is added to one of {project.shape}")
    match project.inputs[0]:
        case Relu6(inputs=(Conv(depthwise=True, inputs=(Relu6(inputs=(expanded,)) as before,)) as depthwise,)):
            pass
        case Relu6(inputs=(Conv(depthwise=True, inputs=(Mix() as before,)) as depthwise,)) if encoder:
            return Block(node, Source(before, PLANES), added, None, depthwise, project)
        case _:
            raise UnsupportedGraph("a block without a depthwise convolution")
    match expanded:
        case Interpolate(inputs=(Conv(inputs=(x,)) as expand,)):
            return Block(node, Source(x, upsampled(expanded).kind), added, expand, depthwise, project)
        case Conv(inputs=(PixelShuffle() as x,)) as expand:
            return Block(node, upsampled(x), added, expand, depthwise, project)
        case Conv(inputs=(Input(),), depthwise=False) if encoder:
            return Block(node, Source(before, PLANES), added, None, depthwise, project)
        case Conv(inputs=(x,)) as expand:
            return Block(node, Source(x, PLANES), added, expand, depthwise, project)
    raise UnsupportedGraph("a block without an expansion")


def upsampled(node: PixelShuffle | Interpolate) -> Source:
    """Return the tensor that a node upsamples, and how. A pixel shuffle may follow a temporal interpolation.

    Raises:
        UnsupportedGraph: the node does not double the resolution.
    """
    (x,) = node.inputs
    if isinstance(node, PixelShuffle) and isinstance(x, Interpolate) and x.inputs[0].shape[2:] == x.shape[2:]:
        (x,) = x.inputs
    if (2 * x.shape[2], 2 * x.shape[3]) != node.shape[2:]:
        raise UnsupportedGraph(f"a tensor of {x.shape} is upsampled to {node.shape}")
    return Source(x, SHUFFLED if isinstance(node, PixelShuffle) else UPSAMPLED)


def check(block: Block) -> None:
    """Check that the kernels support the shapes of a block.

    Raises:
        UnsupportedGraph: they do not.
    """
    if block.node.shape[2] % 8 or block.node.shape[3] % 32:
        raise UnsupportedGraph(f"a block of {block.node.shape}")
    if (kernel := block.filter) is None:
        return
    taps, *sides = kernel.weight.shape[2:]
    steps = kernel.stride[1:]
    if sides != [3, 3] or taps > MAX_TAPS or kernel.padding[1:] != (1, 1) or steps not in ((1, 1), (2, 2)):
        raise UnsupportedGraph(f"a convolution with a weight of {kernel.weight.shape}")
    before = kernel.inputs[0].shape[2:]
    if before != (steps[0] * kernel.shape[2], steps[1] * kernel.shape[3]):
        raise UnsupportedGraph(f"a convolution from {before} to {kernel.shape}")
    if steps == (2, 2) and block.source is not None and block.source.kind != PLANES:
        raise UnsupportedGraph("a convolution that halves the resolution of an upsampled tensor")
    if not kernel.depthwise and kernel.weight.shape[1] * taps > MAX_PLANES:
        raise UnsupportedGraph(f"a convolution with a weight of {kernel.weight.shape}")
    for conv in (block.expand, block.project):
        if conv and not is_pointwise(conv):
            raise UnsupportedGraph("a block whose expansion or projection is not a plain 1x1x1 convolution")
