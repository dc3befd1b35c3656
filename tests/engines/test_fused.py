"""The C kernels, block by block, and the partition of graphs for them."""

from __future__ import annotations

import platform
import shutil
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers.environments import build_wheel
from helpers.networks import lively
from helpers.tails import (
    Middle,
    assert_agrees,
    block,
    convolve,
    fusion,
    in_kernels,
    network,
    of_several_resolutions,
    values,
)

from tinyhd_cli import __version__, load_model, weights
from tinyhd_cli.engines import builders, graph, kernels, selection
from tinyhd_cli.engines.fuse_batchnorm import fold
from tinyhd_cli.engines.fused import Fused
from tinyhd_cli.engines.kernels import HALF, available_isas
from tinyhd_cli.engines.lower_tinyhd import lower
from tinyhd_cli.engines.partition import LEVELS, UnsupportedGraph, partition
from tinyhd_cli.engines.still import still

NETWORKS = [f"tinyhd-{outputs}{width}" for outputs in "ms" for width in ("", "-half", "-quarter")]

needs_kernels = pytest.mark.skipif(not available_isas(), reason="no kernels for this machine")
each_isa = pytest.mark.parametrize("isa", available_isas() + available_isas(half=True) or [None])


@needs_kernels
@each_isa
@pytest.mark.parametrize("kind", ["upsampled", "shuffled"])
@pytest.mark.parametrize(
    ("channels", "inner", "outer", "taps", "stride", "added"),
    [
        (7, 14, 1, 3, 1, False),
        (7, 14, 2, 3, 1, True),
        (3, 5, 3, 3, 2, True),
        (14, 28, 28, 2, 2, False),
        (34, 68, 1, 1, 1, False),  # in several passes
        (1, 51, 9, 3, 2, False),
    ],
)
def test_blocks(isa, kind, channels, inner, outer, taps, stride, added):
    rng = np.random.default_rng(0)
    shape = (4, 4, 24, 64 if isa in HALF else 48)
    assert_agrees(
        network(rng, graph.Input(shape), kind, channels, inner, outer, taps, stride, added), shape, in_kernels(isa)
    )


@needs_kernels
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("size", [(8, 16), (16, 32), (96, 128)])
def test_sizes_and_threads(threads, size):
    rng = np.random.default_rng(0)
    shape = (3, 2, *size)
    assert_agrees(network(rng, graph.Input(shape), "upsampled", 3, 6, 2, added=True), shape, in_kernels(None, threads))


@needs_kernels
@each_isa
@pytest.mark.parametrize("threads", [1, 3])
def test_resolutions(isa, threads):
    clip = graph.Input((4, 2, 16, 64))
    result = of_several_resolutions(np.random.default_rng(0), clip)
    parts = partition(result)
    assert not parts.head and len(parts.tail) == 7 and {node.shape[2:] for node in parts.outputs} == {(16, 64)}
    assert_agrees(result, clip.shape, in_kernels(isa, threads))


@needs_kernels
@each_isa
def test_a_network(isa):
    """The encoder's first blocks, too. Random weights amplify rounding errors."""
    network = lively("tinyhd-m-quarter")
    fold(network)
    shape = (3, 16, 64, 256 if isa in HALF else 128)
    result = lower(network, shape)
    assert len(partition(result).head) == 4
    assert_agrees(result, shape, in_kernels(isa), single=1e-4, half=0.15, seeds=1)


@needs_kernels
@each_isa
@pytest.mark.parametrize("name", ["tinyhd-m-quarter", "tinyhd-s-quarter"])
def test_a_still_clip(isa, name):
    """The encoder's first blocks and sums of time steps, too."""
    network = lively(name)
    fold(network, by_name=True)
    height, width = 64, 256 if isa in HALF else 128
    result = still(lower(network, (3, 16, height, width)))
    blocks = partition(result).head + partition(result).tail
    assert any(isinstance(block.node, graph.Mix) for block in blocks)
    assert_agrees(result, (3, 1, height, width), in_kernels(isa), single=1e-4, half=0.15, seeds=1)


