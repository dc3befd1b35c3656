"""Outputs of object models: probabilities in 0..1 that are never rescaled, and cut-outs with transparency."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers import clips
from helpers import datasets_on_disk as on_disk
from helpers.bright import BrightFamily, write_bright

import tinyhd_cli
from tinyhd_cli import models
from tinyhd_cli.inference.objects import describe_object
from tinyhd_cli.inference.options import Outputs, PredictOptions
from tinyhd_cli.inference.predict import predict_file
from tinyhd_cli.models import registry

WIDTH, HEIGHT, FRAMES = 320, 180, 8
RADIUS = HEIGHT / 8
"""Radius of the disc in the clip."""


@pytest.fixture(autouse=True)
def family(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    models.register(BrightFamily())


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A clip with audio, in which a bright disc moves."""
    path = tmp_path_factory.mktemp("source") / "clip.mp4"
    return clips.make(path, frames=FRAMES, width=WIDTH, height=HEIGHT, audio="aac")


@pytest.fixture
def clip(tinyhd, source):
    return Path(shutil.copy(source, "clip.mp4"))


@pytest.fixture
def predict(tinyhd, clip):
    def run(*args, video=clip, level=0.5):
        weights = write_bright(Path(f"bright-{level}.safetensors"), level)
        return tinyhd("predict", video, "--weights", weights, "--engine", "torch", "--quiet", *args)

    return run


def png(name):
    """Return an image as it is stored: gray, BGR or BGRA."""
    return cv2.imdecode(np.fromfile(name, np.uint8), cv2.IMREAD_UNCHANGED)


def disc(index):
    """Return the mask of the disc in a frame of the clip."""
    return (clips.image(index, WIDTH, HEIGHT) == (250, 240, 60)).all(axis=2)


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


def frames_with_alpha(path):
    """Decode a video with transparency; FFmpeg's own VP9 decoder ignores it."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if stream.codec_context.name != "vp9":
            decoded = list(container.decode(stream))
        else:
            decoder = av.CodecContext.create("libvpx-vp9", "r")
            decoded = [frame for packet in container.demux(stream) for frame in decoder.decode(packet)]
        return [frame.reformat(format="rgba", src_colorspace=frame.colorspace).to_ndarray() for frame in decoded]


def test_tables(predict):
    assert predict("--csv", "out.csv", "--json", "out.json") == 0
    rows = list(csv.DictReader(Path("out.csv").read_text().splitlines()))
    names = "frame time_s area box_x box_y box_width box_height center_x center_y probability parts"
    assert list(rows[0]) == names.split()
    for index, row in enumerate(rows):
        rows_, columns = np.nonzero(disc(index))
        assert float(row["area"]) == pytest.approx(len(rows_) / (WIDTH * HEIGHT), rel=0.1)
        assert float(row["center_x"]) == pytest.approx(columns.mean(), abs=1.5)
        assert float(row["center_y"]) == pytest.approx(rows_.mean(), abs=1.5)
        assert int(row["box_x"]) == pytest.approx(columns.min(), abs=3)
        assert int(row["box_y"]) == pytest.approx(rows_.min(), abs=3)
        assert int(row["box_width"]) == pytest.approx(2 * RADIUS, abs=4)
        assert int(row["box_height"]) == pytest.approx(2 * RADIUS, abs=4)
        assert 0.9 < float(row["probability"]) <= 1
        assert row["parts"] == "1"
    summary = json.loads(Path("out.json").read_text())
    assert summary["frames_with_object"] == 1
    assert summary["threshold"] == 0.5
    assert summary["mean"]["area"] == pytest.approx(np.mean([float(row["area"]) for row in rows]), abs=1e-4)
    assert summary["normalize"] == {}


def test_no_object(predict, source):
    """Cells are empty, the overlay shows the source, the cut-out is transparent, and nothing warns."""
    outputs = ("-o", "o.mp4", "--maps", "maps", "--cutout", "cut", "--csv", "o.csv", "--json", "o.json", "--crf", "1")
    assert predict(*outputs, level=3) == 0
    rows = list(csv.DictReader(Path("o.csv").read_text().splitlines()))
    assert rows[3] == {"frame": "4", "time_s": rows[3]["time_s"], "area": "0.0000", "parts": "0"} | dict.fromkeys(
        ("box_x", "box_y", "box_width", "box_height", "center_x", "center_y", "probability"), ""
    )
    summary = json.loads(Path("o.json").read_text())
    assert summary["frames_with_object"] == 0
    assert summary["mean"] == {**dict.fromkeys(summary["mean"]), "area": 0, "parts": 0}
    assert not png("maps/0005.png").any()
    assert not png("cut/0005.png").any()
    for painted, original in zip(clips.frames(Path("o.mp4")), clips.frames(source), strict=True):
        assert np.abs(painted.astype(int) - original).mean() < 1


def test_some_frames_without_an_object(tinyhd):
    """Means are those of the frames with one."""
    for number in range(4):
        image = clips.image(number, WIDTH, HEIGHT) if number % 2 else np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
        on_disk.write_image(Path(f"images/{number}.png"), image)
    weights = write_bright(Path("bright.safetensors"))
    outputs = ("--csv", "o.csv", "--json", "o.json", "--aoi", "top=0,0,100%,60%")
    assert tinyhd("predict", "images", "--weights", weights, "--engine", "torch", "-q", *outputs) == 0
    rows = list(csv.DictReader(Path("o.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == ["0.png", "1.png", "2.png", "3.png"]
    assert [row["parts"] for row in rows] == ["0", "1", "0", "1"]
    assert [float(row["aoi_top"]) > 0.4 for row in rows] == [False, True, False, True]
    summary = json.loads(Path("o.json").read_text())
    assert summary["frames_with_object"] == 0.5
    assert summary["mean"]["center_y"] == pytest.approx(HEIGHT * 0.6, abs=2)
    assert summary["mean"]["area"] == pytest.approx(disc(0).mean() / 2, rel=0.1)


def test_area_of_interest(predict):
    """The fraction of the object inside the area, which is not that of the frame's brightness."""
    x, y, side = round(WIDTH * 0.3), 0, WIDTH
    assert predict("--aoi", f"right={x},{y},{side},{HEIGHT}", "--csv", "o.csv", "--aoi-plot", "o.png") == 0
    rows = list(csv.DictReader(Path("o.csv").read_text().splitlines()))
    for index, row in enumerate(rows):
        expected = disc(index)[:, x:].sum() / disc(index).sum()
        assert float(row["aoi_right"]) == pytest.approx(expected, abs=0.04)


