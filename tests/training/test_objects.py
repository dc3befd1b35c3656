"""Training of networks that find objects: masks, single frames and pairs, and distillation without a teacher."""

from __future__ import annotations

import csv
import json
import logging

import cv2
import numpy as np
import pytest
import torch
from helpers.objects import masked_photographs, masked_videos, scene
from helpers.training_data import labeled_videos, write_png

from tinyhd_cli import weights
from tinyhd_cli.errors import InputError, UsageError
from tinyhd_cli.models import LossTerm
from tinyhd_cli.training import sources, stages
from tinyhd_cli.training.augment import collate, ground_truth, student_clips
from tinyhd_cli.training.clip_cache import NO_MASK, decode_all, form_of
from tinyhd_cli.training.clips import MAX_GAP, Clips, Pick
from tinyhd_cli.training.losses import GroundTruth, Outputs, loss_terms
from tinyhd_cli.training.objectives import PAIRS, objectives
from tinyhd_cli.training.options import TrainConfig
from tinyhd_cli.training.picks import PickSampler, Schedule, masked_picks, schedule

CPU = torch.device("cpu")
SIZE = (64, 64)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a folder of videos and photographs with masks."""
    root = tmp_path_factory.mktemp("objects")
    masked_videos(root / "videos")
    masked_photographs(root / "photos")
    labeled_videos(root / "fixations", count=1)
    return root


def settings(data, out, /, **changes):
    """Return the settings of a run of a few steps on photographs and videos."""
    values = {
        "data": (str(data / "videos"), str(data / "photos")),
        "hold_out": 0.34,
        "model": "stkd-lite",
        "init": "none",
        "size": SIZE,
        "steps": 3,
        "batch_size": 4,
        "pair_every": 3,
        "still_motion": 0.0,
        "workers": 0,
        "device": "cpu",
        "cache": data / "cache",
        "out": out,
    }
    return TrainConfig(**(values | changes))


def decoded(config, folder, tmp_path):
    """Return the videos of a folder as they are stored for training."""
    found = sources.labeled(str(folder), ("train",), "object")
    return decode_all(found, tmp_path, SIZE, config.spec.preprocess, 0, lambda *progress: None)


def reader_of(config, stored):
    form = form_of(config.spec)
    return Clips({form: stored}, form, {}, config.clip_frames, config.map_frames, task="object")


def rows(out, split="train"):
    with (out / "log.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["split"] == split]


# --------------------------------------------------------------------------------------------------------------- masks


def test_masks_are_stored_beside_the_frames(data, tmp_path):
    config = settings(data, tmp_path)
    videos, photos = (decoded(config, data / name, tmp_path) for name in ("videos", "photos"))
    assert [(video.frames, video.masked, video.labeled, video.empty) for video in videos] == [
        (8, tuple(range(8)), False, False)
    ] * 3
    assert [photo.size for photo in photos] == [(96, 96)] * 6
    mask = videos[1].ground_truth("mask")[4]
    expected = scene(104)[1] > 127
    assert mask.mean() == pytest.approx(expected.mean(), rel=0.05)
    y, x = np.argwhere(mask).mean(0) / 64
    y_expected, x_expected = np.argwhere(expected).mean(0) / expected.shape
    assert (x, y) == pytest.approx((x_expected, y_expected), abs=0.02)
    assert set(np.unique(photos[0].ground_truth("mask"))) == {0, 1}


def test_frames_without_a_mask_count_in_no_term(data, tmp_path):
    root = masked_videos(tmp_path / "data", count=1)
    for number in (2, 5):
        (root / "v0" / "masks" / f"{number:04d}.png").unlink()
    config = settings(data, tmp_path)
    stored = decoded(config, root, tmp_path / "cache")
    assert stored[0].masked == (0, 2, 3, 5, 6, 7)
    sampler = PickSampler(config, Schedule(6, 0, 1, 1), [(0, stored[0])], [])
    assert {sampler.pick(0, number).start for number in range(6)} == set(stored[0].masked)

    reader = reader_of(config, stored)
    batch = collate([reader[Pick(0, 0, frames=(0, 1))], reader[Pick(0, 2, frames=(2, 3))]])
    assert (batch.mask[0, 1] == NO_MASK).all()
    truth = ground_truth(batch, 2, config.map_frames, CPU)
    logits = torch.full((2, 2, *SIZE), 3.0)
    logits[0, 1] = 1000  # must not count
    term = LossTerm("p2", "logits", of="p2", to="mask")
    found = loss_terms(Outputs(logits, {"p2": logits}), 2, None, truth, objectives((term,), pairs=True), PAIRS)
    share = [truth.mask[clip, frame].mean().item() for clip, frame in ((0, 0), (1, 0), (1, 1))]
    value = [np.log1p(np.exp(-3)) + 3 * (1 - one) for one in share]
    assert found["pair/p2"].item() == pytest.approx((value[0] + value[1]) / 2 + value[2], rel=1e-5)


def test_a_frame_without_an_object_counts():
    term, truth = LossTerm("p2", "logits", of="p2", to="mask"), torch.zeros(1, 1, 8, 8)
    logits = torch.full((1, 1, 8, 8), 2.0)
    labels = GroundTruth(torch.empty(0), torch.empty(0), truth, (0,))
    found = loss_terms(Outputs(logits.sigmoid(), {"p2": logits}), 1, None, labels, objectives((term,)))
    assert found["target/p2"].item() == pytest.approx(np.log1p(np.exp(2)), rel=1e-6)


@pytest.mark.parametrize(
    "pick",
    [
        Pick(0, 3, flip=True),
        Pick(0, 3, crop=(0.6, 0.3, 0.8)),
        Pick(0, 3, angle=10.0),
        Pick(0, 3, flip=True, crop=(0.8, 0.5, 0.1), angle=-7.0, color=(1.1, 0.9, 1.2)),
        Pick(0, 2, flip=True, crop=(0.8, 0.5, 0.1), frames=(2, 6)),
    ],
)
def test_masks_move_with_the_image(data, tmp_path, pick):
    """The disc is brighter than its background, so the mask can be found again in the augmented image."""
    config = settings(data, tmp_path)
    reader = reader_of(config, decoded(config, data / "videos", tmp_path))
    batch = collate([reader[pick]])
    clips = student_clips(batch, config.spec.preprocess, CPU)
    mask = ground_truth(batch, 1, config.map_frames, CPU).mask
    assert mask.shape == (1, len(pick.frames) or 1, *SIZE)
    assert set(mask.unique().tolist()) == {0, 1}
    for frame in range(mask.shape[1]):
        brightness = clips[0, :, frame].mean(0)
        bright = brightness > (brightness.max() + brightness.min()) / 2
        both = (bright & (mask[0, frame] > 0)).sum() / (bright | (mask[0, frame] > 0)).sum()
        assert both > 0.85
    plain = collate([reader[Pick(0, 3)]])
    assert not torch.equal(ground_truth(plain, 1, config.map_frames, CPU).mask, mask)


def test_rotation_keeps_angles_in_pixels():
    """A rotation of a wide image by 90 degrees maps its center column to its center row."""
    from tinyhd_cli.training.augment import rotated

    image = torch.zeros(1, 1, 16, 32)
    image[..., 4:12, 15:17] = 1
    turned = rotated(image, torch.tensor([90.0]), "nearest")
    assert turned[0, 0, 7:9, 12:20].all()
    assert turned.sum() == image.sum()
    corner = torch.zeros(1, 1, 16, 16)
    corner[..., 2, 8] = 1  # above the center; counterclockwise, it turns to the left
    turned = rotated(corner, torch.tensor([45.0]))
    y, x = divmod(int(turned[0, 0].argmax()), 16)
    assert y < 7
    assert x < 6


# --------------------------------------------------------------------------------------------------------------- picks


def test_every_third_step_is_on_pairs(data, tmp_path):
    config = settings(data, tmp_path, rotate=10.0, steps=12, crop=0.1)
    stored = [*decoded(config, data / "videos", tmp_path), *decoded(config, data / "photos", tmp_path)]
    targets = list(enumerate(stored))
    plan = schedule(config, 30, 0)
    assert (plan.target, plan.pairs, plan.steps_per_epoch) == (4, 2, 7)
    sampler = PickSampler(config, plan, targets, [])
    steps = list(sampler)
    assert [len(step) for step in steps] == [2, 4, 4] * 4
    pairs = [pick for step in steps[::3] for pick in step]
    assert all(len(pick.frames) == 2 and pick.video < 3 and not pick.angle for pick in pairs)
    assert all(1 <= pick.frames[1] - pick.frames[0] <= MAX_GAP for pick in pairs)
    singles = [pick for number, step in enumerate(steps) if number % 3 for pick in step]
    assert not any(pick.frames for pick in singles)
    assert all(abs(pick.angle) <= 10 for pick in singles)
    assert max(abs(pick.angle) for pick in singles) > 5
    # 24 frames and 6 photographs: no frame twice in one epoch.
    assert len({(pick.video, pick.start) for pick in singles[:30]}) == 30
    later = PickSampler(config, plan, targets, [], first_step=5)
    assert list(later) == steps[5:]


def test_a_batch_larger_than_the_data(data, tmp_path):
    config = settings(data, tmp_path, batch_size=8)
    with pytest.raises(UsageError, match="--batch-size 8 is larger than --data, which has 6 frames with masks"):
        schedule(config, 6, 0)
    fixations = settings(data, tmp_path, model="tinyhd-s", pair_every=None, batch_size=8)
    with pytest.raises(UsageError, match="--batch-size 8 is larger than --data, which has 6 videos to train on"):
        schedule(fixations, 6, 0)
    with pytest.raises(UsageError, match="--pair-batch-size 3: cannot be divided into 2 equal parts"):
        schedule(settings(data, tmp_path, pair_batch_size=3), 6, 0, parts=2)


def test_pairs_at_the_ends_of_a_video(data, tmp_path):
    config = settings(data, tmp_path)
    root = masked_videos(tmp_path / "two", count=1, frames=2)
    sampler = PickSampler(config, Schedule(1, 0, 1, 1, 1), list(enumerate(decoded(config, root, tmp_path / "c"))), [])
    assert {sampler.pair(number).frames for number in range(20)} == {(0, 1)}


def test_networks_of_pairs_read_single_frames_in_other_steps(data, tmp_path):
    config = settings(data, tmp_path, model="stkd-pair", size=(64, 64))
    stored = decoded(config, data / "videos", tmp_path)
    sampler = PickSampler(config, schedule(config, 24, 0), list(enumerate(stored)), [])
    assert [{len(pick.frames) for pick in sampler.picks(step)} for step in range(3)] == [{2}, {1}, {1}]
    assert settings(data, tmp_path, model="stkd-pair", pair_every=None).pairs == 1
    assert schedule(settings(data, tmp_path, model="stkd-pair", pair_every=None), 24, 0).pairs == 4
    picks = masked_picks(list(enumerate(stored[:1])), 2)
    assert [pick.start for pick in picks] == [-1, 1, 4, 6]  # ends with frames 0, 2, 5 and 7


# ---------------------------------------------------------------------------------------------------------------- runs


@pytest.mark.slow
def test_a_run_on_frames_and_pairs(data, tmp_path):
    out = tmp_path / "run"
    seen = []
    stages.train(settings(data, out, steps=6, rotate=10.0), on_report=lambda report: seen.append(report))
    names = [set(report.terms) for report in seen]
    assert (
        names[0]
        == names[3]
        == {*("pair/p0", "pair/p1", "pair/p2", "pair/temporal-p0", "pair/temporal-p1", "pair/temporal-p2")}
    )
    assert names[1] == names[5] == {*("target/p0", "target/p1", "target/p2", "target/self-p0", "target/self-p1")}
    (validation, *_) = rows(out, "val")
    assert 0 < float(validation["MAE"]) < 1
    assert 0 < float(validation["maxF"]) <= 1
    info, _ = weights.inspect(out / "best.safetensors")
    assert info.spec.name == "stkd-lite"
    assert {"MAE", "maxF", "BCE target/p2"} <= set(info.scores)
    assert "Finds the salient objects in a video" in (out / "README.md").read_text()
    assert (out / "pictures" / "epoch-0001.png").is_file()


def test_the_best_weights_have_the_best_masks(data, tmp_path):
    """Not the smallest loss: the weights with the highest maximum F minus MAE are kept."""
    out = tmp_path / "run"
    stages.train(settings(data, out, steps=15, lr=0.02))
    found = rows(out, "val")
    assert len(found) >= 2
    selection = {int(row["step"]): float(row["MAE"]) - float(row["maxF"]) for row in found}
    info, _ = weights.inspect(out / "best.safetensors")
    assert int(info.provenance["steps"]) == min(selection, key=selection.get)


def test_a_resumed_run_equals_an_uninterrupted_run(data, tmp_path):
    changes = {"steps": 5, "checkpoint_every": 1, "jitter": 0.2, "crop": 0.1, "rotate": 10.0}
    stages.train(settings(data, tmp_path / "whole", **changes))

    def stop(report):
        if report.step == 3:  # the next step is on pairs
            raise InterruptedError

    with pytest.raises(InterruptedError):
        stages.train(settings(data, tmp_path / "parts", **changes), on_report=stop)
    stages.train(settings(data, tmp_path / "parts", **changes), resume=True)
    whole, parts = (weights.load(tmp_path / name / "last.safetensors").state_dict for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert [row["loss"] for row in rows(tmp_path / "whole")] == [row["loss"] for row in rows(tmp_path / "parts")]


@pytest.mark.slow
def test_a_student_of_an_object_network(data, tmp_path):
    stages.train(settings(data, tmp_path / "teacher", steps=1, pair_every=None))
    teacher = tmp_path / "teacher" / "last.safetensors"
    changes = {"teacher": (str(teacher),), "jitter": 0.2, "rotate": 10.0}
    stages.train(settings(data, tmp_path / "run", **changes))
    found = rows(tmp_path / "run")
    assert not found[0]["target/final"]  # pairs have no teacher
    assert all(float(row["target/final"]) > 0 for row in found[1:])


# ----------------------------------------------------------------------------------------------------------- bad input


def test_a_mask_of_another_size(data, tmp_path, tinyhd, capsys):
    root = masked_photographs(tmp_path / "data", count=4)
    write_png(root / "masks" / "1007.png", np.zeros((50, 50), np.uint8))
    arguments = ["--model", "stkd-lite", "--init", "none", "--size", "64x64", "--workers", "0", "--device", "cpu"]
    run = ["train", "--data", root, *arguments, "--out", tmp_path / "run", "--steps", "1", "--batch-size", "2"]
    assert tinyhd(*run, "--quiet") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "1007.png" in line]
    assert len(lines) == 1
    assert "is 50 x 50, but the frame is 120 x 90" in lines[0]
    assert "skipped" in lines[0]


def test_gray_masks_are_reported_once(data, tmp_path, caplog):
    root = masked_photographs(tmp_path / "data", count=4)
    for path in sorted((root / "masks").iterdir())[:2]:
        mask = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
        write_png(path, cv2.GaussianBlur(mask, (9, 9), 0))
    logging.getLogger("tinyhd").propagate = True
    stored = decoded(settings(data, tmp_path), root, tmp_path / "cache")
    messages = [record.getMessage() for record in caplog.records if "not a binary mask" in record.getMessage()]
    assert len(messages) == 1
    assert set(np.unique(stored[0].ground_truth("mask"))) == {0, 1}


def test_masks_without_any_object(data, tmp_path, caplog):
    root = masked_videos(tmp_path / "data", count=4, frames=3)
    for path in (root / "v1" / "masks").iterdir():
        write_png(path, np.zeros((72, 96), np.uint8))
    logging.getLogger("tinyhd").propagate = True
    changes = {"data": (str(root),), "hold_out": 0.0, "steps": 1, "batch_size": 2}
    stages.train(settings(data, tmp_path / "run", **changes))
    assert "1 video without an object in any mask: v1" in caplog.text
    for path in root.glob("*/masks/*"):
        write_png(path, np.zeros((72, 96), np.uint8))
    with pytest.raises(InputError, match="all masks are empty"):
        stages.train(settings(data, tmp_path / "other", **changes))


def test_videos_of_one_frame_have_no_pairs(data, tmp_path, caplog):
    root = masked_videos(tmp_path / "data", count=3, frames=4)
    masked_videos(root / "short", count=1, frames=1)
    logging.getLogger("tinyhd").propagate = True
    changes = {"hold_out": 0.0, "steps": 1, "batch_size": 4}
    stages.train(settings(data, tmp_path / "run", data=(str(root),), **changes))
    assert "1 video of one frame, not used for pairs: short/v0" in caplog.text
    with pytest.raises(InputError, match="no video of two or more frames for pairs; to train without, --pair-every 0"):
        stages.train(settings(data, tmp_path / "other", data=(str(data / "photos"),), **changes))


def test_data_without_masks(data, tmp_path):
    with pytest.raises(InputError, match="no masks of objects for 1 video"):
        stages.train(settings(data, tmp_path, data=(str(data / "fixations"),)))
    fixation = settings(data, tmp_path, model="tinyhd-s-quarter", pair_every=None, data=(str(data / "videos"),))
    with pytest.raises(InputError, match="no ground truth for 3 videos"):
        stages.train(fixation)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "tinyhd-m-quarter"}, "--pair-every is for networks that find objects; tinyhd-m-quarter predicts"),
        ({"model": "tinyhd-m", "pair_every": None, "rotate": 5.0}, "--rotate is for networks that find objects"),
        ({"pair_every": 0, "pair_batch_size": 2}, "--pair-batch-size: the run has no pairs of frames"),
        ({"pair_every": 0, "temporal_distill": 0.3}, "--temporal-distill: needs pairs of frames; add --pair-every 3"),
        ({"model": "stkd-pair", "pair_every": 0}, "--pair-every 0: stkd-pair reads pairs of frames"),
        ({"model": "stkd-pair", "teacher": ("x",)}, "--teacher: stkd-pair reads pairs of frames"),
        (
            {"model": "tinyhd-s-quarter", "pair_every": None, "temporal_distill": 0.3},
            "--temporal-distill: tinyhd-s-quarter is trained on one map per clip",
        ),
        (
            {"model": "tinyhd-m-quarter", "pair_every": None, "temporal_distill": 0.3, "stills": True},
            "--temporal-distill: tinyhd-m-quarter is trained on single frames",
        ),
        (
            {"model": "uva-64", "pair_every": None, "self_distill": 0.5},
            "--self-distill: uva-64 trains its intermediate and its final maps in other stages",
        ),
        (
            {"model": "tinyhd-m", "pair_every": None, "original_slips": True},
            "--original-slips: the loss of .* has no such variant",
        ),
        (
            {"model": "uva-64", "pair_every": None, "original_slips": True},
            "--original-slips: the loss of .* has no such variant",
        ),
        ({"self_distill": -1.0}, "--self-distill must be at least 0"),
        ({"rotate": -1.0}, "--rotate must be at least 0"),
    ],
)
def test_options_that_do_not_fit_the_network(data, tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        settings(data, tmp_path, **changes)


# -------------------------------------------------------------------------------------------------------- distillation


def test_weights_of_distillation_without_a_teacher():
    config = TrainConfig(model="stkd", pair_every=3, self_distill=0.7, temporal_distill=0.1)
    used = {name: value for name, value in config.weights.items() if value and "aux" not in name}
    assert {name: value for name, value in used.items() if "self" in name} == dict.fromkeys(
        ("target/self-p0", "target/self-p1"), 0.7
    )
    assert {name: value for name, value in used.items() if "temporal" in name} == dict.fromkeys(
        ("pair/temporal-p0", "pair/temporal-p1", "pair/temporal-p2"), 0.1
    )
    without = TrainConfig(model="stkd", pair_every=3, self_distill=0.0, temporal_distill=0.0)
    assert {name for name, value in without.weights.items() if value and "aux" not in name} == {
        *(f"{kind}/p{index}" for kind in ("target", "pair") for index in range(3)),
        "target/final",
    }
    assert not any("p3" in term.name for term in config.objectives.terms)  # of mutual attention
    tinyhd = TrainConfig(self_distill=0.5, temporal_distill=0.3, weight=("aux/temporal=0.2",))
    assert {name: value for name, value in tinyhd.weights.items() if "self" in name or "temporal" in name} == {
        "target/self": 0.5,
        "aux/self": 0.5,
        "target/temporal": 0.3,
        "aux/temporal": 0.2,
    }
    assert TrainConfig(self_distill=0.0).weights == TrainConfig().weights


def test_self_and_temporal_distillation_of_fixations():
    torch.manual_seed(0)
    maps = torch.rand(2, 3, 8, 8)
    deep = torch.rand(2, 4, 1, 8, 8, requires_grad=True)
    final = maps.clone().requires_grad_()
    chosen = TrainConfig(self_distill=0.5, temporal_distill=0.3).objectives
    found = loss_terms(Outputs(final, {"d1": deep}), 2, None, None, chosen)
    assert set(found) == {"target/self", "target/temporal"}

    def kl(prediction, target):
        p, y = (one / one.sum((-2, -1), keepdim=True) for one in (prediction, target))
        return (y * (y / p).log()).sum((-2, -1))

    expected = torch.stack([kl(deep[:, k], maps).mean() for k in range(4)]).mean()
    assert found["target/self"].item() == pytest.approx(expected.item(), rel=1e-5)
    neighbors = [kl(maps[:, a], maps[:, b]).mean() for a, b in ((0, 1), (1, 0), (1, 2), (2, 1))]
    assert found["target/temporal"].item() == pytest.approx(torch.stack(neighbors).mean().item(), rel=1e-5)
    found["target/self"].backward(retain_graph=True)
    assert final.grad is None  # the final map is the teacher
    found["target/temporal"].backward()
    middle, first = final.grad.clone(), maps[:, :2].clone().requires_grad_()
    kl(first[:, 0], maps[:, 1]).mean().backward()
    assert torch.allclose(middle[:, 0], first.grad[:, 0] / 4, rtol=1e-4, atol=1e-8)


def test_tinyhd_with_distillation_without_a_teacher(data, tmp_path, tinyhd):
    arguments = [
        "--model",
        "tinyhd-m-quarter",
        "--init",
        "none",
        "--size",
        "64x64",
        "--workers",
        "0",
        "--device",
        "cpu",
    ]
    arguments += ["--hold-out", "0", "--batch-size", "1", "--steps", "1", "--quiet", "--cache", data / "cache"]
    run = ["train", "--data", data / "fixations", *arguments, "--out", tmp_path / "run"]
    assert tinyhd(*run, "--self-distill", "0.5", "--temporal-distill", "0.3") == 0
    (row,) = rows(tmp_path / "run")
    assert float(row["target/self"]) > 0
    assert float(row["target/temporal"]) > 0
    loss = float(row["target/ground-truth"]) + 0.5 * float(row["target/self"]) + 0.3 * float(row["target/temporal"])
    assert float(row["loss"]) == pytest.approx(loss, rel=1e-5)


def test_the_cache_survives_a_damaged_description(data, tmp_path):
    config = settings(data, tmp_path)
    (stored, *_) = decoded(config, data / "videos", tmp_path)
    for broken in ({"frames": 8, "masked": [9]}, {"frames": 8, "masked": "x"}, [], {"frames": "many"}):
        (stored.folder / "meta.json").write_text(json.dumps(broken))
        again = decoded(config, data / "videos", tmp_path)[0]
        assert (again.masked, again.frames) == (tuple(range(8)), 8)


def test_a_run_of_a_network_of_pairs(data, tmp_path):
    """Steps on single frames train it without its mutual attention."""
    out = tmp_path / "run"
    stages.train(settings(data, out, model="stkd-pair", steps=2, batch_size=2))
    pairs, singles = rows(out)
    assert float(pairs["pair/p3"]) > 0
    assert not singles["pair/p3"]
    assert float(singles["target/p2"]) > 0
    (validation,) = rows(out, "val")
    assert 0 < float(validation["maxF"]) <= 1
