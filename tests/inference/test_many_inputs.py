"""Tests of commands with many inputs: progress, time left and the final summary."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import clips

from tinyhd_cli.commands import progress, terminal, time_left
from tinyhd_cli.commands.progress import LABEL_WIDTH, PARTS, ProgressDisplay, parts_for, shortened
from tinyhd_cli.commands.tally import MAX_LISTED, Tally
from tinyhd_cli.commands.time_left import TimeLeft, claimed_frames
from tinyhd_cli.errors import InputError

BROKEN = "not a video that FFmpeg can read (Invalid data found when processing input)"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Replace the network by constant maps, because the network is not under test."""
    from tinyhd_cli.inference.model import Model

    maps = np.random.default_rng(0).random((16, 192, 256)).astype(np.float32)
    monkeypatch.setattr(Model, "infer", lambda self, clip: maps)


@pytest.fixture
def clip_folder(tmp_path):
    """Make a folder with two clips and more invalid files than the list of failures shows."""
    folder = tmp_path / "d"
    folder.mkdir()
    for name in ("good", "zebra"):
        clips.make(folder / f"{name}.mp4", frames=2)
    for number in range(MAX_LISTED + 3):
        (folder / f"m{number:03d}.mp4").write_text("no video")
    return folder


def test_last_lines_list_the_failures(tinyhd, clip_folder, weights_file, capsys):
    names = [f"{clip_folder}/m{number:03d}.mp4" for number in range(MAX_LISTED + 3)]
    command = ("predict", "gone.mp4", clip_folder, "--csv", "n.csv", "--out-dir", "o")
    command += ("--weights", weights_file, "--engine", "torch")
    assert tinyhd(*command) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "tinyhd: gone.mp4: no such file"
    assert lines[-MAX_LISTED - 3 :] == [
        "26 inputs: 2 done, 24 failed",
        "tinyhd: 24 of 26 inputs failed:",
        "  gone.mp4: no such file",
        *(f"  {name}: {BROKEN}" for name in names[: MAX_LISTED - 1]),
        "  and 4 more, reported above",
    ]
    assert tinyhd(*command, "--skip-existing", "--json-log") == 1
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert events[-2]["message"] == "26 inputs: 2 skipped, 24 failed"
    assert events[-1]["message"] == "24 of 26 inputs failed"
    expected = {name: f"{name}: {BROKEN}" for name in names} | {"gone.mp4": "gone.mp4: no such file"}
    assert {item["input"]: item["error"] for item in events[-1]["failed"]} == expected


def test_one_input_has_no_summary(tinyhd, capsys):
    assert tinyhd("crop", "gone.mp4") == 3
    assert capsys.readouterr().err == "tinyhd: gone.mp4: no such file\n"


def test_list_contains_the_input_of_each_failure(capsys):
    terminal.console.cache_clear()
    tally = Tally(3, done=1)
    tally.fail("a.mp4", InputError("a.mp4: is empty"))
    tally.fail("b.mp4", InputError("out/b.csv: cannot be written: No space left on device"))
    capsys.readouterr()
    assert tally.close() == 1
    message = capsys.readouterr().err.splitlines()
    assert message[1:] == ["  a.mp4: is empty", "  b.mp4: out/b.csv: cannot be written: No space left on device"]


def test_interrupted_run_reports_its_progress(tinyhd, clip_folder, weights_file, capsys, monkeypatch):
    from tinyhd_cli.inference import predict

    real = predict.predict_file

    def interrupted(video, *arguments):
        if video.name == "m004.mp4":
            raise KeyboardInterrupt
        return real(video, *arguments)

    monkeypatch.setattr(predict, "predict_file", interrupted)
    arguments = ("--csv", "{name}.csv", "--weights", weights_file, "--engine", "torch", "-q")
    assert tinyhd("predict", clip_folder, *arguments) == 130
    last = capsys.readouterr().err.splitlines()[-7:]
    assert last[0] == "tinyhd: interrupted at m004.mp4 (6/25); 25 inputs: 1 done, 4 failed, 20 not done"
    assert last[1] == "tinyhd: 4 of 25 inputs failed:"
    assert last[2:6] == [f"  {clip_folder}/m{number:03d}.mp4: {BROKEN}" for number in range(4)]
    assert last[6] == "tinyhd: interrupted"
    assert [path.name for path in Path.cwd().iterdir()] == ["good.csv"]


def test_notes_on_how_images_are_read(tinyhd, weights_file, capsys):
    def write_image(name: str) -> None:
        import cv2

        Path(name).parent.mkdir(exist_ok=True)
        cv2.imencode(".png", clips.image(1, 64, 48))[1].tofile(name)

    for name in ("one.png", "walk/1.png", "walk/2.png", "walk/3.png"):
        write_image(name)
    rest = ("--csv", "{name}.csv", "--weights", weights_file, "--engine", "torch")
    assert tinyhd("predict", "one.png", "walk", "--rate", "10", *rest) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == (
        "walk: 3 images read as one video at 10 frames per second (see --rate), each map depending on several images;"
        " if they are unrelated, use --as-images"
    )
    assert tinyhd("predict", "walk/*.png", *rest, "--skip-existing") == 0
    message = capsys.readouterr().err
    assert "3 images, each read separately; if they are frames of one video, give their folder" in message
    assert tinyhd("predict", "walk", *rest, "--as-images", "--skip-existing") == 0
    assert "walk: 3 images, each read separately\n" in capsys.readouterr().err
    write_image("walk/other.png")
    assert tinyhd("predict", "walk", *rest, "--skip-existing") == 0
    note = "walk: 4 images, each read separately; if they are frames of one video, use --as-video"
    assert note in capsys.readouterr().err
    assert sorted(path.name for path in Path.cwd().glob("*.csv")) == [
        f"{name}.csv" for name in ("1", "2", "3", "one", "other", "walk")
    ]
    assert tinyhd("predict", "walk", *rest, "--as-video", "-q") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("width", [11, 18, 28, 40])