def test_maps_are_not_stretched(predict):
    """The map of a faint object is faint, in every kind of output."""
    outputs = ("--maps", "maps", "--npz", "o.npz", "-o", "o.mp4")
    assert predict(*outputs, level=0.73) == 0
    with np.load("o.npz") as arrays:
        map_ = cv2.resize(arrays["saliency"][2], (WIDTH, HEIGHT))
    faint = np.median(map_[disc(2)])
    assert 0.2 < faint < 0.45
    gray = png("maps/0003.png")
    assert gray.shape == (HEIGHT, WIDTH)
    assert np.median(gray[disc(2)]) == pytest.approx(255 * faint, abs=2)
    assert predict("--maps", "maps.mp4", level=0.73) == 0
    assert np.median(clips.frames(Path("maps.mp4"))[2][disc(2)]) == pytest.approx(255 * faint, abs=4)


@pytest.mark.parametrize("output", ["maps", "maps.mp4"])
def test_black_and_white_maps(predict, output):
    assert predict("--maps", output, "--binary") == 0
    for index in range(FRAMES):
        if output == "maps":
            image = png(f"maps/{index + 1:04d}.png")
            assert set(np.unique(image)) == {0, 255}
        else:
            image = clips.frames(Path(output))[index][..., 0]
        assert overlap(image > 127, disc(index)) > 0.9


def test_the_threshold_of_black_and_white_maps(predict):
    for name, threshold in (("low", "0.05"), ("high", "0.95")):
        assert predict("--maps", name, "--binary", "--threshold", threshold, "--csv", f"{name}.csv") == 0
    low, high = (png(f"{name}/0001.png") > 0 for name in ("low", "high"))
    assert 0 < high.sum() < low.sum()
    first = [Path(f"{name}.csv").read_text().splitlines()[1].split(",") for name in ("low", "high")]
    areas = [float(row[2]) for row in first]
    assert areas == [pytest.approx(mask.mean(), abs=1e-4) for mask in (low, high)]


