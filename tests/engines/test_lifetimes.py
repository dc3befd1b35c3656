"""Tensors of the kernels share memory, and none is overwritten before its last reader, in any number of threads."""

import functools

import numpy as np
import pytest
from helpers.networks import lively
from helpers.tails import Middle

from tinyhd_cli.engines.fuse_batchnorm import fold
from tinyhd_cli.engines.fused import Fused
from tinyhd_cli.engines.kernels import available_isas
from tinyhd_cli.engines.lifetimes import Lifetimes
from tinyhd_cli.engines.lower_tinyhd import lower
from tinyhd_cli.engines.partition import partition
from tinyhd_cli.engines.still import still


@functools.cache
def graph_of(name, height=64, width=128):
    network = lively(name)
    fold(network)
    return lower(network, (3, 16, height, width))


@pytest.mark.parametrize("name", ["tinyhd-m-quarter", "tinyhd-s-quarter"])
@pytest.mark.parametrize("rewritten", [lambda result: result, still])
def test_each_tensor_is_intact_when_it_is_read(name, rewritten):
    parts = partition(rewritten(graph_of(name)))
    found = Lifetimes(parts)
    writer, last_reader = np.full(found.size, -1), np.full(found.size, -1)  # of each number in memory
    names = {node: number for number, node in enumerate(found.offsets)}
    owner = {one: concat for concat in parts.concats for one in concat.inputs}

    def place(node):
        node = owner.get(node, node)
        return names[node], slice(
            found.offsets[node], found.offsets[node] + node.shape[0] * int(np.prod(node.shape[1:]))
        )

    def read(node, step):
        number, where = place(node)
        assert (writer[where] == number).all()
        last_reader[where] = step

    def write(node):
        number, where = place(node)
        if not (writer[where] == number).all():  # else it is another part of a concatenation
            writer[where] = number
            return int(last_reader[where].max())
        return -1

    def run(blocks, step):
        for block in blocks:
            assert found.waits_for(block) >= write(block.node)
            for source in block.sources:
                if source.node in found.offsets or source.node in owner:
                    read(source.node, step)
            step += 1

    run(parts.head, 0)
    if parts.head:
        read(parts.middle_input, len(parts.head))
    for node in parts.outputs:
        write(node)
    run(parts.tail, len(parts.head) + 1)
    for node in parts.fusion.maps:
        read(node, len(parts.head) + 1 + len(parts.tail))
    assert found.size < sum(node.shape[0] * np.prod(node.shape[1:]) for node in found.offsets) / 2


@pytest.mark.skipif(not available_isas(), reason="no kernels for this machine")
def test_many_threads_compute_the_same():
    result = still(graph_of("tinyhd-m-quarter"))
    frame = np.random.default_rng(0).standard_normal((3, 1, 64, 128)).astype(np.float32)
    expected = Fused(result, Middle, "float32", 1).infer(frame)
    engine = Fused(result, Middle, "float32", 6)
    for _ in range(2):
        assert np.array_equal(engine.infer(frame), expected)
