"""Coupled distillation: teachers with roles, and training in stages."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.networks import lively
from helpers.training_data import OPTIONS, SIZE, aux_videos, labeled_videos, photographs

from tinyhd_cli import load_model, models, predict, weights
from tinyhd_cli.callbacks import no_phases
from tinyhd_cli.errors import UsageError, WeightsError
from tinyhd_cli.models import LossTerm
from tinyhd_cli.training import checkpoints, initial_weights, prepare, role_maps, stages
from tinyhd_cli.training.augment import collate, targets
from tinyhd_cli.training.clips import Pick
from tinyhd_cli.training.losses import Outputs, Targets, loss_terms
from tinyhd_cli.training.objectives import objectives
from tinyhd_cli.training.options import TrainConfig
from tinyhd_cli.training.roles import by_role
from tinyhd_cli.training.settings import read_yaml

CPU = torch.device("cpu")

HELD_OUT = 0.34


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a folder of labeled videos, photographs, unlabeled clips, and the weights of two teachers."""
    root = tmp_path_factory.mktemp("coupled")
    labeled_videos(root / "videos")
    photographs(root / "photos")
    aux_videos(root / "aux", count=4)
    for name, model, seed in (("spatial", "tinyhd-s-quarter", 5), ("temporal", "tinyhd-m-quarter", 6)):
        network = lively(model, seed=seed)
        weights.save(root / f"{name}.safetensors", network.state_dict(), network.spec, input_size=SIZE)
    return root


def settings(data, out, **changes):
    """Return the settings of a run of two steps in each stage, on all kinds of data."""
    values = {
        "data": (str(data / "videos"), str(data / "photos")),
        "aux": (str(data / "aux"),),
        "hold_out": HELD_OUT,
        "teacher": tuple(f"{role}={data / role}.safetensors" for role in ("spatial", "temporal")),
        "model": "uva-32",
        "steps": 2,
        "batch_size": 2,
        "optimizer": "adam",
        "workers": 0,
        "device": "cpu",
        "window_step": 7,
        "cache": data / "cache",
        "out": out,
    }
    return TrainConfig(**(values | changes))


def state(out):
    return weights.load(out / "last.safetensors").state_dict


# -------------------------------------------------------------------------------------------------------------- stages


def test_two_stages(data, tmp_path):
    seen = []
    stages.train(settings(data, tmp_path), on_report=lambda report: seen.append((report.stage, report.step)))
    assert seen == [(1, 1), (1, 2), (2, 1), (2, 2)]
    two, fused = (weights.load(folder / "last.safetensors") for folder in (tmp_path / "stage-1", tmp_path))
    assert (two.spec.options["heads"], fused.spec.options["heads"]) == ("two", "fused")
    before = weights.load(tmp_path / "stage-1" / "best.safetensors").state_dict
    frozen = [name for name in fused.state_dict if not name.startswith("head.")]
    assert len(frozen) > 100
    assert all(torch.equal(before[name], fused.state_dict[name]) for name in frozen)  # running statistics included
    initial = models.create("uva-32").state_dict()
    assert not torch.equal(
        fused.state_dict["head.1.expand.norm.running_mean"], initial["head.1.expand.norm.running_mean"]
    )
    assert (tmp_path / "README.md").is_file()


def test_a_checkpoint_of_either_stage_is_a_weights_file(data, tmp_path):
    stages.train(settings(data, tmp_path, steps=1))
    for folder, heads in ((tmp_path / "stage-1", "two"), (tmp_path, "fused")):
        (path,) = checkpoints.paths(folder)
        assert weights.load(path).spec.options["heads"] == heads
    damaged = torch.load(path, weights_only=True)
    damaged["config"]["stage"] = 7
    torch.save(damaged, tmp_path / "damaged.pt")
    with pytest.raises(WeightsError, match="damaged training checkpoint: stage must be one of the network's stages"):
        weights.load(tmp_path / "damaged.pt")


def test_the_first_stage_trains_both_paths_and_the_shared_layers(data, tmp_path):
    config = stages.configs(settings(data, tmp_path, steps=1, stages=(1,), lr=0.01))[0]
    torch.manual_seed(config.seed)
    initial = models.build(config.spec).state_dict()
    stages.train(config)
    changed = {name.split(".")[0] for name, value in state(tmp_path).items() if not torch.equal(value, initial[name])}
    assert changed == {"low", "spatial", "temporal", "spatial_head", "temporal_head"}


