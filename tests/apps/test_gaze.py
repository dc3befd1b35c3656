"""Tests of ``gaze``: maps of recorded gaze, the agreement of observers, and a model's share of it."""

from __future__ import annotations

import csv
import json
import logging
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import clips, study
from helpers import datasets_on_disk as on_disk

from tinyhd_cli.apps.gaze.agreement import area_under_curve, score_gaze
from tinyhd_cli.apps.gaze.density import Canvas, Gaussians, small_density, to_density_image
from tinyhd_cli.apps.gaze.observers import averaged
from tinyhd_cli.apps.gaze.options import GazeOptions, GazeOutputs, Sigma, degrees_to_pixels, parse_sigma
from tinyhd_cli.apps.gaze.overlay import draw_key, observer_color
from tinyhd_cli.apps.gaze.points import Gaze, Points, Track
from tinyhd_cli.apps.gaze.results import share_of
from tinyhd_cli.apps.gaze.run import gaze_file
from tinyhd_cli.commands.progress import ProgressDisplay
from tinyhd_cli.datasets import open_dataset, read_density, read_fixation
from tinyhd_cli.datasets.images import read_image
from tinyhd_cli.errors import InputError, OutputError, UsageError
from tinyhd_cli.metrics import score_frame
from tinyhd_cli.recordings import FixationOptions, RecordingOptions
from tinyhd_cli.video.overlay import label_height


def points_of(count, width, height, observers, seed=0):
    rng = np.random.default_rng(seed)
    owner = np.sort(rng.integers(0, observers, count))
    x, y = (rng.normal(side / 2, side / 8, count).clip(0, side - 1e-3) for side in (width, height))
    return Points(owner, x, y)


def direct_density(points, width, height, sigma):
    """Return the sum of one Gaussian per point, calculated at the center of each pixel."""
    y, x = np.mgrid[:height, :width] + 0.5
    density = np.zeros((height, width))
    for at_x, at_y in zip(points.x, points.y, strict=True):
        density += np.exp(-((x - at_x) ** 2) / (2 * sigma[0] ** 2) - (y - at_y) ** 2 / (2 * sigma[1] ** 2))
    return density


def only(points, kept):
    return Points(points.observer[kept], points.x[kept], points.y[kept])


def plain_scores(prediction, target, density):
    """Return NSS, AUC over all pixels, and CC of a map, as simply as possible."""
    fixation = np.zeros(prediction.shape, bool)
    fixation[target.rows, target.columns] = True
    scores = score_frame(prediction, density, fixation)
    below = [(prediction < value).mean() + (prediction == value).mean() / 2 for value in prediction[fixation]]
    return scores["NSS"], float(np.mean(below)), scores["CC"]


def check(found, expected):
    """Compare NSS, AUC and CC. A fixated pixel's own value may differ by rounding: half a pixel of the AUC."""
    assert found[[0, 2]] == pytest.approx((expected[0], expected[2]), abs=1e-6)
    assert found[1] == pytest.approx(expected[1], abs=1 / (96 * 64))


@pytest.mark.parametrize("sigma", [(3.0, 3.0), (9.5, 6.25)])
def test_densities_agree_with_a_direct_calculation(sigma):
    points = points_of(40, 160, 90, 9)
    gaussians = Gaussians(points, Canvas(160, 90, sigma))
    direct = direct_density(points, 160, 90, sigma)
    assert np.abs(gaussians.density() - direct).max() < 1e-6 * direct.max()
    assert np.array_equal(to_density_image(gaussians.density()), np.round(255 * direct / direct.max()))
    large = Gaussians(points_of(40, 900, 501, 9), Canvas(900, 501, (20, 20)))
    small = small_density(large)
    assert small.shape == (167, 300)
    assert np.allclose(small, cv2.resize(large.density(), (300, 167), interpolation=cv2.INTER_AREA), atol=0.02)


