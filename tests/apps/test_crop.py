"""Tests of ``tinyhd crop``: the window follows the attention smoothly."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import clips

from tinyhd_cli.apps.crop import CropWindow, TargetTrack, window_path
from tinyhd_cli.apps.options import CropOptions, parse_aspect
from tinyhd_cli.errors import UsageError
from tinyhd_cli.video.reader import VideoReader
from tinyhd_cli.video.scenes import SceneDetector


def info(tmp_path, **clip):
    with VideoReader(clips.make(tmp_path / "clip.mp4", frames=1, **clip)) as reader:
        return reader.info


def track(positions, cuts=(), rate=30, **options):
    """Return the path of a window with a width of 200 in a video with a width of 1000."""
    targets = TargetTrack(
        [n / rate for n in range(len(positions))], list(positions), [n in cuts for n in range(len(positions))]
    )
    return window_path(targets, CropWindow(200, 300, True, 800), CropOptions(**options))


def test_window_sizes(tmp_path):
    wide = info(tmp_path, width=320, height=180)
    assert CropWindow.of(wide, Fraction(9, 16)) == CropWindow(102, 180, True, 218)
    assert CropWindow.of(wide, Fraction(1)) == CropWindow(180, 180, True, 140)
    assert CropWindow.of(wide, Fraction(4)) == CropWindow(320, 80, False, 100)
    assert CropWindow.of(wide, Fraction(16, 9)) == CropWindow(320, 180, True, 0)
    turned = info(tmp_path, width=320, height=180, rotation=90)
    assert CropWindow.of(turned, Fraction(1)) == CropWindow(180, 180, False, 140)
    narrow_pixels = info(tmp_path, width=160, height=180, aspect=Fraction(2))
    assert CropWindow.of(narrow_pixels, Fraction(1)) == CropWindow(90, 180, True, 70)


def test_best_position():
    window = CropWindow(100, 300, True, 300)
    saliency = np.full((192, 256), 0.001, np.float32)
    saliency[:, 160:170] = 1  # at 250 to 266 of 400 pixels
    best = window.best(saliency)
    assert best <= 250 and best + 100 >= 265
    assert best == pytest.approx(258 - 50, abs=40)
    assert window.best(np.ones((192, 256), np.float32)) == pytest.approx(150, abs=2)
    assert window.best(np.zeros((192, 256), np.float32)) >= 0


def test_path_is_smooth_and_bounded():
    rng = np.random.default_rng(0)
    jumpy = np.clip(np.repeat(rng.uniform(0, 800, 20), 16) + rng.normal(0, 20, 320), 0, 800)
    for speed in (0.05, 0.25):
        path = track(jumpy, max_speed=speed)
        assert np.abs(np.diff(path)).max() <= speed * 1000 / 30 + 1e-9
        assert path.min() >= 0 and path.max() <= 800
    assert np.ptp(track(jumpy, max_speed=0)) < 1e-9
    jumps = np.abs(np.diff(track(jumpy, smooth_s=0, max_speed=99)))
    assert jumps.max() > 100  # without smoothing, the window jumps


def test_path_reaches_its_target():
    path = track([100] * 90 + [700] * 150)
    assert path[0] == pytest.approx(100, abs=5) and path[-1] == pytest.approx(700, abs=5)
    middle = int(np.argmin(np.abs(path - 400)))
    assert abs(middle - 90) < 12  # little lead or lag


def test_small_movements_are_not_followed():
    positions = 300 + 9 * np.sin(np.arange(300) / 10)
    assert np.ptp(track(positions)) == 0
    assert track(positions)[0] == pytest.approx(300, abs=10)


def test_path_jumps_at_cuts_only():
    path = track([100] * 60 + [700] * 60, cuts=(60,))
    assert np.ptp(path[:60]) == np.ptp(path[60:]) == 0
    assert path[60] - path[59] == pytest.approx(600)


def test_motion_is_not_detected_as_a_cut():
    detector = SceneDetector()
    rng = np.random.default_rng(0)
    scenes = [rng.integers(0, 255, (36, 200, 3), np.uint8) for _ in range(2)]
    found = [detector.is_cut(np.roll(scene, 6 * n, axis=1)[:, :64]) for scene in scenes for n in range(20)]
    assert found.count(True) <= 1  # moving white noise changes in every frame as much as at a cut
    detector = SceneDetector()
    x = np.mgrid[:90, :160][1]
    smooth = [
        np.stack([127 + 100 * np.sin((x + k * n) / 20 + k)] * 3, axis=-1).astype(np.uint8)
        for k in (1, 4)
        for n in range(15)
    ]
    cuts = [n for n, image in enumerate(smooth) if detector.is_cut(image)]
    assert cuts == [15]


@pytest.mark.parametrize(
    ("text", "aspect"), [("9:16", Fraction(9, 16)), ("4/5", Fraction(4, 5)), ("1.85", Fraction(37, 20))]
)
def test_aspects(text, aspect):
    assert parse_aspect(text) == aspect


@pytest.mark.parametrize("text", ["", "9:0", "0:9", "wide", "-1", "9:16:1", "100:1"])
def test_invalid_aspects(text):
    with pytest.raises(UsageError, match="--aspect"):
        parse_aspect(text)


@pytest.mark.slow
def test_phone_clip(tinyhd, tmp_path, weights_file):
    """Rotation, variable frame rate and audio of a phone clip are kept. Each frame is a part of the source's frame."""
    clip = clips.make(
        tmp_path / "clip.mp4", frames=24, width=128, height=72, durations=(20, 40), rotation=-90, audio="aac"
    )
    assert tinyhd("crop", clip, "--aspect", "1:1", "-o", "out.mp4", "--weights", weights_file, "--crf", "1") == 0
    with VideoReader(clip) as source, VideoReader("out.mp4") as cropped:
        assert (cropped.info.width, cropped.info.height, cropped.info.has_audio) == (72, 72, True)
        pairs = list(zip(source, cropped, strict=True))
        for original, part in pairs:
            assert part.time_s == pytest.approx(original.time_s, abs=1e-4)
            whole, seen = original.rgb().astype(int), part.rgb().astype(int)
            distances = [np.abs(whole[y : y + 72] - seen).mean() for y in range(128 - 72 + 1)]
            assert min(distances) < 6
    assert len(pairs) == 24


