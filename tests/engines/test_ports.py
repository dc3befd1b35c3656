"""The C code compiled for other platforms, run in emulators, compared with PyTorch and with NumPy."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from helpers.emulators import MACHINES, CResize, CSums, Emulator
from helpers.networks import lively
from helpers.tails import Middle, assert_agrees, block, convolve, fusion, network, of_several_resolutions

from tinyhd_cli.engines import graph
from tinyhd_cli.engines.fuse_batchnorm import fold
from tinyhd_cli.engines.fused import Fused
from tinyhd_cli.engines.kernels import FEATURES, HALF, available_isas, expected_layout
from tinyhd_cli.engines.lower_tinyhd import lower
from tinyhd_cli.metrics import ObjectScorer, object_definition, weighted_f
from tinyhd_cli.system import cpu_features
from tinyhd_cli.video import pixels
from tinyhd_cli.video.yuv import SDR, to_rgb

pytestmark = [
    pytest.mark.slow,  # needs packages that the other tests do not need
    pytest.mark.skipif(not available_isas(), reason="no kernels for this machine"),
]


@pytest.fixture(scope="module", params=MACHINES)
def emulator(request, tmp_path_factory):
    return Emulator(request.param, tmp_path_factory.mktemp("emulator"))


def isas_of(emulator):
    """Return the instruction sets of the compiled kernels that the emulator has: Wine runs them on this CPU."""
    isas = [name.removeprefix("_blocks_").partition(".")[0] for name in emulator.libraries if "_blocks_" in name]
    return [isa for isa in isas if isa == "neon" or FEATURES[isa] <= cpu_features()]


def run_in(emulator, isa):
    """Return a function that makes engines whose kernels run in an emulator."""

    def make(result):
        engine = Fused(result, Middle, "float32", 1, isa if isa in HALF else None)
        clips = []
        infer = engine.infer
        engine.infer = lambda clip: infer(clips.append(clip) or clip)
        engine._run = lambda program, _: emulator.call(
            f"_blocks_{isa}.", "run", program._obj, engine._referenced + clips[-1:], expected_layout(isa)
        )
        return engine

    return make


def test_blocks(emulator):
    """Half precision needs widths that are multiples of 64."""
    rng = np.random.default_rng(0)
    moving = graph.Input((4, 4, 24, 64))
    networks = [
        network(rng, moving, "upsampled", 7, 14, 2, 3, 1, added=True),
        network(rng, moving, "upsampled", 34, 68, 1, 1),  # in several passes
        network(rng, moving, "shuffled", 3, 5, 3, 3, 2, added=True),
        network(rng, moving, "shuffled", 14, 28, 28, 2, 2),
        network(rng, graph.Input((3, 2, 96, 128)), "upsampled", 3, 6, 2, added=True),
        of_several_resolutions(rng, graph.Input((4, 2, 16, 64))),
    ]
    for isa in isas_of(emulator):
        for result in networks:
            clip = next(node for node in graph.operations(result) if isinstance(node, graph.Input))
            assert_agrees(result, clip.shape, run_in(emulator, isa))


def test_a_network(emulator):
    """The encoder's first blocks, too. Random weights amplify rounding errors."""
    network = lively("tinyhd-m-quarter")
    fold(network)
    for isa in isas_of(emulator):
        shape = (3, 16, 64, 256 if isa in HALF else 128)
        assert_agrees(lower(network, shape), shape, run_in(emulator, isa), single=1e-4, half=0.15, seeds=1)


def test_maps_of_one_frame_are_broadcast(emulator):
    rng = np.random.default_rng(0)
    clip = graph.Input((4, 2, 16, 32))
    moving = graph.shuffle(graph.interpolate(convolve(rng, clip, 8), time=2))
    static = graph.shuffle(convolve(rng, clip, 8))
    result = fusion(block(rng, static, 4, 1, 3, 2), block(rng, moving, 4, 1), block(rng, moving, 6, 1))
    for isa in isas_of(emulator):
        assert_agrees(result, clip.shape, run_in(emulator, isa))