@pytest.mark.parametrize(("output", "tolerance"), [("cut.webm", 12), ("cut.mkv", 12), ("cut.mov", 2)])
def test_cutout_videos(predict, source, output, tolerance):
    """Alpha and colors survive encoding; times and audio are those of the source."""
    assert predict("--cutout", output) == 0
    assert predict("--cutout", "png") == 0
    decoded = frames_with_alpha(output)
    assert len(decoded) == FRAMES
    for index, image in enumerate(decoded):
        exact = cv2.cvtColor(png(f"png/{index + 1:04d}.png"), cv2.COLOR_BGRA2RGBA)
        assert np.quantile(np.abs(image[..., 3].astype(int) - exact[..., 3]), 0.999) <= tolerance
        assert overlap(image[..., 3] > 127, disc(index)) > 0.9
        opaque = image[..., 3] > 250
        assert opaque.sum() > 0.6 * disc(index).sum()
        assert np.abs(image[opaque][:, :3].astype(int) - exact[opaque][:, :3]).mean() < 6
    assert clips.timestamps(Path(output)) == pytest.approx(clips.timestamps(source), abs=1e-3)
    with av.open(output) as container:
        assert len(container.streams.audio) == 1
        stream = container.streams.video[0]
        assert output == "cut.mov" or stream.metadata["alpha_mode"] == "1"
        assert stream.codec_context.name == ("prores" if output == "cut.mov" else "vp9")
    assert not [path for path in Path().iterdir() if path.name.startswith(".")]


def test_numbered_cutouts(predict):
    for number in (FRAMES + 1, FRAMES + 2, FRAMES + 9):
        Path(f"clip_{number:05d}.png").write_bytes(b"of an earlier run")
    assert predict("--cutout", "{name}_%05d.png") == 0
    found = sorted(path.name for path in Path().glob("clip_*.png"))
    assert found == [f"clip_{number:05d}.png" for number in (*range(1, FRAMES + 1), FRAMES + 9)]
    assert png(found[0]).shape == (HEIGHT, WIDTH, 4)
    written = {path.name: path.stat().st_mtime_ns for path in Path().glob("clip_*.png")}
    assert predict("--cutout", "{name}_%05d.png", "--skip-existing") == 0
    assert written == {path.name: path.stat().st_mtime_ns for path in Path().glob("clip_*.png")}


def test_names_with_percent_signs(predict):
    """Only cut-outs are numbered, and only as PNGs."""
    assert predict("-o", "100%done.mp4", "--maps", "50%d", "--cutout", "1%d.webm") == 0
    written = {
        path: path.stat().st_mtime_ns for path in (Path("100%done.mp4"), Path("50%d/0001.png"), Path("1%d.webm"))
    }
    assert predict("-o", "100%done.mp4", "--maps", "50%d", "--cutout", "1%d.webm", "--skip-existing") == 0
    assert written == {path: path.stat().st_mtime_ns for path in written}


@pytest.mark.parametrize("size", [(41, 31), (64, 47)])
def test_odd_sizes(tinyhd, size):
    """Videos are padded; images are not."""
    on_disk.write_image(Path("photo.png"), clips.image(3, *size))
    weights = write_bright(Path("bright.safetensors"))
    outputs = ("-o", "o.png", "--maps", "m.png", "--cutout", "c.png")
    assert tinyhd("predict", "photo.png", "--weights", weights, "--engine", "torch", "-q", *outputs) == 0
    shapes = [png(name).shape for name in ("o.png", "m.png", "c.png")]
    width, height = size
    assert shapes == [(height, width, 3), (height, width), (height, width, 4)]
    for name in ("c.webm", "c.mov"):
        assert tinyhd("predict", "photo.png", "--weights", weights, "--engine", "torch", "-q", "--cutout", name) == 0
        (image,) = frames_with_alpha(name)
        assert image.shape == (height + height % 2, width + width % 2, 4)


def test_a_photograph_gives_an_image(tinyhd, weights_file):
    """Without a requested output, too, and whatever the task."""
    on_disk.write_image(Path("photo.png"), clips.image(3, 64, 48))
    assert tinyhd("predict", "photo.png", "--weights", weights_file, "-q") == 0
    assert png("photo_overlay.png").shape == (48, 64, 3)
    assert not Path("photo_overlay.mp4").exists()


