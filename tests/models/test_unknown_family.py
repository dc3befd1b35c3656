"""A family that only these tests know is predicted, evaluated, trained, distilled, exported, and live."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from helpers import clips, pair, training_data
from helpers.networks import lively
from helpers.pair import Pair, PairFamily

from tinyhd_cli import load_model, models, weights
from tinyhd_cli.engines.generic import digest_of
from tinyhd_cli.errors import UsageError, WeightsError
from tinyhd_cli.inference.preprocess import network_input, reduced
from tinyhd_cli.models import registry
from tinyhd_cli.training import prepare
from tinyhd_cli.training.clips import Pick
from tinyhd_cli.training.options import TrainConfig
from tinyhd_cli.training.validation import Validator
from tinyhd_cli.video.reader import VideoReader


@pytest.fixture(autouse=True)
def family(monkeypatch):
    """The family, registered for one test."""
    monkeypatch.setattr(registry, "_registered", {})
    family = PairFamily()
    models.register(family)
    return family


@pytest.fixture
def pair_file(tmp_path):
    """A weights file of the network."""
    torch.manual_seed(3)
    network = models.create("pair-64")
    path = tmp_path / "pair.safetensors"
    weights.save(path, network.state_dict(), models.named_spec("pair-64"), name="mine", training_data="nothing")
    return path


def tinyhd_messages(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "tinyhd"]


def training_rows(path: str) -> list[dict[str, str]]:
    """Return the rows of a log that are training steps."""
    rows = csv.DictReader(Path(path).read_text(encoding="utf-8").splitlines())
    return [row for row in rows if row["split"] == "train"]


def expected_maps(video, path) -> np.ndarray:
    """Return the maps of a video, computed frame by frame in plain PyTorch."""
    checkpoint = weights.load(path)
    network = Pair(checkpoint.spec).eval()
    network.load_state_dict(checkpoint.state_dict)
    with VideoReader(video) as reader:
        frames = [
            torch.from_numpy(network_input(reduced(f, checkpoint.spec.preprocess), checkpoint.spec)) for f in reader
        ]
    pairs = [
        torch.stack([frame, following], 1) for frame, following in zip(frames, [*frames[1:], frames[-1]], strict=True)
    ]
    with torch.no_grad():
        return np.concatenate([network(pair[None])[0].numpy() for pair in pairs])


def test_predict_and_json(tmp_path, tinyhd, pair_file):
    """The map of a frame comes from it and the next one; the last frame is repeated."""
    video = clips.make(tmp_path / "clip.mp4", frames=7, audio="aac")
    arguments = (
        "--engine",
        "torch",
        "--overlay",
        "out.mp4",
        "--npz",
        "maps.npz",
        "--json",
        "run.json",
        "--csv",
        "run.csv",
    )
    assert tinyhd("predict", video, "--weights", pair_file, *arguments) == 0
    with np.load("maps.npz") as arrays:
        assert arrays["saliency"].shape == (7, 64, 64)
        np.testing.assert_allclose(arrays["saliency"], expected_maps(video, pair_file), atol=1e-6)
    spec = json.loads(Path("run.json").read_text(encoding="utf-8"))["model"]["spec"]
    assert (spec["family"], spec["clip_frames"], spec["map_frame"], spec["options"]) == ("pair", 2, 0, {"width": 8})
    assert len(clips.frames("out.mp4")) == 7


def test_engines_agree_or_fall_back(pair_file, caplog):
    """OpenVINO and ONNX Runtime are checked against PyTorch; the kernels and int8 are TinyHD's."""
    noise = np.random.default_rng(1).normal(size=(3, 2, 64, 64)).astype(np.float32)
    reference = load_model(pair_file, "cpu", engine="torch").infer(noise)
    for engine in ("openvino", "onnx"):
        loaded = load_model(pair_file, "cpu", engine=engine)
        assert loaded.engine.name == engine
        np.testing.assert_allclose(loaded.infer(noise), reference, atol=1e-5)
    assert load_model(pair_file, "cpu").engine.name == "openvino"
    assert not tinyhd_messages(caplog)
    fallback = load_model(pair_file, "cpu", engine="fused")
    assert fallback.engine.name == "torch"
    assert tinyhd_messages(caplog) == [
        "fused: its kernels do not support pair-64; using PyTorch, which is several times slower"
    ]


