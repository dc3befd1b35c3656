"""The C code compiled for other platforms, run in emulators, compared with PyTorch and with NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.emulators import MACHINES, CWeighted, Emulator
from helpers.tails import Prefix, assert_agrees, block, convolve, fusion, network

from tinyhd_cli.engines import graph
from tinyhd_cli.engines.fused import Fused
from tinyhd_cli.engines.kernels import available_isas
from tinyhd_cli.metrics import ObjectScorer, object_definition, weighted_f

pytestmark = [
    pytest.mark.slow,  # needs packages that the other tests do not need
    pytest.mark.skipif(not available_isas(), reason="no kernels for this machine"),
]


@pytest.fixture(scope="module", params=MACHINES)
def emulator(request, tmp_path_factory):
    return Emulator(request.param, tmp_path_factory.mktemp("emulator"))


def run_in(emulator, library):
    """Return a function that makes engines whose kernels run in an emulator."""

    def make(result):
        engine = Fused(result, Prefix, "float32", 1)
        engine._run = lambda program, _: emulator.call(library, program._obj, engine._referenced)
        return engine

    return make


def test_blocks(emulator):
    rng = np.random.default_rng(0)
    moving = graph.Input((4, 4, 24, 48))
    networks = [
        network(rng, moving, "upsampled", 7, 14, 2, 3, 1, added=True),
        network(rng, moving, "upsampled", 34, 68, 1, 1),  # in several passes
        network(rng, moving, "shuffled", 3, 5, 3, 3, 2, added=True),
        network(rng, moving, "shuffled", 14, 28, 28, 2, 2),
        network(rng, graph.Input((3, 2, 96, 128)), "upsampled", 3, 6, 2, added=True),
    ]
    for library in emulator.blocks:
        for result in networks:
            clip = next(node for node in graph.operations(result) if isinstance(node, graph.Input))
            assert_agrees(result, clip.shape, run_in(emulator, library))


def test_maps_of_one_frame_are_broadcast(emulator):
    rng = np.random.default_rng(0)
    clip = graph.Input((4, 2, 16, 16))
    moving = graph.shuffle(graph.interpolate(convolve(rng, clip, 8), time=2))
    static = graph.shuffle(convolve(rng, clip, 8))
    result = fusion(block(rng, static, 4, 1, 3, 2), block(rng, moving, 4, 1), block(rng, moving, 6, 1))
    for library in emulator.blocks:
        assert_agrees(result, clip.shape, run_in(emulator, library))


class Functions:
    """The compiled function of the weighted F-measure, run in an emulator."""

    def __init__(self, emulator):
        self.emulator = emulator
        self.calls = 0

    def weighted_f_sums(self, prediction, mask, height, width, levels, gauss, rate, close, missed):
        arrays = {"prediction": prediction, "mask": mask.view(np.uint8), "levels": levels, "gauss": gauss}
        argument = CWeighted(height=height, width=width, rate=rate)
        for name, values in arrays.items():
            setattr(argument, name, values.ctypes.data_as(type(getattr(argument, name))))
        self.emulator.call(self.emulator.weighted_f, argument, list(arrays.values()))
        close._obj.value, missed._obj.value = argument.close, argument.missed
        self.calls += 1
        return argument.failed


def test_weighted_f(emulator, monkeypatch):
    functions = Functions(emulator)
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
