"""Commands that take several videos: each gets its output, and one that fails does not stop the others."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import clips

SUFFIXES = {"crop": "_crop.mp4", "encode": "_encoded.mp4", "report": "_report.html"}


@pytest.fixture
def folder(tmp_path):
    """Two clips, and one file that is none."""
    made = tmp_path / "clips"
    made.mkdir()
    for name in ("one", "two"):
        clips.make(made / f"{name}.mp4", frames=3)
    (made / "broken.mp4").write_bytes(b"no video")
    return made


@pytest.mark.parametrize("command", SUFFIXES)
def test_a_folder_with_a_broken_file(tinyhd, folder, weights_file, capsys, command):
    assert tinyhd(command, folder, "--out-dir", "out", "--weights", weights_file) == 1
    said = capsys.readouterr().err
    assert "broken.mp4: " in said
    assert "1 of 3 inputs failed" in said
    names = {path.name for path in Path("out").iterdir()}
    assert names == {f"{name}{SUFFIXES[command]}" for name in ("one", "two")}


@pytest.mark.parametrize("command", SUFFIXES)
def test_names_are_checked_before_anything_is_done(tinyhd, folder, weights_file, capsys, command):
    name = f"out{Path(SUFFIXES[command]).suffix}"
    assert tinyhd(command, folder, "-o", name, "--weights", weights_file) == 2
    assert "3 videos would be written to one file" in capsys.readouterr().err
    assert tinyhd(command, "none.mp4", "--weights", weights_file) == 3
    assert "none.mp4: no such file" in capsys.readouterr().err
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize("command", ["crop", "encode"])
def test_two_passes_need_a_file(tinyhd, weights_file, capsys, command):
    assert tinyhd(command, "-", "--weights", weights_file) == 2
    assert "not possible with a pipe" in capsys.readouterr().err


def test_json_of_several(tinyhd, folder, weights_file, capsys):
    videos = [folder / f"{name}.mp4" for name in ("one", "two")]
    assert tinyhd("encode", *videos, "--json", "--no-compare", "-q", "--weights", weights_file) == 0
    decoder, text, found = json.JSONDecoder(), capsys.readouterr().out.strip(), []
    while text:
        one, end = decoder.raw_decode(text)
        found.append(one)
        text = text[end:].strip()
    assert [(one["video"], one["output"]) for one in found] == [
        (str(video), f"{video.stem}_encoded.mp4") for video in videos
    ]


@pytest.mark.parametrize("command", SUFFIXES)
def test_interrupted_runs_leave_what_is_complete(tmp_path, weights_file, command):
    videos = [clips.make(tmp_path / "short.mp4", frames=2), clips.make(tmp_path / "x-long.mp4", frames=900)]
    line = [sys.executable, "-m", "tinyhd_cli", command, *videos, "--weights", weights_file, "--json-log"]
    out = tmp_path / "out"
    process = subprocess.Popen([*line, "--out-dir", out], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for said in process.stderr:
        if '"progress"' in said and "x-long" in said:
            break
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert [path.name for path in out.iterdir()] == [f"short{SUFFIXES[command]}"]
