"""Training on several machines by Accelerate's launchers, and the Slurm script."""

from __future__ import annotations

import csv
import os
import re
import shlex
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.training_data import OPTIONS, labeled_videos

from tinyhd_cli.training import launch

PROJECT = Path(__file__).parents[2]
SCRIPT = PROJECT / "examples" / "train.slurm"
GUIDE = PROJECT / "docs" / "train-on-many-machines.md"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs bash")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a folder of labeled videos."""
    return labeled_videos(tmp_path_factory.mktemp("machines") / "videos", count=4, frames=17)


def command(data: Path, folder: Path, out: str, steps: int = 2) -> list[str]:
    """Return the arguments of a small run."""
    run = ["train", "--model", "tinyhd-s-quarter", "--data", data, "--hold-out", "0.25", "--steps", steps]
    return [str(part) for part in (*run, *OPTIONS, "--cache", folder / "cache", "--out", folder / out)]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def run_all(commands: list[list[str]], **environment: str) -> None:
    """Run commands at the same time, and check that all succeed."""
    several = [
        subprocess.Popen(one, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, stderr=subprocess.PIPE)
        for one in commands
    ]
    for process in several:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()


def losses(run: Path) -> list[float]:
    with (run / "log.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["split"] == "train"]


def launchers() -> dict[str, list[str]]:
    """Return the commands of the guide that start training processes on two machines with CPUs, by their launcher."""
    text = GUIDE.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [shlex.split(line) for line in text.splitlines() if line.startswith(("accelerate launch", "torchrun"))]
    return {line[0]: line[: line.index("tinyhd_cli") + 1] for line in lines if "10.0.0.1" in line}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["accelerate", "torchrun"])
def test_two_machines_train_like_one(data, tmp_path, name):
    """As in the guide; here, both are this machine. One fills the cache, which the other uses."""
    modules = {"accelerate": "accelerate.commands.launch", "torchrun": "torch.distributed.run"}
    start = launchers()[name][2 if name == "accelerate" else 1 :]
    port = str(free_port())
    fixed = [port if part == "29500" else "127.0.0.1" if part == "10.0.0.1" else part for part in start]
    at = next(index for index, part in enumerate(fixed) if part in ("--machine_rank", "--node-rank"))
    commands = []
    for rank in ("0", "1"):
        fixed[at + 1] = rank
        commands.append([sys.executable, "-m", modules[name], *fixed, *command(data, tmp_path, "two")])
    run_all(commands)
    run_all([[sys.executable, "-m", "tinyhd_cli", *command(data, tmp_path, "one")]])
    assert len(losses(tmp_path / "two")) == 2
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-3)
    assert (tmp_path / "two" / "best.safetensors").is_file()


@pytest.mark.slow
def test_the_slurm_script(data, tmp_path):
    """It trains on two nodes, and resumes the run when it is submitted again."""
    programs = tmp_path / "bin"
    programs.mkdir()
    python = shlex.quote(sys.executable)
    for name, content in {
        "scontrol": "echo 127.0.0.1; echo other",
        "srun": 'shift; "$@" & first=$!; "$@" && wait $first',  # without --kill-on-bad-exit
        "tinyhd": f'exec {python} -m tinyhd_cli "$@"',
        "torchrun": f'exec {python} -m torch.distributed.run "$@"',
    }.items():
        (programs / name).write_text(f"#!/bin/bash\n{content}\n")
        (programs / name).chmod(stat.S_IRWXU)
    slurm = {"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "7"}
    slurm |= {"PATH": f"{programs}:{os.environ['PATH']}"}
    line = ["bash", str(SCRIPT), *command(data, tmp_path, "run")]
    run_all([line], MASTER_PORT=str(free_port()), **slurm)
    assert len(losses(tmp_path / "run")) == 2
    again = subprocess.run(
        line, env={**os.environ, **slurm, "MASTER_PORT": str(free_port())}, capture_output=True, text=True, timeout=300
    )
    assert again.returncode == 0 and "--resume: the run is finished" in again.stderr, again.stderr
    assert len(list((tmp_path / "cache" / "clips").iterdir())) == 4


def test_the_slurm_script_is_correct(tinyhd, capsys):
    subprocess.run(["bash", "-n", SCRIPT], check=True)
    text = SCRIPT.read_text()
    assert tinyhd("distill", "--help") == 0
    known = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    usage = text[text.index("sbatch examples") : text.index("set -euo")] + text[text.index('tinyhd "$@"') :][:60]
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", usage))
    assert used >= {"--preset", "--teacher", "--data", "--aux", "--cache", "--out", "--cache-only", "--quiet"}
    assert used <= known | {"--resume"}
    done = subprocess.run(["bash", SCRIPT, "distill", "--out", "x"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "train.slurm: give --out DIR and --cache DIR\n")


def test_a_launcher_that_starts_one_process_only(monkeypatch, caplog):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    launch.check_launcher(2)
    assert not caplog.messages
    launch.check_launcher(1)
    assert caplog.messages == [
        "accelerate launch --cpu has started one process only; for several on CPUs, use torchrun --nproc-per-node N"
    ]
