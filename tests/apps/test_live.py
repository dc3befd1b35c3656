"""Tests of ``tinyhd live``: the newest frames are shown and nothing is queued."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import clips

from tinyhd_cli.apps.live.run import find_source, show_live
from tinyhd_cli.errors import InputError, UsageError
from tinyhd_cli.models.spec import ModelSpec
from tinyhd_cli.video.options import OverlayStyle
from tinyhd_cli.video.overlay import Painter
from tinyhd_cli.video.reader import VideoReader


class Slow:
    """A slow network that records its input."""

    spec = ModelSpec("slow", "none")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.clips: list[np.ndarray] = []

    def prepare(self, image):
        return np.full((3, 4, 4), image[..., 0].mean(), "f4")

    def watched(self):
        return self.infer

    def infer(self, clip):
        self.clips.append(clip)
        time.sleep(self.seconds)
        return np.random.default_rng(0).random((1, 192, 256)).astype(np.float32)


@pytest.fixture
def clip(tmp_path):
    """Make a clip of about 0.73 seconds."""
    return clips.make(tmp_path / "clip.mp4", frames=22)


def test_slow_network_does_not_delay_frames(clip):
    """Frames are shown at their frame rate, with or without a new map."""
    network, shown = Slow(0.15), []
    with VideoReader(clip) as reader:
        summary = show_live(
            reader, True, network, Painter(OverlayStyle()), lambda image, frame: not shown.append(frame.index)
        )
    assert shown == sorted(shown) and len(shown) >= 15
    assert summary.seconds >= 0.65  # a file is played at its frame rate
    assert 2 <= summary.maps <= 6
    assert summary.lag_s < 0.6
    assert all(seen.shape == (3, 16, 4, 4) for seen in network.clips)


def test_slow_display_receives_the_newest_frames(clip):
    shown = []

    def show(image, frame):
        shown.append(frame.index)
        time.sleep(0.2)
        return True

    with VideoReader(clip) as reader:
        summary = show_live(reader, True, Slow(0), Painter(OverlayStyle()), show)
    assert shown == sorted(set(shown)) and shown[-1] == 21
    assert summary.shown == len(shown) and summary.shown + summary.dropped == 22
    assert summary.dropped > summary.shown


def test_clips_begin_with_the_first_frame_repeated(clip):
    network = Slow(0.3)
    with VideoReader(clip) as reader:
        show_live(reader, True, network, Painter(OverlayStyle()), lambda image, frame: True, duration_s=0.4)
    first = network.clips[0][0, :, 0, 0]
    assert len(set(first[:8].tolist())) == 1  # only a few frames have arrived by then


def test_display_can_end_the_run(clip):
    with VideoReader(clip) as reader:
        summary = show_live(reader, True, Slow(0), Painter(OverlayStyle()), lambda image, frame: frame.index < 3)
    assert summary.shown <= 4


def test_errors_of_the_network_are_raised(clip):
    class Broken(Slow):
        def infer(self, clip):
            raise ValueError("no such clip")

    with VideoReader(clip) as reader, pytest.raises(ValueError, match="no such clip"):
        show_live(reader, True, Broken(0), Painter(OverlayStyle()), lambda image, frame: True)


def test_sources():
    assert find_source("clip.mp4", None).paced
    stream = find_source("rtsp://host/path", None)
    assert stream.options.address == "rtsp://host/path" and not stream.paced
    assert find_source(None, 1).options.format in ("v4l2", "avfoundation", "dshow")
    for pair in ((None, None), ("a.mp4", 0)):
        with pytest.raises(UsageError, match="name one source"):
            find_source(*pair)


def test_into_a_file(tinyhd, clip, weights_file, capsys):
    assert tinyhd("live", clip, "--weights", weights_file, "-o", "out.mp4") == 0
    assert "frames shown" in capsys.readouterr().err
    with VideoReader("out.mp4") as reader:
        assert 3 < len(list(reader)) <= 22


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_interruption_is_not_an_error(tmp_path, weights_file):
    """After Ctrl-C, the file is complete and the exit code is 0."""
    clip = clips.make(tmp_path / "long.mp4", frames=900)
    command = [sys.executable, "-m", "tinyhd_cli", "live", str(clip), "--weights", str(weights_file), "-o", "out.mp4"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob(".out*")):
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(1.5)
    os.kill(process.pid, signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 0, message
    with VideoReader(tmp_path / "out.mp4") as reader:
        assert len(list(reader)) > 3
    assert sorted(path.name for path in tmp_path.glob("*out*")) == ["out.mp4"]


def test_wrong_usage(tinyhd, clip, capsys, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    for arguments, code, message in (
        ([], 2, "name one source"),
        ([clip, "--camera", "0"], 2, "name one source"),
        (["nowhere.mp4"], 3, "no such file"),
        (["http://127.0.0.1:9/clip"], 3, "not a video that FFmpeg can read"),
        ([clip, "--weights", "nowhere.pth"], 4, "nowhere.pth"),
    ):
        assert tinyhd("live", *arguments) == code
        error = capsys.readouterr().err
        assert message in error and len(error.splitlines()) == 1


def test_without_a_display(tinyhd, clip, weights_file, capsys, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    if sys.platform != "linux":
        pytest.skip("requires Linux")
    assert tinyhd("live", clip, "--weights", weights_file) == 2
    assert "--overlay" in capsys.readouterr().err


WINDOW = """
import numpy as np
from tinyhd_cli.apps.live.window import TkWindow
image = np.zeros((60, 80, 3), np.uint8)
image[:, 40:] = (250, 120, 10)
window = TkWindow("a window")
assert window(image, None)
assert [window._label.image.get(x, 30) for x in (10, 70)] == [(0, 0, 0), (250, 120, 10)]
window._root.focus_force()
window._root.event_generate("<Key-q>")
assert not window(image, None)
"""


@pytest.mark.skipif(not shutil.which("Xvfb"), reason="requires Xvfb")
def test_window_shows_images_until_q():
    reading, writing = os.pipe()
    screen = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", "320x240x24"],
        pass_fds=(writing,),
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    try:
        with os.fdopen(reading) as answer:
            display = f":{answer.readline().strip()}"
        shown = subprocess.run(
            [sys.executable, "-c", WINDOW], env={**os.environ, "DISPLAY": display}, capture_output=True, check=False
        )
        assert shown.returncode == 0, shown.stderr.decode()
    finally:
        screen.terminate()
        screen.wait()


def test_unreadable_camera():
    with pytest.raises(InputError):
        find_source(None, 99).open()
