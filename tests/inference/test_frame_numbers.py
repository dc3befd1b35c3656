"""Tests of images and maps numbered from 0, with gaps, or not at all: each map is scored against its own frame."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import datasets_on_disk as on_disk

from tinyhd_cli.datasets import open_dataset, read_density
from tinyhd_cli.evaluation.map_files import FileSource, match_to_frames
from tinyhd_cli.inference.outputs import map_names

COUNT = 8

STEMS = {
    "from zero": [f"img_{number:04d}" for number in range(COUNT)],
    "gaps": ["5", "6", "9", "10", "100", "101", "200", "1000"],
    "from one": [f"{number:03d}" for number in range(1, COUNT + 1)],
    "mixed widths": [f"shot2_{number}" for number in (7, 8, 9, 10, 11, 98, 99, 100)],
}


def dataset(root: Path, stems: list[str]) -> Path:
    """Make a video whose disc moves so far between frames that the map of another frame scores badly."""
    for position, stem in enumerate(stems):
        name, number = "v", 5 * position
        fixations = on_disk.fixation(name, number)
        on_disk.write_image(root / "v" / "images" / f"{stem}.png", on_disk.draw_frame(name, number))
        on_disk.write_image(root / "v" / "fixation" / f"{stem}.png", fixations)
        on_disk.write_image(root / "v" / "maps" / f"{stem}.png", on_disk.density(fixations))
    return root


def scores(tinyhd, root: Path, *options: object) -> dict[str, float]:
    """Return the mean scores of an evaluation, in which all frames must be scored."""
    Path("scores.json").unlink(missing_ok=True)
    code = tinyhd("evaluate", "--root", root, "--baseline", "none", "--json", "scores.json", "-q", *options)
    found = json.loads(Path("scores.json").read_text())
    assert (code, found["frames"]["scored"]) == (0, COUNT), found
    return found["mean"]


@pytest.mark.parametrize("stems", [STEMS["from zero"], STEMS["gaps"]], ids=["from zero", "gaps"])
def test_predicted_maps_belong_to_their_frames(tinyhd, tmp_path, weights_file, stems):
    """Maps from PNGs, from an npz and directly from the network have the same scores."""
    root = dataset(tmp_path / "data", stems)
    outputs = ["--maps", "png/v", "--npz", "npz/v.npz", "--csv", "o.csv", "--quiet"]
    assert tinyhd("predict", root / "v" / "images", "--as-video", "--weights", weights_file, *outputs) == 0
    assert sorted(path.name for path in Path("png/v").iterdir()) == sorted(f"{stem}.png" for stem in stems)
    with Path("o.csv").open(newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == [f"{stem}.png" for stem in stems]
    with np.load("npz/v.npz") as arrays:
        assert arrays["image"].tolist() == [f"{stem}.png" for stem in stems]
    expected = scores(tinyhd, root, "--weights", weights_file)
    assert scores(tinyhd, root, "--pred-dir", "npz") == pytest.approx(expected, rel=1e-3)
    assert scores(tinyhd, root, "--pred-dir", "png")["CC"] == pytest.approx(expected["CC"], abs=0.02)


def perfect(root: Path, folder: Path, names: list[str]) -> None:
    """Write the ground truth's densities as predictions, in frame order, under other names."""
    video = open_dataset("folder", root).videos[0]
    for path, name in zip(video.densities.values(), names, strict=True):
        on_disk.write_image(folder / name, read_density(path))


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("stems", STEMS.values(), ids=list(STEMS))
def test_maps_with_running_numbers(tinyhd, tmp_path, stems, first, capsys):
    """Maps numbered from 0 or 1, as most programs write them, are matched in order, with a note if numbers differ."""
    root = dataset(tmp_path / "data", stems)
    perfect(root, Path("maps/v"), [f"{number:05d}.png" for number in range(first, first + COUNT)])
    assert tinyhd("evaluate", "--root", root, "--baseline", "none", "--json", "s.json", "--pred-dir", "maps") == 0
    found = json.loads(Path("s.json").read_text())
    assert found["mean"]["CC"] == pytest.approx(1, abs=1e-9)
    ours = open_dataset("folder", root).videos[0].frames[0].number
    same = stems in (STEMS["from zero"], STEMS["from one"]) and ours == first
    note = f"v: matched maps in order: frames are numbered from {ours}, maps from {first}"
    assert (note in capsys.readouterr().err) == (not same)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".jpg", ".npy"])