@pytest.mark.parametrize("name", ["a.mp4", "n" * 250 + ".mp4", "漢字" * 40 + ".mp4", "é" * 120, "a\nb\x1b[31m.mp4"])
@pytest.mark.parametrize("rest", ["", " (10/12)", " (10/12), predicting"])
def test_label_keeps_its_number(name, rest, width):
    from rich.cells import cell_len

    label = shortened(name, rest, width)
    assert cell_len(label) <= width
    assert label.isprintable()
    if len(rest) + 3 <= width:
        assert label.endswith(rest)
        assert label == name + rest or "…" in label or "\\" in label
    assert width < 28 or label[0] == name[0]
    assert not name.endswith(".mp4") or len(rest) + 11 > width or label.removesuffix(rest).endswith("mp4")


@pytest.mark.parametrize(
    ("width", "fits"), [(20, {"left"}), (40, {"left", "all"}), (80, set(PARTS)), (200, set(PARTS))]
)
def test_parts_that_fit_next_to_a_label(width, fits):
    parts = parts_for(width, several=True)
    assert set(parts) == fits
    assert sum(PARTS[part] for part in parts) + min(LABEL_WIDTH, 11) <= width
    assert "all" not in parts_for(width, several=False)


@pytest.mark.parametrize("width", [20, 40, 80])
def test_progress_bar_in_a_terminal(monkeypatch, width):
    """The number, the rate and the total time left are readable. The name is not interpreted as markup."""
    from rich.console import Console

    screen = io.StringIO()
    console = Console(file=screen, width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(progress, "console", lambda: console)
    with progress.progress_display(several=True) as display:
        report = display.video("[red]" + "x" * 90 + ":x:.mp4", "(3/7)", "", lambda fraction: 3700.0)
        for done in range(1, 40):
            report(done, 100)
        time.sleep(0.6)
    line = [line for line in screen.getvalue().replace("\r", "\n").splitlines() if "(3/7)" in line][-1]
    assert "(3/7)" in line
    assert (" 39/100" in line) == (width == 80)
    assert ("all 1:01:40" in line) == (width >= 40)
    assert ("[red]" in line) == (width >= 40)


def test_time_left(tmp_path, monkeypatch):
    """With videos of 10, 20 and 30 frames, the estimate is based on frames and not on the number of videos."""
    videos = [clips.make(tmp_path / f"{frames}.mp4", frames=frames) for frames in (10, 20, 30)]
    clock = [0.0]
    monkeypatch.setattr(time_left.time, "monotonic", lambda: clock[0])
    left = TimeLeft(videos)
    left._read_claims()
    assert left._claims == [10, 20, 30]
    left.start(0)
    clock[0] = 1.0
    assert left.seconds(0.1) is None, "too early"
    clock[0] = 5.0
    assert left.seconds(0.5) == pytest.approx(55)  # 5 of 60 frames in 5 s
    clock[0] = 10.0
    left.finish(0)
    left.start(1)
    clock[0] = 15.0
    assert left.seconds(0.25) == pytest.approx(45)
    assert left.seconds(0) == pytest.approx(45)  # a phase: 10 s for 10 frames, 50 frames left, 5 s elapsed
    assert left.seconds(1) == pytest.approx(15 * 30 / 30)


def test_claimed_frame_counts_are_read_in_the_background(tmp_path):
    clip = clips.make(tmp_path / "clip.mp4", frames=7)
    fifo = tmp_path / "pipe.mkv"
    os.mkfifo(fifo)
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    with TimeLeft([broken, fifo, clip, tmp_path / "gone.mp4"]) as left:
        left._thread.join(20)
        assert left._claims == [None, None, 7, None], "the pipe must not be opened"
        assert left.seconds(0.0) is None
    with pytest.raises(InputError):
        claimed_frames(broken)


def test_events_contain_the_total_time_left(capsys, monkeypatch):
    monkeypatch.setattr(terminal, "as_json", True)
    report = ProgressDisplay(None, quiet=False).video("a.mp4", "(1/2)", "predicting", lambda fraction: 100 * fraction)
    report(5, 10)
    event = json.loads(capsys.readouterr().err)
    assert (event["label"], event["done"], event["all_left_s"]) == ("a.mp4 (1/2), predicting", 5, 50.0)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no pseudo-terminal")
@pytest.mark.parametrize("options", [[], ["--quiet"]])
def test_terminal_shows_immediately_what_is_loading(tmp_path, options):
    """It is shown before OpenCV is imported and removed before the error is shown. --quiet disables it."""
    import pty

    clips.make(tmp_path / "a.mp4", frames=1)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-X", "importtime", "-m", "tinyhd_cli", "predict", "a.mp4", "--weights", "no.pth"]
    process = subprocess.Popen([*command, *options], stderr=theirs, cwd=tmp_path, env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    message = b""
    while True:
        try:
            message += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert process.wait() == 4
    shown, opencv = message.find(b"tinyhd: loading libraries ..."), re.search(rb"\|\s+cv2\r\n", message)
    if options:
        assert b"loading" not in message
    else:
        assert opencv is not None
        assert 0 <= shown < opencv.start()
        assert b"\r\x1b[2Ktinyhd: loading no.pth and preparing it for this machine ..." in message
        assert b"\r\x1b[2Ktinyhd: no.pth: no such file" in message