def test_fixations_belong_to_the_frames_shown_during_them():
    gaze = Gaze(
        {
            "a": Track(np.array([0.0, 0.5]), np.array([0.1, 0.9]), np.array([1.0, 2]), np.zeros(2)),
            "b": Track(np.array([0.05]), np.array([2.0]), np.array([3.0]), np.zeros(1)),
            "c": Track(np.array([0.3]), np.array([0.3]), np.array([4.0]), np.zeros(1)),  # a sample
        }
    )
    frames = [(0.0, 0.04), (0.04, 0.1), (0.1, 0.3), (0.3, 0.5), (0.5, 0.51), (0.51, 2.0), (2.0, 2.1)]
    found = [sorted(gaze.between(*frame).x.tolist()) for frame in frames]
    assert found == [[1], [1, 3], [3], [3, 4], [2, 3], [2, 3], []]
    assert gaze.end_s == 2
    assert gaze.trail(0, 0.05, 0.6)[:, 0].tolist() == [1, 2]
    assert gaze.trail(1, 2.5, 3).shape == (0, 2)
    nested = Track(np.array([0, 0.1, 2]), np.array([5, 0.2, 2.1]), np.array([1.0, 2, 3]), np.zeros(3))
    assert Gaze({"nested": nested}).trail(0, 1.5, 2.05)[:, 0].tolist() == [1, 3]
    assert len(Gaze({"nobody": Track(*np.zeros((4, 0)))}).between(0, 1)) == 0


def test_leave_one_out_agrees_with_a_plain_calculation():
    points, sigma = points_of(30, 96, 64, 7), (5.0, 5.0)
    gaussians = Gaussians(points, Canvas(96, 64, sigma))
    model = cv2.resize(np.random.default_rng(1).random((6, 8)), (96, 64), interpolation=cv2.INTER_LINEAR)
    scores = score_gaze(gaussians, (0, 0), model)
    assert scores.observers.tolist() == list(range(7))
    for number, (alone, of_model) in enumerate(zip(scores.alone, scores.model_alone, strict=True)):
        own = points.observer == number
        target, others = only(points, own), direct_density(only(points, ~own), 96, 64, sigma)
        density = direct_density(target, 96, 64, sigma)
        check(alone, plain_scores(others, target, density))
        check(of_model, plain_scores(model, target, density))


def test_halves_agree_with_a_plain_calculation():
    points, sigma = points_of(40, 96, 64, 6), (5.0, 5.0)
    scores = score_gaze(Gaussians(points, Canvas(96, 64, sigma)), (3, 5))
    first = np.random.default_rng((3, 5)).permutation(6)[:3]
    half = np.isin(points.observer, first)
    for row, target in zip(scores.halves, (~half, half), strict=True):
        of_half, others = only(points, target), direct_density(only(points, ~target), 96, 64, sigma)
        check(row, plain_scores(others, of_half, direct_density(of_half, 96, 64, sigma)))
    assert scores.model_alone is None
    assert score_gaze(Gaussians(only(points, points.observer == 2), Canvas(96, 64, sigma)), (0, 0)) is None


def test_leave_one_out_on_recorded_fixation_maps(shared):
    """Real fixations of one frame, whose observers are not published: every tenth point is one observer's."""
    files = sorted((shared / "data/val/basketballpass/fixation").iterdir())[::20]
    differences = []
    for file in files:
        mask = read_fixation(file)
        height, width = mask.shape
        rows, columns = np.nonzero(mask)
        points = Points(np.arange(len(rows)) % 10, columns + 0.5, rows + 0.5)
        sigma = (12.0, 12.0)
        scores = score_gaze(Gaussians(points, Canvas(width, height, sigma)), (0, 0))
        for number in range(0, 10, 3):
            own = points.observer == number
            target, others = only(points, own), direct_density(only(points, ~own), width, height, sigma)
            nss, auc, cc = plain_scores(others, target, direct_density(target, width, height, sigma))
            assert scores.alone[number, [0, 2]] == pytest.approx((nss, cc), abs=1e-6)
            differences.append(scores.alone[number, 1] - auc)  # ranked on a grid of 3 pixels
    assert np.abs(differences).max() < 2e-3
    assert abs(np.mean(differences)) < 5e-4


