"""Engines for families without a hand-written lowering: conversion by PyTorch's and OpenVINO's exporters."""

from __future__ import annotations

import importlib.util
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.networks import lively
from helpers.pair import Pair, PairFamily, write_pair

from tinyhd_cli import load_model, models, weights
from tinyhd_cli.engines import generic, self_test
from tinyhd_cli.models import registry

CLIP = self_test.self_test_clip((3, 2, 64, 64))


class Branching(Pair):
    """A network that takes a branch depending on its input, which exporters cannot follow."""

    def forward(self, clip, intermediate=False):
        return super().forward(clip, intermediate) if clip.sum() < 1e9 else clip[:, 0, :1]


class Spectral(Pair):
    """A network with an operation that OpenVINO and ONNX do not have."""

    def forward(self, clip, intermediate=False):
        maps = super().forward(clip)
        return maps * torch.linalg.eigvals(maps[..., :4, :4]).real.sum()


@pytest.fixture
def family(monkeypatch, tmp_path):
    """The family of the tests, registered, with an engine cache of its own; ``family.network`` is what it builds."""

    class Changeable(PairFamily):
        network = Pair

        def build(self, spec):
            return self.network(spec)

    monkeypatch.setenv("TINYHD_ENGINE_CACHE", str(tmp_path / "engines"))
    monkeypatch.setattr(registry, "_registered", {})
    registered = Changeable()
    models.register(registered)
    return registered


@pytest.fixture
def pair_file(family, tmp_path):
    return write_pair(tmp_path / "pair.safetensors")


@pytest.fixture
def converted(monkeypatch):
    """A list with one entry per conversion to OpenVINO."""
    calls = []
    convert = generic.to_openvino
    monkeypatch.setattr(generic, "to_openvino", lambda *rest, **options: calls.append(1) or convert(*rest, **options))
    return calls


def messages(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "tinyhd"]


def test_a_second_load_does_not_convert_again(pair_file, converted):
    first, second = (load_model(pair_file, "cpu").engine for _ in range(2))
    assert (first.name, second.name) == ("openvino", "openvino")
    assert converted == [1]
    reference = load_model(pair_file, "cpu", engine="torch").infer(CLIP)
    assert reference.std() > 1e-3
    for engine in (first, second):
        np.testing.assert_allclose(engine.infer(CLIP), reference, atol=1e-5)


@pytest.mark.parametrize("change", ["tensors", "size", "options", "modules", "source"])
def test_another_network_is_converted_again(family, pair_file, converted, change, monkeypatch, tmp_path):
    load_model(pair_file, "cpu")
    spec, network = models.named_spec("pair-64"), models.create("pair-64")
    if change == "size":
        spec = spec.with_size((64, 96))
    elif change == "options":
        spec = models.named_spec("pair-64", width=4)
        network = models.build(spec)
    elif change == "modules":
        family.network = type("Renamed", (Pair,), {})
    elif change == "source":
        new = tmp_path / "new_version.py"
        new.write_text("# the same tensors, another computation\n")
        monkeypatch.setattr(generic, "source_files", lambda network: [new])
    if change in ("tensors", "size", "options"):
        weights.save(pair_file, network.state_dict(), spec)
    assert load_model(pair_file, "cpu").engine.name == "openvino"
    assert converted == [1, 1]


def test_the_digest_depends_on_the_source_of_all_modules():
    named = {path.name for path in generic.source_files(models.create("hd2s"))}
    assert named == {"network.py", "s3d.py"}
    assert [path.name for path in generic.source_files(Pair(PairFamily.specs[0]))] == ["pair.py"]


@pytest.mark.parametrize("network", [Branching, Spectral])
def test_a_network_that_cannot_be_converted_runs_in_pytorch(family, pair_file, caplog, capfd, network):
    family.network = network
    for engine in ("auto", "openvino", "onnx"):
        caplog.clear()
        loaded = load_model(pair_file, "cpu", engine=engine)
        assert loaded.engine.name == "torch"
        [said] = messages(caplog)
        name, target = ("onnx", "ONNX") if engine == "onnx" else ("openvino", "OpenVINO")
        assert said.startswith(f"{name}: the network cannot be converted to {target}: ")
        assert said.endswith("; using PyTorch, which is several times slower")
        assert said.isprintable()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("network", [Pair, Spectral])
def test_the_root_logger_stays_unchanged(family, pair_file, network):
    """After an error, OpenVINO's converter leaves a level at which the application's warnings are lost."""
    family.network = network
    root = logging.getLogger()
    before = root.level, root.filters.copy(), root.handlers.copy()
    load_model(pair_file, "cpu", engine="openvino")
    assert (root.level, root.filters, root.handlers) == before


def test_an_unsupported_operation_is_named(family, pair_file, caplog):
    family.network = Spectral
    load_model(pair_file, "cpu")
    assert "unsupported operation aten.view_as_real.default;" in caplog.text