@needs_kernels
def test_concurrent_calls():
    rng = np.random.default_rng(0)
    result = network(rng, graph.Input((3, 2, 32, 48)), "shuffled", 3, 6, 2)
    engine = Fused(result, Middle, "float32", 2)
    clips = [values(rng, 3, 2, 32, 48) for _ in range(3)]
    expected = [engine.infer(clip) for clip in clips]
    with ThreadPoolExecutor(3) as threads:
        found = threads.map(engine.infer, clips * 8)
        assert all(np.array_equal(maps, other) for maps, other in zip(found, expected * 8, strict=True))


@needs_kernels
@each_isa
def test_maps_of_one_frame_are_broadcast(isa):
    rng = np.random.default_rng(0)
    clip = graph.Input((4, 2, 16, 16))
    moving = graph.shuffle(graph.interpolate(convolve(rng, clip, 8), time=2))
    static = graph.shuffle(convolve(rng, clip, 8))
    maps = [block(rng, static, 4, 1, 3, 2), block(rng, moving, 4, 1), block(rng, moving, 6, 1)]
    result = fusion(*maps)
    assert [map_.shape[1] for map_ in maps] == [1, 4, 4]
    assert_agrees(result, clip.shape, in_kernels(isa))


def projected(isa, weight, bias):
    """Return the output for a single map whose block has this projection."""
    rng = np.random.default_rng(0)
    clip = graph.Input((4, 1, 8, 16))
    map_ = block(rng, graph.shuffle(clip), 2, 1, taps=1)
    weight, bias = np.float32(weight).reshape(map_.weight.shape), np.float32([bias])
    map_ = graph.Conv(map_.shape, map_.inputs, weight=weight, bias=bias)
    return Fused(fusion(map_), Middle, "float32", 1, isa).infer(values(rng, *clip.shape))


@needs_kernels
@each_isa
def test_a_block_with_zero_weights_outputs_its_bias(isa):
    assert projected(isa, [0, 0], 0.5) == pytest.approx(1 / (1 + np.exp(1 - 3 / (1 + np.exp(-0.5)))))


@needs_kernels
@each_isa
def test_sigmoid_of_extreme_values(isa):
    found = projected(isa, [1000, -1000], 0)
    assert found.min() == pytest.approx(1 / (1 + np.exp(1.0)))
    assert found.max() == pytest.approx(1 / (1 + np.exp(-2.0)))


def high_filters(nodes, sizes):
    """Return the number of depthwise convolutions of some sizes."""
    return sum(isinstance(node, graph.Conv) and node.depthwise and node.shape[2:] in sizes for node in nodes)


@pytest.mark.parametrize("name", NETWORKS)
def test_parts_of_each_network(name):
    """The kernels compute all blocks at the highest resolutions; the other engine none of them."""
    network = lively(name)
    fold(network)
    result = lower(network, (3, 16, 192, 256))
    parts = partition(result)
    sizes = [(192 >> level, 256 >> level) for level in range(LEVELS)]
    middle = [node for output in parts.middle for node in graph.operations(output)]
    blocks = parts.head + parts.tail
    assert (len(parts.head), parts.middle_input.shape[1:]) == (4, (8, 48, 64))
    assert high_filters(middle, sizes) == 0
    assert sum(block.filter is not None and block.filter.depthwise for block in blocks) == high_filters(
        graph.operations(result), sizes
    )
    assert len(parts.fusion.maps) == 6
    assert parts.fusion.bias == pytest.approx(network.fusion.bias.item())


@pytest.mark.parametrize("name", NETWORKS)
def test_parts_of_still_clips(name):
    """The kernels compute the high-resolution blocks of a still clip, too."""
    network = lively(name)
    fold(network)
    parts = partition(still(lower(network, (3, 16, 192, 256))))
    middle = [node for output in parts.middle for node in graph.operations(output)]
    assert high_filters(middle, [(192 >> level, 256 >> level) for level in range(LEVELS)]) == 0
    assert parts.head and parts.steps == [0, 0]


def test_parts_of_a_concatenation():
    """A block that reads a concatenation waits for the blocks that write its parts."""
    network = lively("tinyhd-m-quarter")
    fold(network)
    parts = partition(lower(network, (3, 16, 192, 256)))
    reader = next(block for block in parts.tail if block.source and block.source.node in parts.concats)
    assert set(reader.parts) & {block.node for block in parts.tail}


