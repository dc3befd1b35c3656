"""Scores of networks and the center bias on generated datasets, in all layouts."""

from __future__ import annotations

import csv
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import datasets_on_disk as on_disk
from helpers.evaluations import VIDEOS, check_scores, results, write_maps

from tinyhd_cli import load_model
from tinyhd_cli.datasets import open_dataset, read_density, read_fixation
from tinyhd_cli.evaluation import EvaluateOptions, PredictionSpec, evaluate
from tinyhd_cli.metrics import METRICS, score_frame


@pytest.mark.parametrize("frames", ["avi", "frames", "video", "images"])
def test_dhf1k(tinyhd, tmp_path, weights_file, capsys, frames):
    root = on_disk.dhf1k(tmp_path / "DHF1K", frames=frames)
    options = ["--dataset", "dhf1k", "--root", root, "--weights", weights_file, "--workers", "1"]
    assert tinyhd("evaluate", *options, "--json", "scores.json") == 0
    found = results()
    check_scores(found, {f"{video:04d}": count for video, count in on_disk.DHF1K.items()})
    assert found["dataset"]["split"] == "val"
    assert found["prediction"]["model"]["name"] == "tinyhd-m-quarter"
    table = capsys.readouterr().out
    assert "paper, val (5b)" in table and "0.900" in table  # Table 5 has scores of this network on this split
    assert "3 of the split's 100 videos are here" in table


def test_hollywood2(tinyhd, tmp_path, weights_file, capsys):
    """Shots of one frame, first numbers other than 1, gaps, several sizes, and a missing image are supported."""
    root = on_disk.hollywood2(tmp_path / "hollywood2", missing=[5])
    options = ["--dataset", "hollywood2", "--root", root, "--weights", weights_file, "--workers", "1"]
    assert tinyhd("evaluate", *options, "--json", "scores.json") == 1
    videos = {name: len(set(numbers) - {5}) for name, (numbers, _) in on_disk.HOLLYWOOD2.items()}
    check_scores(results(), videos)
    output = capsys.readouterr().err
    assert output.count("no map for frame 5") == 2  # two shots have a frame 5
    assert results()["frames"]["missing"] == 2


def test_ucf_sports(tinyhd, tmp_path, weights_file):
    root = on_disk.ucf_sports(tmp_path / "ucf")
    options = ["--dataset", "ucf-sports", "--root", root, "--weights", weights_file, "--workers", "1"]
    assert tinyhd("evaluate", *options, "--json", "scores.json") == 0
    check_scores(results(), {name: count for name, (count, _) in on_disk.UCF_SPORTS.items()})


@pytest.mark.parametrize("form", ["images", "inside", "beside"])
def test_folder(tinyhd, tmp_path, weights_file, form):
    root = on_disk.folder(tmp_path / "data", VIDEOS, form)
    assert tinyhd("evaluate", "--root", root, "--weights", weights_file, "--workers", 1, "--json", "scores.json") == 0
    check_scores(results(), VIDEOS)


def test_images(tinyhd, tmp_path, weights_file):
    root = on_disk.images(tmp_path / "images")
    options = ["--dataset", "images", "--root", root, "--weights", weights_file, "--workers", "1"]
    assert tinyhd("evaluate", *options, "--json", "scores.json") == 0
    check_scores(results(), {"beach": 1, "i2": 1, "i10": 1})


def test_scores_are_those_of_predicted_maps(park, weights_file):
    """Each frame has the scores that ``score_frame`` computes for the network's map."""
    dataset = open_dataset("folder", park)
    found = evaluate(dataset, PredictionSpec(weights=weights_file), EvaluateOptions(workers=1, baseline="none"))
    model = load_model(weights_file, engine="torch")
    for video, scores in zip(dataset.videos, found.videos, strict=True):
        prepared = ((frame, model.prepare(image)) for frame, image in video.read())
        for at, (frame, saliency) in enumerate(model.maps(prepared)):
            expected = score_frame(saliency, read_density(frame.density), read_fixation(frame.fixation))
            for name, value in expected.items():
                assert scores.scores[name][at] == pytest.approx(value, rel=1e-9)


@pytest.mark.skipif(not find_spec("openvino"), reason="OpenVINO is not installed")
def test_another_engine_gives_the_same_scores(tinyhd, park, weights_file):
    found = []
    for engine in ("torch", "openvino"):
        options = ["--root", park, "--weights", weights_file, "--engine", engine, "--workers", "1"]
        assert tinyhd("evaluate", *options, "--json", "scores.json", "-q") == 0
        found.append(results())
        assert found[-1]["prediction"]["engine"] == {"name": engine, "precision": "float32"}
    for name in METRICS:
        assert found[1]["mean"][name] == pytest.approx(found[0]["mean"][name], rel=1e-3, abs=1e-4)


def test_shuffled_auc_uses_fixations_of_other_videos(park, maps):
    """With fewer than ten other frames, all of them are used, so that the expected scores can be computed."""
    two = {"here": 2, "there": 3}
    root = on_disk.folder(park.parent / "two", two)
    write_maps(root, maps)
    found = evaluate(open_dataset("folder", root), PredictionSpec(folder=maps), EvaluateOptions(workers=1))
    here, there = open_dataset("folder", root).videos
    others = np.any([read_fixation(path) for path in there.fixations.values()], axis=0)
    for at, frame in enumerate(here.frames):
        saliency = cv2.imdecode(np.fromfile(maps / "here" / f"{frame.number:04d}.png", np.uint8), 0)
        expected = score_frame(saliency, None, read_fixation(frame.fixation), others)
        assert found.videos[0].scores["s-AUC"][at] == expected["s-AUC"]


