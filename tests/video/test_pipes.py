"""Named and anonymous pipes are read once, and reading never hangs."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path

import av
import pytest
from helpers import clips

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes have no path on Windows")


@pytest.fixture
def feed(tmp_path):
    """Return a function that creates a pipe, named or in /dev/fd, and writes data to it once it is opened."""
    threads, descriptors = [], []

    def write(target, data):
        with contextlib.suppress(BrokenPipeError), open(target, "wb") as pipe:  # noqa: PTH123  # target can be a descriptor
            pipe.write(data)

    def make(data, *, named=True):
        if named:
            path = tmp_path / "pipe.mkv"
            path.unlink(missing_ok=True)
            os.mkfifo(path)
            target = path
        else:
            read, target = os.pipe()
            descriptors.append(read)
            path = Path(f"/dev/fd/{read}")
        threads.append(threading.Thread(target=write, args=(target, data), daemon=True))
        threads[-1].start()
        return path

    yield make
    for descriptor in descriptors:
        os.close(descriptor)
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive(), "the pipe was not read"


@pytest.fixture
def clip(tmp_path):
    return clips.make(tmp_path / "clip.mkv", frames=4, audio="aac")


@pytest.mark.parametrize("named", [True, False])
def test_frames_are_read_and_lost_audio_is_reported(tinyhd, weights_file, feed, clip, named, capsys):
    pipe = feed(clip.read_bytes(), named=named)
    assert tinyhd("predict", pipe, "-o", "out.mp4", "--weights", weights_file, "--engine", "torch") == 0
    output = capsys.readouterr().err
    assert f"{pipe}: the overlay has no audio, because a pipe can be read only once; give a file" in " ".join(
        output.split()
    )
    assert len(clips.frames(Path("out.mp4"))) == 4
    with av.open("out.mp4") as container:
        assert not container.streams.audio


def test_no_warning_if_no_output_has_audio(tinyhd, weights_file, feed, clip, capsys):
    options = ("--weights", weights_file, "--engine", "torch")
    assert tinyhd("predict", feed(clip.read_bytes()), "--csv", "out.csv", *options) == 0
    assert tinyhd("report", feed(clip.read_bytes()), "-o", "out.html", *options) == 0
    assert "audio" not in capsys.readouterr().err
    assert len(Path("out.csv").read_text().splitlines()) == 5


def test_commands_that_read_twice_reject_pipes(tinyhd, weights_file, feed, clip, capsys):
    options = ("--weights", weights_file, "--engine", "torch")
    pipe = feed(b"")
    for command, message in (
        (["crop"], f"{pipe}: is a pipe, but the video must be read twice; give a file"),
        (["encode"], f"{pipe}: is a pipe, but the video must be read twice; give a file"),
        (["predict", "--normalize", "video"], "--normalize video reads the video twice, which is not possible with"),
    ):
        assert tinyhd(*command, pipe, *options) == 2
        assert message in capsys.readouterr().err
    assert not list(Path().iterdir())
    pipe.read_bytes()  # so that the writer ends


def test_empty_and_invalid_pipes(tinyhd, weights_file, feed, capsys):
    options = ("--weights", weights_file, "--engine", "torch")
    for data, reason in ((b"", "is empty"), (b"no video" * 1000, "not a video that FFmpeg can read")):
        pipe = feed(data)
        assert tinyhd("predict", pipe, *options) == 3
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"tinyhd: {pipe}: {reason}")


def test_index_at_the_end_of_a_pipe(tmp_path, tinyhd, weights_file, feed, capsys):
    data = clips.make(tmp_path / "last.mp4", frames=4).read_bytes()
    index = data.index(b"moov") - 4
    far = data[:index] + (200_000).to_bytes(4, "big") + b"free" + bytes(199_992) + data[index:]
    options = ("--csv", "out.csv", "--weights", weights_file, "--engine", "torch")
    assert tinyhd("predict", feed(far), *options) == 3
    assert "remux it with -movflags +faststart" in " ".join(capsys.readouterr().err.split())
    first = clips.make(tmp_path / "first.mp4", frames=4, container={"movflags": "faststart"})
    assert tinyhd("predict", feed(first.read_bytes()), *options) == 0
    assert len(Path("out.csv").read_text().splitlines()) == 5


def test_pipes_in_folders_are_ignored(tmp_path, tinyhd, weights_file, clip, capsys):
    """Reading them could block forever."""
    folder = tmp_path / "folder"
    folder.mkdir()
    os.mkfifo(folder / "a.mkv")
    os.mkfifo(folder / "b.png")
    assert tinyhd("predict", folder, "--weights", weights_file, "--engine", "torch") == 3
    clip.rename(folder / "c.mkv")
    assert tinyhd("predict", folder, "--csv", "{name}.csv", "--weights", weights_file, "--engine", "torch") == 0
    assert [path.name for path in Path().iterdir()] == ["c.csv"]
