"""Applications with object models: crop and encode follow the object, live draws it, report refuses it."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import clips
from helpers.bright import BrightFamily, write_bright

from tinyhd_cli import models
from tinyhd_cli.apps.crop import CropWindow, TargetTrack, held, window_path
from tinyhd_cli.apps.encode.offsets import QpAllocator, cells_of, object_factors
from tinyhd_cli.apps.options import CropOptions
from tinyhd_cli.inference.objects import ObjectStatistics, describe_object
from tinyhd_cli.models import registry

WINDOW = CropWindow(width=100, height=200, horizontal=True, room=300)


@pytest.fixture(autouse=True)
def family(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    models.register(BrightFamily())


@pytest.fixture
def run(tinyhd):
    """Run a command on a clip in which a bright disc moves."""
    clips.make(Path("clip.mp4"), frames=20, width=320, height=180, audio="aac")

    def run(command, *args, level=0.5):
        weights = write_bright(Path("bright.safetensors"), level)
        return tinyhd(command, "clip.mp4", "--weights", weights, "--engine", "torch", "--quiet", *args)

    return run


def found(left, right, center=None):
    """Return an object between two columns of a frame of 400 x 200 pixels."""
    middle = (left + right - 1) / 2 if center is None else center
    return ObjectStatistics(0.1, left, 50, right - left, 60, middle, 79.5, 0.9, 1)


def test_the_window_shows_the_whole_object_if_it_fits():
    assert WINDOW.around(found(150, 250)) == 150, "exactly"
    assert WINDOW.around(found(180, 220)) == 150, "in the middle"
    assert WINDOW.around(found(150, 240, center=230)) == 150, "not cut off, although its center is at one side"
    assert WINDOW.around(found(0, 20)) == 0
    assert WINDOW.around(found(390, 400)) == 300
    assert WINDOW.around(found(100, 300)) == 150, "too wide: its middle"
    assert WINDOW.around(found(100, 300, center=110)) == 100, "too wide: not beside it"
    assert np.isnan(WINDOW.around(ObjectStatistics(0.0)))
    tall = CropWindow(width=400, height=100, horizontal=False, room=100)
    assert tall.around(found(0, 10)) == 30


def test_the_window_stays_where_nothing_is_found():
    nan = np.nan
    assert held(np.array([nan, nan, 5.0, nan, 7.0, nan]), 50).tolist() == [5, 5, 5, 5, 7, 7]
    assert held(np.array([nan, nan]), 50).tolist() == [50, 50]
    targets = TargetTrack([index / 25 for index in range(100)], [200.0] * 30 + [nan] * 70, [False] * 100)
    assert window_path(targets, WINDOW, CropOptions(aspect=Fraction(1, 2))) == pytest.approx(np.full(100, 200.0))
    targets = TargetTrack(targets.times_s, [nan] * 100, targets.cuts)
    assert window_path(targets, WINDOW, CropOptions(aspect=Fraction(1, 2))) == pytest.approx(np.full(100, 150.0))


def test_crop(run):
    """The disc is inside the window in all frames, although it moves over more than the width of the window."""
    assert run("crop", "--aspect", "1:2", "-o", "crop.mp4", "--max-speed", "1", "--smooth", "0.05") == 0
    frames = clips.frames(Path("crop.mp4"))
    assert len(frames) == 20
    assert frames[0].shape == (180, 90, 3)
    whole = (clips.image(0, 320, 180) == (250, 240, 60)).all(axis=2).sum()
    visible = [(np.abs(frame.astype(int) - (250, 240, 60)).max(axis=2) < 60).sum() for frame in frames]
    assert min(visible) > 0.85 * whole


def test_crop_without_an_object(run):
    assert run("crop", "--aspect", "1:1", "-o", "crop.mp4", level=3) == 0
    middle = clips.image(0, 320, 180)[:, 70:250]
    assert np.abs(clips.frames(Path("crop.mp4"))[0].astype(int) - middle).mean() < 4


def test_encode(run, capsys):
    """At the same size, the object is better than in a plain encode."""
    assert run("encode", "-o", "e.mp4", "--json", "--crf", "34", "--strength", "9") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["guided"]["psnr_inside_db"] > result["plain"]["psnr_inside_db"] + 0.5
    assert run("encode", "-o", "e.mp4", "--json", level=3) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["guided"]["psnr_inside_db"] is None
    assert result["guided"]["psnr_outside_db"] == pytest.approx(result["plain"]["psnr_outside_db"], abs=0.3)


def test_cells_of_an_object():
    covered = np.zeros((5, 8))
    covered[2, 2:4] = 1, 0.2
    factors = object_factors(covered)
    assert factors[2, 1:6].tolist() == [0, -1, -0.5, 0, 0.6]
    assert factors[1, 1:5].tolist() == [0, 0, 0, 0]
    assert (factors == 0.6).sum() == 40 - 12
    assert not object_factors(np.full((5, 8), 0.01)).any()


def test_cells_follow_the_object_over_time():
    """A haze of small probabilities is no object."""
    allocator = QpAllocator(cells_of(640, 320), 6, objects=True)
    probability = np.full((64, 128), 0.3, np.float32)
    frame = SimpleNamespace(time_s=0.0, index=0)
    assert not allocator.offsets(frame, probability).any()
    probability[20:44, 32:64] = 0.9
    for index in range(1, 61):
        frame = SimpleNamespace(time_s=index / 30, index=index)
        offsets = allocator.offsets(frame, probability)
    assert offsets[10, 14] == -6
    assert offsets[10, 35] == pytest.approx(3.6)


def test_live(run, monkeypatch):
    """The object of a live video is drawn: its tint is in the frames."""
    assert run("live", "--overlay", "live.mp4", "--duration", "1.2") == 0
    shown = clips.frames(Path("live.mp4"))[-1]
    original = np.abs(shown.astype(int) - (250, 240, 60)).max(axis=2) < 30
    assert len(shown)
    assert original.sum() < 200, "the disc is tinted"


def test_report(run, capsys):
    assert run("report", "-o", "report.html") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tinyhd: report needs a model that predicts where people look, but bright-64 predicts")
    assert not Path("report.html").exists()


def test_the_statistics_that_crop_reads():
    probability = np.zeros((90, 160), np.float32)
    probability[30:60, 40:80] = 1
    found = describe_object(probability, 320, 180, 0.5)
    assert (found.box_x, found.box_y, found.box_width, found.box_height) == (80, 60, 80, 60)
