"""Evaluations by the protocol of CrowdSAL's organizers: map videos end to end, submissions, calibration."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers import crowdsal, datasets_on_disk
from helpers.evaluations import results

from tinyhd_cli.datasets import open_dataset, read_density, read_fixation
from tinyhd_cli.errors import UsageError
from tinyhd_cli.evaluation import EvaluateOptions, PredictionSpec, evaluate
from tinyhd_cli.evaluation import run as evaluation
from tinyhd_cli.evaluation.calibration import KNOTS, Samples, cc_plus_sim, fit_numbers
from tinyhd_cli.evaluation.center_bias import gaussian
from tinyhd_cli.evaluation.gray_video import gray_of
from tinyhd_cli.metrics import score_frame
from tinyhd_cli.video.reader import VideoReader

FRAMES, TESTS, PORTRAIT = 6, ("3001", "3002"), "3002"
METRICS = ["AUC-J", "CC", "NSS", "SIM"]


def size_of(name):
    return crowdsal.SIZE[::-1] if name in (PORTRAIT, "0004") else crowdsal.SIZE


def truth(name, number):
    """Return the density and the fixations that the helper wrote for a frame."""
    points = crowdsal.fixations(name, number, size_of(name))
    return crowdsal.density(points, size_of(name)), points


def prediction(name, number, kind=np.uint16):
    """Return a map of two thirds of the size, 10 or 8 bits: the density, darkened."""
    density, _ = truth(name, number)
    width, height = (side * 2 // 3 for side in size_of(name))
    return np.round(cv2.resize((density / 1023) ** 3, (width, height)) * (1023 if kind == np.uint16 else 255)).astype(
        kind
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return the folder of a dataset of four training videos and two test videos."""
    return crowdsal.make("crowdsal", tmp_path_factory.mktemp("crowdsal"), videos=4, frames=FRAMES)


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """Return the folder of map videos for all videos."""
    folder = tmp_path_factory.mktemp("maps")
    for name in ("0001", "0002", "0003", "0004", *TESTS):
        crowdsal.write_maps(folder / f"{name}.mp4", (prediction(name, n + 1) for n in range(FRAMES)))
    return folder


@pytest.fixture(scope="module")
def expected():
    """Return the scores of each test video's frames, computed from arrays."""
    return {
        name: [score_frame(prediction(name, n), *truth(name, n), protocol="crowdsal") for n in range(1, FRAMES + 1)]
        for name in TESTS
    }


def columns(rows):
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_map_videos_have_the_scores_of_their_arrays(tinyhd, root, maps, expected, capsys):
    """Mean over the frames of a video, then over videos; the results say by which protocol."""
    command = ["evaluate", "--dataset", "crowdsal", "--root", root, "--pred-dir", maps, "--workers", "1"]
    assert tinyhd(*command, "--json", "scores.json", "--csv", "frames.csv") == 0
    found = results()
    assert (found["protocol"]["name"], found["protocol"]["main"]) == ("crowdsal", "macro_mean")
    means = {
        name: {metric: np.mean(values) for metric, values in columns(rows).items()} for name, rows in expected.items()
    }
    for name in TESTS:
        scores = {metric: found["videos"][name][metric] for metric in METRICS}
        assert scores == pytest.approx(means[name], abs=1e-6)
    assert list(found["macro_mean"]) == METRICS
    for metric in METRICS:
        assert found["macro_mean"][metric] == pytest.approx(np.mean([means[name][metric] for name in TESTS]), abs=1e-6)
    rows = Path("frames.csv").read_text().splitlines()
    assert rows[0] == "video,frame,AUC-J,CC,NSS,SIM" and len(rows) == 1 + 2 * FRAMES
    assert [float(value) for value in rows[1].split(",")[2:]] == pytest.approx(
        list(expected["3001"][0].values()), abs=1e-6
    )
    assert "protocol  crowdsal: as defined by the organizers" in capsys.readouterr().out


