"""Interrupted evaluations are resumed, and fixations are cached."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import datasets_on_disk as on_disk
from helpers.evaluations import VIDEOS, DeadlyScoring, check_scores, results, write_maps

from tinyhd_cli.datasets import read_density
from tinyhd_cli.evaluation import run as evaluation


class Interrupted:
    """Interrupts an evaluation at its second video; counts the videos that are scored."""

    def __init__(self, monkeypatch) -> None:
        self.scored: list[int] = []
        self.interrupt = True
        original = evaluation.score_video

        def score_video(index, *rest):
            if self.interrupt and self.scored:
                raise KeyboardInterrupt
            self.scored.append(index)
            return original(index, *rest)

        monkeypatch.setattr(evaluation, "score_video", score_video)


def test_interrupted_runs_are_resumed(tinyhd, park, maps, cache, monkeypatch, capsys):
    command = ["evaluate", "--root", park, "--pred-dir", maps, "--workers", "1"]
    assert tinyhd(*command, "--json", "unbroken.json", "--csv", "unbroken.csv") == 0
    assert not list((cache / "evaluations").glob("*"))
    interrupted = Interrupted(monkeypatch)
    assert tinyhd(*command, "--json", "broken.json") == 130
    assert "run the same command again to resume" in capsys.readouterr().err
    assert not Path("broken.json").exists()
    interrupted.interrupt = False
    interrupted.scored.clear()
    assert tinyhd(*command, "--json", "broken.json", "--csv", "broken.csv") == 0
    assert interrupted.scored == [1, 2]
    assert Path("broken.json").read_bytes() == Path("unbroken.json").read_bytes()
    assert Path("broken.csv").read_bytes() == Path("unbroken.csv").read_bytes()


def test_finished_videos_are_scored_again_if_something_changed(tinyhd, park, maps, monkeypatch):
    command = ["evaluate", "--root", park, "--pred-dir", maps, "--workers", "1", "--json", "scores.json"]
    for change in (
        lambda: on_disk.write_image(maps / "park" / "0001.png", read_density(maps / "park" / "0002.png")),
        lambda: on_disk.write_image(
            park / "yard" / "fixation" / "frame1.png", 255 - np.eye(*on_disk.SIZE[::-1], dtype=np.uint8) * 255
        ),
        lambda: command.extend(["--seed", "5"]),
    ):
        interrupted = Interrupted(monkeypatch)
        assert tinyhd(*command) == 130
        change()
        interrupted.interrupt = False
        interrupted.scored.clear()
        assert tinyhd(*command) == 0
        assert interrupted.scored == [0, 1, 2]
        monkeypatch.undo()
        monkeypatch.chdir(park.parent / "here")
        monkeypatch.setenv("TINYHD_CACHE", str(park.parent / "cache"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_killed_runs_are_resumed(tmp_path):
    """If the main process is killed, its workers end too; the next run resumes and has the same results."""
    root = on_disk.folder(tmp_path / "data", {"short": 2, **{f"long{number}": 60 for number in range(8)}})
    maps = write_maps(root, tmp_path / "maps")
    command = [sys.executable, "-m", "tinyhd_cli", "evaluate", "--root", str(root), "--pred-dir", str(maps)]
    command += ["--workers", "2", "--monte-carlo", "0", "--quiet", "--json"]
    environment = {**os.environ, "TINYHD_CACHE": str(tmp_path / "cache")}
    process = subprocess.Popen([*command, str(tmp_path / "broken.json")], env=environment, start_new_session=True)
    while not list((tmp_path / "cache").glob("evaluations/*/[!.]*.json")):
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        pytest.fail("worker processes are still running")
    assert not (tmp_path / "broken.json").exists()
    for name, cached in (("broken", "cache"), ("unbroken", "another cache")):
        again = {**environment, "TINYHD_CACHE": str(tmp_path / cached)}
        subprocess.run([*command, str(tmp_path / f"{name}.json")], env=again, check=True, stdout=subprocess.DEVNULL)
    assert (tmp_path / "broken.json").read_bytes() == (tmp_path / "unbroken.json").read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_video_that_kills_its_process_fails_alone(tinyhd, park, maps, monkeypatch, capsys):
    """The next run scores only this video."""
    command = ["evaluate", "--root", park, "--pred-dir", maps, "--workers", "2", "--json"]
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "Scoring", DeadlyScoring)
        assert tinyhd(*command, "scores.json") == 1
    error = "street: a worker process was killed by signal 9, perhaps because memory ran out; try a smaller --workers"
    assert error in capsys.readouterr().err
    assert {name: video["frames"] for name, video in results()["videos"].items()} == VIDEOS | {"street": 0}
    assert results()["videos"]["street"]["failures"] == [error]
    interrupted = Interrupted(monkeypatch)
    interrupted.interrupt = False
    assert tinyhd(*command, "again.json", "--workers", "1") == 0
    assert interrupted.scored == [1]
    check_scores(results("again.json"), VIDEOS)


def test_fixations_are_read_once(tinyhd, park, maps, monkeypatch):
    """The second run reads the coordinates from the cache; a changed file invalidates the cache."""
    from tinyhd_cli.evaluation import fixations

    read = []
    original = fixations.read_fixation
    monkeypatch.setattr(fixations, "read_fixation", lambda path: read.append(path) or original(path))
    command = ["evaluate", "--root", park, "--pred-dir", maps, "--workers", "1"]
    assert tinyhd(*command) == 0
    assert len(read) == sum(VIDEOS.values())
    assert tinyhd(*command) == 0
    assert len(read) == sum(VIDEOS.values())
    os.utime(park / "yard" / "fixation" / "frame1.png", (1, 1))
    assert tinyhd(*command) == 0
    assert len(read) == 2 * sum(VIDEOS.values())


def test_without_a_writable_cache(tinyhd, park, maps, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("TINYHD_CACHE", str(tmp_path / "file"))
    assert tinyhd("evaluate", "--root", park, "--pred-dir", maps, "--workers", "2", "--json", "scores.json") == 0
    check_scores(results(), VIDEOS)