def test_area_under_the_curve():
    everywhere = np.arange(10.0)
    assert area_under_curve(np.array([9.5]), everywhere) == 1
    assert area_under_curve(np.array([4.0]), everywhere) == pytest.approx(0.45)
    many = np.random.default_rng(0).integers(0, 10, 100).astype(float)
    few = [area_under_curve(many[[index]], everywhere) for index in range(100)]
    assert area_under_curve(many, everywhere) == pytest.approx(np.mean(few))
    assert share_of(0.9, 0.95, 0.5) == pytest.approx(0.4 / 0.45)
    assert share_of(1.0, -0.2, 0.0) is None


def test_sigma():
    assert parse_sigma("1deg") == Sigma(1, True)
    assert parse_sigma("30px") == Sigma(30, False)
    for text in ("30", "0px", "-1deg", "nan", "1 meter"):
        with pytest.raises(UsageError, match="must be degrees or pixels above 0, such as 1deg or 30px"):
            parse_sigma(text)
    with pytest.raises(UsageError, match="needs --distance and --screen-width"):
        GazeOptions(sigma=Sigma(1, True))
    options = FixationOptions(distance_cm=57.3, screen_width_cm=57.3)
    assert degrees_to_pixels(1, options, 1000) == pytest.approx(17.453, abs=1e-3)


def test_sigma_in_degrees_depends_on_the_screen_and_the_place_of_the_video(tmp_path):
    video = clips.make(tmp_path / "clip.mp4", frames=2)
    recording = study.write_fixations(tmp_path / "P1.csv", [(0, 0.1, 960, 540)])
    seen = FixationOptions(distance_cm=65, screen_width_cm=53)
    degree = 2 * 65 * np.tan(np.radians(0.5)) * 1920 / 53  # pixels of the screen
    for placed, scale in ((None, (64 / 1440, 48 / 1080)), ((860.0, 440.0, 320.0, 120.0), (64 / 320, 48 / 120))):
        options = GazeOptions(RecordingOptions(screen=(1920, 1080), placed=placed), seen)
        assert gaze_file(video, [recording], None, options).sigma == pytest.approx([degree * side for side in scale])
    recording = study.write_fixations(tmp_path / "P1.csv", [(0, 0.1, 20, 20)])
    assert gaze_file(video, [recording]).sigma == (0.03 * 64, 0.03 * 64)


@pytest.fixture(scope="module")
def done(tmp_path_factory, weights_file):
    """Return the folder and the exit code of a study with all outputs."""
    from tinyhd_cli import cli

    folder = tmp_path_factory.mktemp("study")
    video, recordings = study.make(folder)
    outputs = {kind: folder / f"gaze.{kind}" for kind in ("json", "csv")}
    given = [*(f"--{kind}={path}" for kind, path in outputs.items()), f"--plot={folder / 'gaze.png'}"]
    given += [f"--out={folder / 'dataset'}", f"--overlay={folder / 'overlay.mp4'}", f"--weights={weights_file}"]
    given += ["--screen=64x48", "--sigma=4px"]
    code = cli.run(["gaze", str(video), *map(str, recordings), *given])
    return folder, code


def test_maps_of_each_frame(done):
    folder, code = done
    assert code == 0
    (video,) = open_dataset("folder", folder / "dataset").videos
    assert video.name == "clip"
    assert len(video.densities) == len(video.fixations) == 12
    times = [float(time) for time in clips.timestamps(folder / "clip.mp4")]
    ends = [*times[1:], times[-1] + 40 / 600]
    for frame, start, end in zip(video.frames, times, ends, strict=True):
        fixation, density = read_fixation(frame.fixation), read_density(frame.density)
        first, last = int(start / study.STEP_S + 1e-6), int(np.ceil(end / study.STEP_S - 1e-6))
        shown = [study.position(observer, number) for observer in range(1, 5) for number in range(first, last)]
        assert {tuple(place) for place in np.argwhere(fixation)} == {(int(y), int(x)) for x, y in shown}
        assert density.max() == 255
        assert density[fixation].min() > 60
    assert all(image.shape == (48, 64, 3) for _, image in video.read())