def test_dhf1k_protocol(tinyhd, root, maps):
    """It has a former name, and map videos in limited range have the same scores as in full range."""
    command = ["evaluate", "--dataset", "crowdsal", "--root", root, "--pred-dir", maps, "--workers", "1"]
    means = []
    for protocol in ("dhf1k", "fixation"):
        assert tinyhd(*command, "--protocol", protocol, "--json", "scores.json", "-q") == 0
        found = results()
        assert (found["protocol"]["name"], found["protocol"]["main"]) == ("dhf1k", "mean")
        means.append(found["mean"])
    assert means[0] == means[1] and "KLDiv" in means[0]
    for name in TESTS:
        limited = (np.round(64 + prediction(name, n + 1) * (876 / 1023)).astype(np.uint16) for n in range(FRAMES))
        crowdsal.write_maps(Path("limited") / f"{name}.mp4", limited, "yuv420p10le")
    dataset = open_dataset("crowdsal", root)
    scores = evaluate(dataset, PredictionSpec(folder=Path("limited")), EvaluateOptions(protocol="dhf1k", workers=1))
    assert scores.mean() == pytest.approx(means[0], abs=0.06)  # KLDiv depends on the rounding of dark values


def test_videos_of_8_bits(root, tmp_path, expected):
    for name in TESTS:
        values = [prediction(name, n + 1, np.uint8) for n in range(FRAMES)]
        crowdsal.write_maps(tmp_path / f"{name}.mp4", values, "gray")
    found = evaluate(open_dataset("crowdsal", root), PredictionSpec(folder=tmp_path), EvaluateOptions(workers=1))
    for video in found.videos:
        at = [
            score_frame(prediction(video.name, n, np.uint8), *truth(video.name, n), protocol="crowdsal") for n in (1, 2)
        ]
        for metric in METRICS:
            assert video.scores[metric][:2] == pytest.approx([row[metric] for row in at], abs=1e-6)
            assert video.scores[metric] == pytest.approx(columns(expected[video.name])[metric], abs=0.03)


@pytest.mark.parametrize(
    ("pixel_format", "codec", "black"),
    [("gray", "ffv1", 0), ("yuv420p", "libx264", 16), ("yuvj420p", "libx264", 0), ("yuv420p10le", "libx264", 64)],
)
def test_black_of_gray_videos(tmp_path, pixel_format, codec, black):
    """Only in limited range, black is above 0; no value is clipped or rounded."""
    kind = np.uint16 if "10" in pixel_format else np.uint8
    values = (np.arange(64 * 96).reshape(64, 96) % 150 + 70).astype(kind)
    path = crowdsal.write_maps(tmp_path / "maps.mkv", [values], pixel_format, codec)
    with VideoReader(path) as reader:
        (found,) = map(gray_of, reader)
    assert found.dtype == kind and (found == values - black).all()


def test_other_layouts_can_be_scored_by_the_protocol(tmp_path):
    """Fixation maps in images have no repetitions; without fixations, only CC and SIM are defined."""
    root = datasets_on_disk.folder(tmp_path / "data", {"park": 2})
    dataset = open_dataset("folder", root)
    (frame, _), folder = dataset.videos[0].frames, tmp_path / "maps" / "park"
    datasets_on_disk.write_image(folder / "0001.png", np.roll(read_density(frame.density), 3, axis=1))
    options = EvaluateOptions(protocol="crowdsal", workers=1)
    found = evaluate(dataset, PredictionSpec(folder=folder.parent), options).videos[0]
    inputs = np.roll(read_density(frame.density), 3, axis=1), read_density(frame.density), read_fixation(frame.fixation)
    assert {name: scores[0] for name, scores in found.scores.items()} == score_frame(*inputs, protocol="crowdsal")


def test_faulty_fixations(tinyhd, root, maps, tmp_path, capsys):
    """Fixations outside are left out and counted; a frame without fixations has no NSS."""
    copy = shutil.copytree(root, tmp_path / "copy")
    path = copy / "Test" / "Fixations" / "3001.json"
    listed = json.loads(path.read_text())
    listed[0] += [[64, 0], [0, -1]]
    listed[1] = []
    path.write_text(json.dumps(listed))
    command = ["evaluate", "--dataset", "crowdsal", "--root", copy, "--pred-dir", maps, "--workers", "1"]
    assert tinyhd(*command, "--json", "scores.json", "--csv", "frames.csv") == 0
    output = capsys.readouterr()
    assert "3001: 2 fixations outside of the frame left out" in output.err
    assert "undefined AUC-J in 1, NSS in 1" in output.out
    points = score_frame(prediction("3001", 1), *truth("3001", 1), protocol="crowdsal")
    first = Path("frames.csv").read_text().splitlines()[1].split(",")
    assert float(first[4]) == pytest.approx(points["NSS"], abs=1e-6)