def test_unsupported_graphs():
    rng = np.random.default_rng(0)
    clip = graph.Input((4, 2, 16, 32))
    map_ = block(rng, graph.shuffle(clip), 4, 1)
    for result in (
        map_,  # no sigmoid
        graph.sigmoid(graph.sigmoid(map_)),
        fusion(convolve(rng, graph.shuffle(clip), 1)),  # no block
        fusion(convolve(rng, graph.relu6(convolve(rng, clip, 1, (1, 3, 3), padding=(0, 1, 1))), 1)),
        fusion(
            graph.add(graph.shuffle(graph.interpolate(convolve(rng, clip, 4), time=2)), map_)
        ),  # another number of frames
        fusion(block(rng, graph.shuffle(clip), 4, 2)),  # a map of two channels
        fusion(convolve(rng, map_.inputs[0], 1, stride=(2, 1, 1))),
        fusion(convolve(rng, map_.inputs[0], 1, padding=(1, 0, 0))),
        fusion(*[map_] * 9),
        fusion(block(rng, graph.shuffle(graph.Input((4, 2, 16, 8))), 4, 1)),  # too narrow
        fusion(block(rng, graph.interpolate(convolve(rng, clip, 1), time=2), 4, 1)),  # not at twice the resolution
    ):
        with pytest.raises(UnsupportedGraph):
            partition(result)


@pytest.fixture
def weights_file(tmp_path):
    network = lively()
    weights.save(tmp_path / "net.safetensors", network.state_dict(), network.spec)
    return tmp_path / "net.safetensors"


def test_without_kernels_another_engine_is_used(weights_file, monkeypatch, tmp_path, caplog):
    """A warning is logged only if ``fused`` was requested."""
    monkeypatch.setenv("TINYHD_ENGINE_CACHE", str(tmp_path / "engines"))
    for module in (selection, builders):
        monkeypatch.setattr(module, "available_isas", lambda: [])
    assert load_model(weights_file, "cpu").engine.name in ("openvino", "onnx", "torch")
    assert not caplog.records
    assert load_model(weights_file, engine="fused").engine.name == "torch"
    assert "fused: no kernels for this machine" in caplog.text


@needs_kernels
def test_kernels_with_wrong_results_are_not_used(weights_file, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("TINYHD_ENGINE_CACHE", str(tmp_path / "engines"))
    infer = Fused.infer
    monkeypatch.setattr(Fused, "infer", lambda self, clip: infer(self, clip)[:, ::-1])
    assert load_model(weights_file, "cpu").engine.name == "openvino"
    (record,) = caplog.records
    assert "fused: maps differ from PyTorch's" in record.getMessage()


@needs_kernels
def test_kernels_of_another_version_are_not_used(weights_file, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("TINYHD_ENGINE_CACHE", str(tmp_path / "engines"))
    monkeypatch.setattr(kernels, "GAP", kernels.GAP + 16)
    assert load_model(weights_file, "cpu").engine.name == "openvino"
    (record,) = caplog.records
    assert "fused: OSError: the kernels were compiled for another version" in record.getMessage()


GRAPH = Path(weights.find(weights.default_name()).file).with_suffix(".graph").name
"""File of the lowered graph of the default weights."""


def wheel(folder, compiler):
    """Build a wheel with this compiler. Return its name and the names of the kernels and graphs in it."""
    found = build_wheel(folder, compiler)
    with zipfile.ZipFile(found) as content:
        return found.name, [Path(name).name for name in content.namelist() if name.endswith((".so", ".graph"))]


@pytest.mark.skipif(
    not shutil.which("cc") or (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="kernels are compiled on Linux and x86, with cc",
)
@pytest.mark.slow  # compiles for a minute; .ci/fresh-install checks the same
def test_a_wheel_contains_the_kernels_and_the_graph(tmp_path):
    name, files = wheel(tmp_path, "cc")
    assert "-py3-none-linux_" in name
    kernels = {f"_{name}_{isa}.so" for name in ("blocks", "training") for isa in ("avx2", "avx512")}
    required = {*kernels, "_pixels.so", "_weighted_f.so", GRAPH}
    assert required <= set(files) <= required | {"_blocks_avx512fp16.so"}  # not compiled by GCC before version 12


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_a_wheel_built_without_a_compiler_has_no_kernels(tmp_path, compiler):
    assert wheel(tmp_path, compiler) == (f"tinyhd-{__version__}-py3-none-any.whl", [GRAPH])
