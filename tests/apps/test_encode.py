"""Tests of ``tinyhd encode``: bits are spent where people look."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from helpers import clips
from helpers.textured import left_saliency_of, textured

from tinyhd_cli.apps.encode import offsets as allocation
from tinyhd_cli.apps.encode import run as encode
from tinyhd_cli.apps.encode.offsets import QpAllocator, attention_factors, cells_of
from tinyhd_cli.apps.encode.plot import plot_curves
from tinyhd_cli.apps.encode.quality import Regions, psnr
from tinyhd_cli.apps.encode.run import next_factor
from tinyhd_cli.apps.options import EncodeOptions
from tinyhd_cli.errors import UsageError
from tinyhd_cli.video.options import EncoderOptions
from tinyhd_cli.video.reader import VideoReader
from tinyhd_cli.video.regions import Grid, QpMap, RegionMarker, rectangles


@pytest.mark.parametrize("values", [(-6.0, -3.0, 0.0, 4.0), (0.0, 2.0), (-6.0, -2.0), (0.0, -1.0), (3.0,)])
def test_rectangles_set_every_cell(values):
    offsets = np.random.default_rng(0).choice(values, (11, 20))
    found = list(rectangles(offsets))
    painted = np.zeros_like(offsets)
    for top, first, bottom, end, value in reversed(found):  # the first one counts
        painted[top:bottom, first:end] = value
    np.testing.assert_array_equal(painted, offsets)
    assert len(found) < 11 * 20


def test_few_rectangles():
    assert list(rectangles(np.full((3, 4), -2.0))) == [(0, 0, 3, 4, -2.0)]
    assert list(rectangles(np.zeros((3, 4)))) == []
    nested = np.pad(np.pad(np.full((1, 2), -2.0), 1, constant_values=-1.0), 1)
    assert list(rectangles(nested)) == [(2, 2, 3, 4, -2.0), (1, 1, 4, 5, -1.0), (0, 0, 5, 6, 0.0)]


def test_marked_frames_keep_content_and_time():
    frame = av.VideoFrame.from_ndarray(np.random.default_rng(0).integers(0, 255, (72, 64), np.uint8), "yuv420p")
    frame.pts, frame.time_base = 7, Fraction(1, 30)
    marked = RegionMarker().mark(frame, QpMap(Grid.blocks(64, 48, 32), np.array([[-6.0, 0.0], [0.0, 3.0]])))
    assert (marked.pts, marked.time_base) == (7, Fraction(1, 30))
    np.testing.assert_array_equal(marked.to_ndarray(), frame.to_ndarray())
    assert "REGIONS_OF_INTEREST" in {data.type.name for data in marked.side_data}


def test_regions_cover_the_blocks_at_the_border():
    offsets = np.array([[0.0, 0.0, 2.0], [0.0, -3.0, 2.0]])
    expected = [(32, 32, 32, 18, -3.0), (0, 0, 64, 50, 0.0), (0, 0, 70, 50, 2.0)]
    assert list(QpMap(Grid.blocks(70, 50, 32), offsets).rectangles()) == expected


def test_means_of_cells():
    """Each value counts with the part of it that is in the cell, and cut blocks only with their pixels."""
    values = np.random.default_rng(0).random((24, 40)).astype(np.float32)
    fine = values.repeat(5, axis=0).repeat(4, axis=1)  # 120 x 160, one value per pixel of the frame
    grid = Grid.blocks(160, 120, 64)
    expected = [[fine[y : y + 64, x : x + 64].mean() for x in (0, 64, 128)] for y in (0, 64)]
    np.testing.assert_allclose(grid.means(values), expected, rtol=1e-6)
    np.testing.assert_allclose(grid.means(np.ones((7, 9), np.float32)), 1)


def test_each_doubling_of_the_attention_is_a_step():
    attention = np.array([[1.0, 2.0, 4.0, 8.0, 64.0], [0.5, 0.25, 0.25, 0.0, 0.0]])  # the mean is 8
    steps = 3 * attention_factors(attention)
    assert steps.tolist() == [[3, 2, 1, 0, -3], [3, 3, 3, 3, 3]]
    assert not attention_factors(np.zeros((4, 5))).any(), "no attention anywhere"


def test_salient_cells_have_the_best_quality(tmp_path):
    with VideoReader(clips.make(tmp_path / "clip.mp4", frames=1, width=320, height=180)) as reader:
        frame = next(iter(reader))
    saliency = np.full((192, 256), 0.001, np.float32)
    saliency[60:110, 100:150] = 1
    offsets = QpAllocator(cells_of(320, 180), 6).offsets(frame, saliency)
    assert offsets.shape == (12, 20)
    assert offsets[5, 9] == -6 and offsets[0, 0] == 6
    assert 0.05 < (offsets < 0).mean() < 0.1


@pytest.fixture
def looks_left(monkeypatch):
    """Replace the network by maps with attention on the left."""
    monkeypatch.setattr(allocation, "saliency_of", left_saliency_of)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_quality_is_better_where_people_look(tinyhd, tmp_path, weights_file, looks_left, capsys, codec):
    clip = textured(tmp_path / "clip.mp4")
    options = ["-o", "out.mp4", "--crf", "30", "--codec", codec, "--json", "--preset", "fast"]
    assert tinyhd("encode", clip, "--weights", weights_file, *options) == 0
    found = json.loads(capsys.readouterr().out)
    guided, plain = found["guided"], found["plain"]
    assert plain["bytes"] == pytest.approx(guided["bytes"], rel=0.06)
    assert guided["psnr_inside_db"] > plain["psnr_inside_db"] + 1
    assert guided["psnr_outside_db"] < plain["psnr_outside_db"]
    assert guided["bytes"] == Path("out.mp4").stat().st_size
    assert found["frames"] == 30
    assert [path.name for path in Path.cwd().iterdir()] == ["out.mp4"]  # the plain encode is removed


def test_curves(tmp_path, looks_left):
    """At equal attention-weighted quality, guided encodes are smaller; at equal quality of the whole, larger."""
    clip = textured(tmp_path / "clip.mp4", 12, width=200, height=120)
    folder = tmp_path / "out"
    options = EncodeOptions(EncoderOptions(preset="faster"), compare=False, audio=False, qualities=(20, 25, 30, 35))
    model = SimpleNamespace(spec=SimpleNamespace(task="fixation"))
    found = encode.encode_file(clip, model, folder / "out.mp4", options)
    assert found.plain is None
    assert found.curves.bd_rate_weighted_percent < -10
    assert found.curves.bd_rate_percent > 0
    for qualities in (found.curves.guided, found.curves.plain):
        assert [quality.crf for quality in qualities] == [20, 25, 30, 35]
        for name in ("bytes", "psnr_db", "weighted_psnr_db"):
            assert np.diff([getattr(quality, name) for quality in qualities]).max() < 0
    plot_curves(found, found.curves, folder / "curves.png", "$a_{b} clip")
    assert cv2.imdecode(np.fromfile(folder / "curves.png", np.uint8), 1).shape[1] == 1300
    assert sorted(path.name for path in folder.iterdir()) == ["curves.png", "out.mp4"]


def test_weighted_psnr(tmp_path):
    """An error of 10 in a quarter of the frame, which gets a part of the attention."""
    grid = cells_of(64, 64)
    regions = Regions(grid)
    frame = SimpleNamespace(index=0)
    saliency = np.full((64, 64), 0.2, np.float32)
    saliency[:32, :32] = 0.6  # a half of the attention
    with regions:
        regions.add(frame, np.zeros(grid.shape), saliency)
        (weights,) = regions.weights()
    assert weights.sum() == pytest.approx(1)
    assert weights[:32, :32].sum() == pytest.approx(0.5, abs=1e-3)
    errors = np.zeros_like(weights)
    errors[:32, :32] = 10**2
    assert psnr(float((errors * weights).sum()), 1) == pytest.approx(10 * np.log10(255**2 / 50), abs=1e-2)
    assert psnr(0, 0) is None


def test_phone_clip(tinyhd, tmp_path, weights_file, capsys):
    """Audio, rotation and timestamps are kept."""
    phone = {"width": 128, "height": 72, "durations": (20, 40), "rotation": -90, "audio": "aac"}
    clip = clips.make(tmp_path / "clip.mp4", frames=12, **phone)
    assert tinyhd("encode", clip, "-o", "out.mp4", "--weights", weights_file, "--no-compare") == 0
    assert "plain" not in capsys.readouterr().out
    with VideoReader(clip) as source, VideoReader("out.mp4") as encoded:
        assert (encoded.info.width, encoded.info.height, encoded.info.has_audio) == (72, 128, True)
        times = [[frame.time_s for frame in reader] for reader in (source, encoded)]
        assert times[0] == pytest.approx(times[1], abs=1e-4)


def test_next_factor():
    assert next_factor({28.0: 2000}, 1000) == pytest.approx(34)
    assert 28 < next_factor({28.0: 2000, 34.0: 900}, 1000) < 34
    assert next_factor({28.0: 1000, 34.0: 1000}, 900) > 28  # equal sizes give no slope


def test_wrong_usage(tinyhd, tmp_path, weights_file, capsys):
    clip = clips.make(tmp_path / "clip.mp4", frames=2)
    for arguments, code, message in (
        (["-o", clip], 2, "is the input itself"),
        (["-o", "out.webm"], 2, "does not support regions of interest"),
        (["-o", "out.txt"], 2, "the suffix of a video must be one of"),
        (["--strength", "0"], 2, "--strength"),
        (["--preset", "ultrafast"], 2, "ultrafast"),
        (["--crf", "99"], 2, "--crf"),
        (["--compare", "20"], 2, "--compare needs at least two"),
        (["--compare", "20,20"], 2, "--compare needs at least two"),
        (["--compare", "20,60"], 2, "--compare"),
        (["--compare", "20,x"], 2, "--compare '20,x'"),
        (["--plot", "curves.png"], 2, "--plot needs --compare"),
    ):
        assert tinyhd("encode", clip, "--weights", weights_file, *arguments) == code
        assert message in capsys.readouterr().err
    assert tinyhd("encode", tmp_path / "no.mp4") == 3
    assert not list(Path.cwd().iterdir())
    with pytest.raises(UsageError, match="--strength"):
        EncodeOptions(EncoderOptions(), strength=99)
