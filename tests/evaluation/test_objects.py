"""Maps are scored against masks of objects: values, protocols, wrong ground truth, other outputs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import datasets_on_disk as on_disk
from helpers import object_datasets
from helpers.evaluations import results
from helpers.networks import lively

from tinyhd_cli import load_model, weights
from tinyhd_cli.datasets import open_dataset, read_image, read_mask
from tinyhd_cli.evaluation import EvaluateOptions, PredictionSpec, evaluate
from tinyhd_cli.evaluation import run as evaluation
from tinyhd_cli.metrics import OBJECT_METRICS, ObjectScores

VIDEOS = {"park": 6, "street": 3, "yard": 4}


@pytest.fixture
def objects(tmp_path):
    """Return the folder of a dataset with masks only."""
    return on_disk.folder(tmp_path / "data", VIDEOS, kinds=["masks"])


@pytest.fixture
def maps(objects, tmp_path):
    """Return the folder of maps for the dataset: blurred masks, shifted by three pixels, each fainter than the last."""
    target = tmp_path / "maps"
    for video in open_dataset("folder", objects).videos:
        for number, files in video.masks.items():
            blurred = cv2.GaussianBlur(read_mask(files) * np.uint8(250 - 20 * number), (0, 0), 2)
            on_disk.write_image(target / video.name / f"{number:04d}.png", np.roll(blurred, 3, axis=1))
    return target


@pytest.fixture(scope="module")
def object_weights(tmp_path_factory):
    """Return a weights file of an untrained network for objects whose maps depend on the input."""
    network = lively("stkd-lite")
    path = tmp_path_factory.mktemp("weights") / "objects.safetensors"
    weights.save(path, network.state_dict(), network.spec)
    return path


def accumulate(root, maps, protocol="object"):
    """Return the scores of each video, computed with the accumulator of the metrics."""
    scores = {}
    for video in open_dataset("folder", root).videos:
        scores[video.name] = ObjectScores(protocol)
        for number, files in video.masks.items():
            saliency = cv2.imdecode(np.fromfile(maps / video.name / f"{number:04d}.png", np.uint8), 0)
            scores[video.name].add(saliency, read_mask(files))
    return scores


@pytest.mark.parametrize("protocol", ["auto", "stdistill"])
def test_scores_are_those_of_the_metrics(tinyhd, objects, maps, protocol, capsys):
    """Curves are averaged over all frames, or over videos, before the maximum is taken."""
    expected = accumulate(objects, maps, "object" if protocol == "auto" else protocol)
    options = ["--root", objects, "--pred-dir", maps, "--protocol", protocol, "--json", "scores.json"]
    assert tinyhd("evaluate", *options, "--csv", "frames.csv") == 0
    found = results()
    names = list(OBJECT_METRICS) if protocol == "auto" else ["MAE", "maxF"]
    assert list(found["mean"]) == list(found["macro_mean"]) == names
    whole = ObjectScores(expected["park"].protocol)
    for video, scores in expected.items():
        whole.merge(scores)
        assert {name: found["videos"][video][name] for name in names} == pytest.approx(scores.means(), rel=1e-12)
    assert found["mean"] == pytest.approx(whole.means(), rel=1e-12)
    means = [scores.means() for scores in expected.values()]
    assert found["macro_mean"]["MAE"] == pytest.approx(np.mean([mean["MAE"] for mean in means]), rel=1e-12)
    assert found["macro_mean"]["maxF"] <= np.mean([mean["maxF"] for mean in means])
    assert ("STDistill" in found["protocol"]["metrics"]) == (protocol == "stdistill")
    with Path("frames.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["maxF"]) for row in rows] == [frame["maxF"] for frame in whole.frames]
    table = capsys.readouterr().out
    assert "mean of videos" in table and "maxF" in table and "AUC" not in table


@pytest.mark.parametrize("layout", ["davis", "davsod", "segtrack", "fbms", "visal", "vos"])
def test_layouts(tinyhd, tmp_path, layout, capsys):
    """Perfect maps, one for every frame, have perfect scores; frames without a mask are published that way."""
    root = getattr(object_datasets, layout)(tmp_path / layout)
    for video in open_dataset(layout, root).videos:
        for frame in video.frames:
            shape = read_image(frame.image).shape[:2]
            perfect = read_mask(frame.mask) if frame.mask else np.ones(shape, bool)
            on_disk.write_image(tmp_path / "maps" / video.name / f"{frame.image.stem}.png", perfect * np.uint8(255))
    options = ["--dataset", layout, "--root", root, "--pred-dir", tmp_path / "maps", "--json", "scores.json"]
    assert tinyhd("evaluate", *options, "--workers", "1") == 0
    found = results()
    assert found["mean"]["MAE"] == 0 and found["mean"]["maxF"] == pytest.approx(1)
    assert found["mean"]["wF"] == pytest.approx(1)
    assert "no ground truth" not in capsys.readouterr().err


def test_a_sequence_without_files_is_one_line(tinyhd, tmp_path, object_weights, capsys):
    root = object_datasets.davis(tmp_path / "davis")
    names = root / "ImageSets" / "2016" / "val.txt"
    names.write_text("dog\nghost\n", encoding="utf-8")
    assert tinyhd("evaluate", "--dataset", "davis", "--root", root, "--weights", object_weights, "--workers", "1") == 1
    assert capsys.readouterr().err.count("ghost: ") == 1


def test_results_do_not_depend_on_the_number_of_workers(tinyhd, objects, maps):
    for workers in (1, 2):
        options = ["--workers", workers, "--json", f"{workers}.json"]
        assert tinyhd("evaluate", "--root", objects, "--pred-dir", maps, *options) == 0
    assert Path("1.json").read_bytes() == Path("2.json").read_bytes()


def test_interrupted_runs_are_resumed(tinyhd, objects, maps, monkeypatch):
    """The curves of finished videos are kept, too."""
    command = ["evaluate", "--root", objects, "--pred-dir", maps, "--workers", "1", "--json", "scores.json"]
    assert tinyhd(*command) == 0
    unbroken = results()
    scored = []
    original = evaluation.score_video

    def score_video(index, *rest):
        if len(scored) == 1:
            scored.append(None)
            raise KeyboardInterrupt
        scored.append(index)
        return original(index, *rest)

    monkeypatch.setattr(evaluation, "score_video", score_video)
    assert tinyhd(*command) == 130
    assert tinyhd(*command) == 0
    assert scored == [0, None, 1, 2]
    assert results() == unbroken


def test_a_network_for_objects(tinyhd, objects, object_weights):
    """Its maps are scored against masks, even if the dataset has fixations, too."""
    root = on_disk.folder(objects.parent / "both", {"park": 2}, kinds=["maps", "fixation", "masks"])
    options = ["--root", root, "--weights", object_weights, "--workers", "1", "--json", "scores.json"]
    assert tinyhd("evaluate", *options) == 0
    model = load_model(object_weights, engine="torch")
    video = open_dataset("folder", root).videos[0]
    expected = ObjectScores()
    prepared = ((frame, model.prepare(image)) for frame, image in video.read())
    for frame, saliency in model.maps(prepared):
        expected.add(saliency, read_mask(frame.mask))
    assert results()["mean"] == pytest.approx(expected.means(), abs=1e-9)
    assert tinyhd("evaluate", *options, "--protocol", "fixation") == 0
    assert "NSS" in results()["mean"] and "maxF" not in results()["mean"]


def test_ground_truth_of_the_other_kind(tinyhd, objects, maps, weights_file, object_weights, tmp_path, capsys):
    """One line and exit code 2, unless the protocol is chosen explicitly."""
    fixations = on_disk.folder(tmp_path / "fixations", {"park": 2})
    for root, model, message in (
        (objects, weights_file, "tinyhd-m-quarter predicts fixations, but"),
        (fixations, object_weights, "stkd-lite predicts objects, but"),
    ):
        assert tinyhd("evaluate", "--root", root, "--weights", model, "--workers", "1") == 2
        printed = capsys.readouterr()
        assert message in printed.err and "--protocol" in printed.err
        assert len(printed.err.strip().splitlines()) == 1 and not printed.out
    options = ["--weights", weights_file, "--workers", "1", "--protocol", "object", "--json", "scores.json"]
    assert tinyhd("evaluate", "--root", objects, *options) == 0
    assert list(results()["mean"]) == list(OBJECT_METRICS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--protocol", "fixation"], "has only masks of objects"),
        (["--protocol", "objects"], "did you mean object"),
        (["--monte-carlo", "0"], "--monte-carlo applies to fixations"),
        (["--baseline", "gaussian"], "--baseline applies to fixations"),
        (["--prior"], "--prior is the center bias of fixations"),
    ],
)
def test_wrong_usage(tinyhd, objects, maps, capsys, options, message):
    origin = [] if "--prior" in options else ["--pred-dir", maps]
    assert tinyhd("evaluate", "--root", objects, *origin, *options) == 2
    printed = capsys.readouterr()
    assert message in printed.err and len(printed.err.strip().splitlines()) == 1 and not printed.out


def test_submission_needs_a_model_for_fixations(tinyhd, tmp_path, object_weights, capsys):
    root = on_disk.dhf1k(tmp_path / "DHF1K", {701: 3})
    options = ["--dataset", "dhf1k", "--root", root, "--split", "test", "--weights", object_weights]
    assert tinyhd("evaluate", *options, "--submission", "out") == 2
    assert "stkd-lite predicts objects" in capsys.readouterr().err


def test_masks_that_cannot_be_scored(tinyhd, objects, maps, capsys):
    """A mask of another size, a damaged one, and a video without objects are reported; the rest is scored."""
    mask = objects / "park" / "masks" / "frame2.png"
    on_disk.write_image(mask, np.zeros((10, 20), np.uint8))
    on_disk.truncate(objects / "park" / "masks" / "frame3.png")
    for number in range(1, VIDEOS["yard"] + 1):
        on_disk.write_image(objects / "yard" / "masks" / f"frame{number}.png", np.zeros(on_disk.SIZE[::-1], np.uint8))
    on_disk.write_image(objects / "street" / "masks" / "frame1.png", np.zeros(on_disk.SIZE[::-1], np.uint8))
    gray = objects / "park" / "masks" / "frame5.png"
    on_disk.write_image(gray, cv2.blur(on_disk.object_mask("park", 5), (3, 3)))
    options = ["--root", objects, "--pred-dir", maps, "--workers", "1", "--json", "scores.json"]
    assert tinyhd("evaluate", *options) == 1
    error = capsys.readouterr().err
    assert "frame2.png: is 20 x 10, but the frame is" in error
    assert "frame3.png: is truncated" in error
    assert "yard: all masks are empty, so there is no object to score" in error
    assert error.count("not binary") == error.count("park: 1 mask is not binary") == 1
    assert "street: 1 empty mask, where F is 0" in error
    found = results()
    assert found["frames"] | {"constant": 0} == {
        **{"scored": 4 + 3, "failed": 2 + 4, "missing": 0, "unannotated": 0},
        "constant": 0,
    }
    assert found["videos"]["yard"]["maxF"] is None
    assert found["videos"]["street"]["maxF"] < 0.5 < found["videos"]["park"]["maxF"]


def test_only_empty_masks(tinyhd, objects, maps, capsys):
    for path in objects.rglob("masks/*.png"):
        on_disk.write_image(path, np.zeros(on_disk.SIZE[::-1], np.uint8))
    assert tinyhd("evaluate", "--root", objects, "--pred-dir", maps) == 3
    assert capsys.readouterr().err.count("all masks are empty") == len(VIDEOS)


def test_plots(tinyhd, objects, maps):
    assert tinyhd("evaluate", "--root", objects, "--pred-dir", maps, "--plot", "plots") == 0
    names = {path.name for path in Path("plots").iterdir()}
    assert names == {"scores.png", "best_frames.png", "worst_frames.png", *(f"over_time_{name}.png" for name in VIDEOS)}
    for path in Path("plots").iterdir():
        plot = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        assert plot.shape[0] > 200 and plot.std() > 10


def test_compare(tinyhd, objects, maps, object_weights):
    command = ["evaluate", "--root", objects, "--compare", maps, object_weights, "--workers", "1"]
    assert tinyhd(*command, "--json", "similarity.json") == 0
    assert json.loads(Path("similarity.json").read_text())["frames"] == sum(VIDEOS.values())


def test_published_scores_are_marked_as_development_figures(tmp_path):
    """The scores of STKD are from notes in public code: they are listed, but not as those of a paper."""
    from tinyhd_cli.evaluation.paper_tables import rows_for

    (row,) = rows_for("davis", "stkd")
    assert row.scores == {"maxF": 0.8825, "MAE": 0.0218}
    assert row.label == "development, not paper" and "not those of the paper" in row.source
    assert [row.label for row in rows_for("dhf1k", "tinyhd-m-half")] == ["paper, val (5b)"]
    assert (
        len(
            {
                dataset
                for dataset in ("davis", "davsod", "segtrack", "fbms", "visal", "vos")
                if rows_for(dataset, "stkd")
            }
        )
        == 6
    )


def test_from_python(objects, maps):
    found = evaluate(open_dataset("folder", objects), PredictionSpec(folder=maps), EvaluateOptions(workers=1))
    assert found.metrics == list(OBJECT_METRICS)