def test_seeds(park, maps):
    """Equal seeds draw the same frames, different seeds others; random AUCs are close to their expectations."""
    dataset = open_dataset("folder", on_disk.folder(park.parent / "more", {"a": 30, "b": 30, "c": 3}))
    source = PredictionSpec(folder=write_maps(dataset.root, maps))

    def mean(**options):
        return evaluate(dataset, source, EvaluateOptions(workers=1, **options)).mean()

    exact = mean()
    assert mean() == exact
    assert mean(seed=1)["s-AUC"] != exact["s-AUC"]
    assert mean(seed=1)["AUC-B"] == exact["AUC-B"]
    random = mean(monte_carlo=0)
    assert random == mean(monte_carlo=0) != mean(monte_carlo=1)
    for name in ("AUC-J", "AUC-B", "s-AUC"):
        assert random[name] != exact[name]
        assert random[name] == pytest.approx(exact[name], abs=0.005)


def test_results_do_not_depend_on_the_number_of_workers(tinyhd, park, maps):
    for workers in (1, 2):
        options = ["--workers", workers, "--json", f"{workers}.json", "--csv", f"{workers}.csv"]
        assert tinyhd("evaluate", "--root", park, "--pred-dir", maps, *options) == 0
    assert Path("1.json").read_bytes() == Path("2.json").read_bytes()
    assert Path("1.csv").read_bytes() == Path("2.csv").read_bytes()


def test_csv_has_every_frame(tinyhd, park, maps):
    assert tinyhd("evaluate", "--root", park, "--pred-dir", maps, "--csv", "frames.csv", "--json", "scores.json") == 0
    with Path("frames.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["video"] for row in rows] == [name for name, count in VIDEOS.items() for _ in range(count)]
    assert [row["frame"] for row in rows[:6]] == list("123456")
    assert np.mean([float(row["NSS"]) for row in rows]) == pytest.approx(results()["mean"]["NSS"], rel=1e-12)


def test_frames_without_fixations(tinyhd, park, maps, capsys):
    empty = np.zeros(on_disk.SIZE[::-1], np.uint8)
    for kind in ("maps", "fixation"):
        on_disk.write_image(park / "yard" / kind / "frame1.png", empty)
    assert tinyhd("evaluate", "--root", park, "--pred-dir", maps, "--json", "scores.json", "--csv", "f.csv") == 0
    expected = dict.fromkeys(METRICS, 1) | {"SIM": 0, "KLDiv": 0}
    assert results()["undefined"] == expected
    assert "undefined AUC-J in 1, AUC-B in 1" in capsys.readouterr().out
    row = next(line for line in Path("f.csv").read_text().splitlines() if line.startswith("yard,1,"))
    assert row == "yard,1,,,,,,0.0,0.0,"  # SIM and KLDiv are 0, as in MATLAB


def test_center_bias(tinyhd, tmp_path, capsys):
    """The prior has no gain over itself; it is learned from the training split if that is available."""
    root = on_disk.ucf_sports(tmp_path / "ucf")
    options = ["--dataset", "ucf-sports", "--root", root, "--prior", "--json", "scores.json", "--workers", "1"]
    assert tinyhd("evaluate", *options) == 0
    assert results()["protocol"]["baseline"].startswith("fixations of the dataset, without those of the scored video")
    assert results()["mean"]["IG"] == pytest.approx(0, abs=0.02)
    learned = results()["mean"]
    on_disk.ucf_sports(root, {"Diving-Side-003": (12, (72, 40))}, split="train")
    assert tinyhd("evaluate", *options) == 0
    assert results()["protocol"]["baseline"] == "fixations of 2 frames of the training split (every 10th)"
    assert results()["mean"]["CC"] != learned["CC"]
    assert tinyhd("evaluate", *options, "--baseline", "gaussian") == 0
    assert "Gaussian at the center" in capsys.readouterr().out
    assert tinyhd("evaluate", *options, "--baseline", "none") == 2


def test_a_single_video_has_no_shuffled_auc(tinyhd, tmp_path, capsys):
    root = on_disk.folder(tmp_path / "data", {"alone": 4})
    maps = write_maps(root, tmp_path / "maps") / "alone"  # for a single video, maps may be directly in --pred-dir
    assert tinyhd("evaluate", "--root", root, "--pred-dir", maps, "--json", "scores.json") == 0
    assert "s-AUC" not in results()["mean"]
    assert "s-AUC is left out" in capsys.readouterr().out


def test_published_weights_on_recorded_fixations(shared, tinyhd, capsys):
    """On recorded fixations in UCF-Sports' layout, the published network outperforms the center bias by far."""
    root = shared / "data" / "val" / "ucfsports"
    weights = shared / "upstream" / "d123m_rc4_rc1T.pth"
    options = ["--dataset", "ucf-sports", "--root", root, "--json", "scores.json"]
    assert tinyhd("evaluate", *options, "--weights", weights) == 0
    measured = results()["mean"]
    expected = {"AUC-J": 0.9672, "AUC-B": 0.9265, "CC": 0.7266, "NSS": 3.9986, "SIM": 0.5455, "KLDiv": 0.7537}
    assert {name: measured[name] for name in expected} == pytest.approx(expected, abs=2e-4)
    assert tinyhd("evaluate", *options, "--prior", "--baseline", "gaussian") == 0
    assert results()["mean"]["NSS"] < 0.6 * measured["NSS"]
