"""Tests of inputs other than video files: standard input and folders of images."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers import clips

from tinyhd_cli.errors import InputError, UsageError
from tinyhd_cli.video.options import InputOptions, parse_size, to_frame_rate
from tinyhd_cli.video.reader import VideoReader


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imencode(path.suffix, image[..., ::-1])[1].tofile(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
def test_images_in_the_order_of_their_numbers(tmp_path, suffix):
    for number in (1, 2, 10, 9, 100):
        write(tmp_path / f"frame{number}{suffix}", np.full((48, 64, 3), number, np.uint8))
    (tmp_path / f".hidden{suffix}").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    with VideoReader(tmp_path, InputOptions(Fraction(10))) as reader:
        frames = list(reader)
        assert (reader.info.width, reader.info.height, reader.info.rate) == (64, 48, 10)
        assert [round(float(frame.rgb().mean())) for frame in frames] == pytest.approx([1, 2, 9, 10, 100], abs=2)
        assert [round(frame.time_s, 6) for frame in frames] == [0, 0.1, 0.2, 0.3, 0.4]


def test_folder_without_images(tmp_path):
    with pytest.raises(InputError, match="folder without images; give a video"):
        VideoReader(tmp_path)


def test_predict_a_folder_of_images(tinyhd, weights_file, capsys):
    for number in range(5):
        write(Path("walk") / f"{number:04d}.png", clips.image(number, 96, 64))
    assert tinyhd("predict", "walk", "--weights", weights_file, "--rate", "10", "--json", "out.json") == 0
    found = json.loads(Path("out.json").read_text())
    assert (found["frames"], found["rate"], found["duration_s"]) == (5, 10, 0.5)
    assert tinyhd("predict", "walk", "--weights", weights_file) == 0
    with VideoReader("walk_overlay.mp4") as reader:
        assert len(list(reader)) == 5
    assert tinyhd("predict", "walk", "--weights", weights_file, "--rate", "0") == 2
    assert "--rate" in capsys.readouterr().err


def predict_stdin(weights_file, folder, data, *options):
    command = [sys.executable, "-m", "tinyhd_cli", "predict", "-", "--weights", str(weights_file), *options]
    return subprocess.run(command, input=data, cwd=folder, capture_output=True, check=False)


def test_y4m_from_standard_input_to_standard_output(tmp_path, weights_file):
    """The output in the pipe is a y4m video of the painted frames."""
    images = [clips.image(number, 64, 48) for number in range(6)]
    data = b"YUV4MPEG2 W64 H48 F10:1 Ip A1:1 C420jpeg\n"
    for image in images:
        data += b"FRAME\n" + cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420).tobytes()
    result = predict_stdin(weights_file, tmp_path, data, "--overlay", "-", "--csv", "out.csv", "--alpha", "0")
    assert result.returncode == 0, result.stderr
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 7
    (tmp_path / "out.y4m").write_bytes(result.stdout)
    with VideoReader(tmp_path / "out.y4m") as reader:
        assert reader.info.rate == 10
        shown = [frame.rgb() for frame in reader]
    assert len(shown) == 6
    for one, other in zip(shown, images, strict=True):
        assert np.abs(one.astype(int) - other).mean() < 6


def test_raw_video_from_standard_input(tmp_path, weights_file):
    images = np.array([clips.image(number, 64, 48) for number in range(4)])
    options = ["--size", "64x48", "--rate", "20", "--json", "out.json"]
    assert predict_stdin(weights_file, tmp_path, images.tobytes(), *options).returncode == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert (found["frames"], found["width"], found["height"], found["rate"]) == (4, 64, 48, 20)


@pytest.mark.slow
def test_empty_or_invalid_standard_input(tmp_path, weights_file):
    for data in (b"", b"no video at all" * 100):
        result = predict_stdin(weights_file, tmp_path, data)
        assert result.returncode == 3
        lines = [line for line in result.stderr.splitlines() if b"still loading" not in line]  # on a slow machine
        assert len(lines) == 1 and lines[0].startswith(b"tinyhd: -: ")
    assert not list(tmp_path.glob("*overlay*"))


def test_a_pipe_is_read_once(tinyhd, weights_file, capsys):
    assert tinyhd("predict", "-", "--weights", weights_file, "--normalize", "video") == 2
    assert "not possible with a pipe" in capsys.readouterr().err


def test_sizes_and_rates():
    assert parse_size("640x360") == (640, 360)
    for text in ("640", "640x", "axb", "0x0x0"):
        with pytest.raises(UsageError, match="--size"):
            parse_size(text)
    with pytest.raises(UsageError, match="--size"):
        InputOptions(size=(0, 5))
    assert to_frame_rate(29.97) == Fraction(30000, 1001)
    assert to_frame_rate(25) == 25 and to_frame_rate(12.5) == Fraction(25, 2)


def test_overlay_of_a_pipe_has_no_audio(tmp_path, weights_file):
    clip = clips.make(tmp_path / "clip.mkv", frames=4, audio="aac")
    result = predict_stdin(weights_file, tmp_path, clip.read_bytes(), "--overlay", "out.mp4")
    assert result.returncode == 0, result.stderr
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert not container.streams.audio
