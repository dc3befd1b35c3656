"""``tinyhd evaluate`` from start to end, on data sets laid out as the official ones are."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import datasets_on_disk as on_disk

from tinyhd_cli import load_model
from tinyhd_cli.datasets import open_dataset, read_density, read_fixation
from tinyhd_cli.evaluation import EvaluateOptions, PredictionSpec, evaluate
from tinyhd_cli.evaluation import run as evaluation
from tinyhd_cli.evaluation.submission import as_png
from tinyhd_cli.metrics import METRICS, score_frame

VIDEOS = {"park": 6, "street": 5, "yard": 4}


def results(path: Path | str = "scores.json") -> dict:
    return json.loads(Path(path).read_text())


def write_maps(root: Path, target: Path) -> Path:
    """Somebody's maps for the videos of a ``folder`` dataset: their own densities, moved a little."""
    for video in open_dataset("folder", root).videos:
        for number, path in video.densities.items():
            on_disk.write_image(target / video.name / f"{number:04d}.png", np.roll(read_density(path), 3, axis=1))
    return target


@pytest.fixture
def park(tmp_path):
    """A dataset of three videos of frames."""
    return on_disk.folder(tmp_path / "data", VIDEOS)


@pytest.fixture
def maps(park, tmp_path):
    """Somebody's maps for it."""
    return write_maps(park, tmp_path / "maps")


def check_scores(found: dict, videos: dict[str, int]) -> None:
    """All eight metrics are there and plausible, for every video and overall."""
    assert {name: video["frames"] for name, video in found["videos"].items()} == videos
    assert found["frames"]["scored"] == sum(videos.values())
    for scores in (found["mean"], found["macro_mean"], *found["videos"].values()):
        assert [name for name in scores if name in METRICS] == list(METRICS)
        assert all(0 <= scores[name] <= 1 for name in ("AUC-J", "AUC-B", "s-AUC", "SIM"))
        assert scores["KLDiv"] > 0 and -1 <= scores["CC"] <= 1
    weighted = sum(video["CC"] * video["frames"] for video in found["videos"].values())
    assert found["mean"]["CC"] == pytest.approx(weighted / sum(videos.values()), rel=1e-12)
    assert found["macro_mean"]["CC"] == pytest.approx(
        np.mean([video["CC"] for video in found["videos"].values()]), rel=1e-12
    )


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
    assert "paper, val (5b)" in table and "0.900" in table  # Table 5 has this network on this split
    assert "3 of the split's 100 videos are here" in table


def test_hollywood2(tinyhd, tmp_path, weights_file, capsys):
    """Shots of one frame, numbers that start anywhere, holes, several sizes, a picture that is missing."""
    root = on_disk.hollywood2(tmp_path / "hollywood2", missing=[5])
    options = ["--dataset", "hollywood2", "--root", root, "--weights", weights_file, "--workers", "1"]
    assert tinyhd("evaluate", *options, "--json", "scores.json") == 1
    videos = {name: len(set(numbers) - {5}) for name, (numbers, _) in on_disk.HOLLYWOOD2.items()}
    check_scores(results(), videos)
    said = capsys.readouterr().err
    assert said.count("no map for frame 5") == 2  # two shots have a frame 5
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


def test_photographs(tinyhd, tmp_path, weights_file):
    root = on_disk.images(tmp_path / "photographs")
    options = ["--dataset", "images", "--root", root, "--weights", weights_file, "--workers", "1"]
    assert tinyhd("evaluate", *options, "--json", "scores.json") == 0
    check_scores(results(), {"beach": 1, "i2": 1, "i10": 1})


def test_scores_are_those_of_predicted_maps(park, weights_file):
    """Frame by frame, what ``score_frame`` says of what the network gives."""
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


def test_shuffled_auc_takes_fixations_of_other_videos(park, maps):
    """With fewer than ten other frames all are taken, so that the scores can be computed here."""
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
    """The same seed draws the same frames, another one others; random AUCs come close to their expectation."""
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


def test_workers_make_no_difference(tinyhd, park, maps):
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


def test_maps_as_png_npz_or_video(tinyhd, park, maps, tmp_path):
    """The same maps in three forms score the same, up to what a video codec loses; leading zeros do not matter."""
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


