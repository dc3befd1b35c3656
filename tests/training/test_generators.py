"""Random numbers of a run: dropped branches of each process, exact resuming, and where clips start."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.training_data import photographs

from tinyhd_cli.errors import UsageError
from tinyhd_cli.training import checkpoints, generators, stages
from tinyhd_cli.training.options import TrainConfig


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return photographs(tmp_path_factory.mktemp("generators"), count=2)


def settings(data, out, **changes):
    """Return the settings of a run of a network that drops branches at random."""
    values = {
        "data": (f"images:{data}",),
        "hold_out": 0.0,
        "model": "thtdnet",
        "set": ("channels=32", "depths=1,1,1,1", "drop_path=0.9"),
        "init": "none",
        "size": (64, 64),
        "still_motion": 0.0,
        "no_flip": True,
        "steps": 2,
        "batch_size": 2,
        "lr": 1e-3,
        "optimizer": "adam",
        "checkpoint_every": 1,
        "workers": 0,
        "device": "cpu",
        "out": out,
    }
    return TrainConfig(**(values | changes))


@pytest.mark.slow
def test_a_resumed_run_drops_the_same_branches(data, tmp_path):
    stages.train(settings(data, tmp_path / "whole"))
    checkpoints.paths(tmp_path / "whole")[-1].rename(tmp_path / "whole.pt")
    torch.manual_seed(99)
    stages.train(settings(data, tmp_path / "whole"), resume=True)
    again = checkpoints.paths(tmp_path / "whole")[-1]
    whole, resumed = (torch.load(path, weights_only=True) for path in (tmp_path / "whole.pt", again))
    assert (whole["step"], resumed["step"]) == (2, 2)
    assert all(torch.equal(tensor, resumed["model"][name]) for name, tensor in whole["model"].items())
    assert [list(states) for states in whole["rng"]] == [["cpu"]]
    assert torch.equal(whole["rng"][0]["cpu"], resumed["rng"][0]["cpu"])


def test_a_checkpoint_of_an_earlier_version_has_one_state(data, tmp_path):
    config = settings(data, tmp_path)
    earlier = torch.arange(5, dtype=torch.uint8)
    checkpoints.save(checkpoints.State(step=1, rng=earlier), config)
    state, _ = checkpoints.read(tmp_path)
    assert torch.equal(state.rng[0]["cpu"], earlier)


def test_the_states_of_a_gpu_belong_to_each_process(monkeypatch):
    gpu = {"state": torch.zeros(3)}
    module = SimpleNamespace(get_rng_state=lambda: gpu["state"], set_rng_state=lambda state: gpu.update(state=state))
    monkeypatch.setattr(torch, "get_device_module", lambda device: module)
    device, saved = torch.device("cuda"), []
    with torch.random.fork_rng(devices=[]):
        for rank in range(2):
            torch.manual_seed(5)
            drawn = torch.rand(1)  # the network, which is equal in all processes
            generators.seed(5, rank)
            gpu["state"] = torch.full((3,), rank)
            saved.append(generators.state(device))
            assert torch.equal(drawn, torch.rand(1, generator=torch.Generator().manual_seed(5)))
        first, second = [], []
        for rank, found in ((0, first), (1, second)):
            generators.restore(saved, rank, device)
            found += [float(torch.rand(1)), float(gpu["state"][0])]
        generators.restore(saved, 2, device)  # a process more than before
        assert float(gpu["state"][0]) == 1
    alone = torch.Generator().manual_seed(5)
    torch.rand(1, generator=alone)
    assert first == [float(torch.rand(1, generator=alone)), 0]
    assert second == [float(torch.rand(1, generator=torch.Generator().manual_seed(6))), 1]


@pytest.mark.slow
def test_two_processes_drop_different_branches(data, tmp_path):
    config = settings(data, tmp_path / "run")
    (tmp_path / "run.json").write_text(json.dumps(config.to_dict()))  # JSON is valid YAML
    command = [sys.executable, "-m", "tinyhd_cli", "train", "--config", str(tmp_path / "run.json"), "--quiet"]

    def run(*more):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        processes = [
            subprocess.Popen(
                [*command, *more],
                env={**os.environ, **common, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in ("0", "1")
        ]
        for process in processes:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
        return torch.load(checkpoints.paths(config.out)[-1], weights_only=True)

    whole = run()
    first, second = (states["cpu"] for states in whole["rng"])
    assert not torch.equal(first, second)
    checkpoints.paths(config.out)[-1].unlink()
    resumed = run("--resume", "--out", str(config.out))
    assert all(torch.equal(one["cpu"], other["cpu"]) for one, other in zip(whole["rng"], resumed["rng"], strict=True))
    assert all(torch.equal(tensor, resumed["model"][name]) for name, tensor in whole["model"].items())


@pytest.mark.parametrize(
    ("changes", "frames"),
    [
        ({"cache": Path("cache")}, 1),  # no teacher: every frame is a target at some time
        ({"teacher": ("teacher.safetensors",)}, 1),
        ({"teacher": ("teacher.safetensors",), "cache": Path("cache")}, 16),
        ({"teacher": ("teacher.safetensors",), "cache": Path("cache"), "window_step": 4}, 4),
        ({"model": "uva-32", "teacher": ("spatial=a.safetensors", "temporal=b.safetensors"), "size": None}, 16),
    ],
)
def test_clips_start_on_a_grid_only_if_the_teachers_maps_are_stored(changes, frames):
    assert TrainConfig(data=("x",), **changes).start_grid == frames


def test_a_resumed_run_keeps_the_frames_at_which_clips_start(tmp_path):
    config = TrainConfig(data=("x",), teacher=("teacher.safetensors",), out=tmp_path)
    checkpoints.save(checkpoints.State(step=1), config)
    assert checkpoints.load(replace(config, window_step=1)).step == 1
    with pytest.raises(UsageError, match=r"^--resume: the run in .* has --window-step 1, not 16; to start a new run"):
        checkpoints.load(replace(config, cache=tmp_path / "cache"))
    assert checkpoints.load(replace(config, cache=tmp_path / "cache", window_step=1)).step == 1
