"""Place the tensors of the C kernels so that they share memory: each takes that of tensors that are read no more.

Little memory stays in the cache, and pages of 2 MB, which the system gives to large arrays only, map all of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .graph import Node
from .kernels import GAP
from .partition import Block, Partition

ALIGNMENT = 64
"""Tensors start at a multiple of this many numbers."""


@dataclass
class Lifetime:
    """The steps of a run between which a tensor is needed, and its place.

    The blocks of the head are steps, then the middle is one, then the blocks of the tail are, then the fusion is one.
    """

    first: int
    """Step that writes it, or its first part."""
    last: int
    """Last step that reads it."""
    size: int
    """Numbers in memory."""
    offset: int = 0
    """Number at which it starts."""

    def is_apart(self, other: Lifetime) -> bool:
        """Return whether two tensors have no memory in common."""
        return self.offset + self.size <= other.offset or other.offset + other.size <= self.offset


class Lifetimes:
    """The tensors that blocks read and write, each with its place. Parts of a concatenation are inside of it."""

    def __init__(self, parts: Partition) -> None:
        self._owner: dict[Node, Node] = {one: concat for concat in parts.concats for one in concat.inputs}
        self._tensors: dict[Node, Lifetime] = {}
        middle = len(parts.head)
        self._steps = {block.node: step for step, block in enumerate(parts.head)}
        self._steps |= {block.node: middle + 1 + number for number, block in enumerate(parts.tail)}
        for node in parts.outputs:
            self._write(node, middle)
        for block in (*parts.head, *parts.tail):
            self._write(block.node, self._steps[block.node])
            self._read([source.node for source in block.sources], self._steps[block.node])
        self._read([parts.middle_input], middle)
        self._read(parts.fusion.maps, middle + 1 + len(parts.tail))
        self.size = place(self._tensors.values())
        """Numbers of all tensors together."""

    def _write(self, node: Node, step: int) -> None:
        owner = self._owner.get(node, node)
        channels, *rest = owner.shape
        size = math.ceil(channels * (math.prod(rest) + GAP) / ALIGNMENT) * ALIGNMENT
        known = self._tensors.setdefault(owner, Lifetime(step, step, size))
        known.first, known.last = min(known.first, step), max(known.last, step)

    def _read(self, nodes: Iterable[Node], step: int) -> None:
        for node in nodes:
            if found := self._tensors.get(self._owner.get(node, node)):  # the clip is not among them
                found.last = max(found.last, step)

    @property
    def offsets(self) -> Mapping[Node, int]:
        """The number at which each tensor starts, except parts of concatenations."""
        return {node: one.offset for node, one in self._tensors.items()}

    def waits_for(self, block: Block) -> int:
        """Return the last step that reads what was in the memory of a block's result before; -1 if there is none.

        For the outputs of the middle, which no block writes, the program waits by itself.
        """
        own = self._tensors[self._owner.get(block.node, block.node)]
        before = [one.last for one in self._tensors.values() if one.last < own.first and not one.is_apart(own)]
        return max(before, default=-1)


def place(tensors: Iterable[Lifetime]) -> int:
    """Choose the offsets of tensors so that those that are needed at the same time are apart; return the size of all.

    The largest are placed first, each at the lowest free offset.
    """
    placed: list[Lifetime] = []
    for one in sorted(tensors, key=lambda tensor: -tensor.size):
        others = [other for other in placed if one.first <= other.last and other.first <= one.last]
        one.offset = min(
            offset
            for offset in (0, *(other.offset + other.size for other in others))
            if all(Lifetime(0, 0, one.size, offset).is_apart(other) for other in others)
        )
        placed.append(one)
    return max((one.offset + one.size for one in placed), default=0)
