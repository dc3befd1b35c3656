"""Small complete runs: training, output files, resuming, several processes, and rejected settings."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.networks import lively
from helpers.training_data import OPTIONS, SIZE, aux_videos, labeled_videos, photographs, procedural_file
from torch import nn

from tinyhd_cli import weights
from tinyhd_cli.errors import OutputError, TinyhdError, UsageError
from tinyhd_cli.models import build
from tinyhd_cli.training import checkpoints, loop, stages
from tinyhd_cli.training.clip_cache import decode_all
from tinyhd_cli.training.options import TrainConfig
from tinyhd_cli.training.settings import build_config, presets


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a folder of three labeled videos, three photographs, four unlabeled clips and the weights of a teacher."""
    root = tmp_path_factory.mktemp("training")
    labeled_videos(root / "videos")
    photographs(root / "photos")
    aux_videos(root / "aux", count=4)
    network = lively("tinyhd-m-quarter", seed=5)
    weights.save(root / "teacher.safetensors", network.state_dict(), network.spec, input_size=SIZE)
    return root


SMALL_LR = 1e-5
"""Low learning rate for comparisons to 1e-4: training amplifies rounding errors, more so at high learning rates."""


def settings(data, out, **changes):
    """Return the settings of a run of a few steps on all kinds of data."""
    values = {
        "data": (str(data / "videos"), str(data / "photos")),
        "aux": (str(data / "aux"),),
        "hold_out": 0.34,
        "teacher": str(data / "teacher.safetensors"),
        "model": "tinyhd-m-quarter",
        "init": "none",
        "size": SIZE,
        "steps": 2,
        "batch_size": 2,
        "workers": 0,
        "device": "cpu",
        "cache": data / "cache",
        "out": out,
    }
    return TrainConfig(**(values | changes))


