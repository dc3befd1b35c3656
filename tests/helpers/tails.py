"""Small graphs that the C kernels compute, and their comparison with PyTorch."""

from __future__ import annotations

import numpy as np
import torch

from tinyhd_cli.engines import graph
from tinyhd_cli.engines.fused import Fused

from . import graph_runner


def values(rng, *shape):
    return rng.normal(0, 1, shape).astype(np.float32)


def convolve(rng, x, outputs, kernel=(1, 1, 1), **more):
    inputs = 1 if more.get("depthwise") else x.shape[0]
    scale = (2 / np.prod([inputs, *kernel])) ** 0.5
    return graph.convolve(x, values(rng, outputs, inputs, *kernel) * scale, values(rng, outputs) + 0.5, **more)


def block(rng, x, inner, outer, taps=3, stride=1):
    """Return an inverted residual without a skip connection."""
    y = graph.relu6(convolve(rng, x, inner))
    depthwise = {"stride": (stride, 1, 1), "padding": (taps // 2, 1, 1), "depthwise": True}
    y = graph.relu6(convolve(rng, y, inner, (taps, 3, 3), **depthwise))
    return convolve(rng, y, outer)


def network(rng, clip, kind, channels, inner, outer, taps=3, stride=1, added=False):
    """Return a block that reads ``channels`` channels at half the resolution, a block for the map, and the fusion."""
    if kind == "upsampled":
        x = graph.interpolate(convolve(rng, clip, channels), time=2, space=2)
    else:
        x = graph.shuffle(graph.interpolate(convolve(rng, clip, 4 * channels), time=2))
    x = block(rng, x, inner, outer, taps, stride)
    if added:
        frames = x.shape[1] // clip.shape[1]
        x = graph.add(graph.shuffle(graph.interpolate(convolve(rng, clip, 4 * outer), time=frames)), x)
    return fusion(block(rng, x, 2 * outer, 1))


def fusion(*maps):
    total = graph.scale(graph.sigmoid(maps[0]), 3.0, -1.0)
    for one in maps[1:]:
        total = graph.add(total, graph.scale(graph.sigmoid(one), -2.0))
    return graph.sigmoid(total)


def of_several_resolutions(rng, clip):
    """Return blocks that read blocks of the same and of half the resolution, in every way; two read the same block."""
    half = graph.add(
        block(rng, graph.shuffle(graph.interpolate(convolve(rng, clip, 12), time=2)), 5, 4),
        graph.interpolate(convolve(rng, clip, 4), time=2, space=2),
    )
    wide = block(rng, half, 6, 16)
    moving = graph.shuffle(graph.interpolate(wide, time=2))
    folded = graph.add(graph.shuffle(wide), block(rng, graph.shuffle(block(rng, half, 3, 12)), 7, 4))
    return fusion(
        block(rng, folded, 5, 1),
        block(rng, moving, 4, 1, 3, 2),
        block(rng, graph.interpolate(half, time=1, space=2), 5, 1),
    )


class Middle:
    """The operations between the blocks, in PyTorch."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.graph = ""
        self.outputs = [graph.aligned(*node.shape[1:], node.shape[0]) for node in nodes]

    def infer(self, clip):
        for node, output in zip(self.nodes, self.outputs, strict=True):
            output[...] = graph_runner.run(node, torch.from_numpy(clip).double()[None])[0].permute(1, 2, 3, 0).numpy()


def in_kernels(isa, threads=2):
    """Return a function that makes an engine for a graph."""
    return lambda result: Fused(result, Middle, "float32", threads, isa)


def assert_agrees(result, clip_shape, make, single=1e-5, half=2e-2, seeds=2):
    """Compare an engine with PyTorch, with the tolerance of its precision, for several clips."""
    engine = make(result)
    tolerance = single if engine.number == np.float32 else half
    for seed in range(seeds):  # the second run reuses the scratch memory
        clip = values(np.random.default_rng(seed), *clip_shape)
        expected = graph_runner.run(result, torch.from_numpy(clip).double()[None])[0, 0].numpy()
        assert np.ptp(expected) > 0.01
        # The kernels round interpolation positions to float32, as PyTorch does.
        np.testing.assert_allclose(engine.infer(clip), expected, atol=tolerance)
