"""--jobs: several inputs at the same time, in processes that may be killed or interrupted."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import clips

from tinyhd_cli import system
from tinyhd_cli.commands import jobs, progress, time_left
from tinyhd_cli.errors import UsageError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and /proc")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two clips of different lengths, and a file that is not a video."""
    made = tmp_path_factory.mktemp("clips")
    for frames, name in ((5, "c"), (3, "a")):
        clips.make(made / f"{name}.mp4", frames=frames)
    (made / "broken.mp4").write_bytes(b"no video")
    return made


def test_same_outputs_and_failures_as_one_after_the_other(tinyhd, folder, weights_file, capfd):
    command = (
        "predict",
        folder,
        "--csv",
        "{name}.csv",
        "--weights",
        weights_file,
        "--engine",
        "torch",
        "--device",
        "cpu",
    )
    lines = {}
    for count in (1, 2):
        assert tinyhd(*command, "--out-dir", f"jobs{count}", "--jobs", count) == 1
        lines[count] = capfd.readouterr().err.splitlines()
    assert (
        lines[2][-3:]
        == lines[1][-3:]
        == [
            "3 inputs: 2 done, 1 failed",
            "tinyhd: 1 of 3 inputs failed:",
            f"  {folder}/broken.mp4: not a video that FFmpeg can read (Invalid data found when processing input)",
        ]
    )
    for name, frames, number in (("a", 3, 1), ("c", 5, 3)):
        assert Path(f"jobs1/{name}.csv").read_text() == Path(f"jobs2/{name}.csv").read_text()
        assert sum(line.startswith(f"{name}.mp4 ({number}/3): {frames} frames in ") for line in lines[2]) == 1

    assert tinyhd(*command, "--out-dir", "jobs2", "--jobs", "2", "--json-log", "--skip-existing") == 1
    events = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert {"level", "message"} <= set(events[-1])
    assert [failure["input"] for failure in events[-1]["failed"]] == [f"{folder}/broken.mp4"]
    assert sum("skipped, all outputs exist" in event.get("message", "") for event in events) == 2
    assert tinyhd("predict", folder, "--weights", "none.safetensors", "--jobs", "2") == 4
    assert "none.safetensors" in capfd.readouterr().err


def processes_of(session: int) -> list[int]:
    """Return the processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
            if int(fields[3]) == session and fields[0] != b"Z":
                found.append(int(entry.name))
    return found


def until(process, *texts):
    """Read events until one contains all texts, and return it."""
    for line in process.stderr:
        if all(text in line for text in texts):
            return json.loads(line)
    raise AssertionError(f"no event with {texts}")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
@pytest.mark.slow
def test_a_killed_worker_and_then_ctrl_c(tmp_path, weights_file):
    """The killed process fails its input only. Neither leaves partial files or processes."""
    out = tmp_path / "out"
    for name in "xyz":
        clips.make(tmp_path / f"{name}.mp4", frames=500)
    command = [sys.executable, "-m", "tinyhd_cli", "predict", "x.mp4", "y.mp4", "z.mp4", "--out-dir", out]
    command += ["--jobs", "2", "--json-log", "--weights", weights_file, "--engine", "torch", "--device", "cpu"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    with process:
        until(process, '"progress"', "x.mp4 (1/3)")
        partial = next(out.glob(".x_overlay.*.partial*"))
        os.kill(int(partial.name.split("-")[1]), signal.SIGKILL)
        message = "x.mp4: a worker process was killed by signal 9, perhaps because memory ran out; try a smaller --jobs"
        assert until(process, "killed")["message"] == message
        assert not list(out.glob(".x_overlay*"))
        until(process, '"progress"', "z.mp4 (3/3)")
        assert list(out.glob(".z_overlay.*.partial*"))
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    events = [json.loads(line) for line in errors.splitlines() if "message" in line]
    assert events[-1]["message"] == "interrupted"
    assert events[-2]["failed"] == [{"input": "x.mp4", "error": message}]
    assert events[-3]["message"] == "interrupted; 3 inputs: 1 failed, 2 not done"
    assert list(out.iterdir()) == []
    deadline = time.monotonic() + 10
    while processes_of(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not processes_of(process.pid)


def job(video="a.mp4", output="a.csv"):
    return SimpleNamespace(video=Path(video), outputs={"csv": Path(output)})


def test_number_of_processes(monkeypatch, capsys):
    several = [job(f"{number}.mp4") for number in range(8)]
    monkeypatch.setattr(jobs, "may_have_gpu", lambda: False)
    monkeypatch.setattr(jobs, "available_cores", lambda: 4)
    monkeypatch.setattr(jobs, "available_memory_mb", lambda: 1e6)
    assert jobs.count_processes(None, several, "auto") == 4
    assert jobs.count_processes(None, several[:2], "cpu") == 2
    assert jobs.count_processes(6, several, "cpu") == 6
    assert jobs.count_processes(None, several, "cuda:0") == 1
    monkeypatch.setattr(jobs, "available_memory_mb", lambda: 2.5 * jobs.JOB_MEMORY_MB)
    assert jobs.count_processes(None, several, "cpu") == 2
    monkeypatch.setattr(jobs, "may_have_gpu", lambda: True)
    assert jobs.count_processes(None, several, "auto") == 1
    with pytest.raises(UsageError, match="--jobs 0: give at least 1"):
        jobs.count_processes(0, several, "auto")
    assert capsys.readouterr().err == ""
    for pipe in (job("-"), job("a.mp4", "/dev/stdout"), job("a.mp4", "-")):
        assert jobs.count_processes(2, [*several, pipe], "cpu") == 1
        assert "one after the other, because of" in capsys.readouterr().err


def test_available_memory():
    memory = system.available_memory_mb()
    assert memory is None or memory > 10


def test_progress_of_all_inputs(tmp_path, monkeypatch):
    """Videos of 10, 20 and 30 frames; the first fails. One bar shows the frames of the others."""
    from rich.console import Console

    videos = [clips.make(tmp_path / f"{frames}.mp4", frames=frames) for frames in (10, 20, 30)]
    clock = [0.0]
    monkeypatch.setattr(time_left.time, "monotonic", lambda: clock[0])
    overall = time_left.Overall(videos)
    overall._read_claims()
    overall.update(1, 0.5)
    assert (overall.ended, overall.frames(), overall.seconds()) == (0, (10, 60), None)
    clock[0] = 10.0
    overall.end(0, worked=False)
    assert (overall.ended, overall.frames(), overall.seconds()) == (1, (10, 50), 40)
    overall.end(1, worked=True)
    monkeypatch.undo()

    screen = io.StringIO()
    console = Console(file=screen, width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr(progress, "console", lambda: console)
    with progress.progress_display() as display:
        show = display.overall(3, overall)
        overall.update(2, 0.5)
        show()
        time.sleep(0.3)
    lines = [line for line in screen.getvalue().replace("\r", "\n").splitlines() if "2 of 3 inputs" in line]
    assert "35/50" in lines[-1]
