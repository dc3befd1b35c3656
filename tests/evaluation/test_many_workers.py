"""Evaluation by the workers of a cluster: the results are those of one process, to the byte."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import datasets_on_disk as on_disk
from helpers.evaluations import write_maps

from tinyhd_cli.datasets import open_dataset
from tinyhd_cli.evaluation import CenterBias, read_fixations

VIDEOS = 100


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Return the folder of a dataset like DHF1K's validation split, of 100 short videos, and of maps for it."""
    root = tmp_path_factory.mktemp("many")
    on_disk.folder(root / "data", {f"{number:04d}": 3 + number % 4 for number in range(601, 601 + VIDEOS)})
    write_maps(root / "data", root / "maps")
    return root


def start(folder: Path, name: str, *options: str) -> subprocess.Popen[str]:
    """Start an evaluation with a cache of its own."""
    line = ["evaluate", "--root", folder / "data", "--pred-dir", folder / "maps", "--json", folder / name, *options]
    environment = {**os.environ, "TINYHD_CACHE": str(folder / f"{name}-cache"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "tinyhd_cli", *map(str, line)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def end(process: subprocess.Popen[str]) -> str:
    """Wait for the success of an evaluation, and return its messages."""
    errors = process.communicate(timeout=400)[1]
    assert process.returncode == 0, errors
    return errors


@pytest.mark.slow
def test_a_cluster_scores_like_one_process(many):
    end(start(many, "one.json", "--workers", "1"))
    expected = (many / "one.json").read_bytes()
    end(start(many, "processes.json", "--workers", "3"))
    assert (many / "processes.json").read_bytes() == expected
    assert "Dask dashboard: http://" in end(start(many, "cluster.json", "--cluster", "local:2"))
    assert (many / "cluster.json").read_bytes() == expected


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_an_interrupted_run_on_a_cluster_resumes(many):
    """After Ctrl-C, the finished videos are not scored again."""
    process = start(many, "resumed.json", "--cluster", "local:2", "--monte-carlo", "0")
    saved = many / "resumed.json-cache" / "evaluations"
    deadline = time.monotonic() + 200
    while len(list(saved.glob("*/[!.]*.json"))) < 5 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=100)[1]
    assert process.returncode == 130 and "run the same command again to resume" in errors, errors
    assert 5 <= len(list(saved.glob("*/[!.]*.json"))) < VIDEOS
    end(start(many, "resumed.json", "--cluster", "local:2", "--monte-carlo", "0"))
    end(start(many, "whole.json", "--workers", "2", "--monte-carlo", "0"))
    assert (many / "resumed.json").read_bytes() == (many / "whole.json").read_bytes()


def test_other_machines_get_fixations_and_the_center_bias(park, cache):
    """Without the cached files; the counts of the center bias replace its fixations unless it leaves a video out."""
    fixations = read_fixations(open_dataset("folder", park).videos)
    bias = CenterBias(fixations, leave_out=True)
    sent = pickle.dumps((fixations.in_memory(), CenterBias(fixations, leave_out=False)))
    here = pickle.dumps(fixations)
    for file in cache.rglob("*.u16"):
        file.rename(file.with_suffix(".away"))
    there, counts = pickle.loads(sent)
    with pytest.raises(OSError, match="No such file"):
        pickle.loads(here)
    rows = fixations.other_frames(0)
    assert there.key == fixations.key and np.array_equal(there.other_frames(0), rows)
    assert np.array_equal(there.union(rows, (20, 30)), fixations.union(rows, (20, 30)))
    assert np.array_equal(CenterBias(there, leave_out=True).map(1, (36, 64)), bias.map(1, (36, 64)))
    assert np.array_equal(counts.map(0, (36, 64)), CenterBias(fixations, leave_out=False).map(0, (36, 64)))
    assert len(pickle.dumps(counts)) < 200_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "2", "--cluster", "local:2"], "--workers and --cluster cannot be combined"),
        (["--cluster", "local:2", "--check"], "--check and --cluster cannot be combined"),
        (["--retries", "0"], "--retries 0: give at least 1"),
    ],
)
def test_options_of_a_cluster(tinyhd, park, capsys, options, message):
    assert tinyhd("evaluate", "--root", park, "--prior", *options) == 2
    assert message in capsys.readouterr().err
