"""Run random graphs in the kernels of a folder, and compare them with PyTorch: ``fuzz_kernels.py FOLDER ISA SEED``.

Each tensor gets memory of its own, so that AddressSanitizer finds accesses past its end.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.networks import lively
from helpers.tails import Middle, assert_agrees, network, of_several_resolutions
from tinyhd_cli.engines import fused, graph, kernels
from tinyhd_cli.engines.fuse_batchnorm import fold
from tinyhd_cli.engines.graph import aligned
from tinyhd_cli.engines.kernels import GAP, HALF
from tinyhd_cli.engines.lower_tinyhd import lower
from tinyhd_cli.engines.partition import partition
from tinyhd_cli.engines.still import still
from tinyhd_cli.system import LIBRARY_SUFFIX


class Apart(fused.Fused):
    """The engine, whose tensors do not share memory."""

    def _allocate(self):
        for node in self._lifetimes.offsets:
            step = math.prod(node.shape[1:]) + GAP
            planes = aligned(node.shape[0] * step, dtype=self.number).reshape(-1, step)
            self._planes[node] = planes
            if isinstance(node, graph.Concat):
                sides = np.cumsum([one.shape[0] for one in node.inputs])[:-1]
                self._planes |= zip(node.inputs, np.split(planes, sides), strict=True)


def random_block(rng, width):
    """Return a graph of a block of random size, and the shape of its clip."""
    shape = (int(rng.integers(1, 6)), int(rng.integers(2, 5)), 8 * int(rng.integers(1, 5)), width)
    taps, stride = [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2)][rng.integers(5)]
    kind = ("upsampled", "shuffled")[rng.integers(2)]
    channels, inner, outer = int(rng.integers(1, 9)), int(rng.integers(1, 80)), int(rng.integers(1, 30))
    added = taps % 2 == 1 and stride == 1 and bool(rng.integers(2))
    return network(rng, graph.Input(shape), kind, channels, inner, outer, taps, stride, added), shape


def random_network(rng, width, photograph):
    """Return the graph of a network for clips or, with sums of time steps, for photographs."""
    module = lively(f"tinyhd-{'ms'[rng.integers(2)]}{('', '-half', '-quarter')[rng.integers(3)]}")
    fold(module, by_name=True)
    shape = (3, 16, 32 * int(rng.integers(2, 4)), 4 * width)
    if not photograph:
        return lower(module, shape), shape
    result = still(lower(module, shape))
    blocks = partition(result).head + partition(result).tail
    assert any(isinstance(block.node, graph.Mix) for block in blocks)
    return result, (3, 1, *shape[2:])


def main(folder, isa, seed):
    kernels.library = lambda name, part="blocks": Path(folder, f"_{part}_{name}{LIBRARY_SUFFIX}")
    rng = np.random.default_rng(int(seed))
    width = 64 if isa in HALF else 32  # of a frame of half the size

    def make(result):
        return Apart(result, Middle, "float32", int(rng.integers(1, 4)), isa)

    for _ in range(12):
        result, shape = random_block(rng, width * int(rng.integers(1, 4)))
        assert_agrees(result, shape, make, single=1e-4, half=0.1)
    clip = graph.Input((4, 2, 16, 2 * width))
    assert_agrees(of_several_resolutions(rng, clip), clip.shape, make, half=0.1)
    for photograph in (True, True, True, False):
        result, shape = random_network(rng, width, photograph)
        assert_agrees(result, shape, make, single=1e-3, half=0.3, seeds=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
