"""``tinyhd benchmark`` measures and prints; tests do not assert how fast a machine is."""

from __future__ import annotations

import functools
import json

import pytest
from helpers import clips
from helpers.networks import lively
from torch import nn

from tinyhd_cli import benchmarks, weights
from tinyhd_cli.benchmarks import cost, metrics, model_runs, networks
from tinyhd_cli.models import Family, ModelSpec, named_spec


def test_predict(tinyhd, weights_file, capsys):
    options = ("--short", "0.2", "--long", "0.6", "--size", "64x48", "--weights", weights_file, "--json")
    assert tinyhd("benchmark", "predict", *options) == 0
    result = json.loads(capsys.readouterr().out)
    short, long = result["runs"]
    assert (short["frames"], long["frames"]) == (6, 18)
    for run in (short, long):
        assert run["seconds"] > 0.1
        assert 100 < run["peak_mb"] < 10_000
    assert result["growth_mb"] == pytest.approx(long["peak_mb"] - short["peak_mb"])


def test_stages(tinyhd, tmp_path, weights_file, capsys):
    video = clips.make(tmp_path / "clip.mp4", frames=20)
    command = ("benchmark", "predict", "--stages", video, "--weights", weights_file)
    assert tinyhd(*command, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert list(stages) == ["decode", "scale", "network", "draw", "encode"]
    assert found["frames"] == 20
    assert all(stage["ms"] > 0 for stage in stages.values())
    assert found["copied_per_s"] > 0
    for name in ("cpu_ms", "copied_cpu_ms", "encode_source_cpu_ms"):
        assert found[name] > 0
    assert found["bottleneck"] == max(stages, key=lambda name: stages[name]["cpu_ms"])
    assert tinyhd(*command) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Bottleneck: " in shown
    assert "times that of decoding and encoding alone" in shown


@pytest.mark.slow
def test_model(tinyhd, weights_file, capsys, monkeypatch):
    # The same measurements are shown in both forms.
    measured = functools.cache(
        lambda names, rounds, file, memory: list(model_runs([*names], rounds, file, memory=memory))
    )
    monkeypatch.setattr(benchmarks, "model_runs", lambda names, *rest, memory: measured(tuple(names), *rest, memory))
    command = ("benchmark", "model", "--weights", weights_file, "--rounds", "1", "--no-memory")
    assert tinyhd(*command, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    [network] = found["networks"]
    assert network["parameters"] == 515_281
    assert network["macs"] == pytest.approx(3.56e9 / 16, rel=0.01)
    assert 50 < network["activation_mb"] < network["outputs_mb"]
    runs = {(run["engine"], run["precision"]): run for run in found["runs"]}
    original = runs["torch, original graph", "float32"]
    assert original["ratio"] == original["median_ratio"] == 1
    for run in runs.values():
        assert run["ratio"] == pytest.approx(original["best_ms"] / run["best_ms"])
    assert runs["openvino", "float32"]["correlation"] > 0.9999
    assert {("torch", "float32"), ("onnx", "float32"), ("openvino", "int8")} <= runs.keys()
    assert tinyhd(*command) == 0
    assert "515,281 parameters, 222.3 M multiply-adds per map" in capsys.readouterr().out


@pytest.mark.slow
def test_a_model_over_many_frames(tinyhd, tmp_path, capsys):
    network = lively("uva-32")
    weights.save(tmp_path / "uva.safetensors", network.state_dict(), named_spec("uva-32"))
    command = (
        "benchmark",
        "model",
        "--weights",
        tmp_path / "uva.safetensors",
        "--rounds",
        "1",
        "--no-memory",
        "--json",
    )
    assert tinyhd(*command) == 0
    found = json.loads(capsys.readouterr().out)
    assert 160_000 <= found["networks"][0]["parameters"] <= 180_000
    for run in found["runs"]:
        assert run["maps_per_s"] == pytest.approx(16e3 / run["median_ms"])
        assert run["correlation"] > (0.99 if run["precision"] == "bf16" else 0.9999)


class Layers(nn.Module):
    """A convolution of 8 x 8 pixels to 4 x 4, and a transposed one back, with views and a sum that are not counted."""

    def __init__(self, spec):
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ConvTranspose2d(6, 1, 4, 2, 1)

    def forward(self, clip):
        x = self.down(clip.unbind(2)[0])
        return self.up(x.view(1, 6, 4, 4)) + 1


@pytest.mark.slow
def test_large_networks_are_compared_only_by_name(monkeypatch):
    """The default names are those of networks that a usual machine runs in every engine."""
    assert networks.parameters(named_spec("thtdnet")) == 50_326_726
    names = networks.engine_networks()
    assert {"tinyhd-m", "stkd-pair"} <= set(names)
    assert "thtdnet" not in names
    monkeypatch.setattr(networks, "MAX_PARAMETERS", 500_000)
    assert {name.partition("-")[0] for name in networks.engine_networks()} == {"uva", "dis"}


def test_the_cost_of_a_network(monkeypatch):
    spec = ModelSpec("layers", "layers", clip_frames=2, input_size=(8, 8), size_multiple=8, side_limits=(8, 8))
    monkeypatch.setattr(cost, "named_spec", lambda name: spec)
    monkeypatch.setattr(cost, "build", Layers)
    monkeypatch.setattr(cost, "family", lambda spec: Family())
    found = cost.costs("layers")
    assert found.macs == 6 * 4 * 4 * 3 * 9 + 6 * 4 * 4 * 16
    assert found.parameters == 3 * 6 * 9 + 6 + 6 * 16 + 1
    assert found.outputs_mb == pytest.approx(4 * (6 * 16 + 64) / 1e6)
    assert found.activation_mb == pytest.approx(4 * (6 * 16 + 2 * 64) / 1e6)  # both layers' outputs and the sum


@pytest.mark.slow
def test_memory_of_a_model():
    from tinyhd_cli.benchmarks.model import peak_of

    found = peak_of("tinyhd-s-quarter", "openvino", "float32")
    assert found is None or 100 < found < 2000


@pytest.mark.parametrize(
    "options", [("tinyhd-x",), ("--rounds", "0"), ("tinyhd-m", "--weights", "tinyhd-m.safetensors")]
)
def test_wrong_usage_of_model(tinyhd, capsys, options):
    assert tinyhd("benchmark", "model", *options) == 2
    assert options[-2:][0] in capsys.readouterr().err


@pytest.mark.parametrize("options", [("--size", "63x48"), ("--size", "640"), ("--size", "0x0"), ("--rate", "0")])
def test_wrong_usage(tinyhd, capsys, options):
    assert tinyhd("benchmark", "predict", *options) == 2
    assert options[0] in capsys.readouterr().err


def test_a_failing_run_is_reported(tinyhd, tmp_path, capsys):
    options = ("--short", "0.1", "--long", "0.1", "--size", "64x48", "--weights", tmp_path / "none.pth")
    assert tinyhd("benchmark", "predict", *options) == 1
    assert "exit code 4" in capsys.readouterr().err


def test_metrics(tinyhd, capsys, monkeypatch):
    monkeypatch.setattr(metrics, "SIZE", (90, 160))
    monkeypatch.setattr(metrics, "CROWDSAL_SIZES", ((54, 96), (108, 192)))
    assert tinyhd("benchmark", "metrics", "--rounds", "2", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert {"AUC-J", "AUC-B", "s-AUC", "CC", "NSS", "SIM", "KLDiv", "IG", "all eight"} <= result["timings"].keys()
    assert all(0 < timing["best_ms"] <= timing["median_ms"] for timing in result["timings"].values())
    assert result["times_faster_than_random_splits"] > 0
    kinds = ("map of a network", "map of 10 bits", "decoding a frame of a map video")
    assert set(result["crowdsal_timings"]) == {f"{kind}, {size}" for kind in kinds for size in ("54 x 96", "108 x 192")}
    assert {"all nine, sharp map", "all nine, pixel by pixel"} <= result["object_timings"].keys()
    assert all(0 < timing["best_ms"] <= timing["median_ms"] for timing in result["object_timings"].values())
    assert result["times_faster_than_pixel_by_pixel"] > 5
    assert tinyhd("benchmark", "metrics", "--rounds", "1") == 0
    output = capsys.readouterr().out
    assert "decoding three PNGs" in output and "times faster than pixel by pixel" in output
    assert tinyhd("benchmark", "metrics", "--rounds", "0") == 2


def test_teacher(tinyhd, weights_file, capsys):
    command = ("benchmark", "teacher", weights_file, "--rounds", "1")
    assert tinyhd(*command, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["teacher"], result["student"]) == (str(weights_file), "tinyhd-m-quarter")
    plain, fast = result["runs"]
    assert (plain["engine"], plain["ratio"], plain["difference"]) == ("torch", 1, 0)
    assert fast["engine"] in ("fused float32", "openvino float32")
    assert 0 < fast["difference"] < 0.01
    assert fast["frames_per_s"] == pytest.approx(16 / fast["clip_s"])
    assert fast["ratio"] == pytest.approx(plain["clip_s"] / fast["clip_s"])
    assert tinyhd(*command, "--teacher-step", "4") == 0
    assert "frames per second" in capsys.readouterr().out
    assert tinyhd(*command, "--rounds", "0") == 2


@pytest.mark.slow
def test_train(tinyhd, capsys):
    assert tinyhd("benchmark", "train", "--batch", "1", "--steps", "1", "--json") == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    on_cpu = {run["name"]: run for run in runs if run["device"] == "cpu"}
    assert set(on_cpu) == {"plain eager", "fast", "fast, bf16"}
    plain = on_cpu["plain eager"]["clips_per_s"]
    for run in on_cpu.values():
        assert run["ratio"] == pytest.approx(run["clips_per_s"] / plain)


@pytest.mark.parametrize("options", [("--batch", "0"), ("--steps", "0"), ("--model", "hd2s"), ("--model", "vgg")])
def test_wrong_usage_of_train(tinyhd, capsys, options):
    assert tinyhd("benchmark", "train", *options) == 2
    error = capsys.readouterr().err
    assert options[0] in error or options[1] in error