def test_map_formats(tinyhd, tmp_path, suffix):
    root = dataset(tmp_path / "data", STEMS["from zero"])
    video = open_dataset("folder", root).videos[0]
    for path in video.densities.values():
        values = read_density(path)
        target = Path("maps/v") / f"{path.stem}{suffix}"
        if suffix == ".npy":
            target.parent.mkdir(parents=True, exist_ok=True)
            np.save(target, values / np.float32(255))
        elif suffix == ".tif":
            on_disk.write_image(target, values.astype(np.float32))
        else:
            on_disk.write_image(target, values)
    found = scores(tinyhd, root, "--pred-dir", "maps")
    assert found["CC"] == pytest.approx(1, abs=0.02 if suffix == ".jpg" else 1e-6)


def test_one_npy_per_video(tinyhd, tmp_path):
    root = dataset(tmp_path / "data", STEMS["gaps"])
    video = open_dataset("folder", root).videos[0]
    values = np.array([read_density(path) for path in video.densities.values()], np.float16)
    Path("maps").mkdir()
    np.save("maps/v.npy", values)
    assert scores(tinyhd, root, "--pred-dir", "maps")["CC"] == pytest.approx(1, abs=1e-6)
    np.save("maps/v.npy", np.asfortranarray(values))
    assert scores(tinyhd, root, "--pred-dir", "maps")["CC"] == pytest.approx(1, abs=1e-6)


def test_video_file_with_annotations_from_zero(tinyhd, tmp_path, weights_file):
    """Frame 0 of the annotations is the first frame of the file, for the network and for map files."""
    root = dataset(tmp_path / "data", STEMS["from zero"])
    pictures = [on_disk.draw_frame("v", 5 * number) for number in range(COUNT)]
    on_disk.write_video(root / "v" / "clip.mp4", pictures, "libx264")
    expected = scores(tinyhd, root, "--weights", weights_file)  # from the images
    shutil.rmtree(root / "v" / "images")
    assert [number for number, _ in numbers(root)] == list(range(COUNT))
    assert scores(tinyhd, root, "--weights", weights_file)["CC"] == pytest.approx(expected["CC"], abs=0.03)
    outputs = ["--maps", "png/v", "--npz", "npz/v.npz", "--quiet"]
    assert tinyhd("predict", root / "v" / "clip.mp4", "--weights", weights_file, *outputs) == 0
    assert sorted(path.name for path in Path("png/v").iterdir())[0] == "0001.png"
    for kind in ("npz", "png"):
        assert scores(tinyhd, root, "--pred-dir", kind)["CC"] == pytest.approx(expected["CC"], abs=0.03), kind


def numbers(root: Path):
    return [(frame.number, image) for frame, image in open_dataset("folder", root).videos[0].read()]


def test_leftover_map_under_an_old_name_is_ignored(tmp_path):
    """If two maps have a frame's number, the one with the frame's name is used."""
    root = dataset(tmp_path / "data", STEMS["from zero"])
    video = open_dataset("folder", root).videos[0]
    paths = [Path(f"{number:04d}.png") for number in range(1, COUNT + 1)]
    paths += [Path(f"{stem}.png") for stem in STEMS["from zero"]]
    assert [path.stem for path in match_to_frames(paths, video).values()] == [*STEMS["from zero"], "0008"]