@pytest.mark.slow
def test_export_is_checked_and_complete(tmp_path, tinyhd, pair_file, capsys):
    assert tinyhd("export", "--weights", pair_file, "--out", "pair.onnx") == 0
    assert "pair-64: clip (1, 3, 2, 64, 64) -> saliency" in capsys.readouterr().err
    session = onnxruntime.InferenceSession("pair.onnx", providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    assert models.from_dict(json.loads(metadata["spec"])) == models.named_spec("pair-64")
    assert metadata["mean"] == "0.5 0.5 0.5"
    noise = np.random.default_rng(1).normal(size=(3, 2, 64, 64)).astype(np.float32)
    saliency = session.run(["saliency"], {"clip": noise[None]})[0]
    np.testing.assert_allclose(saliency[0], load_model(pair_file, "cpu", engine="torch").infer(noise), atol=1e-5)
    assert tinyhd("export", "--weights", pair_file, "--format", "openvino", "--out", "pair.xml") == 0


def test_evaluate(tmp_path, tinyhd, pair_file):
    root = training_data.labeled_videos(tmp_path / "set", count=2, frames=5)
    assert tinyhd("evaluate", "--root", root, "--weights", pair_file, "--json", "scores.json", "--workers", "1") == 0
    results = json.loads(Path("scores.json").read_text(encoding="utf-8"))
    assert set(results["videos"]) == {"v0", "v1"}
    assert results["prediction"]["model"]["spec"]["family"] == "pair"
    assert np.isfinite(results["mean"]["CC"])


def test_train_on_labels(tmp_path, tinyhd):
    """The loss falls, and the log has the family's own terms."""
    root = training_data.labeled_videos(tmp_path / "set", count=3, frames=6)
    options = (
        "--model",
        "pair-64",
        "--steps",
        "12",
        "--batch-size",
        "2",
        "--workers",
        "0",
        "--lr",
        "0.5",
        "--hold-out",
        "0",
    )
    assert tinyhd("train", "--data", root, "--out", "run", "--device", "cpu", "--quiet", *options) == 0
    train = training_rows("run/log.csv")
    assert {name for name, value in train[0].items() if "/" in name and value} == {"target/ground-truth", "target/self"}
    assert float(train[-1]["target/ground-truth"]) < 0.8 * float(train[0]["target/ground-truth"])
    assert weights.load("run/best.safetensors").spec == models.named_spec("pair-64")


@pytest.mark.parametrize("teacher", ["tinyhd-m-quarter", "tinyhd-s-quarter"])
def test_distill_from_a_teacher_of_another_length_and_size(tmp_path, tinyhd, teacher):
    """The student learns, at 64 x 64, the teacher's maps of 96 x 128 for the first of its two frames."""
    network = lively(teacher)
    weights.save("teacher.safetensors", network.state_dict(), network.spec, input_size=(96, 128))
    videos = training_data.aux_videos(tmp_path / "videos", count=3, frames=20)
    options = (
        "--model",
        "pair-64",
        "--steps",
        "4",
        "--batch-size",
        "2",
        "--workers",
        "0",
        "--device",
        "cpu",
        "--quiet",
    )
    arguments = ("--teacher", "teacher.safetensors", "--aux", videos, "--cache", "cache", "--out", "run")
    assert tinyhd("distill", *arguments, *options) == 0
    rows = training_rows("run/log.csv")
    assert all(float(row["aux/final"]) > 0 and float(row["aux/self"]) >= 0 for row in rows)
    assert not rows[0]["target/final"]
    assert len(rows) == 4
    assert load_model("run/last.safetensors", "cpu", engine="torch").infer(np.zeros((3, 2, 64, 64), "f4")).shape == (
        1,
        64,
        64,
    )


def test_options_of_the_family(tmp_path, tinyhd, capsys):
    root = training_data.labeled_videos(tmp_path / "set", count=2, frames=4)
    options = (
        "--steps",
        "1",
        "--batch-size",
        "1",
        "--workers",
        "0",
        "--device",
        "cpu",
        "--quiet",
        "--model",
        "pair-64",
    )
    assert tinyhd("train", "--data", root, "--out", "run", "--set", "width=4", "--size", "32x32", *options) == 0
    spec = weights.load("run/last.safetensors").spec
    assert (spec.options, spec.input_size) == ({"width": 4}, (32, 32))
    for wrong, message in (
        (("--set", "depth=4"), "pair-64 has no option 'depth': did you mean width?"),
        (("--set", "width=four"), "--set width=four: must be a whole number"),
        (("--set", "width"), "--set width: must be OPTION=VALUE"),
        (("--size", "60x64"), "--size: input_size 60x64: both sides must be multiples of 8 from 32 to 256"),
        (("--init", "imagenet"), "--init imagenet: pair-64 has no initialization from ImageNet; use none or a file"),
        (("--stills",), "--stills: pair cannot be trained on single frames"),
        (("--sparse-init",), "--sparse-init is not available for pair"),
        (("--weight", "cc=1"), "--weight cc=1: choose from aux/final, aux/self, target/final"),
    ):
        assert tinyhd("train", "--data", root, "--out", "other", *wrong, *options) == 2, wrong
        assert message in capsys.readouterr().err
    assert tinyhd("reduce-channels", "--from", "run/last.safetensors", "--to", "half", "--out", "x.safetensors") == 2
    assert "pair-64 has one width and cannot be reduced" in capsys.readouterr().err


def test_resume_and_extend(tmp_path, tinyhd):
    """A checkpoint restores the network with its options."""
    root = training_data.labeled_videos(tmp_path / "set", count=2, frames=4)
    options = ("--batch-size", "1", "--workers", "0", "--device", "cpu", "--quiet")
    new = ("--model", "pair-64", "--set", "width=4", "--steps", "2")
    assert tinyhd("train", "--data", root, "--out", "run", *new, *options) == 0
    assert tinyhd("train", "--out", "run", "--extend", "--steps", "3") == 0
    assert weights.load("run/last.safetensors").spec.options == {"width": 4}
    [checkpoint] = [path for path in (tmp_path / "here" / "run" / "checkpoints").iterdir() if "3" in path.name]
    assert weights.load(checkpoint).spec.options == {"width": 4}


def test_live_reports_the_look_ahead(tmp_path, tinyhd, pair_file, capsys):
    video = clips.make(tmp_path / "clip.mp4", frames=12)
    assert tinyhd("live", video, "--weights", pair_file, "--overlay", "live.mp4") == 0
    assert "each map is 1 frame late: the network reads the next frame, too" in capsys.readouterr().err
    assert len(clips.frames("live.mp4")) > 0


def test_original_files_are_recognized(tmp_path):
    torch.manual_seed(1)
    network = models.create("pair-64", width=4)
    torch.save({"model": {f"module.{name}": value for name, value in network.state_dict().items()}}, tmp_path / "a.pth")
    checkpoint = weights.load(tmp_path / "a.pth")
    assert checkpoint.spec == models.named_spec("pair-64", width=4)
    assert all(torch.equal(checkpoint.state_dict[name], value) for name, value in network.state_dict().items())


def test_info_and_card(pair_file, tinyhd, capsys):
    from tinyhd_cli.weights.model_card import model_card

    assert tinyhd("weights", "info", pair_file) == 0
    printed = capsys.readouterr().out
    assert "pair-64" in printed
    assert "1 for 2 frames" in printed
    card = model_card(weights.load(pair_file).info, "pair.safetensors", "me/pair")
    assert "| Network | pair-64, Nobody et al., 2026 |" in card
    assert "64 x 64" in card


def test_a_network_without_registered_weights(tmp_path, tinyhd, capsys):
    clips.make(tmp_path / "clip.mp4", frames=2)
    assert tinyhd("predict", tmp_path / "clip.mp4", "--model", "pair-64", "--csv", "out.csv") == 2
    message = "tinyhd: no registered weights of the network 'pair-64': name a weights file with --weights\n"
    assert capsys.readouterr().err == message


def test_without_the_family_its_weights_are_refused_by_name(monkeypatch, pair_file, tinyhd, capsys, tmp_path):
    monkeypatch.setattr(registry, "_registered", {})
    video = clips.make(tmp_path / "clip.mp4", frames=2)
    assert tinyhd("predict", video, "--weights", pair_file, "-o", "out.mp4") == 4
    assert capsys.readouterr().err == (
        f"tinyhd: {pair_file}: the model family 'pair' is not installed here; install the package that provides it "
        "(tinyhd doctor lists the installed families)\n"
    )


def test_taken_names_are_refused(family):
    class Other(PairFamily):
        name = "other"
        specs = (dataclasses.replace(PairFamily.specs[0], family="other"),)

    with pytest.raises(UsageError, match="family other: the name 'pair-64' is taken"):
        models.register(Other())

    class BuiltIn(PairFamily):
        name = "tinyhd"
        specs = (dataclasses.replace(PairFamily.specs[0], family="tinyhd"),)

    with pytest.raises(UsageError, match="family tinyhd: the name 'tinyhd' is taken"):
        models.register(BuiltIn())


def test_options_that_a_file_lacks_have_their_defaults():
    """A later version of a family may have added them."""
    values = models.named_spec("pair-64", width=4).to_dict()
    del values["options"]
    assert models.from_dict(values) == models.named_spec("pair-64")
    tinyhd = models.named_spec("tinyhd-m-quarter").to_dict() | {"options": {"decoders": ["d1", "d1"]}}
    assert models.from_dict(tinyhd) == models.named_spec("tinyhd-m-quarter", decoders=("d1", "d1"))


def test_overrides_are_checked_by_the_family():
    with pytest.raises(UsageError, match="clip_frames must be 16, not 8"):
        models.named_spec("tinyhd-s", clip_frames=8)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (PairFamily, "it is not an instance of Family with a name and specs"),
        (type("Wrong", (PairFamily,), {"name": "wrong"})(), "pair-64 names the family 'pair', not 'wrong'"),
        (type("Twice", (PairFamily,), {"terms": 2 * PairFamily.terms})(), "terms: two terms are named 'final'"),
    ],
)
def test_unusable_families_are_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        models.register(wrong)
    assert "wrong" not in models.all_families()