def test_our_own_map_folders_are_found(tinyhd, tmp_path, weights_file):
    """What ``predict --out-dir`` writes for DHF1K's files can be scored as it is."""
    root = on_disk.dhf1k(tmp_path / "DHF1K", {601: 3, 602: 4})
    videos = sorted((root / "video").iterdir())
    outputs = ["--out-dir", "out", "--maps", "maps", "--npz", "out.npz"]
    assert tinyhd("predict", *videos, "--weights", weights_file, *outputs) == 0
    options = ["--dataset", "dhf1k", "--root", root, "--json", "scores.json"]
    assert tinyhd("evaluate", *options, "--pred-dir", "out") == 0
    found = results()
    assert tinyhd("evaluate", *options, "--weights", weights_file) == 0
    # npz holds what the network gave, but for the order in which another number of threads adds up float32
    assert results()["mean"] == pytest.approx(found["mean"], rel=1e-3)
    for npz in Path("out").glob("*.npz"):
        npz.unlink()
    assert tinyhd("evaluate", *options, "--pred-dir", "out") == 0
    assert results()["mean"]["CC"] == pytest.approx(found["mean"]["CC"], abs=0.05)  # 8 bits hold nearly the same


def test_what_is_wrong_with_maps_is_said(tinyhd, park, maps, capsys):
    """A missing map, one of another size, one too many, a broken one, a video without maps, NaN: each plainly."""
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
    said = capsys.readouterr().err
    assert "park: no map for 2 frames (2, 5)" in said
    assert "0005.png: is truncated" in said
    assert "park: no ground truth for frame 99" in said
    assert "park: 1 map resized to the size of the ground truth" in said
    assert "street: frame 2: the map contains NaN or infinity" in said
    assert f"yard: no maps of this video in {maps}" in said
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
    said = capsys.readouterr().err
    assert "frame2.png: is truncated" in said
    assert "park: frame 3:" in said and "frame3.png: is truncated" in said
    found = results()
    assert found["frames"]["scored"] == sum(VIDEOS.values()) - 1
    assert found["videos"]["park"]["frames"] == 5


def test_frames_that_nobody_looked_at(tinyhd, park, maps, capsys):
    nobody = np.zeros(on_disk.SIZE[::-1], np.uint8)
    for kind in ("maps", "fixation"):
        on_disk.write_image(park / "yard" / kind / "frame1.png", nobody)
    assert tinyhd("evaluate", "--root", park, "--pred-dir", maps, "--json", "scores.json", "--csv", "f.csv") == 0
    expected = dict.fromkeys(METRICS, 1) | {"SIM": 0, "KLDiv": 0}
    assert results()["undefined"] == expected
    assert "undefined AUC-J in 1, AUC-B in 1" in capsys.readouterr().out
    row = next(line for line in Path("f.csv").read_text().splitlines() if line.startswith("yard,1,"))
    assert row == "yard,1,,,,,,0.0,0.0,"  # SIM and KLDiv count as 0, as in MATLAB


def test_constant_maps(tinyhd, park, maps, capsys):
    on_disk.write_image(maps / "yard" / "0002.png", np.full(on_disk.SIZE[::-1], 7, np.uint8))
    assert tinyhd("evaluate", "--root", park, "--pred-dir", maps, "--json", "scores.json") == 0
    assert "yard: 1 constant map" in capsys.readouterr().err
    assert results()["frames"]["constant"] == 1
    assert results()["undefined"]["CC"] == 1 and results()["undefined"]["AUC-J"] == 0


def test_center_bias(tinyhd, tmp_path, capsys):
    """The prior gains nothing over itself; it is learned from the training split where that is there."""
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
    maps = write_maps(root, tmp_path / "maps") / "alone"  # then the maps may be in the folder itself
    assert tinyhd("evaluate", "--root", root, "--pred-dir", maps, "--json", "scores.json") == 0
    assert "s-AUC" not in results()["mean"]
    assert "s-AUC is left out" in capsys.readouterr().out


class Interrupted:
    """Interrupts an evaluation at its second video; counts the videos that are scored."""

    def __init__(self, monkeypatch) -> None:
        self.scored: list[int] = []
        self.interrupt = True
        original = evaluation.score_video

        def score_video(index, *rest):
            if self.interrupt and self.scored:
                raise KeyboardInterrupt
            self.scored.append(index)
            return original(index, *rest)

        monkeypatch.setattr(evaluation, "score_video", score_video)


