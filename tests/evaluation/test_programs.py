"""The programs of ``tinyhd evaluate`` besides scoring: submissions, comparisons, checks, plots; wrong usage."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import datasets_on_disk as on_disk
from helpers.evaluations import VIDEOS, write_maps

from tinyhd_cli.datasets import open_dataset
from tinyhd_cli.evaluation import PredictionSpec
from tinyhd_cli.evaluation.predictions import open_predictions
from tinyhd_cli.evaluation.submission import as_png


def test_held_out_annotations_are_reported(tinyhd, tmp_path, weights_file, capsys):
    root = on_disk.dhf1k(tmp_path / "DHF1K", {701: 3, 702: 3})
    options = ["--dataset", "dhf1k", "--root", root, "--split", "test", "--weights", weights_file]
    assert tinyhd("evaluate", *options, "--json", "scores.json") == 3
    output = capsys.readouterr()
    assert "held out" in output.err and "--submission" in output.err and not output.out
    assert not Path("scores.json").exists()


def test_submission(tinyhd, tmp_path, weights_file, capsys):
    root = on_disk.dhf1k(tmp_path / "DHF1K", {701: 3, 702: 4})
    options = ["--dataset", "dhf1k", "--root", root, "--split", "test", "--weights", weights_file]
    (root / "video" / "703.AVI").write_bytes(b"no video")
    assert tinyhd("evaluate", *options, "--submission", "out") == 1
    output = capsys.readouterr()
    assert "2 of 3 videos" in output.out and "No scores" in output.out
    assert "703.AVI" in output.err
    names = [f"0701/{number:04d}.png" for number in range(1, 4)] + [f"0702/{number:04d}.png" for number in range(1, 5)]
    with zipfile.ZipFile("out.zip") as archive:
        assert archive.namelist() == names
    for name in names:
        values = cv2.imdecode(np.fromfile(Path("out") / name, np.uint8), cv2.IMREAD_UNCHANGED)
        assert values.shape == (360, 640) and values.dtype == np.uint8 and values.max() == 255
    kept = (Path("out") / "0701" / "0001.png").stat().st_mtime_ns
    assert tinyhd("evaluate", *options, "--submission", "out") == 1
    assert (Path("out") / "0701" / "0001.png").stat().st_mtime_ns == kept  # a second run keeps complete folders
    (Path("out") / "0702" / "0003.png").write_bytes(b"")
    assert tinyhd("evaluate", *options, "--submission", "out") == 1
    assert (Path("out") / "0702" / "0003.png").stat().st_size > 100  # except folders with an empty file
    assert (Path("out") / "0701" / "0001.png").stat().st_mtime_ns == kept
    assert tinyhd("evaluate", *options[:-4], "--prior", "--split", "test", "--submission", "out") == 2


def test_submitted_maps_have_no_negative_values():
    values = np.zeros((192, 256), np.float32)
    values[90:100, 120:130] = 0.04
    decoded = cv2.imdecode(np.frombuffer(as_png(values), np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded.max() == 255 and decoded[0, 0] == 0
    assert (decoded > 250).sum() < 2000  # negative overshoot does not wrap around


def test_compare(tinyhd, park, maps, tmp_path, weights_file, capsys):
    copy = write_maps(park, tmp_path / "copy")
    command = ["evaluate", "--root", park, "--compare", maps, copy, weights_file, "--workers", "1"]
    assert tinyhd(*command, "--json", "similarity.json", "--plot", "plots") == 0
    found = json.loads(Path("similarity.json").read_text())
    assert found["names"] == ["maps", "copy", "lively"] and found["frames"] == sum(VIDEOS.values())
    for metric in ("CC", "SIM"):
        matrix = np.array(found[metric])
        assert np.allclose(matrix, matrix.T) and np.allclose(np.diag(matrix), 1)
        assert matrix[0, 1] == pytest.approx(1) and matrix[0, 2] < 0.99
    assert cv2.imdecode(np.fromfile("plots/similarity.png", np.uint8), 1).shape[0] > 200
    assert "lively" in capsys.readouterr().out
    assert tinyhd(*command, "--prior", "--json", "again.json") == 0  # only the arguments of --compare are compared
    assert json.loads(Path("again.json").read_text())["CC"] == found["CC"]
    (copy / "park" / "0003.png").unlink()
    for path in (copy / "yard").iterdir():
        path.unlink()
    assert tinyhd(*command, "--json", "similarity.json") == 1
    assert json.loads(Path("similarity.json").read_text())["frames"] == sum(VIDEOS.values()) - VIDEOS["yard"] - 1


def test_plots(tinyhd, park, maps):
    assert tinyhd("evaluate", "--root", park, "--pred-dir", maps, "--plot", "plots") == 0
    names = {path.name for path in Path("plots").iterdir()}
    over_time = {f"over_time_{name}.png" for name in VIDEOS}
    assert names == {"scores.png", "best_frames.png", "worst_frames.png", *over_time}
    for path in Path("plots").iterdir():
        plot = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        assert plot.shape[0] > 200 and plot.std() > 10


@pytest.mark.slow
def test_plots_of_a_networks_frames(tinyhd, tmp_path, weights_file):
    """The map of a late frame is predicted again from the frames of its clip only, and is the same."""
    root = on_disk.folder(tmp_path / "data", {"long": 40})
    dataset = open_dataset("folder", root)
    source = open_predictions(PredictionSpec(weights=weights_file), dataset.names)
    video = dataset.videos[0]
    whole = dict(source.maps(video, print))
    for position in (0, 17, 37):
        again = next(found for number, found in source.maps(video, print, start=position) if number == position + 1)
        np.testing.assert_allclose(again, whole[position + 1], atol=1e-6)
    assert tinyhd("evaluate", "--root", root, "--weights", weights_file, "--plot", "plots") == 0
    assert Path("plots/worst_frames.png").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--dataset", "dhf1k"], 2, "--root is missing"),
        (["--root", "DATA", "--dataset", "dhf2k"], 2, "did you mean dhf1k"),
        (["--root", "DATA", "--split", "val"], 2, "folder has no splits"),
        (["--root", "DATA", "--dataset", "dhf1k", "--split", "validation"], 2, "dhf1k has train, val, test"),
        (["--root", "nowhere"], 3, "nowhere: no such folder"),
        (["--root", "DATA", "--dataset", "dhf1k"], 3, "no val videos in the dhf1k layout"),
        (["--root", "DATA", "--pred-dir", "nowhere"], 3, "nowhere: no such folder"),
        (["--root", "DATA", "--pred-dir", "MAPS", "--prior"], 2, "--pred-dir and --prior cannot be combined"),
        (["--root", "DATA", "--check", "--compare"], 2, "--check and --compare cannot be combined"),
        (["--root", "DATA", "--compare", "MAPS"], 2, "two or more"),
        (["--root", "DATA", "MAPS"], 2, "--compare only"),
        (["--root", "DATA", "--prior", "--baseline", "middle"], 2, "--baseline 'middle' is unknown"),
        (["--root", "DATA", "--prior", "--baseline", "train"], 2, "no annotated training split"),
        (["--root", "DATA", "--prior", "--workers", "-1"], 2, "--workers must be 0 or more"),
        (["--root", "DATA", "--prior", "--seed", "-1"], 2, "--seed must be 0 or more"),
        (["--root", "DATA", "--prior", "--json", "."], 2, "--json .: is a folder"),
        (["--root", "DATA", "--submission", "out"], 2, "--dataset dhf1k --split test"),
        (["--root", "DATA", "--weights", "nowhere.pth"], 4, "nowhere.pth"),
        (["--root", "DATA", "--model", "tinyhd-x"], 2, "tinyhd-x"),
    ],
)
def test_wrong_usage(tinyhd, park, maps, capsys, arguments, code, message):
    arguments = [{"DATA": park, "MAPS": maps}.get(argument, argument) for argument in arguments]
    assert tinyhd("evaluate", *arguments) == code
    printed = capsys.readouterr()
    assert message in printed.err and len(printed.err.strip().splitlines()) == 1 and not printed.out


def test_outputs_that_cannot_be_written(tinyhd, park, maps, capsys):
    Path("file").write_text("in the way")
    assert tinyhd("evaluate", "--root", park, "--pred-dir", maps, "--json", "file/scores.json", "--quiet") == 5
    assert "file/scores.json: cannot be written" in capsys.readouterr().err


def test_check(tinyhd, park, capsys):
    """``--check`` prints findings and sets the exit code; the findings themselves are tested with the datasets."""
    assert tinyhd("evaluate", "--root", park, "--check") == 0
    assert "no faults" in capsys.readouterr().out
    (park / "park" / "maps" / "frame2.png").unlink()
    on_disk.truncate(park / "yard" / "fixation" / "frame1.png")
    assert tinyhd("evaluate", "--root", park, "--check") == 1
    output = capsys.readouterr().out
    assert "fault: park: no density map for a frame: 2" in output
    assert "frame1.png: is truncated" in output
    assert "2 faults" in output