@pytest.mark.parametrize(("format", "name"), [("onnx", "net.onnx"), ("openvino", "net.xml")])
@pytest.mark.parametrize("network", [Branching, Spectral])
def test_an_export_that_cannot_be_converted(family, pair_file, tinyhd, capfd, network, format, name):
    family.network = network
    assert tinyhd("export", "--weights", pair_file, "--format", format, "--out", name) == 5
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"tinyhd: {name}: not written: the network cannot be converted to ")
    assert err.count("\n") == 1
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("engine", ["openvino", "fused"])
def test_int8_needs_a_lowering_or_linear_layers(pair_file, caplog, engine):
    loaded = load_model(pair_file, "cpu", engine=engine, precision="int8").engine
    [said] = messages(caplog)
    if engine == "openvino":
        assert (loaded.name, loaded.precision) == ("openvino", "float32")
        assert said == "openvino: int8 is not available for pair-64; using openvino in float32"
    else:
        assert (loaded.name, loaded.precision) == ("torch", "float32")
        assert said == "fused: its kernels do not support pair-64; using PyTorch, which is several times slower"


def test_bf16_is_checked_like_any_precision(pair_file, caplog):
    from tinyhd_cli.engines.openvino import has_bf16

    loaded = load_model(pair_file, "cpu", engine="openvino", precision="bf16").engine
    if has_bf16():
        assert (loaded.precision, messages(caplog)) == ("bf16", [])
    else:
        assert loaded.precision == "float32"
        assert messages(caplog) == ["openvino: this CPU does not support bf16; using openvino in float32"]


def test_onnx_without_its_exporter(pair_file, caplog, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "onnxscript" else find(name))
    assert load_model(pair_file, "cpu", engine="onnx").engine.name == "torch"
    assert messages(caplog) == [
        "onnx: onnxscript is not installed (pip install onnxscript); using PyTorch, which is several times slower"
    ]


def exported_maps(name, clip):
    """Return the maps of an exported file, computed without tinyhd, and the spec in its metadata."""
    if name.endswith(".onnx"):
        import onnxruntime

        session = onnxruntime.InferenceSession(name, providers=["CPUExecutionProvider"])
        spec = session.get_modelmeta().custom_metadata_map["spec"]
        return session.run(["saliency"], {"clip": clip[None]})[0][0], json.loads(spec)
    from tinyhd_cli.engines.openvino import core

    model = core().read_model(name)
    spec = model.get_rt_info(["tinyhd", "spec"]).astype(str)
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled({"clip": clip[None]})["saliency"][0], json.loads(spec)


@pytest.mark.parametrize(("format", "name"), [("onnx", "net.onnx"), ("openvino", "net.xml")])
def test_export(pair_file, tinyhd, capfd, format, name):
    assert tinyhd("export", "--weights", pair_file, "--format", format, "--out", name) == 0
    assert capfd.readouterr().err.count("\n") == 1
    maps, spec = exported_maps(name, CLIP)
    np.testing.assert_allclose(maps, load_model(pair_file, "cpu", engine="torch").infer(CLIP), atol=1e-5)
    assert models.from_dict(spec) == models.named_spec("pair-64")


@pytest.mark.slow
def test_hd2s(tmp_path, tinyhd, capfd, caplog, monkeypatch):
    """OpenVINO by default, converted once; ONNX Runtime on request; both formats of exports."""
    monkeypatch.setenv("TINYHD_ENGINE_CACHE", str(tmp_path / "engines"))
    calls = []
    convert = generic.to_openvino
    monkeypatch.setattr(generic, "to_openvino", lambda *rest, **options: calls.append(1) or convert(*rest, **options))
    network = lively("hd2s", seed=1)  # untrained: it amplifies rounding errors, with other seeds too much
    path = tmp_path / "hd2s.safetensors"
    weights.save(path, network.state_dict(), network.spec, input_size=(64, 96))
    clip = self_test.self_test_clip((3, 16, 64, 96))
    reference = load_model(path, "cpu", engine="torch").infer(clip)
    assert reference.std() > 0.01
    for engine, name in (("auto", "openvino"), ("auto", "openvino"), ("onnx", "onnx")):
        loaded = load_model(path, "cpu", engine=engine)
        assert (loaded.engine.name, loaded.engine.precision) == (name, "float32")
        np.testing.assert_allclose(loaded.infer(clip), reference, atol=5e-4)
    assert calls == [1]
    assert not messages(caplog)
    for format, name in (("onnx", "net.onnx"), ("openvino", "net.xml")):
        assert tinyhd("export", "--weights", path, "--format", format, "--out", name) == 0
        assert capfd.readouterr().err.count("\n") == 1
        maps, spec = exported_maps(name, clip)
        np.testing.assert_allclose(maps, reference, atol=5e-4)
        assert models.from_dict(spec) == models.named_spec("hd2s", input_size=(64, 96))