def test_overlay(predict, source):
    assert predict("-o", "o.mp4", "--colormap", "viridis", "--alpha", "0.5", "--crf", "5") == 0
    painted, original = clips.frames(Path("o.mp4"))[2], clips.frames(source)[2]
    changed = np.abs(painted.astype(int) - original).max(axis=2) > 40
    assert changed[disc(2)].mean() > 0.95
    near = cv2.dilate(disc(2).astype(np.uint8), np.ones((13, 13), np.uint8)) > 0
    assert changed[~near].mean() < 0.002


def test_small_parts_are_left_out():
    """A speck does not enlarge the box."""
    probability = np.zeros((100, 200), np.float32)
    probability[40:60, 30:70] = 0.9
    probability[0, 199] = 1
    found = describe_object(probability, 200, 100, 0.5)
    assert (found.box_x, found.box_y, found.box_width, found.box_height, found.parts) == (30, 40, 40, 20, 1)
    assert (found.center_x, found.center_y) == (pytest.approx(49.5), pytest.approx(49.5))
    assert found.area == pytest.approx(800 / 20000)
    assert found.probability == pytest.approx(0.9, abs=0.002)
    probability[80:90, 150:170] = 0.6
    found = describe_object(probability, 200, 100, 0.5)
    assert (found.box_x, found.box_y, found.box_width, found.box_height, found.parts) == (30, 40, 140, 50, 2)
    assert found.center_x == pytest.approx((800 * 49.5 + 200 * 159.5) / 1000)
    assert found.probability == pytest.approx(0.84, abs=0.002)


BAD = {
    ("--cutout", "o.mp4"): "--cutout o.mp4: transparency is not written to .mp4 files; use .webm or .mkv (VP9), .mov",
    ("--cutout", "o.jpg"): "--cutout o.jpg: transparency is not written to .jpg files",
    ("--cutout", "o.png"): "--cutout o.png: holds one frame, but clip.mp4 is not a single image; name a video or an",
    ("-o", "o.png"): "--overlay o.png: holds one frame, but clip.mp4 is not a single image",
    ("--cutout", "-"): "--cutout -: standard output is not supported; give a file or a folder",
    ("--cutout", "clip.mp4"): "--cutout clip.mp4: is the input itself",
    ("--binary", "--csv", "o.csv"): "--binary needs --maps, whose images it changes",
    ("--threshold", "1.5"): "--threshold must be at least 0 and below 1, not 1.5",
    ("--threshold", "-0.1"): "--threshold must be at least 0 and below 1, not -0.1",
    ("--normalize", "frame"): "--normalize frame: the maps of bright-64 are probabilities, which are not rescaled",
}


@pytest.mark.parametrize("arguments", BAD, ids=" ".join)
def test_bad_usage(predict, arguments, capsys):
    before = {*Path().iterdir()}
    assert predict(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert BAD[arguments] in line
    assert {path.name for path in {*Path().iterdir()} - before} == {"bright-0.5.safetensors"}


def test_several_inputs_and_one_name(predict, capsys):
    shutil.copy("clip.mp4", "other.mp4")
    assert predict("other.mp4", "--cutout", "o.webm") == 2
    assert "--cutout o.webm: 2 inputs would be written to one file; use --out-dir DIR" in capsys.readouterr().err
    assert predict("other.mp4", "--cutout", "o.webm", "--out-dir", "out") == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["clip_o.webm", "other_o.webm"]


@pytest.mark.parametrize("arguments", [("--cutout", "o.webm"), ("--maps", "maps", "--binary")])
def test_fixation_models_have_no_objects(tinyhd, clip, weights_file, arguments, capsys):
    assert tinyhd("predict", clip, "--weights", weights_file, "-q", *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"tinyhd: {arguments[0] if len(arguments) == 2 else '--binary'} needs a model that predicts")
    assert "use another --model, such as " in line
    assert sorted(path.name for path in Path().iterdir()) == ["clip.mp4"]


def test_python_api(clip, tmp_path):
    """The check of the task does not depend on the command line, and the files are the same."""
    model = tinyhd_cli.load_model(write_bright(tmp_path / "bright.safetensors"), engine="torch")
    options = PredictOptions(binary=True)
    summary = predict_file(clip, model, Outputs(maps=Path("maps"), cutout=Path("cut.mov")), options)
    assert summary.frames == FRAMES == len(list(Path("maps").iterdir()))
    assert Path("cut.mov").stat().st_size