@pytest.mark.parametrize(
    "stop_at", [(1, 1), pytest.param((1, 2), marks=pytest.mark.slow), pytest.param((2, 1), marks=pytest.mark.slow)]
)
def test_a_run_resumed_in_either_stage_equals_an_uninterrupted_one_bit_for_bit(data, tmp_path, stop_at):
    stages.train(settings(data, tmp_path / "uninterrupted", ema=0.9, checkpoint_every=1))

    def stop(report):
        if (report.stage, report.step) == stop_at:
            raise InterruptedError

    config = settings(data, tmp_path / "resumed", ema=0.9, checkpoint_every=1)
    with pytest.raises(InterruptedError):
        stages.train(config, on_report=stop)
    saved = stages.saved_config(config.out)
    assert saved == config
    steps = []
    stages.train(saved, resume=True, on_report=lambda report: steps.append((report.stage, report.step)))
    every = [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert steps == every[every.index(stop_at) + 1 :]
    for folder in ("stage-1", "."):
        one, two = (checkpoints.read(tmp_path / name / folder)[0] for name in ("uninterrupted", "resumed"))
        for part in ("model", "ema", "best"):
            values, others = getattr(one, part), getattr(two, part)
            assert values.keys() == others.keys()
            assert all(torch.equal(value, others[name]) for name, value in values.items()), (folder, part)
        for index, moments in one.optimizer["state"].items():
            assert torch.equal(moments["exp_avg_sq"], two.optimizer["state"][index]["exp_avg_sq"])


@pytest.mark.slow
def test_the_second_stage_alone(data, tmp_path):
    stages.train(settings(data, tmp_path / "both"))
    first = tmp_path / "both" / "stage-1" / "best.safetensors"
    stages.train(settings(data, tmp_path / "second", stages=(2,), init=str(first)))
    one, two = state(tmp_path / "both"), state(tmp_path / "second")
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    fused = tmp_path / "both" / "best.safetensors"
    with pytest.raises(WeightsError, match=r"not the network of stage 1, uva-32 .*heads=two"):
        stages.train(settings(data, tmp_path / "third", stages=(2,), init=str(fused)))


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """Return the folder of a run of one step in each stage."""
    out = tmp_path_factory.mktemp("finished")
    stages.train(settings(data, out, steps=1))
    return out


def test_a_stage_is_resumed_without_the_files_of_the_stage_before(data, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("stage-1"))
    steps = []
    longer = settings(data, tmp_path / "run", steps=2)
    stages.train(longer, extend=True, on_report=lambda report: steps.append((report.stage, report.step)))
    assert steps == [(2, 2)]


def test_a_stage_whose_result_is_missing_or_of_another_network(data, finished, tmp_path):
    config = stages.configs(settings(data, tmp_path, steps=1))[1]
    first = tmp_path / "stage-1" / "best.safetensors"
    with pytest.raises(WeightsError, match=r"^\S+stage-1/best.safetensors \(of stage 1\): no such file$"):
        initial_weights.check_init(config)
    first.parent.mkdir()
    shutil.copy(finished / "best.safetensors", first)
    with pytest.raises(WeightsError, match=r"stage-1/best.safetensors \(of stage 1\): contains uva-32 .*heads=fused"):
        initial_weights.check_init(config)


def test_initial_weights_of_another_stage_are_named_with_their_options(data, finished, tmp_path):
    config = stages.configs(settings(data, tmp_path, init=str(finished / "best.safetensors")))[0]
    with pytest.raises(WeightsError, match=r"contains uva-32 \(.*heads=fused.*\), not uva-32 \(.*heads=two"):
        initial_weights.check_init(config)


def test_the_folder_of_a_single_stage_is_not_resumed(finished):
    with pytest.raises(UsageError, match=f"stage-1: contains only stage 1 of a run; use --out {finished}$"):
        stages.saved_config(finished / "stage-1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0.02}, r"has --lr 0\.01, not 0\.02; to repeat stage 2, use --stages 2 --init \S+stage-1/best"),
        ({"stages": (1,)}, "has --stages 1,2, not 1; "),
    ],
)
def test_a_resumed_run_with_another_setting(data, finished, changes, message):
    with pytest.raises(UsageError, match=message):
        stages.train(settings(data, finished, steps=1, **changes), resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data": (), "teacher": ("spatial=x",)},
            "stage 2: no term .* --data or --teacher temporal=NAME or an",
        ),
        ({"data": (), "weight": ("final=0",)}, "stage 2: no term .* give --data or another --weight"),
        ({"weight": ("ground-truth=0", "final=0")}, "stage 2: no term .*: give another --weight"),
        ({"data": (), "weight": ("spatial=0", "temporal=0")}, "stage 1: no term of the loss of uva-32 can be computed"),
    ],
)
def test_a_stage_without_a_target_is_refused_before_the_first_stage(data, tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        stages.train(dataclasses.replace(settings(data, tmp_path / "run"), **changes))
    assert not (tmp_path / "run").exists()


def test_a_teacher_that_cannot_be_loaded_is_reported_before_decoding(data, tmp_path):
    with pytest.raises(WeightsError, match=r"missing\.safetensors: no such file"):
        stages.train(settings(data, tmp_path, cache=None, teacher=("missing.safetensors",)))
    assert not list(tmp_path.rglob("*.u8"))


def test_the_stage_is_no_setting_of_a_file():
    with pytest.raises(UsageError, match=r"run\.yaml: unknown setting 'stage': did you mean stages"):
        read_yaml("model: uva-32\nstage: 1", "run.yaml")


@pytest.mark.slow
def test_the_last_stage_can_be_extended(data, tmp_path):
    stages.train(settings(data, tmp_path, steps=1))
    steps = []
    longer = settings(data, tmp_path, steps=3)
    stages.train(longer, extend=True, on_report=lambda report: steps.append((report.stage, report.step)))
    assert steps == [(2, 2), (2, 3)]


def test_a_folder_with_a_run_is_refused_before_the_first_stage(data, tmp_path):
    stages.train(settings(data, tmp_path, steps=1))
    first = tmp_path / "stage-1"
    first.rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="already contains a run"):
        stages.train(settings(data, tmp_path, steps=1))
    assert not first.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": (2,)}, "--stages 2: needs the weights of stage 1; give their file with --init"),
        ({"stages": (3,)}, "--stages 3: must be 1 or 1,2 or 2"),
        ({"stages": (2, 1)}, "--stages 2,1: must be 1 or 1,2 or 2"),
        ({"model": "tinyhd-m", "teacher": (), "stages": (1,)}, "--stages: tinyhd-m is trained in one stage"),
        ({"set": ("heads=two",)}, "--set heads=two: each stage of training sets heads; choose stages with --stages"),
        ({"set": ("trunk=vgg",)}, "--set trunk=vgg: unknown value"),
        ({"teacher": ("motion=x.pth",)}, "--teacher motion=x.pth: unknown role 'motion'"),
        ({"teacher": ("spatial=",)}, "--teacher spatial=: must be spatial=NAME or spatial=FILE"),
        ({"model": "tinyhd-m", "teacher": ("spatial=x",)}, "--teacher spatial=x: tinyhd has no spatial teacher"),
        ({"stills": True}, "--teacher temporal=.*: --stills trains on single frames, which have no motion"),
        ({"weight": ("final=1", "nothing=1")}, "--weight nothing=1"),
    ],
)
def test_wrong_settings(data, tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        settings(data, tmp_path, **changes)


def test_weights_of_terms_apply_to_the_stage_that_has_them(data, tmp_path):
    config = settings(data, tmp_path, weight=("spatial-kl=2", "ground-truth=0", "aux/final=3"))
    first, second = stages.configs(config)
    assert first.weights["target/spatial-kl"] == first.weights["aux/spatial-kl"] == 2
    assert "target/ground-truth" not in first.weights
    (alone,) = stages.configs(settings(data, tmp_path, weight=config.weight, stages=(1,)))
    assert alone.weights == first.weights
    assert (second.weights["target/ground-truth"], second.weights["aux/final"], second.weights["target/final"]) == (
        0,
        3,
        0,
    )


@pytest.mark.slow
def test_distill_on_the_command_line(data, tmp_path, tinyhd, capsys):
    options = [option for option in OPTIONS if option not in ("--size", "64x64", "--init", "none")]
    teachers = [f"--teacher={role}={data / role}.safetensors" for role in ("spatial", "temporal")]
    command = ["distill", "--model", "uva-32", *teachers, "--aux", data / "aux", "--out", "run", "--steps", "1"]
    command += [*options, "--cache", data / "cache"]
    assert tinyhd(*command, "--dry-run") == 0
    plan = capsys.readouterr().out
    assert "1, 2; this number of steps each" in plan
    assert "for stage 1: " in plan and "s per step, once the maps of the teachers are computed" in plan
    assert tinyhd(*command) == 0
    assert tinyhd("weights", "info", "run/best.safetensors") == 0
    assert "uva-32" in capsys.readouterr().out
    assert tinyhd("distill", "--out", "run", "--resume", "--quiet") == 0


def test_training_without_a_teacher(data, tmp_path):
    """The same two stages on ground truth alone, for the paper's ablation."""
    stages.train(settings(data, tmp_path, teacher=(), aux=(), steps=1))
    log = (tmp_path / "stage-1" / "log.csv").read_text().splitlines()
    row = dict(zip(log[0].split(","), log[1].split(","), strict=True))
    assert row["target/spatial-ground-truth"]
    assert row["target/temporal-ground-truth"]
    assert not row["target/spatial"]


# --------------------------------------------------------------------------------------------------------------- roles


def test_roles_of_teachers():
    family = models.registry.family("uvanet")
    assert by_role(("spatial=a", "temporal=b", "spatial=c"), family) == {"spatial": ("a", "c"), "temporal": ("b",)}
    assert by_role(("a",), family) == {"spatial": ("a",), "temporal": ("a",)}
    assert by_role(("spatial=a",), family) == {"spatial": ("a",)}
    assert by_role((), family) == {}
    assert by_role(("a", "b"), models.registry.family("tinyhd")) == {}


def test_a_file_whose_name_contains_an_equals_sign_is_no_role(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=3.pth").touch()
    assert by_role(("lr=3.pth",), models.registry.family("uvanet"))["spatial"] == ("lr=3.pth",)


def resized_map(saliency: np.ndarray) -> torch.Tensor:
    """Return a teacher's map on the student's grid, with maximum 1."""
    small = F.interpolate(torch.from_numpy(saliency)[None, None], (32, 32), mode="bilinear", antialias=True)[0, 0]
    return small / small.max()


def prepared(data, tmp_path, **changes):
    config = stages.configs(settings(data, tmp_path, **changes))[0]
    return config, prepare.prepare(config, CPU, 0, 1, no_phases)


def test_maps_of_teachers_are_those_of_prediction(data, tmp_path):
    _, run = prepared(data, tmp_path)
    index = next(i for i, video in enumerate(run.clips.videos) if video.name.endswith("clip1.mkv"))
    maps = targets(collate([run.clips[Pick(index, 14)]]), None, CPU)
    path = next((data / "aux").rglob("clip1.mkv"))
    temporal = load_model(data / "temporal.safetensors", "cpu", engine="torch")
    expected = [saliency for _, saliency in predict(path, temporal)]
    assert torch.allclose(maps.roles["temporal"][0, 0], resized_map(expected[14]), atol=2e-3)
    assert not torch.allclose(maps.roles["temporal"][0, 0], resized_map(expected[7]), atol=2e-3)


def test_a_spatial_teacher_reads_each_frame_as_a_static_clip(data, tmp_path):
    _, run = prepared(data, tmp_path)
    index = next(i for i, video in enumerate(run.clips.videos) if video.name.endswith("clip2.mkv"))
    maps = targets(collate([run.clips[Pick(index, 7)]]), None, CPU)
    teacher = load_model(data / "spatial.safetensors", "cpu", engine="torch")
    from tinyhd_cli.video.reader import VideoReader

    with VideoReader(next((data / "aux").rglob("clip2.mkv"))) as reader:
        frame = next(frame for frame in reader if frame.index == 7)
    still = np.repeat(teacher.prepare(frame.rgb())[:, np.newaxis], 16, axis=1)
    assert torch.allclose(maps.roles["spatial"][0, 0], resized_map(teacher.infer(still)[0]), atol=2e-3)


def test_flips_apply_to_the_maps(data, tmp_path):
    _, run = prepared(data, tmp_path)
    index = next(i for i, video in enumerate(run.clips.videos) if not video.still)
    plain, mirrored = (targets(collate([run.clips[Pick(index, 7, flip=flip)]]), None, CPU) for flip in (False, True))
    assert torch.equal(plain.roles["spatial"].flip(-1), mirrored.roles["spatial"])


def test_maps_of_photographs_under_a_moving_camera(data, tmp_path):
    _, run = prepared(data, tmp_path, still_motion=1.0)
    index = next(i for i, video in enumerate(run.clips.videos) if video.still)
    static, moving = (targets(collate([run.clips[Pick(index, 0, trajectory=k)]]), None, CPU) for k in (0, 2))
    for role in ("spatial", "temporal"):
        assert not torch.allclose(static.roles[role], moving.roles[role], atol=1e-2)


def test_stored_maps_are_used_again_and_damaged_ones_replaced(data, tmp_path, monkeypatch):
    config, first = prepared(data, tmp_path, cache=tmp_path / "cache")
    index = next(i for i, video in enumerate(first.clips.videos) if not video.still)
    path = first.clips.role_maps.files["temporal"][index][0]
    times = {one: one.stat().st_mtime_ns for one in (tmp_path / "cache" / "teacher").rglob("*.npz")}
    whole = path.read_bytes()
    arrays = dict(np.load(path))
    path.write_bytes(whole[:100])
    again = prepare.prepare(config, CPU, 0, 1, no_phases)
    changed = {one for one, time in times.items() if one.stat().st_mtime_ns != time}
    assert changed == {path}
    assert torch.equal(*(run.clips[Pick(index, 7)]["roles"]["temporal"] for run in (first, again)))
    assert role_maps.is_usable(path, arrays["frames"])
    path.write_bytes(whole[:300] + bytes(300) + whole[600:])
    assert not role_maps.is_usable(path, arrays["frames"])
    for final in (arrays["final"][:, 0], arrays["final"] * np.float16("nan"), arrays["final"].astype(str)):
        np.savez(path, frames=arrays["frames"], final=final)
        assert not role_maps.is_usable(path, arrays["frames"])


def test_several_teachers_of_a_role_are_averaged(data, tmp_path):
    teacher = data / "temporal.safetensors"
    both = (f"spatial={data / 'spatial'}.safetensors", f"spatial={teacher}", f"temporal={teacher}")
    runs = [prepared(data, tmp_path, teacher=names)[1] for names in (both, both[:1], (f"spatial={teacher}",))]
    index = next(i for i, video in enumerate(runs[0].clips.videos) if not video.still)
    mean, one, other = (run.clips[Pick(index, 7)]["roles"]["spatial"] for run in runs)
    assert torch.allclose(mean, (one + other) / 2)


def test_a_role_without_a_teacher_is_reported(data, tmp_path, caplog):
    prepared(data, tmp_path, teacher=(f"spatial={data / 'spatial'}.safetensors",))
    assert "no temporal teacher (--teacher temporal=NAME): the temporal path learns" in caplog.text


def test_terms_of_the_released_program_and_of_the_paper():
    """The released program compares the temporal path with the spatial teacher; its term has weight 0 by default."""
    family = models.registry.family("uvanet")
    torch.manual_seed(0)
    maps = {name: torch.rand(2, 1, 8, 8) for name in ("spatial", "temporal", "s", "t")}
    outputs = Outputs(maps["spatial"], {name: maps[name] for name in family.roles})
    teacher = Targets(None, None, {"spatial": maps["s"], "temporal": maps["t"]})
    released = objectives(family.stages[0].terms, ("temporal=0", "temporal-as-released=1"))
    for chosen, name, of in (
        (objectives(family.stages[0].terms), "temporal", "t"),
        (released, "temporal-as-released", "s"),
    ):
        values = loss_terms(outputs, 0, teacher, None, chosen)
        assert set(values) == {"aux/spatial", f"aux/{name}"}
        assert float(values[f"aux/{name}"]) == pytest.approx(float((maps["temporal"] - maps[of]).square().mean()))


def test_a_term_may_have_another_weight_on_auxiliary_clips():
    term = LossTerm("final", "mse", weight=0.0, aux_weight=2.0)
    assert objectives((term,)).weights == {"aux/final": 2.0, "target/final": 0.0}
    with pytest.raises(UsageError, match="aux_weight must be a number or None"):
        LossTerm("final", "mse", aux_weight="much")
