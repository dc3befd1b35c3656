"""Finished runs that are extended."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.networks import lively
from helpers.training_data import OPTIONS, SIZE, labeled_videos

from tinyhd_cli import weights
from tinyhd_cli.errors import UsageError
from tinyhd_cli.training import checkpoints, stages
from tinyhd_cli.training.options import TrainConfig
from tinyhd_cli.training.settings import build_config


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return labeled_videos(tmp_path_factory.mktemp("extend") / "videos", count=3, frames=16)


def settings(data, out, **changes):
    values = {
        "data": (str(data),),
        "hold_out": 0,
        "model": "tinyhd-s-quarter",
        "init": "none",
        "size": SIZE,
        "stills": True,
        "steps": 2,
        "batch_size": 2,
        "workers": 0,
        "device": "cpu",
        "cache": data.parent / "cache",
        "out": out,
    }
    return TrainConfig(**(values | changes))


@pytest.mark.slow
def test_an_extended_run_equals_an_uninterrupted_run_bit_for_bit(data, tmp_path, caplog):
    """This holds if both schedules have the same learning rates, which a warning reports."""
    late = {"milestones": (0.99,), "ema": 0.9}
    stages.train(settings(data, tmp_path / "uninterrupted", steps=3, **late))
    stages.train(settings(data, tmp_path / "extended", steps=2, **late))
    longer = settings(data, tmp_path / "extended", steps=3, **late)
    with pytest.raises(UsageError) as refused:
        stages.train(longer, resume=True)
    assert str(refused.value) == (
        f"--resume: the run in {longer.out} has --steps 2, not 3; to make it longer, use --extend"
        f"; to start a new run from its weights, use --init {longer.out / 'best.safetensors'} --out DIR"
    )
    with pytest.raises(UsageError, match="the run already has 2 steps; give more with --steps or --epochs, not 2"):
        stages.train(settings(data, longer.out, **late), extend=True)
    with pytest.raises(UsageError, match=r"--lr 0\.01, not 0\.5"):
        stages.train(settings(data, longer.out, steps=3, lr=0.5, **late), extend=True)
    with caplog.at_level(logging.WARNING, "tinyhd"):
        logging.getLogger("tinyhd").propagate = True
        stages.train(longer, extend=True)
    assert "the schedule of 3 steps: from here 1 x --lr, before 1 x" in caplog.text
    uninterrupted, extended = (checkpoints.read(tmp_path / name)[0] for name in ("uninterrupted", "extended"))
    assert uninterrupted.step == extended.step == 3
    for part in ("model", "ema"):
        one, other = getattr(uninterrupted, part), getattr(extended, part)
        assert all(torch.equal(value, other[name]) for name, value in one.items()), part
    assert checkpoints.read(longer.out)[1].steps == 3  # which --resume then uses
    assert weights.load(longer.out / "best.safetensors").info.scores_on == ""  # nothing was held out


@pytest.mark.slow
def test_the_learning_rate_follows_the_longer_schedule(data, tmp_path, tinyhd, capsys):
    run = [
        "train",
        "--data",
        data,
        "--model",
        "tinyhd-s-quarter",
        "--hold-out",
        "0.34",
        *OPTIONS,
        "--out",
        "run",
        "--stills",
    ]
    assert tinyhd(*run, "--steps", "2", "--milestones", "0.5") == 0
    assert tinyhd("train", "--out", "run", "--extend", "--steps", "2", "-q") == 2
    assert tinyhd("train", "--out", "run", "--extend", "--epochs", "4", "-q") == 0
    assert "the schedule of 4 steps: from here 0.1 x --lr, before 0.1 x" in capsys.readouterr().err
    rates = [line.split(",")[3] for line in Path("run/log.csv").read_text().splitlines() if ",train," in line]
    assert [float(rate) for rate in rates] == pytest.approx([0.01, 0.001, 0.001, 0.001])
    assert tinyhd("train", "--out", "run", "--resume", "-q") == 0
    assert "the run is finished (step 4); to continue it, use --extend --steps N" in capsys.readouterr().err
    assert tinyhd("train", "--out", "run", "--resume", "--epochs", "9", "-q") == 2
    assert "to make it longer, use --extend;" in capsys.readouterr().err


def test_the_error_of_a_missing_teacher_names_an_existing_option(tinyhd, data, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert tinyhd("distill", "--teacher", "hd2s", "--data", data, "--hold-out", "0", *OPTIONS, "--out", "run") == 4
    errors = capsys.readouterr().err
    assert "use it with --teacher weight_MinLoss_new.pt" in errors
    assert "--weights" not in errors


@pytest.mark.slow
def test_damaged_cache_files_are_replaced(data, tmp_path, caplog):
    """Decoded clips and teacher's maps that are truncated or inconsistent."""
    teacher = tmp_path / "teacher.safetensors"
    network = lively("tinyhd-m-quarter")
    weights.save(teacher, network.state_dict(), network.spec, input_size=SIZE)
    cache = tmp_path / "cache"
    changes = {"steps": 1, "teacher": (str(teacher),), "cache": cache, "no_flip": True}
    stages.train(settings(data, tmp_path / "first", **changes))
    metas = sorted(cache.glob("clips/*/meta.json"))
    metas[0].write_text("[" * 100_000)
    metas[1].write_text('{"frames": 99999}')
    maps = sorted(cache.rglob("*.npz"))
    maps[0].write_bytes(maps[0].read_bytes()[:100])
    np.savez(maps[1], final_peak=np.zeros(1))
    labels = sorted(cache.glob("clips/*/density.u8"))[-1]
    labels.write_bytes(labels.read_bytes()[:-1])
    stages.train(settings(data, tmp_path / "second", **changes))
    first, second = (checkpoints.read(tmp_path / name)[0].model for name in ("first", "second"))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.slow
def test_a_run_of_version_0_1_is_resumed_bit_for_bit(data, tmp_path):
    """Its checkpoints have other names of settings, and the decoders as a setting."""
    options = {"model": "tinyhd-m-quarter", "set": ("decoders=d2,d1,d3",), "optimizer": "adamw", "milestones": (0.99,)}
    stages.train(settings(data, tmp_path / "uninterrupted", steps=3, **options))
    old = settings(data, tmp_path / "old", steps=2, **options)
    stages.train(old)
    path = checkpoints.paths(old.out)[-1]
    values = torch.load(path, weights_only=False)
    config = values["config"]
    config["optimiser"], config["dark_start"] = config.pop("optimizer"), config.pop("sparse_init")
    config |= {"decoders": ["d2", "d1", "d3"], "teacher": None}
    del config["set"]
    values["optimiser"] = values.pop("optimizer")
    torch.save(values, path)

    _, saved = checkpoints.read(old.out)
    assert saved == old
    stages.train(build_config({"steps": 3}, saved=saved), extend=True)
    one, other = (checkpoints.read(tmp_path / name)[0] for name in ("uninterrupted", "old"))
    assert one.step == other.step == 3
    assert all(torch.equal(value, other.model[name]) for name, value in one.model.items())