def call(emulator, library, function, argument, arrays, more=()):
    """Call a function with a structure that points to these arrays, and to more."""
    for name, values in arrays.items():
        setattr(argument, name, values.ctypes.data_as(type(getattr(argument, name))))
    emulator.call(library, function, argument, [*arrays.values(), *more])


class WeightedF:
    """The compiled library of the weighted F-measure, run in an emulator."""

    def __init__(self, emulator):
        self.emulator = emulator
        self.calls = 0

    def weighted_f_sums(self, prediction, mask, height, width, levels, gauss, rate, close, missed):
        argument = CSums(height=height, width=width, rate=rate)
        arrays = {"prediction": prediction, "mask": mask, "levels": levels, "gauss": gauss}
        call(self.emulator, "_weighted_f", "weighted_f_sums", argument, arrays)
        close._obj.value, missed._obj.value = argument.close, argument.missed
        self.calls += 1
        return argument.failed


def test_weighted_f(emulator, monkeypatch):
    functions = WeightedF(emulator)
    monkeypatch.setattr(weighted_f, "library", lambda: functions)
    monkeypatch.setattr(weighted_f, "MAX_ALARMS", 2)
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (7, 30), (70, 360), (100, 33)):
        prediction = rng.integers(0, 256, (height, width)).astype(np.uint8)
        mask = np.zeros((height, width), bool)
        mask[: height // 3 + 1, : width // 4 + 1] = True
        expected = object_definition.weighted_f(prediction / 255, mask)
        assert ObjectScorer(prediction, mask).weighted_f() == pytest.approx(expected, abs=1e-6)
    assert functions.calls == 4


def resize(emulator, image, size, factors, shifts):
    """Compute ``pixels.resize_to_planes`` in an emulator."""
    rows, columns = pixels.neighbors(image.shape[0], size[0], 1), pixels.neighbors(image.shape[1], size[1], 3)
    tables = [
        np.ctypeslib.as_array(getattr(one, name), (count,))
        for one, count in ((rows, size[0]), (columns, size[1]))
        for name in ("first", "second", "weights")
    ]
    argument = CResize(rows=ctypes.pointer(rows), columns=ctypes.pointer(columns), stride=image.strides[0])
    argument.pixels, (argument.height, argument.width) = image.shape[1], size
    arrays = {"image": image, "factors": factors, "shifts": shifts}
    arrays |= {"row": np.empty(3 * image.shape[1] + 1, np.float32), "result": np.empty((3, *size), np.float32)}
    call(emulator, "_pixels", "resize", argument, arrays, [rows, columns, *tables])
    return arrays["result"]


def test_pixels(emulator):
    """The results are the same as on this machine to the bit."""
    rng = np.random.default_rng(0)
    factors, shifts = rng.normal(0, 1, (2, 3)).astype(np.float32)
    image = rng.integers(0, 256, (97, 131, 3), dtype=np.uint8)
    for size in ((35, 77), (192, 256)):
        expected = pixels.resize_to_planes(image, size, factors, shifts)
        np.testing.assert_array_equal(resize(emulator, image, size, factors, shifts), expected)
    planes = [rng.integers(0, 256, size, dtype=np.uint8) for size in ((96, 132), (48, 66), (48, 66))]
    reduction, arrays = pixels.to_reduction(planes, 3, to_rgb(SDR))
    emulator.call("_pixels", "reduce", reduction, arrays)
    np.testing.assert_array_equal(arrays[0], pixels.reduce_planes(planes, 3, to_rgb(SDR)))
    table = pixels.mixtures(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8)[::-1] // 2)
    found, expected = ([np.zeros_like(plane) for plane in planes] for _ in range(2))
    values = np.ascontiguousarray(image[:70, :100, 1])
    painting, arrays = pixels.to_painting(planes, values, [table] * 3, found)
    emulator.call("_pixels", "paint", painting, arrays)
    pixels.paint(planes, values, [table] * 3, expected)
    for plane, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(plane, other)