def test_center_bias(tinyhd, root):
    command = ["evaluate", "--dataset", "crowdsal", "--root", root, "--prior", "--workers", "1"]
    assert tinyhd(*command, "--json", "scores.json", "-q") == 0
    assert results()["protocol"]["baseline"].startswith("fixations of 4 frames of the training split")
    assert 0 < results()["macro_mean"]["AUC-J"] < 1


def test_submission(tinyhd, root, weights_file, tmp_path, capsys):
    """A network's maps as videos have almost its scores; complete videos are kept, a damaged clip is reported."""
    copy = shutil.copytree(root, tmp_path / "copy")
    command = ["evaluate", "--dataset", "crowdsal", "--root", copy, "--workers", "1", "--json", "scores.json"]
    network = ["--weights", weights_file]
    assert tinyhd(*command, *network) == 0
    direct = results()["videos"]
    assert tinyhd(*command, *network, "--submission", "out") == 0
    assert "2 of 2 videos in out, one gray video per clip" in capsys.readouterr().out
    for name in TESTS:
        with av.open(f"out/{name}.mp4") as container:
            frames = list(container.decode(video=0))
        assert len(frames) == FRAMES and {(frame.width, frame.height) for frame in frames} == {size_of(name)}
        assert frames[0].format.components[0].bits == 10 and frames[0].color_range == 2
        assert frames[0].to_ndarray(format="gray16le").max() > 50_000
    assert tinyhd(*command, "--pred-dir", "out") == 0
    for name in TESTS:
        for metric in METRICS:
            assert results()["videos"][name][metric] == pytest.approx(direct[name][metric], abs=0.01)
    kept = Path("out/3001.mp4").stat().st_mtime_ns
    (copy / "Test" / "Videos" / "3002.mp4").write_bytes(b"no video")
    Path("out/3002.mp4").unlink()
    assert tinyhd(*command, *network, "--submission", "out") == 1
    output = capsys.readouterr()
    assert "1 of 2 videos" in output.out and "3002.mp4" in output.err
    assert Path("out/3001.mp4").stat().st_mtime_ns == kept and not list(Path("out").glob("*3002*"))
    assert tinyhd(*command, "--model", "uva-32", "--submission", "out") == 2
    assert "out: has maps of tinyhd-m-quarter, not of uva-32.v1; choose another folder" in capsys.readouterr().err
    assert tinyhd(*command, "--submission", "out", "--calibrate", "part") == 2
    assert "--submission and --calibrate cannot be combined" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["train", "part"])
def test_calibration(tinyhd, root, maps, kind, capsys):
    """Maps that are too dark are corrected; raw scores are those without a calibration, of the same videos."""
    command = ["evaluate", "--dataset", "crowdsal", "--root", root, "--pred-dir", maps, "--workers", "1"]
    assert tinyhd(*command, "--json", "raw.json", "-q") == 0
    capsys.readouterr()
    assert tinyhd(*command, "--calibrate", kind, "--json", "scores.json") == 0
    raw, found = results("raw.json"), results()
    table = capsys.readouterr().out
    assert [found[key] for key in ("mean", "macro_mean")] == [raw[key] for key in ("mean", "macro_mean")]
    assert raw["calibration"] is None
    calibration = found["calibration"]
    scored = list(TESTS) if kind == "train" else ["3002"]
    assert [name for name in TESTS if "calibrated" in found["videos"][name]] == scored
    assert calibration["videos"] == len(scored) and ("1 of 2 videos" in table) == (kind == "part")
    assert calibration["fitted_videos"] == ([] if kind == "train" else ["3001"])
    for metric in METRICS:
        assert calibration["raw"]["macro_mean"][metric] == pytest.approx(
            np.mean([raw["videos"][name][metric] for name in scored])
        )
    after, before = calibration["calibrated"]["macro_mean"], calibration["raw"]["macro_mean"]
    assert after["CC"] > before["CC"] + 0.02 and after["SIM"] > before["SIM"] + 0.05
    curve = calibration["curve"]
    assert curve == sorted(curve) and curve[0] == 0 and curve[-1] + calibration["prior_weight"] == pytest.approx(1)
    assert np.interp(1 / 8, calibration["brightness"], curve) > 0.3 * curve[-1]  # the inverse of the third power is 1/2
    assert "calibrated" in table and "fitted    curve of brightness" in table


