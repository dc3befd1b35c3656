"""Rewrite the graph of a network for still clips (clips of identical frames) of which one map is wanted.

In such a clip most time steps of the first layers are equal, and most time steps of the last layers do not affect the
wanted map. :func:`still` computes equal steps once and leaves out the others. The map is the same, up to float32
rounding. A 2D network with the kernels summed over time would not give it: the padding before and after a clip makes
the steps of a still clip differ.
"""

from __future__ import annotations

import queue
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from .base import Engine
from .graph import Array, Conv, Input, Interpolate, Node, mix, operations

Taps = tuple[int | None, ...]
"""Numbers of the steps that a step is computed from, tap by tap; None for padding."""


@dataclass(frozen=True)
class Recipe:
    """The way a time step of a node is computed. Steps with equal recipes are equal."""

    taps: tuple[Taps, ...] = ()
    """The distinct steps of each input that it is computed from."""
    weights: tuple[float, ...] = ()
    """Weights of the taps of an interpolation."""

    def at(self, places: Sequence[Mapping[int, int]]) -> Recipe:
        """Return the recipe with steps numbered by their places in each input."""
        moved = (
            tuple(None if tap is None else place[tap] for tap in taps)
            for place, taps in zip(places, self.taps, strict=True)
        )
        return Recipe(tuple(moved), self.weights)


def still(result: Node, step: int = -1) -> Node:
    """Return the graph that computes one map of a still clip from its frame.

    Args:
        result: the graph's output ``(1, T, H, W)`` for a clip ``(3, clip_frames, H, W)``.
        step: the wanted map.

    Returns:
        The output ``(1, 1, H, W)`` for a frame ``(3, 1, H, W)``.
    """
    nodes = operations(result)
    distinct: dict[Node, list[int]] = {}
    recipes: dict[Node, list[Recipe]] = {}
    for node in nodes:
        found: dict[Recipe, int] = {}
        made = [recipe(node, at, distinct) for at in range(node.shape[1])]
        distinct[node] = [found.setdefault(one, len(found)) for one in made]
        recipes[node] = list(found)
    needed: dict[Node, set[int]] = {node: set() for node in nodes}
    needed[result] = {distinct[result][step]}
    for node in reversed(nodes):
        for number in needed[node]:
            for source, taps in zip(node.inputs, recipes[node][number].taps, strict=True):
                needed[source].update(tap for tap in taps if tap is not None)
    new: dict[Node, Node] = {}
    places: dict[Node, dict[int, int]] = {}  # of the distinct steps in the new node
    for node in nodes:
        numbers = sorted(needed[node])
        places[node] = {number: place for place, number in enumerate(numbers)}
        wanted = [recipes[node][number].at([places[source] for source in node.inputs]) for number in numbers]
        if wanted:
            new[node] = rewritten(node, [new[source] for source in node.inputs], wanted)
    return new[result]


def recipe(node: Node, step: int, distinct: dict[Node, list[int]]) -> Recipe:
    """Return how a step of a node is computed from the distinct steps of its inputs."""
    match node:
        case Conv(inputs=(source,)):
            first = step * node.stride[0] - node.padding[0]
            taps = range(first, first + node.weight.shape[2])
            return Recipe((tuple(distinct[source][tap] if 0 <= tap < source.shape[1] else None for tap in taps),))
        case Interpolate(inputs=(source,)):
            whole, rest = divmod(step * (source.shape[1] - 1), max(1, node.shape[1] - 1))
            lower, upper = distinct[source][whole], distinct[source][min(whole + 1, source.shape[1] - 1)]
            fraction = rest / max(1, node.shape[1] - 1)
            if lower == upper or not rest:
                return Recipe(((lower,),), (1.0,))
            return Recipe(((lower, upper),), (1 - fraction, fraction))
        case _:
            return Recipe(tuple((distinct[source][step if source.shape[1] > 1 else 0],) for source in node.inputs))


