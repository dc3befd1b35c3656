"""Still clips in the engines: the rewritten graph gives the same map as the whole clip, for less work."""

import numpy as np
import pytest
import torch
from helpers import graph_runner
from helpers.networks import lively

from tinyhd_cli.engines import graph
from tinyhd_cli.engines.fuse_batchnorm import fold
from tinyhd_cli.engines.loaded import lower
from tinyhd_cli.engines.partition import with_movable_mixes
from tinyhd_cli.engines.still import still

RNG = np.random.default_rng(3)
CLIP = graph.Input((2, 8, 8, 8))


def values(*shape):
    return RNG.normal(0, 1, shape).astype(np.float32)


def convolved(x, frames=3, stride=1, padding=1):
    """Return a depthwise convolution with a kernel in time, after and before which channels are mixed."""
    y = graph.convolve(x, values(4, x.shape[0], 1, 1, 1), values(4))
    kernel = {"stride": (stride, 1, 1), "padding": (padding, 1, 1), "depthwise": True}
    y = graph.relu6(graph.convolve(y, values(4, 1, frames, 3, 3), values(4), **kernel))
    return graph.convolve(y, values(2, 4, 1, 1, 1), values(2))


def both(result, step=-1):
    """Return the wanted map of a still clip, from the whole clip and from the rewritten graph."""
    frame = torch.from_numpy(values(1, CLIP.shape[0], 1, *CLIP.shape[2:])).double()
    whole = graph_runner.run(result, frame.expand(-1, -1, CLIP.shape[1], -1, -1))
    return whole[:, :, [step]], graph_runner.run(still(result, step), frame)


def networks():
    padded, strided = convolved(CLIP), convolved(convolved(CLIP), stride=2)
    return {
        "padding": padded,
        "deep": convolved(convolved(padded)),
        "stride": convolved(strided, stride=2),
        "even kernel without padding": convolved(strided, frames=2, padding=0),
        "upsampling": convolved(graph.interpolate(strided, time=2, space=2)),
        "shuffle": convolved(graph.shuffle(graph.concat(strided, strided))),
        "broadcast": graph.add(padded, convolved(convolved(strided, stride=2), stride=2, frames=2, padding=0)),
        "skip": graph.add(padded, convolved(padded)),
    }


@pytest.mark.parametrize("step", [-1, 0, 1])
@pytest.mark.parametrize("kind", networks())
def test_the_map_of_a_still_clip(kind, step):
    whole, rewritten = both(networks()[kind], step)
    torch.testing.assert_close(rewritten, whole, rtol=0, atol=1e-5 * float(whole.abs().max()))


def test_the_frames_of_a_still_clip_differ_at_its_ends():
    """Kernels summed over time would not give the map of a still clip."""
    result = convolved(convolved(CLIP))
    maps = graph_runner.run(result, torch.ones(1, *CLIP.shape).double())
    assert not torch.allclose(maps[:, :, 0], maps[:, :, 4])
    assert torch.allclose(maps[:, :, 3], maps[:, :, 4])


def test_equal_steps_are_computed_once():
    rewritten = still(convolved(convolved(CLIP)), step=4)  # far from both ends: a network without time
    assert {node.shape[1] for node in graph.operations(rewritten) if not isinstance(node, graph.Mix)} == {1}


@pytest.mark.parametrize(("name", "most"), [("tinyhd-m-quarter", 0.65), ("tinyhd-s-quarter", 0.97)])
def test_the_network(name, most):
    network = lively(name)
    fold(network, by_name=True)
    whole = lower(network, network.spec.with_size((64, 96)))
    rewritten = still(whole)
    frame = torch.from_numpy(values(1, 3, 1, 64, 96))
    expected = graph_runner.run(whole, frame.double().expand(-1, -1, 16, -1, -1))[:, :, -1:]
    torch.testing.assert_close(graph_runner.run(rewritten, frame.double()), expected, rtol=0, atol=1e-5)
    before, after = graph.multiply_adds(whole), graph.multiply_adds(rewritten)
    assert after < most * before
    moved, steps = with_movable_mixes(rewritten)
    clip = frame.double() if steps is None else frame.double()[:, :, steps]
    torch.testing.assert_close(graph_runner.run(moved, clip), expected, rtol=0, atol=1e-5)