def test_names_of_maps(tmp_path):
    for name in ("1.png", "a b.JPG", "2.png", "2.jpg", "B.png", "b.bmp"):
        on_disk.write_image(tmp_path / name, on_disk.draw_frame("v", 1))
    found = {image.name: name for image, name in map_names(tmp_path).items()}
    assert found["1.png"] == "1.png"
    same = {name for name in ("2.png", "2.jpg", "B.png", "b.bmp") if name in found}
    if {"2.png", "2.jpg"} <= same:
        assert (found["2.png"], found["2.jpg"]) == ("2.png.png", "2.jpg.png")
    assert len(set(found.values())) == len(found)
    assert map_names(tmp_path / "1.png") == {}


def test_skip_existing_requires_the_maps_of_all_images(tinyhd, tmp_path, weights_file, capsys):
    root = dataset(tmp_path / "data", STEMS["gaps"][:3])
    images = root / "v" / "images"
    run = ["predict", images, "--as-video", "--weights", weights_file, "--maps", "png", "--skip-existing"]
    assert tinyhd(*run) == 0
    assert tinyhd(*run) == 0
    assert "skipped, all outputs exist" in capsys.readouterr().err
    Path("png/9.png").unlink()
    assert tinyhd(*run) == 0
    assert cv2.imdecode(np.fromfile("png/9.png", np.uint8), 0).shape == (36, 64)
    assert "skipped" not in capsys.readouterr().err


def test_damaged_image_does_not_shift_maps(tinyhd, tmp_path, weights_file):
    root = dataset(tmp_path / "data", STEMS["from zero"])
    whole = root / "v" / "images"
    data = bytearray((whole / "img_0003.png").read_bytes())
    start = data.index(b"IDAT") + 8
    data[start : start + 60] = bytes(60)
    (whole / "img_0003.png").write_bytes(data)
    assert tinyhd("predict", whole, "--weights", weights_file, "--maps", "png", "--npz", "o.npz", "--quiet") == 0
    kept = [stem for stem in STEMS["from zero"] if stem != "img_0003"]
    names = sorted(path.stem for path in Path("png").iterdir())
    assert [name for name in names if name != "img_0003"] == kept
    with np.load("o.npz") as arrays:
        assert [name for name in arrays["image"].tolist() if name != "img_0003.png"] == [f"{stem}.png" for stem in kept]


def test_unsupported_map_formats_are_reported(tinyhd, tmp_path, capsys):
    root = dataset(tmp_path / "data", STEMS["from one"])
    Path("maps/v").mkdir(parents=True)
    for number in range(3):
        Path(f"maps/v/{number}.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    assert tinyhd("evaluate", "--root", root, "--pred-dir", "maps", "--json", "s.json") == 3
    message = capsys.readouterr().err
    assert "v: no maps of this video in maps, only v: 3 .mat files; maps must be NAME/*.png" in message
    with pytest.raises(Exception, match=r"no maps of this video in [^,]*$"):
        FileSource(tmp_path, single_video=True).find(open_dataset("folder", root).videos[0])


def test_lossy_fixation_maps_are_ignored(tinyhd, tmp_path, capsys):
    root = dataset(tmp_path / "data", STEMS["from one"])
    for path in (root / "v" / "fixation").iterdir():
        on_disk.write_image(path.with_suffix(".jpg"), cv2.imdecode(np.fromfile(path, np.uint8), 0))
        path.unlink()
    perfect(root, Path("maps/v"), [f"{stem}.png" for stem in STEMS["from one"]])
    assert tinyhd("evaluate", "--root", root, "--pred-dir", "maps", "--json", "s.json") == 1
    message = capsys.readouterr().err
    assert "fixation: ignored 8 .jpg files; fixation maps must be .png, .bmp, .tif, .tiff" in message
    assert json.loads(Path("s.json").read_text())["mean"]["CC"] == pytest.approx(1)
    assert tinyhd("evaluate", "--root", root, "--check") == 1
    assert "ignored 8 .jpg files" in capsys.readouterr().out
