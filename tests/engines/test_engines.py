"""The lowered graph, the engines that run it, and the selection of an engine."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys
import textwrap
from importlib import metadata
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import clips, graph_runner
from helpers.networks import lively

from tinyhd_cli import load_model, weights
from tinyhd_cli.engines import base, graph, selection, self_test
from tinyhd_cli.engines.fuse_batchnorm import fold
from tinyhd_cli.engines.kernels import available_isas
from tinyhd_cli.engines.lower_tinyhd import array, fuse, lower, rounded_up, up
from tinyhd_cli.engines.lower_tinyhd import block as rewrite_block
from tinyhd_cli.errors import UsageError
from tinyhd_cli.models import create
from tinyhd_cli.models.blocks.mobilenet3d import ConvNorm, InvertedResidual, interpolate, pixel_shuffle_frames
from tinyhd_cli.models.families.tinyhd.decoders import UNetDecoder
from tinyhd_cli.video.reader import VideoReader

FASTEST = "fused" if available_isas() else "openvino"
NETWORKS = [f"tinyhd-{outputs}{width}" for outputs in "ms" for width in ("", "-half", "-quarter")]


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def same(result, clip, expected):
    torch.testing.assert_close(graph_runner.run(result, clip), expected, atol=1e-6, rtol=0)


def test_shuffle():
    x = noise(1, 24, 3, 4, 5)
    same(graph.shuffle(graph.Input((24, 3, 4, 5))), x, pixel_shuffle_frames(x))


@pytest.mark.parametrize("multi", [False, True])
def test_time_is_interpolated_before_the_shuffle(multi):
    decoder = UNetDecoder("multi" if multi else "single", 4)
    x = noise(1, 8, 3, 4, 5)
    same(up(decoder, graph.Input((8, 3, 4, 5))), x, decoder.up(x))


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 7])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (2, 2, 0), (1, 1, 0)])
def test_unused_taps(frames, kernel, stride, padding):
    if frames + 2 * padding < kernel:
        pytest.skip("no output")
    layer = torch.nn.Conv3d(2, 2, (kernel, 3, 3), (stride, 1, 1), (padding, 1, 1), groups=2).double()
    x = noise(1, 2, frames, 4, 5)
    pruned = graph.convolve(
        graph.Input((2, frames, 4, 5)),
        layer.weight.detach().numpy(),
        layer.bias.detach().numpy(),
        stride=layer.stride,
        padding=layer.padding,
        depthwise=True,
    )
    same(pruned, x, layer(x).detach())
    if frames == 1 and kernel == 3:
        assert pruned.weight.shape[2] == 1


def test_a_pointwise_convolution_goes_before_an_interpolation():
    layer = torch.nn.Conv3d(3, 6, 1).double()
    x = noise(1, 3, 4, 4, 5)
    stretched = graph.interpolate(graph.Input((3, 4, 4, 5)), time=2, space=2)
    result = graph.convolve(stretched, layer.weight.detach().numpy(), layer.bias.detach().numpy())
    assert isinstance(result, graph.Interpolate) and isinstance(result.inputs[0], graph.Conv)
    same(result, x, layer(interpolate(x, time=2, space=2)).detach())


def test_fusion_without_repetition():
    """Maps with one and with several time steps, in mixed order."""
    layer = torch.nn.Conv3d(3, 1, 1).double()
    x = noise(1, 1, 4, 4, 5)
    clip = graph.Input((1, 4, 4, 5))
    first = graph.convolve(clip, np.ones((1, 1, 4, 1, 1)), np.zeros(1))  # the sum of all frames
    result = fuse([clip, first, clip], array(layer.weight).ravel(), layer.bias.item())
    repeated = torch.cat([x, x.sum(2, keepdim=True).expand(-1, -1, 4, -1, -1), x], dim=1)
    same(result, x, torch.sigmoid(layer(torch.sigmoid(repeated))).detach())


@pytest.mark.parametrize("name", NETWORKS)
def test_the_rewritten_network(name):
    network = lively(name, decoders=("d3", "d1", "d2"))
    fold(network)
    result = lower(network, (3, 16, 64, 96))
    clip = noise(1, 3, 16, 64, 96)
    with torch.inference_mode():
        expected = network.double()(clip)
    assert expected.std() > 0.01
    torch.testing.assert_close(graph_runner.run(result, clip)[:, 0], expected, atol=1e-6, rtol=0)


def test_multiply_adds():
    """At most the 3.56 G of the unmodified network, although channels are padded."""
    network = create("tinyhd-m-quarter").eval()
    fold(network)
    assert 3.3e9 < graph.multiply_adds(lower(network, (3, 16, 192, 256))) < 3.56e9


@pytest.mark.parametrize(("channels", "filled"), [(4, 4), (6, 8), (12, 16), (14, 16), (16, 16), (17, 24)])
def test_channels_are_padded_to_vectors(channels, filled):
    assert rounded_up(channels) == (channels if 3 * (filled - channels) > channels else filled)
    block = InvertedResidual(channels, 3, expansion=1, skip=False).double().eval()
    block.expand = ConvNorm(channels, channels).double()
    fold(block.eval())
    x = noise(1, channels, 3, 4, 5)
    result = rewrite_block(graph.Input((channels, 3, 4, 5)), block)
    inside = [node.shape[0] for node in graph.operations(result) if isinstance(node, graph.Relu6)]
    assert inside == [rounded_up(channels)] * 2
    same(result, x, block(x).detach())


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow) if "half" in name else name for name in NETWORKS],
)
def lively_file(request, tmp_path_factory):
    network = lively(request.param)
    path = tmp_path_factory.mktemp("networks") / f"{request.param}.safetensors"
    weights.save(path, network.state_dict(), network.spec)
    return path


@pytest.mark.parametrize("engine", [*base.PACKAGES])
def test_engines_agree(lively_file, engine):
    if engine == "fused" and not available_isas():
        pytest.skip("no kernels for this machine")
    clip = self_test.self_test_clip((3, 16, 192, 256))
    loaded = load_model(lively_file, engine=engine)
    assert (loaded.engine.name, loaded.engine.precision) == (engine, "float32")
    difference, correlation = self_test.compare(
        loaded.engine.infer(clip), load_model(lively_file, engine="torch", device="cpu").engine.infer(clip)
    )
    assert difference < 1e-3  # untrained networks multiply rounding errors
    assert correlation > 0.999999


@pytest.mark.parametrize(
    ("engine", "precision", "limit"),
    [
        ("fused", "float32", 1e-4),
        ("fused", "bf16", 0.03),
        ("openvino", "int8", 0.1),
        pytest.param("openvino", "float32", 1e-4, marks=pytest.mark.slow),
        pytest.param("openvino", "bf16", 0.03, marks=pytest.mark.slow),
        pytest.param("fused", "int8", 0.1, marks=pytest.mark.slow),
    ],
)
def test_precisions_of_trained_weights(shared, engine, precision, limit):
    """Compare with PyTorch on a real video."""
    from tinyhd_cli.engines.openvino import has_bf16

    if engine == "fused" and not available_isas():
        pytest.skip("no kernels for this machine")
    for letter in "ms":
        file = shared / "upstream" / f"d123{letter}_rc4_rc1T.pth"
        if precision == "bf16" and not has_bf16():  # not skipped, because this CPU uses another precision instead
            assert load_model(file, engine=engine, precision=precision).engine.precision == "float32"
            continue
        ours = load_model(file, engine=engine, precision=precision)
        with VideoReader(shared / "upstream" / "0068.AVI") as reader:
            window = [ours.prepare(frame.rgb()) for frame in islice(reader, 100, 116)]
        clip = np.stack(window, axis=1)
        assert ours.engine.precision == precision
        theirs = load_model(file, "cpu", engine="torch")
        difference, correlation = self_test.compare(ours.engine.infer(clip), theirs.engine.infer(clip))
        assert difference <= limit
        assert correlation >= self_test.LIMITS[precision].correlation


def test_auto_selects_float32_for_exact_results(weights_file, monkeypatch):
    monkeypatch.setattr(selection, "mismatch", lambda *rest: "")
    monkeypatch.setattr(selection.engine_cache, "read_verdict", lambda *rest: None)
    monkeypatch.setattr(selection.engine_cache, "write_verdict", lambda *rest: None)
    from tinyhd_cli.engines.openvino import has_bf16

    assert load_model(weights_file, "cpu").engine.precision == "float32"
    expected = "bf16" if has_bf16() else "float32"
    assert load_model(weights_file, "cpu", exact=False).engine.precision == expected


def test_a_verdict_is_cached(weights_file, monkeypatch, tmp_path):
    monkeypatch.setenv("TINYHD_ENGINE_CACHE", str(tmp_path / "engines"))
    calls = []
    mismatch = selection.mismatch
    monkeypatch.setattr(selection, "mismatch", lambda *rest: calls.append(1) or mismatch(*rest))
    for _ in range(2):
        assert load_model(weights_file, "cpu").engine.name == FASTEST
    assert len(calls) == 1
    assert list((tmp_path / "engines" / "compiled").glob("*.blob"))


def test_a_cache_that_cannot_be_written_is_not_used(weights_file, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("TINYHD_ENGINE_CACHE", str(tmp_path / "file" / "engines"))
    assert load_model(weights_file, "cpu").engine.name == FASTEST


def test_a_damaged_cache_is_not_used(weights_file, monkeypatch, tmp_path):
    monkeypatch.setenv("TINYHD_ENGINE_CACHE", str(tmp_path))
    load_model(weights_file, "cpu")
    for file in tmp_path.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:100])
    assert load_model(weights_file, "cpu").engine.name == FASTEST


def predicts(tinyhd, tmp_path, weights_file, capsys, *options):
    """Return the messages of predict without its last line, and the engine in the JSON summary."""
    video = clips.make(tmp_path / "clip.mp4", frames=2)
    assert tinyhd("predict", video, "--weights", weights_file, "--json", "o.json", *options) == 0
    *said, last = capsys.readouterr().err.splitlines()
    assert "2 frames" in last
    return said, json.loads(Path("o.json").read_text())["engine"]


def test_a_missing_engine_falls_back(tinyhd, tmp_path, weights_file, capsys, monkeypatch):
    version = metadata.version

    def missing(name):
        if name in base.PACKAGES.values():
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", missing)
    for options in ((), ("--engine", "openvino")):
        said, engine = predicts(tinyhd, tmp_path, weights_file, capsys, *options)
        assert engine == {"name": "torch", "precision": "float32"}
        assert len(said) == 1
        assert "not installed (pip install openvino)" in said[0]


def test_a_broken_engine_falls_back(tinyhd, tmp_path, weights_file, capsys, monkeypatch):
    imported = builtins.__import__

    def broken(name, *rest, **more):
        if name == "openvino" or (name.endswith("openvino") and rest[3:] and rest[3]):
            raise ImportError("libopenvino.so: cannot open shared object file")
        return imported(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", broken)
    said, engine = predicts(tinyhd, tmp_path, weights_file, capsys)
    assert engine["name"] == "onnx"
    assert len(said) == 1
    assert "openvino: ImportError: libopenvino.so" in said[0]


def test_an_engine_with_wrong_results_falls_back(tinyhd, tmp_path, weights_file, capsys, monkeypatch):
    from tinyhd_cli.engines.openvino import OpenVino

    monkeypatch.setenv("TINYHD_ENGINE_CACHE", str(tmp_path / "engines"))
    infer = OpenVino.infer
    monkeypatch.setattr(OpenVino, "infer", lambda self, clip: infer(self, clip[:, ::-1].copy()))
    for _ in range(2):  # the second run reads the cached verdict
        said, engine = predicts(tinyhd, tmp_path, weights_file, capsys, "--engine", "openvino")
        assert engine["name"] == "torch"
        assert len(said) == 1
        assert "maps differ from PyTorch's" in said[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "openvina"}, "did you mean openvino"),
        ({"precision": "fp32"}, "--precision"),
        ({"engine": "onnx", "precision": "int8"}, "--precision int8"),
        ({"engine": "torch", "precision": "bf16", "device": "cpu"}, "--precision bf16"),
    ],
)
def test_wrong_usage(weights_file, options, message):
    with pytest.raises(UsageError, match=message):
        load_model(weights_file, **options)


@pytest.mark.parametrize(("format", "name"), [("onnx", "net.onnx"), ("openvino", "net.xml")])
def test_export(tinyhd, weights_file, capsys, format, name):
    """Another program gets the same maps from the file, whose metadata describe the preprocessing."""
    assert tinyhd("export", "--format", format, "--weights", weights_file, "--out", name) == 0
    assert name in capsys.readouterr().err
    expected = {"net.onnx"} if format == "onnx" else {"net.xml", "net.bin"}
    assert {path.name for path in Path().iterdir()} == expected
    clip = self_test.self_test_clip((3, 16, 192, 256))
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(name)
        saliency = session.run(None, {"clip": clip[np.newaxis]})[0]
        metadata_of_file = session.get_modelmeta().custom_metadata_map
    else:
        from tinyhd_cli.engines.openvino import core

        model = core().read_model(name)
        saliency = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})({"clip": clip[None]})[0]
        metadata_of_file = {key: model.get_rt_info(["tinyhd", key]).astype(str) for key in ("model", "mean")}
    assert saliency.shape == (1, 16, 192, 256)
    assert metadata_of_file["model"] == "tinyhd-m-quarter"
    assert len(metadata_of_file["mean"].split()) == 3
    reference = load_model(weights_file, "cpu", engine="torch")
    np.testing.assert_allclose(saliency[0], reference.engine.infer(clip), atol=1e-3)


def test_signals_after_engines_are_deleted_in_any_order():
    # Deleting one of several ``ov.Core`` leaves a dangling signal stack: the next signal would crash the process.
    source = """
        import faulthandler, gc, os, signal
        from tinyhd_cli.engines.graph import Input, convolve
        from tinyhd_cli.engines.openvino import OpenVino, has_bf16, to_openvino
        import numpy as np

        faulthandler.enable()
        graph = convolve(Input((3, 1, 2, 2)), np.ones((1, 3, 1, 1, 1), np.float32), np.zeros(1, np.float32))
        engines = [OpenVino(lambda: to_openvino(graph), "float32", 1) for _ in range(3)]
        while engines:
            del engines[0]
            gc.collect()
        signal.signal(signal.SIGTERM, lambda *ignored: print("arrived"))
        os.kill(os.getpid(), signal.SIGTERM)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "arrived\n", "")


def test_an_export_with_wrong_results_is_not_written(tinyhd, weights_file, capsys, monkeypatch):
    from tinyhd_cli.engines import export

    monkeypatch.setattr(export, "mismatch", lambda *rest: "maps differ")
    assert tinyhd("export", "--weights", weights_file, "--out", "net.onnx") == 5
    assert capsys.readouterr().err == "tinyhd: net.onnx: not written: its maps differ\n"
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--out", "net.xml"), 2, "must end in .onnx, or add --format openvino\n"),
        (("--out", "net.foo"), 2, "must end in .onnx\n"),
        (("--out", "net.onnx", "--format", "onyx"), 2, "did you mean onnx"),
        (("--out", "file/net.onnx"), 5, "cannot be written"),
        (("--out", "net.onnx", "--weights", "gone.pth"), 4, "no such file"),
    ],
)
def test_exports_that_fail(tinyhd, weights_file, capsys, options, code, message):
    Path("file").write_text("mine")
    options = options if "--weights" in options else (*options, "--weights", weights_file)
    assert tinyhd("export", *options) == code
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert [path.name for path in Path().iterdir()] == ["file"]
