"""The examples for clusters: their programs and options exist, and the Slurm script runs."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import clips

from tinyhd_cli.cli import commands

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "cluster"


def check_predict(arguments):
    """Check that a command line of predict has known options."""
    known = {name for parameter in commands()["predict"].params for name in parameter.opts} | {"--json-log"}
    assert {argument for argument in arguments if argument.startswith("--")} <= known


def test_kubernetes():
    documents = list(yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text(encoding="utf-8")))
    assert [document["kind"] for document in documents] == ["Service", "Deployment", "Deployment", "Job"]
    service, scheduler, worker, job = documents
    (port,) = service["spec"]["ports"]
    starts = [found["spec"]["template"]["spec"]["containers"][0]["command"] for found in (scheduler, worker, job)]
    assert str(port["port"]) in starts[0]
    address = f"tcp://{service['metadata']['name']}:{port['port']}"
    assert address in starts[1]
    assert starts[2][:2] == ["tinyhd", "predict"]
    assert starts[2][starts[2].index("--cluster") + 1] == address
    check_predict(starts[2])
    assert service["spec"]["selector"] == scheduler["spec"]["template"]["metadata"]["labels"]


def test_slurm_options():
    text = (EXAMPLES / "slurm.sh").read_text(encoding="utf-8").replace("\\\n", "")
    (line,) = [line for line in text.splitlines() if line.startswith("tinyhd predict")]
    check_predict(shlex.split(line))


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a shell")
def test_slurm_script(tmp_path, weights_file):
    """With a program that starts the tasks of a job on this machine instead of Slurm's."""
    pytest.importorskip("distributed", reason="needs tinyhd[cluster]")
    programs = {
        "srun": 'for task in $(seq "$SLURM_NTASKS"); do "$@" & done; wait',
        "tinyhd": f'exec "{sys.executable}" -m tinyhd_cli "$@" --weights "{weights_file}"',
        "dask": f'exec "{sys.executable}" -m dask "$@"',
    }
    (tmp_path / "bin").mkdir()
    for name, text in programs.items():
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "videos").mkdir()
    for name in "abc":
        clips.make(tmp_path / "videos" / f"{name}.mp4", frames=4)
    environment = os.environ | {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(EXAMPLES.parents[1]),
        "SLURM_NTASKS": "2",
        "SLURM_CPUS_PER_TASK": "1",
    }
    command = ["sh", EXAMPLES / "slurm.sh", "videos", "results"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180, start_new_session=True
    )
    assert '"videos": 3' in done.stderr, done.stderr
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"a.csv", "b.csv", "c.csv", "tinyhd.prom"}
    assert done.returncode == 0, "the end of the scheduler and of the workers does not hide the exit code"