def test_calibration_is_resumed(tinyhd, root, maps, monkeypatch):
    command = ["evaluate", "--dataset", "crowdsal", "--root", root, "--pred-dir", maps, "--workers", "1"]
    command += ["--calibrate", "train", "-q"]
    assert tinyhd(*command, "--json", "unbroken.json") == 0
    original, scored = evaluation.score_video, []

    def interrupted(index, *rest):
        if scored:
            raise KeyboardInterrupt
        scored.append(index)
        return original(index, *rest)

    monkeypatch.setattr(evaluation, "score_video", interrupted)
    assert tinyhd(*command, "--json", "scores.json") == 130
    monkeypatch.setattr(evaluation, "score_video", original)
    assert tinyhd(*command, "--json", "scores.json") == 0
    assert results() == results("unbroken.json")


@pytest.mark.slow
def test_calibration_does_not_depend_on_the_number_of_workers(root, maps):
    dataset = open_dataset("crowdsal", root)
    one, two = (
        evaluate(dataset, PredictionSpec(folder=maps), EvaluateOptions(workers=workers, calibrate="train")).to_dict()
        for workers in (1, 2)
    )
    assert one == two


def random_samples():
    """Return frames whose density is the square root of the map, with a fifth of a prior."""
    rng = np.random.default_rng(0)
    values = cv2.GaussianBlur(rng.random((27, 48, 20)) ** 8, (0, 0), 2).transpose(2, 0, 1).reshape(20, -1)
    values -= values.min(axis=1, keepdims=True)
    values /= values.max(axis=1, keepdims=True)
    prior = gaussian((27, 48)).ravel() / gaussian((27, 48)).max()
    ramps = np.clip((values[:, np.newaxis] - KNOTS[:-1, np.newaxis]) / np.diff(KNOTS)[:, np.newaxis], 0, 1)
    terms = np.concatenate([ramps, np.broadcast_to(prior, (20, 1, prior.size))], axis=1)
    density = 0.8 * np.sqrt(values) + 0.2 * prior
    return Samples(terms.astype(np.float32), (density - density.min(axis=1, keepdims=True)).astype(np.float32))


def test_fit_finds_the_curve_and_the_prior():
    samples = random_samples()
    curve, weight = fit_numbers(samples)
    assert cc_plus_sim(np.array([*np.diff(curve), weight]), samples)[0] > 1.98  # of at most 2
    assert weight == pytest.approx(0.2, abs=0.07)
    assert np.array(curve) / curve[-1] == pytest.approx(np.sqrt(KNOTS), abs=0.12)


def test_gradient_of_the_fit():
    """It is the slope of the scores, which are those of the protocol."""
    samples = random_samples()
    numbers = np.random.default_rng(1).random(len(KNOTS)) + 0.2
    value, gradient = cc_plus_sim(numbers, samples)
    rows = [
        (row.reshape(27, 48) for row in pair) for pair in zip(numbers @ samples.terms, samples.densities, strict=True)
    ]
    scores = [score_frame(*maps, protocol="crowdsal") for maps in rows]
    assert value == pytest.approx(np.mean([score["CC"] + score["SIM"] for score in scores]), abs=1e-5)
    for at in (0, 5, len(KNOTS) - 1):
        step = np.zeros(len(KNOTS))
        step[at] = 0.01
        change = cc_plus_sim(numbers + step, samples)[0] - cc_plus_sim(numbers - step, samples)[0]
        assert gradient[at] == pytest.approx(change / 0.02, abs=2e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calibrate": "half"}, "--calibrate 'half' is unknown"),
        ({"protocol": "crowdsall"}, "did you mean crowdsal"),
        ({"monte_carlo": 1}, "--monte-carlo applies to --protocol dhf1k"),
        ({"prior": True, "calibrate": "train"}, "not to --prior"),
        ({"split": "train", "calibrate": "train"}, "no training split besides the scored one"),
        ({"protocol": "object"}, "score any map against the fixations with --protocol crowdsal"),
    ],
)
def test_wrong_options(root, maps, options, message):
    dataset = open_dataset("crowdsal", root, options.pop("split", None))
    prior = options.pop("prior", False)
    source = PredictionSpec(prior=True) if prior else PredictionSpec(folder=maps)
    with pytest.raises(UsageError, match=message):
        evaluate(dataset, source, EvaluateOptions(workers=1, **options))


def test_calibration_without_the_training_split(root, maps, tmp_path):
    shutil.copytree(root / "Test", tmp_path / "Test")
    options = EvaluateOptions(workers=1, calibrate="train")
    with pytest.raises(UsageError, match=r"no train videos .* try --calibrate part"):
        evaluate(open_dataset("crowdsal", tmp_path), PredictionSpec(folder=maps), options)
