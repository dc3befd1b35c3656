"""Tests of ``tinyhd predict`` and its Python API, from a video file to the output files."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers import clips
from helpers.networks import lively

import tinyhd_cli
from tinyhd_cli import weights
from tinyhd_cli.inference.normalization import quantile
from tinyhd_cli.inference.options import Outputs, PredictOptions
from tinyhd_cli.inference.predict import predict_file
from tinyhd_cli.video.reader import VideoReader


@pytest.fixture(scope="module")
def model(weights_file):
    return tinyhd_cli.load_model(weights_file, device="cpu")


def files(folder="."):
    """Return all files below a folder, including hidden files."""
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


@pytest.mark.parametrize(("letter", "frames"), [("m", 40), pytest.param("m", 540, marks=pytest.mark.slow), ("s", 17)])
def test_agrees_with_the_original_on_a_real_video(shared, letter, frames, tmp_path, tinyhd):
    """Original weights on the 540 frames of a DHF1K video; the slow single-output network only on its beginning."""
    folder = shared / "upstream"
    video = folder / "0068.AVI"
    if frames < 540:
        video = remux(video, tmp_path / "start.avi", frames)
    code = tinyhd(
        *("predict", video, "--weights", folder / f"d123{letter}_rc4_rc1T.pth"),
        *("--overlay", "out.mp4", "--npz", "out.npz", "--quiet"),
    )
    assert code == 0
    expected = np.load(folder / "weights_expected.npz")
    with np.load("out.npz") as arrays:
        saliency, times = arrays["saliency"], arrays["time_s"]
    assert saliency.shape == (frames, 192, 256)
    assert saliency.dtype == np.float32
    np.testing.assert_allclose(times, np.arange(frames) / 30)
    compared = 0
    for key in expected.files:
        network, frame = key.split("/")
        if network == f"tinyhd-{letter}-x4" and int(frame) < frames:
            np.testing.assert_allclose(saliency[int(frame)], expected[key], atol=1e-4, rtol=0, err_msg=key)
            # The values are small, so that wrong maps could pass the absolute test.
            assert np.corrcoef(saliency[int(frame)].ravel(), expected[key].ravel())[0, 1] > 0.99999, key
            compared += 1
    assert compared >= 3
    assert len(clips.timestamps(Path("out.mp4"))) == frames


def test_single_output_agrees_in_the_middle_of_a_real_video(shared):
    """Compare the map of frame 200, which depends on the 16 frames that end with it."""
    folder = shared / "upstream"
    model = tinyhd_cli.load_model(folder / "d123s_rc4_rc1T.pth", device="cpu")
    with VideoReader(folder / "0068.AVI") as reader:
        window = [model.prepare(frame.rgb()) for frame in islice(reader, 185, 201)]
    expected = np.load(folder / "weights_expected.npz")["tinyhd-s-x4/200"]
    np.testing.assert_allclose(model.infer(np.stack(window, axis=1))[0], expected, atol=1e-4, rtol=0)


def remux(source, target, frames):
    """Copy the first packets of a video, one per frame."""
    with av.open(str(source)) as container, av.open(str(target), "w") as copy:
        stream = copy.add_stream_from_template(container.streams.video[0])
        for number, packet in enumerate(container.demux(container.streams.video[0])):
            if packet.size and number < frames:
                packet.stream = stream
                copy.mux(packet)
    return target


def test_all_outputs_in_one_pass(tinyhd, tmp_path, weights_file):
    video = clips.make(tmp_path / "clip.mp4", frames=21, width=160, height=120, audio="aac")
    code = tinyhd(
        *("predict", video, "--weights", weights_file, "--overlay", "o.mp4", "--maps", "maps"),
        *("--npz", "o.npz", "--csv", "o.csv", "--json", "o.json"),
    )
    assert code == 0
    assert files() == [
        *[f"maps/{number:04d}.png" for number in range(1, 22)],
        *["o.csv", "o.json", "o.mp4", "o.npz"],
    ]
    with np.load("o.npz") as arrays:
        saliency, times = arrays["saliency"], arrays["time_s"]
    assert saliency.shape == (21, 192, 256)
    np.testing.assert_allclose(times, [float(t) for t in clips.timestamps(video)])

    for number in (1, 21):
        png = cv2.imdecode(np.fromfile(f"maps/{number:04d}.png", np.uint8), cv2.IMREAD_UNCHANGED)
        assert png.shape == (120, 160)
        scaled = saliency[number - 1] - saliency[number - 1].min()
        scaled = cv2.resize(scaled / scaled.max() * 255, (160, 120), interpolation=cv2.INTER_AREA)
        np.testing.assert_allclose(png, scaled, atol=1.1)  # each frame is scaled separately, as benchmarks expect

    rows = list(csv.DictReader(Path("o.csv").read_text().splitlines()))
    assert [int(row["frame"]) for row in rows] == list(range(1, 22))
    assert [float(row["time_s"]) for row in rows] == pytest.approx(times.tolist(), abs=1e-6)
    row, column = np.unravel_index(saliency[7].argmax(), (192, 256))
    assert float(rows[7]["peak_x"]) == pytest.approx((column + 0.5) * 160 / 256 - 0.5, abs=1e-3)
    assert float(rows[7]["peak_y"]) == pytest.approx((row + 0.5) * 120 / 192 - 0.5, abs=1e-3)
    assert 0 < float(rows[7]["entropy"]) <= np.log2(192 * 256)

    summary = json.loads(Path("o.json").read_text())
    assert (summary["frames"], summary["damaged"], summary["width"], summary["height"]) == (21, 0, 160, 120)
    assert summary["duration_s"] == pytest.approx(0.7)
    assert summary["model"]["spec"]["family"] == "tinyhd"
    assert summary["normalize"] == {"overlay": "running", "maps": "frame"}
    assert len(summary["model"]["sha256"]) == 64
    assert summary["mean"]["centroid_x"] == pytest.approx(np.mean([float(row["centroid_x"]) for row in rows]), abs=1e-3)

    assert clips.timestamps(Path("o.mp4")) == clips.timestamps(video)
    assert clips.audio_packets(Path("o.mp4")) == clips.audio_packets(video)


def test_phone_clip_end_to_end(tinyhd, tmp_path, weights_file):
    """The overlay of a clip with audio, variable frame rate, rotation and odd size plays like its source."""
    clip = clips.Clip(
        frames=37, width=97, height=63, durations=(20, 31, 17), rotation=-90, audio="aac", pixel_format="yuv444p"
    )
    video = clips.make(tmp_path / "phone.mp4", clip)
    assert tinyhd("predict", video, "--weights", weights_file, "--overlay", "o.mp4", "--alpha", "0") == 0
    overlay = Path("o.mp4")
    assert clips.timestamps(overlay) == clip.timestamps
    with av.open(str(overlay)) as written, av.open(str(video)) as source:
        for kind in ("video", "audio"):
            one, other = getattr(written.streams, kind)[0], getattr(source.streams, kind)[0]
            assert one.duration * one.time_base == other.duration * other.time_base
    assert clips.audio_packets(overlay) == clips.audio_packets(video)
    upright = np.rot90(clips.frames(video)[20], -1)
    assert np.abs(clips.frames(overlay)[20][:97, :63].astype(int) - upright).mean() < 4


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17])
def test_short_clips(tinyhd, tmp_path, weights_file, count):
    video = clips.make(tmp_path / "clip.mp4", frames=count)
    assert tinyhd("predict", video, "--weights", weights_file, "-o", "o.mp4", "--npz", "o.npz") == 0
    with np.load("o.npz") as arrays:
        assert arrays["saliency"].shape == (count, 192, 256)
    assert len(clips.timestamps(Path("o.mp4"))) == count


def test_python_api_returns_the_same_maps(tinyhd, tmp_path, model, weights_file):
    video = clips.make(tmp_path / "clip.mp4", frames=18)
    pairs = list(tinyhd_cli.predict(video, model=model))
    assert [time for time, _ in pairs] == [float(t) for t in clips.timestamps(video)]
    assert tinyhd("predict", video, "--weights", weights_file, "--npz", "o.npz") == 0
    with np.load("o.npz") as arrays:
        np.testing.assert_array_equal(arrays["saliency"], [saliency for _, saliency in pairs])
    by_path = next(iter(tinyhd_cli.predict(str(video), model=weights_file, device="cpu")))
    np.testing.assert_array_equal(by_path[1], pairs[0][1])


def test_clips_of_single_output_models_end_with_the_frame(tmp_path, tinyhd):
    network = lively("tinyhd-s-quarter")
    weights.save(tmp_path / "s.safetensors", network.state_dict(), network.spec)
    video = clips.make(tmp_path / "clip.mp4", frames=5)
    single = tinyhd_cli.load_model(tmp_path / "s.safetensors", device="cpu")
    maps = [saliency for _, saliency in tinyhd_cli.predict(video, model=single)]
    prepared = [single.prepare(image) for image in clips.frames(video)]
    window = np.stack([prepared[0]] * 12 + prepared[:4], axis=1)
    np.testing.assert_allclose(maps[3], single.infer(window)[0], atol=1e-6)


def test_large_videos_are_averaged(tmp_path, model, monkeypatch):
    """The network input of a scene with fine stripes is the scene, not the stripes at the sampled positions."""
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.integers(40, 160, (18, 32, 3), dtype=np.uint8), (2560, 1440), interpolation=cv2.INTER_LINEAR)
    stripes = (np.arange(2560) % 4 == 0) * 120 - 30  # mean 0
    path = tmp_path / "large.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 2560, 1440, "bgr0"
        large = (scene.astype(int) + stripes[:, np.newaxis]).astype(np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(large, "rgb24").reformat(format="bgr0")))
        container.mux(stream.encode(None))
    seen = []
    monkeypatch.setattr(type(model), "infer", lambda self, clip: seen.append(clip) or np.zeros((16, 192, 256), "f4"))
    assert len(list(tinyhd_cli.predict(path, model=model))) == 1
    level = 1 / 255 / 0.225  # one of 256 levels, after normalization
    assert np.abs(seen[0][:, -1] - model.prepare(scene)).max() < 4 * level
    assert np.abs(model.prepare(large) - model.prepare(scene)).max() > 20 * level, "otherwise this test proves nothing"


def test_default_output(tinyhd, tmp_path, weights_file, capsys):
    video = clips.make(tmp_path / "my clip.mp4", frames=3)
    assert tinyhd("predict", video, "--weights", weights_file) == 0
    assert files() == ["my clip_overlay.mp4"]
    message = capsys.readouterr()
    assert message.out == ""
    assert "3 frames" in message.err
    assert "my clip_overlay.mp4" in message.err


def test_folders_globs_and_one_bad_file(tinyhd, tmp_path, weights_file, capsys):
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("a.mp4", "b.MOV", "c.webm"):
        codec = "libvpx-vp9" if name == "c.webm" else "libx264"
        clips.make(folder / name, frames=3, codec=codec)
    (folder / "notes.txt").write_text("no video")
    (folder / "broken.mp4").write_text("no video either")
    more = clips.make(tmp_path / "more-1.mp4", frames=2)
    code = tinyhd(
        *("predict", folder, tmp_path / "more-*.mp4", more, "--weights", weights_file),
        *("--out-dir", "out", "--overlay", "o.mp4", "--csv", "{name}/numbers.csv", "--quiet"),
    )
    assert code == 1
    names = ("a", "b", "c", "more-1")
    assert files("out") == sorted([f"{name}_o.mp4" for name in names] + [f"{name}/numbers.csv" for name in names])
    message = capsys.readouterr().err
    assert "broken.mp4: not a video" in message
    assert "1 of 5 inputs failed" in message
    assert len(message.splitlines()) == 3, "the failure, the count, and the list"


def test_out_dir_alone_writes_overlays(tinyhd, tmp_path, weights_file):
    videos = [clips.make(tmp_path / f"{name}.mp4", frames=2) for name in "ab"]
    assert tinyhd("predict", *videos, "--weights", weights_file, "--out-dir", "out") == 0
    assert files() == ["out/a_overlay.mp4", "out/b_overlay.mp4"]


def test_skip_existing_writes_only_missing_outputs(tinyhd, tmp_path, weights_file, capsys):
    video = clips.make(tmp_path / "clip.mp4", frames=2)
    command = ("predict", video, "--weights", weights_file, "--overlay", "o.mp4", "--maps", "maps", "--csv", "o.csv")
    assert tinyhd(*command) == 0
    Path("o.csv").unlink()
    before = {name: Path(name).stat().st_mtime_ns for name in files()}
    assert tinyhd(*command, "--skip-existing") == 0
    after = {name: Path(name).stat().st_mtime_ns for name in files()}
    assert after.keys() - before.keys() == {"o.csv"}
    assert {name: after[name] for name in before} == before
    capsys.readouterr()
    assert tinyhd(*command, "--skip-existing") == 0
    assert "skipped" in capsys.readouterr().err


def test_maps_of_an_earlier_longer_run_are_replaced(tinyhd, tmp_path, weights_file):
    for frames in (5, 3):
        video = clips.make(tmp_path / "clip.mp4", frames=frames)
        assert tinyhd("predict", video, "--weights", weights_file, "--maps", "maps") == 0
        Path("maps/notes.txt").write_text("mine")
    assert files() == ["maps/0001.png", "maps/0002.png", "maps/0003.png", "maps/notes.txt"]


def test_maps_as_video(tinyhd, tmp_path, weights_file):
    video = clips.make(tmp_path / "clip.mp4", frames=6, audio="aac")
    assert tinyhd("predict", video, "--weights", weights_file, "--maps", "maps.mp4") == 0
    images = clips.frames(Path("maps.mp4"))
    assert len(images) == 6
    assert images[0].shape == (48, 64, 3)
    assert np.ptp(images[0].astype(int), axis=-1).max() <= 3, "not grayscale"
    with av.open("maps.mp4") as container:
        assert not container.streams.audio


def test_normalizations(tinyhd, tmp_path, weights_file):
    video = clips.make(tmp_path / "clip.mp4", frames=20, width=256, height=192)
    pngs = {}
    for normalize in ("running", "video", "frame", "none"):
        arguments = ("--maps", normalize, "--normalize", normalize, "--npz", "o.npz")
        assert tinyhd("predict", video, "--weights", weights_file, *arguments) == 0
        paths = sorted(Path(normalize).glob("*.png"))
        pngs[normalize] = np.stack([cv2.imdecode(np.fromfile(p, np.uint8), cv2.IMREAD_UNCHANGED) for p in paths])
    with np.load("o.npz") as arrays:
        raw = arrays["saliency"]
    assert pngs["none"].mean() == pytest.approx(raw.mean() * 255, abs=0.1)
    assert all(np.ptp(png) > 245 for png in pngs["frame"])
    # One scale for all frames keeps their order of brightness.
    assert np.corrcoef(pngs["video"].mean((1, 2)), raw.mean((1, 2)))[0, 1] > 0.99
    assert files() == [f"{n}/{i:04d}.png" for n in ("frame", "none") for i in range(1, 21)] + ["o.npz"] + [
        f"{n}/{i:04d}.png" for n in ("running", "video") for i in range(1, 21)
    ]


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 7), (192, 256)])
def test_quantiles_agree_with_numpy(shape):
    values = np.random.default_rng(0).random(shape, np.float32) ** 4
    for fraction in (0.0, 0.05, 0.5, 0.998, 1.0):
        assert quantile(values, fraction) == pytest.approx(np.quantile(values.astype(np.float64), fraction), rel=1e-6)


def test_progress_counts_both_passes(tmp_path, model):
    video = clips.make(tmp_path / "clip.mp4", frames=20)
    outputs = Outputs(overlay=tmp_path / "o.mp4")
    for normalize, total in (("running", 20), ("video", 40)):
        expected = [(done, total) for done in range(1, total + 1)]
        seen = []
        options = PredictOptions(normalize=normalize)
        summary = predict_file(video, model, outputs, options, lambda *counts, seen=seen: seen.append(counts))
        assert seen == expected
        assert (summary.frames, summary.damaged) == (20, 0)
        assert summary.duration_s == pytest.approx(2 / 3)


def test_spools_of_the_same_name(tinyhd, tmp_path, weights_file):
    """The scale of the whole video and the arrays both store maps on disk. They must use different files."""
    video = clips.make(tmp_path / "clip.mp4", frames=20)
    command = ("predict", video, "--weights", weights_file, "--normalize", "video")
    assert tinyhd(*command, "--npz", "alone.npz") == 0
    assert tinyhd(*command, "--overlay", "o.mp4", "--npz", "o.npz") == 0
    with np.load("alone.npz") as one, np.load("o.npz") as other:
        np.testing.assert_array_equal(one["saliency"], other["saliency"])
    assert files() == ["alone.npz", "o.mp4", "o.npz"]


@pytest.mark.slow
def test_style_options_change_the_overlay(tinyhd, tmp_path, weights_file):
    video = clips.make(tmp_path / "clip.mp4", frames=2, width=96, height=64)
    looks = {
        "plain": ("--alpha", "0"),
        "default": (),
        "gray": ("--colormap", "gray"),
        "opaque": ("--alpha", "1"),
        "tops": ("--threshold", "0.8"),
        "pair": ("--side-by-side",),
    }
    images = {}
    for name, options in looks.items():
        overlay = f"{name}.mp4"
        assert tinyhd("predict", video, "--weights", weights_file, "-o", overlay, "--crf", "8", *options) == 0
        images[name] = clips.frames(Path(overlay))[0].astype(int)
    source = clips.frames(video)[0].astype(int)
    changed = {name: np.abs(image - source).mean() for name, image in images.items() if image.shape == source.shape}
    assert changed["plain"] < 3 < changed["default"] < changed["opaque"]
    assert changed["plain"] < changed["tops"] < changed["default"]
    assert np.abs(images["gray"] - images["default"]).mean() > 3
    assert images["pair"].shape == (64, 192, 3)
    assert np.abs(images["pair"][:, :96] - source).mean() < 4
    # Side by side is drawn in RGB, other overlays on the stored planes with color at half the resolution.
    assert np.abs((images["pair"][:, 96:] - images["default"]).mean(2)).mean() < 4


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_interrupted_runs_leave_no_incomplete_files(tmp_path, weights_file, number):
    video = clips.make(tmp_path / "clip.mp4", frames=400, width=320, height=240)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "tinyhd_cli", "predict", str(video), "--weights", str(weights_file)]
    outputs = ["--overlay", "o.mp4", "--maps", "maps", "--npz", "o.npz", "--csv", "o.csv", "--json", "o.json"]
    process = subprocess.Popen([*command, *outputs, "--out-dir", str(out)], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not any(out.glob(".*/0033.png")) and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(number)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 130, message
    assert message.splitlines()[-1] == "tinyhd: interrupted"
    assert files(out) == []


def test_help_does_not_load_heavy_libraries():
    code = (
        "import sys; from tinyhd_cli import cli; cli.run(['--help']); cli.run(['predict', '--help']);"
        "print(*{'torch', 'cv2', 'av', 'numpy', 'matplotlib', 'huggingface_hub'} & set(sys.modules), file=sys.stderr)"
    )
    environment = {**os.environ, "COLUMNS": "100"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert result.stderr.strip() == ""
    assert "Predict where people look" in result.stdout


def test_version(tinyhd, capsys):
    assert tinyhd("--version") == 0
    assert capsys.readouterr().out == f"tinyhd {tinyhd_cli.__version__}\n"


def test_the_default_model_is_a_setting(tinyhd, tmp_path, weights_file, monkeypatch):
    video = clips.make(tmp_path / "clip.mp4", frames=2)
    monkeypatch.setenv("TINYHD_MODEL", str(weights_file))
    assert tinyhd("predict", video, "--json", "o.json") == 0
    assert json.loads(Path("o.json").read_text())["model"]["sha256"] == tinyhd_cli.load_model(weights_file).sha256
    monkeypatch.delenv("TINYHD_MODEL")
    Path("tinyhd.toml").write_text(f"model = '{weights_file}'\n")
    assert tinyhd("predict", video, "--csv", "o.csv") == 0


@pytest.mark.parametrize(
    "name", ["12:30.mp4", "é日本.mp4", "[a] *b?.mp4", "-dash.mp4", f"{'n' * 200}.mp4", "two\nlines.mp4"]
)
def test_unusual_names(tinyhd, weights_file, capsys, name):
    video = clips.make(Path("made.mp4"), frames=2).rename(Path.cwd() / name)
    Path("other.mp4").touch()
    assert tinyhd("predict", "--weights", weights_file, "--out-dir", "out", "--json", "o.json", "--", video.name) == 0
    assert len(files("out")) == 1
    assert json.loads(Path("out", files("out")[0]).read_text())["frames"] == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_maps_in_the_current_folder_keep_other_files(tinyhd, tmp_path, weights_file):
    video = clips.make(tmp_path / "clip.mp4", frames=2)
    Path("2024.png").write_text("mine")
    Path("0003.png").write_text("of an earlier run")
    assert tinyhd("predict", video, "--weights", weights_file, "--maps", ".") == 0
    assert files() == ["0001.png", "0002.png", "2024.png"]


def test_file_instead_of_a_folder_for_maps(tinyhd, tmp_path, weights_file, capsys):
    video = clips.make(tmp_path / "clip.mp4", frames=2)
    Path("maps").write_text("mine")
    assert tinyhd("predict", video, "--weights", weights_file, "--maps", "maps") == 2
    assert "give a folder for PNGs" in capsys.readouterr().err
    assert files() == ["maps"]