def test_interrupted_runs_go_on(tinyhd, park, maps, cache, monkeypatch, capsys):
    command = ["evaluate", "--root", park, "--pred-dir", maps, "--workers", "1"]
    assert tinyhd(*command, "--json", "unbroken.json", "--csv", "unbroken.csv") == 0
    assert not list((cache / "evaluations").glob("*"))
    interrupted = Interrupted(monkeypatch)
    assert tinyhd(*command, "--json", "broken.json") == 130
    assert "run the same command again to resume" in capsys.readouterr().err
    assert not Path("broken.json").exists()
    interrupted.interrupt = False
    interrupted.scored.clear()
    assert tinyhd(*command, "--json", "broken.json", "--csv", "broken.csv") == 0
    assert interrupted.scored == [1, 2]
    assert Path("broken.json").read_bytes() == Path("unbroken.json").read_bytes()
    assert Path("broken.csv").read_bytes() == Path("unbroken.csv").read_bytes()


def test_finished_videos_are_scored_again_if_something_changed(tinyhd, park, maps, monkeypatch):
    command = ["evaluate", "--root", park, "--pred-dir", maps, "--workers", "1", "--json", "scores.json"]
    for change in (
        lambda: on_disk.write_image(maps / "park" / "0001.png", read_density(maps / "park" / "0002.png")),
        lambda: on_disk.write_image(
            park / "yard" / "fixation" / "frame1.png", 255 - np.eye(*on_disk.SIZE[::-1], dtype=np.uint8) * 255
        ),
        lambda: command.extend(["--seed", "5"]),
    ):
        interrupted = Interrupted(monkeypatch)
        assert tinyhd(*command) == 130
        change()
        interrupted.interrupt = False
        interrupted.scored.clear()
        assert tinyhd(*command) == 0
        assert interrupted.scored == [0, 1, 2]
        monkeypatch.undo()
        monkeypatch.chdir(park.parent / "here")
        monkeypatch.setenv("TINYHD_CACHE", str(park.parent / "cache"))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killed_runs_go_on(tmp_path):
    """Killed half-way, with processes side by side: they end, too, and the next run gives the same."""
    root = on_disk.folder(tmp_path / "data", {"short": 2, **{f"long{number}": 60 for number in range(8)}})
    maps = write_maps(root, tmp_path / "maps")
    command = [sys.executable, "-m", "tinyhd_cli", "evaluate", "--root", str(root), "--pred-dir", str(maps)]
    command += ["--workers", "2", "--monte-carlo", "0", "--quiet", "--json"]
    environment = {**os.environ, "TINYHD_CACHE": str(tmp_path / "cache")}
    process = subprocess.Popen([*command, str(tmp_path / "broken.json")], env=environment, start_new_session=True)
    while not list((tmp_path / "cache").glob("evaluations/*/[!.]*.json")):
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        pytest.fail("worker processes live on")
    assert not (tmp_path / "broken.json").exists()
    for name, cached in (("broken", "cache"), ("unbroken", "another cache")):
        again = {**environment, "TINYHD_CACHE": str(tmp_path / cached)}
        subprocess.run([*command, str(tmp_path / f"{name}.json")], env=again, check=True, stdout=subprocess.DEVNULL)
    assert (tmp_path / "broken.json").read_bytes() == (tmp_path / "unbroken.json").read_bytes()


def test_fixations_are_read_once(tinyhd, park, maps, monkeypatch):
    """The second run takes the coordinates from the cache, until a file changes."""
    from tinyhd_cli.evaluation import fixations

    read = []
    original = fixations.read_fixation
    monkeypatch.setattr(fixations, "read_fixation", lambda path: read.append(path) or original(path))
    command = ["evaluate", "--root", park, "--pred-dir", maps, "--workers", "1"]
    assert tinyhd(*command) == 0
    assert len(read) == sum(VIDEOS.values())
    assert tinyhd(*command) == 0
    assert len(read) == sum(VIDEOS.values())
    os.utime(park / "yard" / "fixation" / "frame1.png", (1, 1))
    assert tinyhd(*command) == 0
    assert len(read) == 2 * sum(VIDEOS.values())


