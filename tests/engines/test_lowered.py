"""Saved graphs: known weights run without PyTorch, and a damaged or foreign file is never used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from helpers import clips
from helpers.networks import lively

import tinyhd_cli
from tinyhd_cli import load_model, system, weights
from tinyhd_cli.engines import engine_cache, graph, lowered
from tinyhd_cli.engines.loaded import LoadedNetwork
from tinyhd_cli.engines.self_test import LIMITS, Expected, disagreement, self_test_clip
from tinyhd_cli.inference.model import load_network

pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Weights with an input of 64 x 64."""
    network = lively("tinyhd-m-quarter", seed=4)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    weights.save(path, network.state_dict(), network.spec, input_size=(64, 64))
    return path


@pytest.fixture(scope="module")
def network(small):
    return load_network(weights.open_file(small), "cpu", saved=False)[0]


@pytest.fixture(scope="module")
def content(network):
    return lowered.to_bytes(network.graph, network.expected, network.sha256)


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """An engine cache for this test only."""
    monkeypatch.setenv("TINYHD_ENGINE_CACHE", str(tmp_path / "engines"))
    return tmp_path / "engines"


def saved_files(folder):
    return list((folder / "lowered").glob("*.graph"))


def test_a_file_contains_the_same_graph(network, content):
    result, expected = lowered.from_bytes(content, network.sha256)
    assert engine_cache.digest_of([result]) == engine_cache.digest_of([network.graph])
    assert graph.multiply_adds(result) == graph.multiply_adds(network.graph)
    assert np.array_equal(expected.maps, network.expected.maps[:, :: expected.step, :: expected.step])


def damaged(content):
    changed = bytearray(content)
    changed[-100] ^= 1
    return bytes(changed)