def rewritten(node: Node, inputs: Sequence[Node], wanted: Sequence[Recipe]) -> Node:
    """Return a node that computes only some steps.

    Args:
        node: the node of the clip's graph.
        inputs: its rewritten inputs.
        wanted: how each step is computed from the steps of ``inputs``.
    """
    match node:
        case Input():
            return Input((node.shape[0], 1, *node.shape[2:]))
        case Conv():
            return convolution(node, inputs[0], [one.taps[0] for one in wanted])
        case Interpolate():
            rows = [dict(zip(whole(one.taps[0]), one.weights, strict=True)) for one in wanted]
            mixed = interpolated(inputs[0], rows)
            shape = (node.shape[0], len(wanted), *node.shape[2:])
            return mixed if mixed.shape == shape else Interpolate(shape, (mixed,))
        case _:
            sources = [
                mix(source, [dict.fromkeys(whole(one.taps[i]), 1.0) for one in wanted])
                for i, source in enumerate(inputs)
            ]
            return replace(node, shape=(node.shape[0], len(wanted), *node.shape[2:]), inputs=tuple(sources))


def whole(taps: Taps) -> list[int]:
    """Return taps without padding."""
    return [tap for tap in taps if tap is not None]


def interpolated(source: Node, rows: Sequence[Mapping[int, float]]) -> Node:
    """Return weighted means of steps; those of a 1x1x1 convolution are computed before it (:func:`graph.convolve`)."""
    if isinstance(source, Conv) and not source.depthwise and np.prod(source.weight.shape[2:]) == 1:
        (before,) = source.inputs
        return replace(source, shape=(source.shape[0], len(rows), *source.shape[2:]), inputs=(mix(before, rows),))
    return mix(source, rows)


def convolution(node: Conv, source: Node, wanted: Sequence[Taps]) -> Conv:
    """Return a convolution that computes only some steps, each from its own steps of the source."""
    weight, columns = merged(node.weight, list(zip(*wanted, strict=True)))
    rows = list(zip(*columns, strict=True))
    stride = next(step for step in range(1, len(columns) + 1) if overlaps(rows, step))
    sequence: list[int | None] = [None] * (stride * (len(rows) - 1) + len(columns))
    for number, row in enumerate(rows):
        sequence[number * stride : number * stride + len(row)] = row
    front = next(number for number, one in enumerate(sequence) if one is not None)
    back = next(number for number, one in enumerate(reversed(sequence)) if one is not None)
    gathered = mix(source, [{} if one is None else {one: 1.0} for one in sequence[front : len(sequence) - back]])
    return replace(
        node,
        shape=(node.shape[0], len(rows), *node.shape[2:]),
        inputs=(gathered,),
        weight=weight,
        stride=(stride, *node.stride[1:]),
        padding=(front, *node.padding[1:]),
        back=back,
    )


def merged(weight: Array, columns: Sequence[Taps]) -> tuple[Array, list[Taps]]:
    """Return a kernel and its taps without taps that only read padding, and with the sum of taps that read the same."""
    kept: dict[Taps, Array] = {}
    for tap, column in enumerate(columns):
        if any(one is not None for one in column):
            kept[column] = kept.get(column, np.float32(0)) + weight[:, :, tap]
    return np.stack(list(kept.values()), axis=2), list(kept)


def overlaps(rows: Sequence[Taps], stride: int) -> bool:
    """Return whether rows of taps are those of a convolution with a stride: each starts with the end of the last."""
    return all(one[stride:] == other[: len(other) - stride] for one, other in pairwise(rows))


class StillPool:
    """Engines that run the same graph from :func:`still`, each on one thread. A call waits until one is free.

    One frame per thread is faster than all threads on one frame: they need not wait for each other.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        self.name, self.precision, self.graph = engines[0].name, engines[0].precision, engines[0].graph
        self._free: queue.SimpleQueue[Engine] = queue.SimpleQueue()
        for engine in engines:
            self._free.put(engine)

    def infer(self, frame: Array) -> Array:
        """Return the last map ``(H, W)`` of the clip that repeats a frame ``(3, H, W)``."""
        engine = self._free.get()
        try:
            saliency: Array = engine.infer(frame[:, np.newaxis])[0]
            return saliency
        finally:
            self._free.put(engine)