@pytest.mark.slow
def test_evaluate_and_train_take_the_maps(done, tinyhd, weights_file, tmp_path):
    dataset = done[0] / "dataset"
    given = ("--json", tmp_path / "scores.json", "--weights", weights_file)
    assert tinyhd("evaluate", "--dataset", "folder", "--root", dataset, *given) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())["videos"]["clip"]
    assert all(np.isfinite(scores[name]) for name in ("NSS", "CC", "AUC-J"))
    training = ("--model", "tinyhd-m-quarter", "--init", "none", "--size", "64x64", "--steps", 1, "--batch-size", 1)
    assert tinyhd("train", "--data", dataset, "--out", tmp_path / "run", *training, "--workers", 0) == 0
    assert (tmp_path / "run/last.safetensors").is_file()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(tmp_path):
    peaks = []
    for frames in (300, 3000):
        folder = tmp_path / str(frames)
        video, recordings = study.make(folder, observers=8, frames=frames)
        code = f"""
from pathlib import Path
from tinyhd_cli import GazeOutputs, gaze_file
from tinyhd_cli.system import peak_memory_mb
result = gaze_file(Path({str(video)!r}), [Path(path) for path in {list(map(str, recordings))!r}],
    GazeOutputs(out=Path({str(folder / "set")!r})))
print(result.frames_with_gaze, peak_memory_mb())
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        count, peak = done.stdout.split()
        assert int(count) == frames
        peaks.append(float(peak))
    assert peaks[1] - peaks[0] < 25, peaks


def test_densities_on_disk_are_those_of_the_fixations(tmp_path):
    video = clips.make(tmp_path / "clip.mp4", frames=6, durations=(20, 60))
    fixations = [(0.0, 0.05, 12.25, 20.5), (0.06, 0.4, 40.0, 10.75)]
    one = study.write_fixations(tmp_path / "one.csv", fixations)
    two = study.write_fixations(tmp_path / "two.csv", [(0.0, 0.15, 31.0, 30.0), (0.2, 0.3, 90.0, 5.0)])
    options = GazeOptions(sigma=Sigma(5, False))
    result = gaze_file(video, [one, two], GazeOutputs(out=tmp_path / "set"), options)
    points = {1: [(12.25, 20.5), (31, 30)], 2: [(12.25, 20.5), (40, 10.75), (31, 30)], 3: [(40, 10.75), (31, 30)]}
    points |= {4: [(40, 10.75)], 5: [(40, 10.75)], 6: [(40, 10.75)]}
    for number, places in points.items():
        x, y = np.array(places).T
        shown = Points(np.zeros(len(x), int), x, y)
        direct = direct_density(shown, 64, 48, (5, 5))
        written = read_density(tmp_path / f"set/maps/clip/{number:04d}.png")
        assert np.array_equal(written, np.round(255 * direct / direct.max())), number
        fixation = read_fixation(tmp_path / f"set/fixation/clip/{number:04d}.png")
        assert {tuple(place) for place in np.argwhere(fixation)} == {(int(y), int(x)) for x, y in places}
    assert result.frames == result.frames_with_gaze == 6
    assert [observer.on_video for observer in result.observers] == [1.0, 0.5]
    assert (tmp_path / "set/clip.mp4").samefile(video)


def test_an_earlier_run_is_replaced(tmp_path, caplog):
    video = clips.make(tmp_path / "clip.mp4", frames=6)
    early, late = (
        study.write_fixations(tmp_path / f"{name}.csv", [(start, start + 0.05, 20, 20)])
        for name, start in (("early", 0.0), ("late", 0.12))
    )
    outputs = GazeOutputs(out=tmp_path / "set")
    gaze_file(video, [early], outputs)
    assert [path.name for path in sorted((tmp_path / "set/maps/clip").iterdir())] == ["0001.png", "0002.png"]
    gaze_file(video, [late], outputs)
    assert [path.name for path in sorted((tmp_path / "set/maps/clip").iterdir())] == [
        "0004.png",
        "0005.png",
        "0006.png",
    ]
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["clip.mp4", "fixation", "gaze", "maps"]
    assert "2 recordings" not in caplog.text
    assert caplog.messages == [f"{tmp_path / 'set/maps/clip'}: the maps of 1 recording are replaced"]
    gaze_file(video, [late], outputs)
    assert len(caplog.messages) == 1
    (tmp_path / "other").mkdir()
    other = clips.make(tmp_path / "other/clip.mp4", frames=2)
    with pytest.raises(OutputError, match="is a link to another video of the same name; choose another --out"):
        gaze_file(other, [early], outputs)
    content = video.read_bytes()
    for mine in (b"mine", content[:-1] + bytes([content[-1] ^ 1])):
        (tmp_path / "set/clip.mp4").unlink()
        (tmp_path / "set/clip.mp4").write_bytes(mine)
        with pytest.raises(OutputError, match=r"clip.mp4: is another video of the same name"):
            gaze_file(video, [early], outputs)
        assert (tmp_path / "set/clip.mp4").read_bytes() == mine


@pytest.mark.parametrize("kind", ["maps", "fixation"])
def test_ground_truth_of_other_origin_is_kept(tmp_path, kind):
    video = clips.make(tmp_path / "clip.mp4", frames=2)
    recording = study.write_fixations(tmp_path / "P1.csv", [(0, 1, 20, 20)])
    on_disk.write_image(tmp_path / kind / "clip/0001.png", clips.image(0, 64, 48))
    before = (tmp_path / kind / "clip/0001.png").read_bytes()
    for damaged in (None, "[1]", '{"recordings": 3}'):
        if damaged:
            study.write(tmp_path / "gaze/clip.json", damaged, [])
        with pytest.raises(
            OutputError, match=r"clip: has maps that were not made by tinyhd gaze; choose another --out"
        ):
            gaze_file(video, [recording], GazeOutputs(out=tmp_path))
    assert (tmp_path / kind / "clip/0001.png").read_bytes() == before
    assert len(list(tmp_path.rglob("*.png"))) == 1


def test_gaze_beside_the_video(tinyhd, tmp_path, capsys):
    """Nothing is written if no gaze is on the video, be it because of its place or of its time."""
    video = clips.make(tmp_path / "clip.mp4", frames=2)
    for row in ((0, 1, 900, 20), (50, 51, 20, 20)):
        recording = study.write_fixations(tmp_path / "P1.csv", [row])
        assert tinyhd("gaze", video, recording, "--screen", "64x48", "--out", tmp_path / "set") == 3
        complaint = "tinyhd: no gaze is on the video; check --screen, --placed, --coordinates, and --offset"
        assert capsys.readouterr().err.splitlines()[-1] == complaint
        assert not list((tmp_path / "set").rglob("*.*"))


def test_outputs_do_not_replace_inputs_or_each_other(tmp_path):
    for number in (1, 2):
        on_disk.write_image(tmp_path / f"root/maps/{number}.png", clips.image(number, 64, 48))
    frames, video = tmp_path / "root/maps", tmp_path / "clip.mp4"
    recording = study.write_fixations(tmp_path / "P1.csv", [(0, 1, 20, 20)])
    video.touch()
    for source, outputs, complaint in (
        (frames, GazeOutputs(plot=frames / "2.png"), "is an input"),
        (frames, GazeOutputs(plot=frames / "3.png"), "would be a frame of the video"),
        (frames, GazeOutputs(out=tmp_path / "root"), "would write to the folder of the input"),
        (video, GazeOutputs(out=tmp_path / "set", overlay=tmp_path / "set/clip.mp4"), "belongs to the dataset"),
        (video, GazeOutputs(out=tmp_path / "set", plot=tmp_path / "set/maps/clip/a.png"), "belongs to the dataset"),
        (video, GazeOutputs(out=tmp_path / "set", json=tmp_path / "set/gaze/clip.json"), "belongs to the dataset"),
    ):
        with pytest.raises(UsageError, match=complaint):
            gaze_file(source, [recording], outputs)
    GazeOutputs(out=tmp_path, json=tmp_path / "gaze.json").check_inputs(video, [recording])
    assert not (tmp_path / "set").exists()


def test_a_folder_of_images_keeps_its_names(tmp_path):
    for number in (7, 8, 9):
        on_disk.write_image(tmp_path / "frames" / f"{number:03d}.png", clips.image(number, 64, 48))
    recording = study.write_fixations(tmp_path / "P1.csv", [(0.0, 0.06, 20, 20)])
    gaze_file(tmp_path / "frames", [recording], GazeOutputs(out=tmp_path / "set"))
    (video,) = open_dataset("folder", tmp_path / "set").videos
    assert list(video.images) == [7, 8, 9]
    assert list(video.densities) == [7, 8]


def test_results(done):
    folder, _ = done
    result = json.loads((folder / "gaze.json").read_text())
    ceiling, model = result["ceiling"]["leave_one_out"], result["model"]
    assert result["frames"] == result["frames_with_gaze"] == 12
    assert result["sigma_pixels"] == [4, 4]
    assert ceiling["NSS"] > 1 and ceiling["AUC"] > 0.8 and 0 < ceiling["CC"] < 1
    assert model["share"]["NSS"] == pytest.approx(model["leave_one_out"]["NSS"] / ceiling["NSS"], abs=1e-5)
    assert model["share"]["AUC"] == pytest.approx(
        (model["leave_one_out"]["AUC"] - 0.5) / (ceiling["AUC"] - 0.5), abs=1e-5
    )
    observers = {observer["name"]: observer for observer in result["observers"]}
    assert list(observers) == ["P1", "P2", "P3", "P4"]
    assert observers["P1"]["fixations"] == 4
    assert observers["P1"]["valid"] is None
    assert len(result["least_agreeing"]) == 2
    worst = min(observers.values(), key=lambda observer: observer["others"]["NSS"])
    assert result["least_agreeing"][0] == worst["name"]
    with (folder / "gaze.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["observer"] for row in rows] == list(observers)
    assert all(float(row["NSS"]) == observers[row["observer"]]["others"]["NSS"] for row in rows)
    assert all(float(row["model_CC"]) == observers[row["observer"]]["model"]["CC"] for row in rows)
    assert read_image(folder / "gaze.png").std() > 10


def test_the_overlay_shows_the_gaze_beside_the_prediction(done):
    folder, _ = done
    drawn, source = clips.frames(folder / "overlay.mp4"), clips.frames(folder / "clip.mp4")
    assert clips.timestamps(folder / "overlay.mp4") == clips.timestamps(folder / "clip.mp4")
    assert clips.audio_packets(folder / "overlay.mp4") == clips.audio_packets(folder / "clip.mp4")
    assert drawn[0].shape == (48, 128, 3)
    column, row = (int(value) for value in study.position(4, 0))
    left, right = drawn[0][:, :64].astype(int), drawn[0][:, 64:].astype(int)
    assert np.abs(left[row, column] - observer_color(3)).max() < 120
    assert np.abs(left[30:40, 15:30] - source[0][30:40, 15:30]).mean() > 10
    assert np.abs(left - right).mean() > 5
    assert np.abs(left[15:, 50:] - source[0][15:, 50:]).mean() < 6  # far from any gaze


def test_the_key_of_the_overlay():
    names = [f"P{number}" for number in range(1, 8)]
    image = np.full((360, 640, 3), 7, np.uint8)
    draw_key(image, names)
    line = max(label_height(image, name) for name in names)
    for number in range(7):
        assert (image[360 - (7 - number) * line + line // 2, 0] == observer_color(number)).all(), number
    assert (image[: 359 - 7 * line] == 7).all()
    for names in (["P"] * 13, ["P"] * 12):
        small = np.full((64, 96, 3), 7, np.uint8)
        draw_key(small, names)
        assert (small == 7).all()


def test_no_labels_after_the_end_of_the_recordings(tmp_path):
    video = clips.make(tmp_path / "clip.mp4", frames=6)
    recording = study.write_fixations(tmp_path / "P1.csv", [(0, 0.1, 40, 40)])
    gaze_file(video, [recording], GazeOutputs(overlay=tmp_path / "o.mp4"))
    drawn, source = clips.frames(tmp_path / "o.mp4"), clips.frames(video)
    corner = [np.abs(drawn[at][:12, :30].astype(int) - source[at][:12, :30]).mean() for at in (0, 5)]
    assert corner[0] > 20 and corner[1] < 6


def test_samples(tmp_path):
    """Every valid sample is a point of the frame that is shown at its time."""
    video, recordings = study.make(tmp_path, observers=2, frames=4, samples=True)
    options = GazeOptions(samples=True, sigma=Sigma(4, False))
    result = gaze_file(video, recordings, GazeOutputs(out=tmp_path / "set"), options)
    first, second = result.observers
    assert (first.fixations, second.fixations) == (42, 50)
    assert (first.valid, second.valid) == pytest.approx((0.84, 1))
    assert (first.lost, second.lost) == pytest.approx((0.16, 0))
    assert first.rate == second.rate == pytest.approx(250)
    fixation = read_fixation(tmp_path / "set/fixation/clip/0001.png")
    places = [study.position(observer, 0) for observer in (1, 2)]
    assert {tuple(place) for place in np.argwhere(fixation)} == {(int(y), int(x)) for x, y in places}
    assert result.ceiling.pairs == 8


def test_rounded_times_of_one_sample_per_frame(tmp_path):
    video = clips.make(tmp_path / "clip.mp4", frames=9)
    rows = [f"{int(index * 1000 / 30) / 1000},{20 + index},20" for index in range(9)]
    recording = study.write(tmp_path / "P1.csv", "time_s,x,y", rows)
    gaze_file(video, [recording], GazeOutputs(out=tmp_path / "set"), GazeOptions(samples=True))
    for index in range(9):
        fixation = read_fixation(tmp_path / f"set/fixation/clip/{index + 1:04d}.png")
        assert np.argwhere(fixation).tolist() == [[20, 20 + index]]


def test_assumptions_are_printed_once(tinyhd, tmp_path, capsys):
    video, recordings = study.make(tmp_path, observers=2, frames=4, samples=True)
    wide = "clip.mp4: the screen is taken as 40 degrees wide; give --distance and --screen-width"
    inside = "clip.mp4: positions are taken as pixels of the video; if they are those of the screen, give --screen"
    centered = (
        "clip.mp4: the video is taken as centered on the screen and scaled to fit it; if it was not, give --placed"
    )
    full, seen = ("--placed", "0,0,64,48"), ("--distance", "65", "--screen-width", "53")
    for given, notes, sigma in (
        (("--screen", "96x48"), [centered, wide], "sigma 1.9 pixels"),
        (("--screen", "64x48", *seen), [], "sigma 1.4 pixels (1 deg)"),
        (("--samples",), [inside], "sigma 1.9 pixels"),
        (("--samples", *full, "--sigma", "4px"), [], "sigma 4.0 pixels"),
    ):
        # The folder contains the first recording again.
        assert tinyhd("gaze", video, recordings[0], recordings[0].parent, *given) == 0
        shown = capsys.readouterr()
        assert [line for line in shown.err.splitlines() if "reading recordings" not in line] == notes
        (line,) = (line for line in shown.out.splitlines() if line.startswith("Ceiling"))
        assert line.endswith(f"; {sigma}")


def test_recordings_counted_by_the_progress_line(monkeypatch, capsys):
    monkeypatch.setattr("tinyhd_cli.commands.progress.PLAIN_INTERVAL_S", 0.0)
    ProgressDisplay(None, quiet=False).video("clip.mp4", phase="reading recordings", unit="recording")(1, 2)
    assert capsys.readouterr().err.startswith("clip.mp4, reading recordings: recording 1 of 2, ")


def test_fast_samples_are_averaged():
    time_s = np.arange(1000) / 1000 + 1e-4
    fast = averaged(Track(time_s, time_s, np.arange(1000.0), np.ones(1000)))
    assert np.allclose(fast.x, np.arange(1000.0).reshape(250, 4).mean(axis=1))
    assert np.allclose(fast.start_s, time_s.reshape(250, 4).mean(axis=1))
    slow = Track(time_s[::4], time_s[::4], np.arange(250.0), np.ones(250))
    assert averaged(slow) is slow


def test_bad_recordings_do_not_stop_the_others(tinyhd, tmp_path, capsys):
    video, (good, other) = study.make(tmp_path, observers=2, frames=4)
    bad = tmp_path / "bad.csv"
    bad.write_text("a,b\n1,2\n")
    arguments = ("--sigma", "4px", "--screen", "64x48")
    assert tinyhd("gaze", video, good, bad, other, *arguments) == 1
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert "bad.csv: " in shown.err
    assert "P1" in shown.out and "Ceiling (each observer against all others): NSS" in shown.out
    assert tinyhd("gaze", video, bad, *arguments) == 3
    assert capsys.readouterr().err.splitlines()[-1] == "tinyhd: no recording can be used"


def test_a_video_shorter_than_the_recording(tmp_path, caplog):
    video = clips.make(tmp_path / "clip.mp4", frames=3)
    recording = study.write_fixations(tmp_path / "P1.csv", [(0, 0.1, 9, 9), (1.5, 2.5, 9, 9)])
    with caplog.at_level(logging.WARNING):
        result = gaze_file(video, [recording])
    assert [record.getMessage().split(": ", 1)[1] for record in caplog.records] == [
        "ends after 0.1 s, but gaze was recorded until 2.5 s (P1); the rest is not used. Check --offset and --stimulus"
        " if that is unexpected"
    ]
    assert result.ceiling is None
    assert result.observers[0].frames == 3


def test_a_recording_much_shorter_than_the_video(tmp_path, caplog):
    video = clips.make(tmp_path / "clip.mp4", frames=60)
    recording = study.write_fixations(tmp_path / "P1.csv", [(0, 0.2, 9, 9)])
    gaze_file(video, [recording])
    assert [message.split(": ", 1)[1] for message in caplog.messages] == [
        "lasts 2.0 s, but gaze was recorded only until 0.2 s or earlier (P1). Check --time-unit, --offset and"
        " --stimulus if that is unexpected"
    ]


def test_a_single_observer_has_no_ceiling(tinyhd, tmp_path, capsys):
    video = clips.make(tmp_path / "clip.mp4", frames=3)
    only_one = study.write(tmp_path / "P1.csv", "start,end,x,y", ["0,0.1,9,9"])
    assert tinyhd("gaze", video, only_one, "--screen", "64x48", "--json", "-") == 0
    shown = capsys.readouterr()
    result = json.loads(shown.out)
    assert result["ceiling"] is None
    (note,) = result["observers"][0]["notes"]
    assert "--time-unit" in note
    assert shown.err == f"P1: {note}\n"
    assert tinyhd("gaze", video, only_one, "--screen", "64x48", "--plot", tmp_path / "one.png") == 0
    assert "Agreement cannot be measured: no frame has the gaze of two observers." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"json": Path("a.txt")}, r"--json a.txt: the file's name must end in .json"),
        ({"plot": Path("-")}, r"--plot -: only --json and --csv can go to standard output"),
        ({"json": Path("a.json"), "csv": Path("b.csv"), "out": Path("a.json")}, "two outputs have the same name"),
        ({"overlay": Path("a.txt")}, "a.txt"),
    ],
)
def test_outputs_that_do_not_suit(given, complaint):
    with pytest.raises(UsageError, match=complaint):
        GazeOutputs(**given)


def test_inputs_that_do_not_suit(tmp_path):
    video, (recording,) = study.make(tmp_path, observers=1, frames=2)
    on_disk.write_image(tmp_path / "photo.png", clips.image(0, 64, 48))
    with pytest.raises(InputError, match="is an image; gaze needs a video"):
        gaze_file(tmp_path / "photo.png", [recording])
    with pytest.raises(UsageError, match="is an input; write to another file"):
        gaze_file(video, [recording], GazeOutputs(csv=recording))
    before = recording.read_bytes()
    with pytest.raises(UsageError, match="is an input; write to another file"):
        gaze_file(video, [recording.parent], GazeOutputs(csv=recording))
    assert recording.read_bytes() == before
    (tmp_path / "recordings/info.json").touch()
    with pytest.raises(UsageError, match="is a file in a folder of recordings; write to another folder"):
        gaze_file(video, [recording.parent], GazeOutputs(json=tmp_path / "recordings/info.json"))
    for values, complaint in (({"step": 0}, "--step"), ({"trail_s": -1.0}, "--trail"), ({"seed": -1}, "--seed")):
        with pytest.raises(UsageError, match=complaint):
            GazeOptions(**values)
    for method, flag in (("auto", "velocity"), ("ivt", "velocity"), ("idt", "dispersion")):
        with pytest.raises(UsageError, match=f"--thresholds-in-pixels needs --{flag} in pixels"):
            GazeOptions(fixations=FixationOptions(method, in_pixels=True))
        GazeOptions(fixations=FixationOptions(method, in_pixels=True, **{flag: 50.0}))