def with_facts(content, **facts):
    """Return a file with other facts in its header."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    values = json.loads(header["__metadata__"]["tinyhd"]) | facts
    header["__metadata__"]["tinyhd"] = json.dumps(values)
    encoded = json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + content[8 + length :]


@pytest.mark.parametrize(
    "change",
    [
        damaged,
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: b"\xff" * 100,
        lambda content: with_facts(content, format=0),
        lambda content: with_facts(content, weights="0" * 64),
        lambda content: with_facts(content, step=0),
        lambda content: with_facts(content, operations=[]),
        lambda content: with_facts(content, operations=[None]),
        lambda content: with_facts(content, operations=[{"operation": "Conv", "inputs": [3]}]),
        lambda content: with_facts(content, operations=[{"operation": "Exec", "inputs": []}]),
        lambda content: with_facts(content, operations=[{"operation": "Input", "inputs": [], "size": [1]}]),
    ],
)
def test_other_content_is_refused(network, content, change):
    with pytest.raises(ValueError):
        lowered.from_bytes(change(content), network.sha256)


def test_weights_seen_before_are_not_lowered_again(small, folder, monkeypatch):
    first = load_model(small, "cpu")
    assert len(saved_files(folder)) == 1
    clip = self_test_clip((3, 16, 64, 64))
    maps = first.infer(clip)

    def refuse(*rest):
        raise AssertionError("the network was built again")

    monkeypatch.setattr("tinyhd_cli.inference.model.build", refuse)
    again = load_model(small, "cpu")
    assert (again.name, again.spec, again.sha256) == (first.name, first.spec, first.sha256)
    assert np.array_equal(again.infer(clip), maps)
    monkeypatch.undo()
    assert again.network(first_batch(clip)).shape == (1, 16, 64, 64)  # the module is still there for those who want it


def first_batch(clip):
    import torch

    return torch.from_numpy(clip)[None]


def test_a_damaged_file_is_written_again(small, folder):
    load_model(small, "cpu")
    (path,) = saved_files(folder)
    good = path.read_bytes()
    path.write_bytes(damaged(good))
    load_model(small, "cpu")
    assert path.read_bytes() == good


def test_expected_maps_reveal_a_wrong_engine(network, content):
    _, expected = lowered.from_bytes(content, network.sha256)
    maps = network.in_torch().infer(self_test_clip((3, 16, 64, 64)))[:, :: expected.step, :: expected.step]
    limits = LIMITS["float32"]
    assert not disagreement(maps, expected.maps, network.spec, limits)
    assert disagreement(np.ascontiguousarray(maps[:, ::-1]), expected.maps, network.spec, limits)


def test_the_file_of_the_embedded_weights():
    """After weights are replaced, CONTRIBUTING.md says how to write the file again."""
    file = weights.open_file(weights.default_name())
    assert file.source == "embedded"
    network = load_network(file, "cpu", saved=False)[0]
    result, expected = lowered.from_bytes(file.path.with_suffix(lowered.SUFFIX).read_bytes(), file.sha256)
    assert engine_cache.digest_of([result]) == engine_cache.digest_of([network.graph])
    fresh = network.expected.maps[:, :: expected.step, :: expected.step]
    np.testing.assert_allclose(expected.maps, fresh, rtol=0, atol=1e-5)


def test_a_file_beside_weights_of_a_user_is_not_read(network, small, folder, content):
    """Only the embedded file is trusted; anybody may have written one next to a download."""
    wrong = LoadedNetwork(network.spec, lambda: network.module, network.sha256)
    beside = small.with_suffix(lowered.SUFFIX)
    beside.write_bytes(lowered.to_bytes(graph.sigmoid(wrong.graph), Expected(network.expected.maps), network.sha256))
    try:
        assert load_network(weights.open_file(small), "cpu", saved=True)[0].saved is None
    finally:
        beside.unlink()


def test_threads_while_pytorch_is_being_imported(monkeypatch):
    """Another thread may import it: the module is there, but not its functions."""
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    monkeypatch.setattr(system, "_thread_limit", 0)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert system.engine_threads() == 3
    system.limit_threads(2)
    assert (system.engine_threads(), os.environ["OMP_NUM_THREADS"]) == (2, "2")


WITHOUT_TORCH = """
    import sys
    sys.modules["torch"] = None
    from tinyhd_cli.cli import run
    sys.exit(run(sys.argv[1:]))
"""


def without_torch(folder, *arguments):
    """Run the command line in a process that cannot import PyTorch."""
    environment = {**os.environ, "PYTHONPATH": str(Path(tinyhd_cli.__file__).parents[1])}
    command = [sys.executable, "-c", textwrap.dedent(WITHOUT_TORCH), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_embedded_weights_need_no_pytorch(tmp_path, small):
    clip = clips.make(tmp_path / "clip.mp4", frames=20)
    done = without_torch(tmp_path, "predict", clip, "--npz", "maps.npz", "-o", "out.mp4", "-q")
    assert (done.returncode, done.stderr) == (0, "")
    with np.load(tmp_path / "maps.npz") as maps:
        found = maps["saliency"]
    model = load_model(engine="torch")
    expected = np.stack([saliency for _, saliency in tinyhd_cli.predict(clip, model=model)])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    refused = without_torch(tmp_path, "predict", clip, "--weights", small, "-q")
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
    assert "needs PyTorch, which cannot be imported (pip install torch)" in refused.stderr
    doctor = without_torch(tmp_path, "doctor")
    assert "PyTorch cannot be imported" in " ".join(doctor.stdout.split())


def test_prediction_does_not_import_pytorch(tmp_path):
    clip = clips.make(tmp_path / "clip.mp4", frames=4)
    program = "import sys; from tinyhd_cli.cli import run; code = run(sys.argv[1:]);"
    program += "print(code, *{'torch', 'matplotlib', 'huggingface_hub', 'gradio', 'pandas'} & {*sys.modules})"
    command = [sys.executable, "-c", program, "predict", str(clip), "-o", str(tmp_path / "out.mp4"), "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0\n", "")