def test_without_a_cache_that_can_be_written(tinyhd, park, maps, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("TINYHD_CACHE", str(tmp_path / "file"))
    assert tinyhd("evaluate", "--root", park, "--pred-dir", maps, "--workers", "2", "--json", "scores.json") == 0
    check_scores(results(), VIDEOS)


def test_one_bad_video_does_not_stop_the_others(tinyhd, tmp_path, weights_file, capsys):
    root = on_disk.dhf1k(tmp_path / "DHF1K")
    (root / "video" / "602.AVI").write_bytes(b"no video")
    options = ["--dataset", "dhf1k", "--root", root, "--weights", weights_file, "--workers", "1"]
    assert tinyhd("evaluate", *options, "--json", "scores.json") == 1
    assert "602.AVI: not a video that FFmpeg can read" in capsys.readouterr().err
    assert [name for name, video in results()["videos"].items() if video["frames"]] == ["0601", "0700"]


def test_held_out_annotations_are_never_invented(tinyhd, tmp_path, weights_file, capsys):
    root = on_disk.dhf1k(tmp_path / "DHF1K", {701: 3, 702: 3})
    options = ["--dataset", "dhf1k", "--root", root, "--split", "test", "--weights", weights_file]
    assert tinyhd("evaluate", *options, "--json", "scores.json") == 3
    said = capsys.readouterr()
    assert "held out" in said.err and "--submission" in said.err and not said.out
    assert not Path("scores.json").exists()


def test_submission(tinyhd, tmp_path, weights_file, capsys):
    root = on_disk.dhf1k(tmp_path / "DHF1K", {701: 3, 702: 4})
    options = ["--dataset", "dhf1k", "--root", root, "--split", "test", "--weights", weights_file]
    (root / "video" / "703.AVI").write_bytes(b"no video")
    assert tinyhd("evaluate", *options, "--submission", "out") == 1
    said = capsys.readouterr()
    assert "2 of 3 videos" in said.out and "No scores" in said.out
    assert "703.AVI" in said.err
    names = [f"0701/{number:04d}.png" for number in range(1, 4)] + [f"0702/{number:04d}.png" for number in range(1, 5)]
    with zipfile.ZipFile("out.zip") as archive:
        assert archive.namelist() == names
    for name in names:
        values = cv2.imdecode(np.fromfile(Path("out") / name, np.uint8), cv2.IMREAD_UNCHANGED)
        assert values.shape == (360, 640) and values.dtype == np.uint8 and values.max() == 255
    kept = (Path("out") / "0701" / "0001.png").stat().st_mtime_ns
    assert tinyhd("evaluate", *options, "--submission", "out") == 1
    assert (Path("out") / "0701" / "0001.png").stat().st_mtime_ns == kept  # a second run keeps what is there
    (Path("out") / "0702" / "0003.png").write_bytes(b"")
    assert tinyhd("evaluate", *options, "--submission", "out") == 1
    assert (Path("out") / "0702" / "0003.png").stat().st_size > 100  # but for folders with an empty file
    assert (Path("out") / "0701" / "0001.png").stat().st_mtime_ns == kept
    assert tinyhd("evaluate", *options[:-4], "--prior", "--split", "test", "--submission", "out") == 2


def test_submitted_maps_have_no_negative_values():
    values = np.zeros((192, 256), np.float32)
    values[90:100, 120:130] = 0.04
    decoded = cv2.imdecode(np.frombuffer(as_png(values), np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded.max() == 255 and decoded[0, 0] == 0
    assert (decoded > 250).sum() < 2000  # overshoot below 0 does not wrap around


def test_compare(tinyhd, park, maps, tmp_path, weights_file, capsys):
    copy = write_maps(park, tmp_path / "copy")
    command = ["evaluate", "--root", park, "--compare", maps, copy, weights_file, "--workers", "1"]
    assert tinyhd(*command, "--json", "similarity.json", "--plot", "pictures") == 0
    found = json.loads(Path("similarity.json").read_text())
    assert found["names"] == ["maps", "copy", "lively"] and found["frames"] == sum(VIDEOS.values())
    for metric in ("CC", "SIM"):
        matrix = np.array(found[metric])
        assert np.allclose(matrix, matrix.T) and np.allclose(np.diag(matrix), 1)
        assert matrix[0, 1] == pytest.approx(1) and matrix[0, 2] < 0.99
    assert cv2.imdecode(np.fromfile("pictures/similarity.png", np.uint8), 1).shape[0] > 200
    assert "lively" in capsys.readouterr().out
    assert tinyhd(*command, "--prior", "--json", "again.json") == 0  # what is compared stands behind --compare
    assert json.loads(Path("again.json").read_text())["CC"] == found["CC"]
    (copy / "park" / "0003.png").unlink()
    for path in (copy / "yard").iterdir():
        path.unlink()
    assert tinyhd(*command, "--json", "similarity.json") == 1
    assert json.loads(Path("similarity.json").read_text())["frames"] == sum(VIDEOS.values()) - VIDEOS["yard"] - 1


def test_pictures(tinyhd, park, maps):
    assert tinyhd("evaluate", "--root", park, "--pred-dir", maps, "--plot", "pictures") == 0
    names = {path.name for path in Path("pictures").iterdir()}
    over_time = {f"over_time_{name}.png" for name in VIDEOS}
    assert names == {"scores.png", "best_frames.png", "worst_frames.png", *over_time}
    for path in Path("pictures").iterdir():
        picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape[0] > 200 and picture.std() > 10


def test_pictures_of_a_networks_frames(tinyhd, tmp_path, weights_file):
    """A late frame's map is predicted once more, from its own clip only, and is the same."""
    root = on_disk.folder(tmp_path / "data", {"long": 40})
    dataset = open_dataset("folder", root)
    source = PredictionSpec(weights=weights_file).open(dataset, None)
    video = dataset.videos[0]
    whole = dict(source.maps(video, print))
    for position in (0, 17, 37):
        again = next(found for number, found in source.maps(video, print, start=position) if number == position + 1)
        np.testing.assert_allclose(again, whole[position + 1], atol=1e-6)
    assert tinyhd("evaluate", "--root", root, "--weights", weights_file, "--plot", "pictures") == 0
    assert Path("pictures/worst_frames.png").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
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
def test_wrong_usage(tinyhd, park, maps, capsys, arguments, code, said):
    arguments = [{"DATA": park, "MAPS": maps}.get(argument, argument) for argument in arguments]
    assert tinyhd("evaluate", *arguments) == code
    output = capsys.readouterr()
    assert said in output.err and len(output.err.strip().splitlines()) == 1 and not output.out


def test_outputs_that_cannot_be_written(tinyhd, park, maps, capsys):
    Path("file").write_text("in the way")
    assert tinyhd("evaluate", "--root", park, "--pred-dir", maps, "--json", "file/scores.json", "--quiet") == 5
    assert "file/scores.json: cannot be written" in capsys.readouterr().err


def test_check(tinyhd, park, capsys):
    """The dataset doctor's exit codes; its findings are tested with the datasets."""
    assert tinyhd("evaluate", "--root", park, "--check") == 0
    assert "no faults" in capsys.readouterr().out
    (park / "park" / "maps" / "frame2.png").unlink()
    on_disk.truncate(park / "yard" / "fixation" / "frame1.png")
    assert tinyhd("evaluate", "--root", park, "--check") == 1
    said = capsys.readouterr().out
    assert "fault: park: no density map for a frame: 2" in said
    assert "frame1.png: is truncated" in said
    assert "2 faults" in said


def test_published_weights_on_real_fixations(shared, tinyhd, capsys):
    """Real frames and real fixations in UCF-Sports' layout: the published network beats the center bias by far."""
    root = shared / "data" / "val" / "ucfsports"
    weights = shared / "upstream" / "d123m_rc4_rc1T.pth"
    options = ["--dataset", "ucf-sports", "--root", root, "--json", "scores.json"]
    assert tinyhd("evaluate", *options, "--weights", weights) == 0
    measured = results()["mean"]
    expected = {"AUC-J": 0.9672, "AUC-B": 0.9265, "CC": 0.7266, "NSS": 3.9986, "SIM": 0.5455, "KLDiv": 0.7537}
    assert {name: measured[name] for name in expected} == pytest.approx(expected, abs=2e-4)
    assert tinyhd("evaluate", *options, "--prior", "--baseline", "gaussian") == 0
    assert results()["mean"]["NSS"] < 0.6 * measured["NSS"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda path: path.write_bytes(b"junk"), "is not an npz file with a numeric array"),
        (lambda path: np.savez(path, saliency=np.array([{}], object)), "is not an npz file with a numeric array"),
        (lambda path: np.savez(path, saliency=np.zeros((3, 1, 9, 9))), "must contain maps (frames, height, width)"),
        (lambda path: np.savez(path, a=np.zeros((3, 9, 9)), b=np.zeros(3)), "must contain an array named saliency"),
    ],
)
def test_odd_archives(tinyhd, park, maps, capsys, content, said):
    """Nothing in them is executed; the other videos are scored."""
    content(maps / "park.npz")
    assert tinyhd("evaluate", "--root", park, "--pred-dir", maps, "--json", "scores.json") == 1
    assert f"park.npz: {said}" in capsys.readouterr().err
    assert results()["videos"]["park"]["frames"] == 0
    assert results()["frames"]["scored"] == VIDEOS["street"] + VIDEOS["yard"]