@pytest.mark.parametrize("aspect", [None, Fraction(4, 3)])
def test_output_has_the_requested_size(tinyhd, tmp_path, weights_file, aspect):
    """Pixels are square, and the content is not distorted."""
    clip = clips.make(tmp_path / "clip.mp4", frames=3, width=96, height=72, aspect=aspect)
    assert tinyhd("crop", clip, "--size", "90x160", "-o", "out.mp4", "--weights", weights_file, "--crf", "1") == 0
    with VideoReader(clip) as source, VideoReader("out.mp4") as cropped:
        info = cropped.info
        assert (info.width, info.height, info.sample_aspect_ratio) == (90, 160, 1)
        width = 2 * round(72 * 9 / 16 / (aspect or 1) / 2)
        for original, part in zip(source, cropped, strict=True):
            parts = [original.rgb()[:, x : x + width] for x in range(96 - width + 1)]
            seen = part.rgb().astype(int)
            distances = [
                np.abs(cv2.resize(one, (90, 160), interpolation=cv2.INTER_CUBIC) - seen).mean() for one in parts
            ]
            assert min(distances) < 6


def test_size_overrides_the_aspect_of_a_settings_file(tinyhd, tmp_path, weights_file):
    clip = clips.make(tmp_path / "clip.mp4", frames=2, width=96, height=72)
    Path("tinyhd.toml").write_text('[crop]\naspect = "1:1"\n')
    assert tinyhd("crop", clip, "--size", "90x160", "-o", "out.mp4", "--weights", weights_file) == 0
    with VideoReader("out.mp4") as cropped:
        assert (cropped.info.width, cropped.info.height) == (90, 160)


def test_wrong_usage(tinyhd, tmp_path, weights_file, capsys):
    clip = clips.make(tmp_path / "clip.mp4", frames=2)
    for arguments, code, message in (
        (["--aspect", "wide"], 2, "--aspect 'wide'"),
        (["-o", "out.txt"], 2, "the suffix of a video must be one of"),
        (["-o", clip], 2, "is the input itself"),
        (["--max-speed", "-1"], 2, "--max-speed"),
        (["-o", "file/out.mp4"], 5, "cannot be written"),
        (["--size", "64"], 2, "--size '64'"),
        (["--size", "63x64"], 2, "sides must be even"),
        (["--size", "1000x16"], 2, "from 1:10 to 10:1"),
        (["--size", "64x64", "--aspect", "1:1"], 2, "exclude each other"),
    ):
        Path("file").write_text("in the way")
        assert tinyhd("crop", clip, "--weights", weights_file, *arguments) == code
        assert message in capsys.readouterr().err
    assert tinyhd("crop", tmp_path / "no.mp4") == 3
    assert tinyhd("crop", clip, "--weights", tmp_path / "no.pth") == 4
    assert [path.name for path in Path.cwd().iterdir()] == ["file"]