def rows(out, split="train"):
    with (out / "log.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["split"] == split]


def best(out):
    return weights.load(out / "best.safetensors").state_dict


# Terms of the loss in four steps: a trained single-output student, distilled from HD2S with procedural weights, seed 0.
# These values were computed by tinyhd after each of its parts had been verified; they detect unintended changes.
# Computed again when clips came to be resized as for prediction: the terms changed by up to 0.003.
GOLDEN = {
    "target/d1.1": (1.195267, 1.14618, 1.286453, 1.165229),
    "target/d1.2": (1.514092, 1.588166, 1.683754, 1.436016),
    "target/d1.3": (1.14146, 1.230888, 1.546872, 1.004106),
    "target/d1.4": (1.083112, 0.505992, 0.632393, 0.713146),
    "target/final": (0.578304, 0.18924, 0.371099, 0.254053),
    "target/ground-truth": (1.231701, 1.52293, 1.163791, 1.555415),
    "aux/d1.1": (1.598025, 1.587261, 1.52828, 1.670716),
    "aux/d1.2": (1.754117, 1.810039, 1.774315, 1.891867),
    "aux/d1.3": (1.201641, 1.630405, 1.581324, 1.527541),
    "aux/d1.4": (0.921036, 0.902419, 1.070575, 1.152717),
    "aux/final": (0.784711, 0.974264, 0.857025, 1.105402),
}


@pytest.fixture
def one_thread():
    """Run PyTorch in one thread: several add in another order, and four steps amplify that to differences of 1e-4."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_four_steps_of_distilling_hd2s(shared, data, tmp_path, one_thread):
    teacher = procedural_file(tmp_path / "hd2s.safetensors", shared, "hd2s")
    student = {"model": "tinyhd-s-quarter", "init": str(shared / "upstream" / "d123s_rc4_rc1T.pth"), "lr": SMALL_LR}
    config = settings(data, tmp_path / "run", teacher=str(teacher), steps=4, cache=None, **student)
    stages.train(config)
    found = rows(tmp_path / "run")
    assert [row["step"] for row in found] == ["1", "2", "3", "4"]
    for name, values in GOLDEN.items():
        assert [float(row[name]) for row in found] == pytest.approx(values, abs=1e-4), name
    assert {name for name, value in found[0].items() if value and "/" in name} == set(GOLDEN)


def check_average(config):
    """Check that the moving average of the weights follows a short run.

    With a fixed decay of 0.999, it would stay near the initial weights for hundreds of steps.
    """
    state, _ = checkpoints.read(config.out)
    torch.manual_seed(config.seed)
    initial = build(config.spec)
    parameters = [name for name, _ in initial.named_parameters()]
    moved, behind = (
        sum(float((state.model[name] - other[name]).square().sum()) for name in parameters)
        for other in (initial.state_dict(), state.ema)
    )
    assert 0 < behind < 0.1 * moved


def test_the_moving_average_leaves_shared_parameters_alone():
    network, average = nn.Linear(2, 2), nn.Linear(2, 2)
    average.bias = network.bias
    before, wanted = network.bias._version, average.weight.lerp(network.weight, 0.5).detach()
    state = SimpleNamespace(step=9)  # the decay is (1 + 9) / (10 + 9), or less
    loop.Trainer._follow(SimpleNamespace(config=TrainConfig(ema=0.5), state=state, unwrapped=network), average)
    torch.testing.assert_close(average.weight, wanted)
    assert network.bias._version == before


def test_files_of_a_run(data, tmp_path, tinyhd):
    out = tmp_path / "run"
    changes = {"accumulate": 2, "clip": 1.0, "weight": ("target/cc=1", "target/nss=0.1")}
    config = settings(data, out, ema=0.999, **changes)
    stages.train(config)
    check_average(config)
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {"best.safetensors", "last.safetensors", "README.md", "log.csv", "curve.png"} <= names
    assert {"pictures/epoch-0001.png", "checkpoints/step-0000002.pt"} <= names
    assert not any("partial" in name for name in names)
    info, _ = weights.inspect(out / "best.safetensors")
    assert info.spec.name == "tinyhd-m-quarter"
    assert info.input_size == SIZE
    assert info.provenance["seed"] == "0"
    assert str(data / "videos") in info.training_data
    assert {"CC", "NSS", "SIM", "AUC-J", "KL target/final"} <= set(info.scores)
    card = (out / "README.md").read_text()
    assert "| Teacher |" in card
    assert "library_name: tinyhd" in card
    (validation, *_) = rows(out, "val")
    assert float(validation["target/final"]) > 0
    assert float(validation["aux/final"]) > 0
    train = rows(out)[0]
    weighted = {
        name: float(train[name]) * (0.1 if name == "target/nss" else 1) for name in train if "/" in name and train[name]
    }
    assert len(weighted) == 13
    assert float(train["loss"]) == pytest.approx(sum(weighted.values()), rel=1e-4)
    clip = next((data / "aux").rglob("*.mkv"))
    assert tinyhd("predict", clip, "--weights", out / "best.safetensors", "--npz", "o.npz", "--quiet") == 0


def test_a_resumed_run_equals_an_uninterrupted_run_bit_for_bit(data, tmp_path):
    changes = {"steps": 3, "ema": 0.9, "reload_best": True, "milestones": (0.7,)}
    stages.train(settings(data, tmp_path / "uninterrupted", **changes))
    steps = []

    def stop(report):
        steps.append(report.step)
        if report.step == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        stages.train(settings(data, tmp_path / "resumed", **changes), on_report=stop)
    stages.train(settings(data, tmp_path / "resumed", **changes), resume=True, on_report=lambda r: steps.append(r.step))
    assert steps == [1, 2, 3]
    states = [checkpoints.read(tmp_path / name)[0] for name in ("uninterrupted", "resumed")]
    for part in ("model", "ema", "best"):
        one, other = (getattr(state, part) for state in states)
        assert one.keys() == other.keys()
        assert all(torch.equal(value, other[name]) for name, value in one.items()), part
    for index, value in states[0].optimizer["state"].items():
        assert torch.equal(value["momentum_buffer"], states[1].optimizer["state"][index]["momentum_buffer"])
    losses = [[row["loss"] for row in rows(tmp_path / name)] for name in ("uninterrupted", "resumed")]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 3
    different = settings(data, tmp_path / "resumed", lr=0.5, **changes)
    with pytest.raises(UsageError, match=r"--lr 0.01, not 0.5"):
        stages.train(different, resume=True)


@pytest.mark.slow
def test_two_processes_train_like_one(shared, data, tmp_path, one_thread):
    """Each process has half of the batch; BatchNorm uses the statistics of both halves."""
    first = str(shared / "upstream" / "d123s_rc4_rc1T.pth")
    changes = {"steps": 3, "model": "tinyhd-s-quarter", "init": first, "lr": SMALL_LR}
    stages.train(settings(data, tmp_path / "one", **changes))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = settings(data, tmp_path / "two", **changes)
    (tmp_path / "two.json").write_text(json.dumps(config.to_dict()))  # JSON is valid YAML
    command = [sys.executable, "-m", "tinyhd_cli", "distill", "--config", str(tmp_path / "two.json"), "--quiet"]
    distributed = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, **distributed, "RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    one, two = (rows(tmp_path / name) for name in ("one", "two"))
    assert len(two) == 3
    for expected, found in zip(one, two, strict=True):
        names = [name for name, value in expected.items() if "/" in name and value]
        assert len(names) == 11
        for name in names:
            assert float(found[name]) == pytest.approx(float(expected[name]), rel=3e-4), name
        assert float(found["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-4)


def test_ctrl_c_finishes_and_saves_the_current_step(data, tmp_path):
    def interrupt(report):
        if report.step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    config = settings(data, tmp_path / "run", steps=3, checkpoint_every=100)
    with pytest.raises(KeyboardInterrupt):
        stages.train(config, on_report=interrupt)
    assert [path.name for path in checkpoints.paths(config.out)] == ["step-0000001.pt"]
    stages.train(config, resume=True)
    assert len(rows(config.out)) == 3
    with pytest.raises(UsageError, match="--resume"):
        stages.train(config)


@pytest.mark.slow
def test_a_signal_to_the_whole_process_group_saves_the_step(data, tmp_path):
    """Job schedulers do this: the signal also reaches the processes that load clips."""
    config = settings(data, tmp_path / "run", steps=500, workers=2, checkpoint_every=1000)
    (tmp_path / "run.json").write_text(json.dumps(config.to_dict()))
    command = [sys.executable, "-m", "tinyhd_cli", "distill", "--config", str(tmp_path / "run.json")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    log = config.out / "log.csv"
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and (not log.is_file() or len(log.read_text().splitlines()) < 4):
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "to resume from the last complete step" in errors
    (saved,) = checkpoints.paths(config.out)
    assert checkpoints.step_of(saved) >= 2


def test_a_loss_that_is_not_a_number_stops_the_run_and_names_the_batch(data, tmp_path):
    def set_nan(report):
        with torch.no_grad():
            trainer.network.fusion.bias.fill_(float("nan"))

    trainer = loop.Trainer(settings(data, tmp_path / "run"), on_report=set_nan)
    with pytest.raises(TinyhdError, match=r"not finite at step 2 .*batch was .*from frame \d+; .*--lr"):
        trainer.run()


@pytest.mark.slow
def test_training_on_single_frames_makes_a_network_for_clips(data, tmp_path):
    """A 2D network is trained on photographs and frames; the resulting 3D network is then trained on clips."""
    first = settings(data, tmp_path / "stills", stills=True, steps=3)
    stages.train(first)
    info, _ = weights.inspect(tmp_path / "stills" / "best.safetensors")
    assert info.spec.name == "tinyhd-m-quarter"
    (validation, *_) = rows(tmp_path / "stills", "val")
    assert float(validation["aux/final"]) > 0
    state = best(tmp_path / "stills")
    stem = state["encoder.stem.conv.weight"]
    assert stem.shape[2] == 3
    assert not stem[:, :, (0, 2)].any()  # the trained kernel is the middle time step
    assert stem[:, :, 1].any()
    stages.train(settings(data, tmp_path / "clips", init=str(tmp_path / "stills" / "best.safetensors")))
    assert best(tmp_path / "clips")["encoder.stem.conv.weight"][:, :, (0, 2)].any()


def test_training_without_a_teacher_with_a_cosine_schedule(data, tmp_path, tinyhd):
    arguments = ("--model", "tinyhd-m-quarter", "--optimizer", "adamw", "--schedule", "cosine", "--lr", "0.001")
    arguments += ("--steps", "2", "--hold-out", "0.34", "--keep", "1", "--precision", "bf16", "--out", "run")
    assert tinyhd("train", "--data", data / "videos", "--data", f"images:{data / 'photos'}", *arguments, *OPTIONS) == 0
    found = rows(Path("run"))
    assert [float(row["lr"]) for row in found] == pytest.approx([0.001, 0.0005])
    assert {name for name in found[0] if "/" in name and found[0][name]} == {"target/ground-truth"}
    assert len(checkpoints.paths(Path("run"))) == 1


def test_reduce_channels_distills_from_its_parent(data, tmp_path, tinyhd):
    network = lively("tinyhd-m-half")
    weights.save(tmp_path / "half.safetensors", network.state_dict(), network.spec, input_size=SIZE)
    out = tmp_path / "quarter.safetensors"
    arguments = ("--from", tmp_path / "half.safetensors", "--to", "quarter", "-o", out, "--distill", tmp_path / "run")
    options = [option for option in OPTIONS if option not in ("--init", "none")]
    assert tinyhd("reduce-channels", *arguments, "--aux", data / "aux", "--steps", "1", *options) == 0
    info, _ = weights.inspect(tmp_path / "run" / "best.safetensors")
    assert info.spec.name == "tinyhd-m-quarter"
    assert info.provenance["teacher"] == str(tmp_path / "half.safetensors")
    start, end = weights.load(out).state_dict, best(tmp_path / "run")
    moved = (end["encoder.stem.conv.weight"] - start["encoder.stem.conv.weight"]).abs().max()
    assert 0 < float(moved) < 0.1


def test_dry_run(data, tmp_path, tinyhd, capsys):
    (tmp_path / "run.yaml").write_text(
        f"model: tinyhd-s-quarter\ndata: [{data / 'videos'}, {data / 'photos'}]\naux: [{data / 'aux'}]\n"
        f"teacher: {data / 'teacher.safetensors'}\nhold-out: 0.34\nepochs: 30\n"
    )
    assert tinyhd("distill", "--config", tmp_path / "run.yaml", "--dry-run", "--out", "nothing", *OPTIONS) == 0
    plan = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert plan["labeled"] == "4 videos, 2 to validate on"
    assert plan["auxiliary"] == "3 videos, 1 to validate on"
    assert plan["network"] == "tinyhd-s-quarter, 513,121 parameters"
    assert plan["steps"] == "60 (2 per epoch)"
    assert "s per step" in plan["expected"]
    assert not Path("nothing").exists()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--batch-size", "9"), 2, "--batch-size 9 is larger than --data"),
        (("--accumulate", "2", "--batch-size", "1"), 2, "cannot be divided into 2 equal parts"),
        (("--teacher", "nowhere.pth"), 4, "nowhere.pth: no such file"),
        (("--init", "nowhere.npz"), 4, "nowhere.npz: no such file"),
        (("--init", "TEACHER", "--model", "tinyhd-s"), 4, "contains tinyhd-m-quarter (d1, d2, d3), not tinyhd-s"),
        (("--model", "hd2s"), 2, "is a teacher and cannot be trained"),
        (("--model", "tinyhd"), 2, "did you mean"),
        (("--lr", "fast"), 2, "--lr must be X"),
        (("--size", "100x100"), 2, "multiples of 32"),
        (("--optimizer", "lion"), 2, "sgd, adam, adamw"),
        (("--preset", "paper"), 2, "paper-m"),
        (("--config", "none.yaml"), 2, "none.yaml: cannot be read"),
        (("--weight", "final"), 2, "TERM=NUMBER"),
        (("--resume", "--out", "never"), 3, "no checkpoint in never"),
        (("--device", "cuda:99"), 2, "--device"),
    ],
)
def test_wrong_usage_is_reported_before_any_work(data, tmp_path, tinyhd, capsys, options, code, message):
    options = [str(data / "teacher.safetensors") if option == "TEACHER" else option for option in options]
    start = ("--data", data / "videos", "--data", data / "photos", "--teacher", data / "teacher.safetensors")
    assert tinyhd("distill", *start, "--out", "run", *OPTIONS, *options) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not Path("run").exists()


def test_a_full_disk_is_an_output_error(data, tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tinyhd_cli.training.clip_cache.write_frames", full)
    config = settings(data, tmp_path / "run", cache=None)
    with pytest.raises(OutputError, match="No space left on device"):
        stages.train(config)
    assert not list((tmp_path / "run").rglob("*.u8"))
    assert decode_all([], tmp_path, SIZE, config.spec.preprocess, 0, lambda *progress: None) == []


def test_distill_without_a_teacher_is_wrong_usage(data, tinyhd, capsys):
    assert tinyhd("distill", "--data", data / "videos") == 2
    assert "--teacher is missing" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in presets() if name.startswith("crowdsal")])
def test_presets_for_crowdsal_train_on_labels_and_take_a_teacher(data, name):
    labels = build_config({"data": [str(data / "videos")]}, preset=name)
    assert labels.cache_format == "jpeg"
    assert labels.weights["target/cc"] == 1
    assert not labels.teacher
    distilled = build_config({"data": ["x"], "aux": ["y"], "teacher": ["t.safetensors"]}, preset=name)
    assert set(distilled.weights) == set(labels.weights)
    assert distilled.differences(labels) == ["data", "aux", "teacher"]


def test_presets_have_the_settings_of_the_paper():
    assert presets() == [
        "crowdsal-m",
        "crowdsal-quarter",
        "crowdsal-s",
        "default",
        "default-stills",
        "laptop",
        "paper-m",
        "paper-m-half",
        "paper-m-quarter",
        "paper-s",
        "paper-ucf",
        "stkd",
        "stkd-pretrain",
        "thtdnet",
        "thtdnet-kd",
        "uva",
        "uva-paper",
    ]
    for name in presets():
        config = build_config({}, preset=name)
        if name.startswith("paper"):
            assert (config.epochs, config.batch_size, config.lr, config.momentum) == (200, 12, 0.01, 0.9)
            assert config.milestones == (0.5, 0.75, 0.9)
            assert config.reload_best
    assert build_config({"lr": 0.1}, preset="paper-s").spec.name == "tinyhd-s"
    round_trip = build_config({"lr": 0.1, "size": (64, 96), "aux": ["a"]})
    assert TrainConfig(**round_trip.to_dict()) == round_trip


def test_learning_rates_of_the_original_implementation():
    from tinyhd_cli.training.optimizer import build_optimizer, lr_factor

    network = lively()
    config = TrainConfig()
    groups = build_optimizer(network, config).param_groups
    of = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert of[id(network.encoder.stem.conv.weight)] == (0.005, 5e-4)
    assert of[id(network.encoder.stem.norm.bias)] == (0.01, 0)
    assert of[id(network.fusion.weight)] == (0.01, 5e-4)
    assert of[id(network.fusion.bias)] == (0.02, 0)
    assert len(of) == len(list(network.parameters()))
    factors = [lr_factor(config, step, 200) for step in (0, 99, 100, 149, 150, 179, 180, 199)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
