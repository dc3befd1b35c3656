"""Commands with several videos: each video gets its output, and a failed video does not stop the others."""

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
    """A folder with two clips and a file that is not a video."""
    made = tmp_path / "clips"
    made.mkdir()
    for name in ("one", "two"):
        clips.make(made / f"{name}.mp4", frames=3)
    (made / "broken.mp4").write_bytes(b"no video")
    return made


@pytest.mark.parametrize("command", SUFFIXES)
def test_a_folder_with_a_broken_file(tinyhd, folder, weights_file, capsys, command):
    assert tinyhd(command, folder, "--out-dir", "out", "--weights", weights_file) == 1
    errors = capsys.readouterr().err
    assert "broken.mp4: " in errors
    assert "1 of 3 inputs failed" in errors
    names = {path.name for path in Path("out").iterdir()}
    assert names == {f"{name}{SUFFIXES[command]}" for name in ("one", "two")}


@pytest.mark.parametrize("command", SUFFIXES)
def test_output_names_are_checked_first(tinyhd, folder, weights_file, capsys, command):
    name = f"out{Path(SUFFIXES[command]).suffix}"
    assert tinyhd(command, folder, "-o", name, "--weights", weights_file) == 2
    assert "3 inputs would be written to one file" in capsys.readouterr().err
    assert tinyhd(command, "none.mp4", "--weights", weights_file) == 3
    assert "none.mp4: no such file" in capsys.readouterr().err
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize("command", ["crop", "encode"])
def test_two_passes_require_a_file(tinyhd, weights_file, capsys, command):
    assert tinyhd(command, "-", "--weights", weights_file) == 2
    assert "must be read twice" in capsys.readouterr().err


def test_json_of_several_videos(tinyhd, folder, weights_file, capsys):
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
def test_interrupted_runs_keep_complete_outputs(tmp_path, weights_file, command):
    videos = [clips.make(tmp_path / "short.mp4", frames=2), clips.make(tmp_path / "x-long.mp4", frames=900)]
    command_line = [
        sys.executable,
        "-m",
        "tinyhd_cli",
        command,
        *videos,
        "--weights",
        weights_file,
        "--json-log",
        "-j",
        "1",
    ]
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*command_line, "--out-dir", out], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if '"progress"' in line and "x-long" in line:
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert [path.name for path in out.iterdir()] == [f"short{SUFFIXES[command]}"]