def test_a_family_can_be_registered_again_but_not_over_a_plugin(monkeypatch, family):
    models.register(PairFamily())  # in a notebook, for example
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(registry, "plugins", lambda: (registry.Plugin("pair", "package 1", family),))
    with pytest.raises(UsageError, match="family pair: the name 'pair' is taken"):
        models.register(PairFamily())


def test_a_family_that_fails_to_recognize_a_file_is_skipped(monkeypatch, tmp_path, caplog):
    def fail(self, state_dict, stem=""):
        raise KeyError("early.weight")

    monkeypatch.setattr(PairFamily, "recognize", fail)
    torch.save({"early.weight": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="its tensors do not belong to an installed model family"):
        weights.load(tmp_path / "a.pth")
    assert "model family pair cannot read a weights file: 'early.weight'" in tinyhd_messages(caplog)


def test_maps_that_do_not_fit_the_spec_are_reported(pair_file):
    model = load_model(pair_file, "cpu", engine="torch")
    two = dataclasses.replace(model, spec=dataclasses.replace(model.spec, maps=2))
    with pytest.raises(WeightsError, match=r"mine: .* outputs maps of shape \(1, 64, 64\), but its spec states"):
        two.infer(np.zeros((3, 2, 64, 64), np.float32))


def test_changed_code_is_compiled_again(tmp_path, monkeypatch):
    """The compiled network of an earlier version of a plugin is not used again."""
    code = Path(pair.__file__).read_text(encoding="utf-8")
    path = tmp_path / "edited_pair.py"
    digests = set()
    monkeypatch.syspath_prepend(tmp_path)
    for text in (code, code.replace("(early + late) / 2", "(early + 3 * late) / 4")):
        path.write_text(text, encoding="utf-8")
        sys.modules.pop("edited_pair", None)
        importlib.invalidate_caches()
        torch.manual_seed(0)
        network = importlib.import_module("edited_pair").Pair(models.named_spec("pair-64"))
        digests.add(digest_of(network, models.named_spec("pair-64")))
    sys.modules.pop("edited_pair", None)
    assert len(digests) == 2


def test_the_best_constant_map_is_for_divergences_only(tmp_path):
    """The final term of this family is a mean squared error."""
    validator = Validator(TrainConfig(model="pair-64", teacher="x"), None, [Pick(0, 0)], [], object())
    assert validator.best_constant() == {}


@pytest.mark.parametrize("option", ["--stills", "--sparse-init"])
def test_unsupported_options_are_reported_before_decoding(tmp_path, tinyhd, monkeypatch, option):
    monkeypatch.setattr(prepare, "decode_groups", lambda *arguments: pytest.fail("decoded"))
    root = training_data.labeled_videos(tmp_path / "set", count=2, frames=4)
    options = ("--model", "pair-64", "--steps", "1", "--batch-size", "1", "--workers", "0", "--quiet", option)
    assert tinyhd("train", "--data", root, "--out", "run", *options) == 2


def test_a_loss_without_terms_is_wrong_usage(tmp_path, tinyhd, capsys):
    root = training_data.labeled_videos(tmp_path / "set", count=2, frames=4)
    options = ("--model", "pair-64", "--steps", "1", "--batch-size", "1", "--workers", "0", "--device", "cpu")
    weight = ("--weight", "ground-truth=0", "--weight", "self=0", "--weight", "final=0")
    assert tinyhd("train", "--data", root, "--out", "run", *weight, *options) == 2
    assert "no term of the loss of pair-64 can be computed" in capsys.readouterr().err


def test_worker_processes_need_no_family(tmp_path, tinyhd):
    """They only read clips, so a family that is registered in the main process is enough."""
    root = training_data.labeled_videos(tmp_path / "set", count=2, frames=4)
    options = ("--model", "pair-64", "--steps", "2", "--batch-size", "1", "--device", "cpu", "--quiet")
    for workers in (0, 2):
        assert tinyhd("train", "--data", root, "--out", f"run{workers}", "--workers", workers, *options) == 0
    one, other = (weights.load(f"run{workers}/last.safetensors").state_dict for workers in (0, 2))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
