"""Maps in files: formats, names, and faults."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import datasets_on_disk as on_disk
from helpers.evaluations import VIDEOS, results

from tinyhd_cli.datasets import open_dataset, read_density


def test_maps_as_png_npz_or_video(tinyhd, park, maps, tmp_path):
    """The same maps in three formats have equal scores, up to the loss of the video codec."""
    dataset = open_dataset("folder", park)
    for video in dataset.videos:
        pngs = sorted((maps / video.name).iterdir())
        values = [cv2.imdecode(np.fromfile(png, np.uint8), 0) for png in pngs]
        (tmp_path / "npz").mkdir(exist_ok=True)
        np.savez(tmp_path / "npz" / f"{video.name}_out.npz", saliency=np.array(values, np.float32))
        gray = (np.repeat(value[..., np.newaxis], 3, axis=2) for value in values)
        on_disk.write_video(tmp_path / "mp4" / f"{video.name}_maps.mp4", gray, "libx264")
    means = {}
    for form in ("maps", "npz", "mp4"):
        assert tinyhd("evaluate", "--root", park, "--pred-dir", tmp_path / form, "--json", "scores.json") == 0
        means[form] = results()["mean"]
    assert means["npz"] == pytest.approx(means["maps"], rel=1e-9)
    assert means["mp4"]["CC"] == pytest.approx(means["maps"]["CC"], abs=0.03)
    assert means["mp4"]["NSS"] == pytest.approx(means["maps"]["NSS"], abs=0.15)


def test_outputs_of_predict_are_found(tinyhd, tmp_path, weights_file):
    """The outputs of ``predict --out-dir`` for DHF1K's files can be scored without renaming."""
    root = on_disk.dhf1k(tmp_path / "DHF1K", {601: 3, 602: 4})
    videos = sorted((root / "video").iterdir())
    outputs = ["--out-dir", "out", "--maps", "maps", "--npz", "out.npz"]
    assert tinyhd("predict", *videos, "--weights", weights_file, *outputs) == 0
    options = ["--dataset", "dhf1k", "--root", root, "--json", "scores.json"]
    assert tinyhd("evaluate", *options, "--pred-dir", "out") == 0
    found = results()
    assert tinyhd("evaluate", *options, "--weights", weights_file) == 0
    # The npz has the raw maps; another number of threads changes the order of float32 additions.
    assert results()["mean"] == pytest.approx(found["mean"], rel=1e-3)
    for npz in Path("out").glob("*.npz"):
        npz.unlink()
    assert tinyhd("evaluate", *options, "--pred-dir", "out") == 0
    assert results()["mean"]["CC"] == pytest.approx(found["mean"]["CC"], abs=0.05)  # maps of 8 bits


def test_faults_of_maps_are_reported(tinyhd, park, maps, capsys):
    """Missing maps, maps of another size, extra maps, truncated maps, videos without maps and NaN are reported."""
    (maps / "park" / "0002.png").unlink()
    small = cv2.resize(read_density(maps / "park" / "0003.png"), (32, 18))
    on_disk.write_image(maps / "park" / "0003.png", small)
    on_disk.write_image(maps / "park" / "0099.png", small)
    on_disk.truncate(maps / "park" / "0005.png")
    values = np.array([read_density(path) for path in sorted((maps / "street").iterdir())], np.float32)
    values[1, 0, 0] = np.nan
    np.savez(maps / "street.npz", values)
    for path in (maps / "yard").iterdir():
        path.unlink()
    assert tinyhd("evaluate", "--root", park, "--pred-dir", maps, "--json", "scores.json") == 1
    output = capsys.readouterr().err
    assert "park: no map for 2 frames (2, 5)" in output
    assert "0005.png: is truncated" in output
    assert "park: frame 99 without ground truth, not scored" in output
    assert "park: 1 map resized to the size of the ground truth" in output
    assert "street: frame 2: the map contains NaN or infinity" in output
    assert f"yard: no maps of this video in {maps}" in output
    found = results()
    assert found["frames"] == {"scored": 8, "failed": 1, "missing": 6, "unannotated": 1, "constant": 0}
    assert found["videos"]["yard"]["CC"] is None
    assert found["macro_mean"]["CC"] == pytest.approx(
        (found["videos"]["park"]["CC"] + found["videos"]["street"]["CC"]) / 2
    )


def test_damaged_ground_truth_is_counted(tinyhd, park, maps, capsys):
    on_disk.truncate(park / "park" / "fixation" / "frame2.png")
    on_disk.truncate(park / "park" / "maps" / "frame3.png")
    (park / "street" / "maps" / "frame1.png").unlink()
    assert tinyhd("evaluate", "--root", park, "--pred-dir", maps, "--json", "scores.json") == 1
    output = capsys.readouterr().err
    assert "frame2.png: is truncated" in output
    assert "park: frame 3:" in output and "frame3.png: is truncated" in output
    found = results()
    assert found["frames"]["scored"] == sum(VIDEOS.values()) - 1
    assert found["videos"]["park"]["frames"] == 5


def test_constant_maps(tinyhd, park, maps, capsys):
    on_disk.write_image(maps / "yard" / "0002.png", np.full(on_disk.SIZE[::-1], 7, np.uint8))
    assert tinyhd("evaluate", "--root", park, "--pred-dir", maps, "--json", "scores.json") == 0
    assert "yard: 1 constant map" in capsys.readouterr().err
    assert results()["frames"]["constant"] == 1
    assert results()["undefined"]["CC"] == 1 and results()["undefined"]["AUC-J"] == 0


def test_one_bad_video_does_not_stop_the_others(tinyhd, tmp_path, weights_file, capsys):
    root = on_disk.dhf1k(tmp_path / "DHF1K")
    (root / "video" / "602.AVI").write_bytes(b"no video")
    options = ["--dataset", "dhf1k", "--root", root, "--weights", weights_file, "--workers", "1"]
    assert tinyhd("evaluate", *options, "--json", "scores.json") == 1
    assert "602.AVI: not a video that FFmpeg can read" in capsys.readouterr().err
    assert [name for name, video in results()["videos"].items() if video["frames"]] == ["0601", "0700"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda path: path.write_bytes(b"junk"), "is not an npz file with a numeric array"),
        (lambda path: np.savez(path, saliency=np.array([{}], object)), "is not an npz file with a numeric array"),
        (lambda path: np.savez(path, saliency=np.zeros((3, 1, 9, 9))), "must contain maps (frames, height, width)"),
        (lambda path: np.savez(path, a=np.zeros((3, 9, 9)), b=np.zeros(3)), "must contain an array named saliency"),
    ],
)
def test_invalid_archives(tinyhd, park, maps, capsys, content, message):
    """No code in an archive is executed, and the other videos are scored."""
    content(maps / "park.npz")
    assert tinyhd("evaluate", "--root", park, "--pred-dir", maps, "--json", "scores.json") == 1
    assert f"park.npz: {message}" in capsys.readouterr().err
    assert results()["videos"]["park"]["frames"] == 0
    assert results()["frames"]["scored"] == VIDEOS["street"] + VIDEOS["yard"]
