"""The hint: the features of the student's encoder learn those of the teacher's."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.networks import lively
from helpers.training_data import OPTIONS, aux_videos, labeled_videos
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tinyhd_cli import weights
from tinyhd_cli.models import named_spec
from tinyhd_cli.training.features import Tap, during
from tinyhd_cli.training.hint import Hint
from tinyhd_cli.training.losses import Outputs, Targets, loss_terms
from tinyhd_cli.training.options import TrainConfig
from tinyhd_cli.training.teachers import Teacher


@pytest.mark.parametrize(
    ("steps", "frames", "clip_frames", "expected"),
    [
        (16, (16, 32), 32, range(8, 16)),  # the last half of a clip of THTD-Net
        (4, (0, 16), 16, range(4)),
        (4, (31, 32), 32, range(3, 4)),
        (1, (16, 32), 32, range(1)),
        (3, (5, 11), 16, range(3)),  # each step that has one of the frames
    ],
)
def test_the_steps_of_some_frames(steps, frames, clip_frames, expected):
    features = torch.arange(steps).view(1, 1, -1, 1, 1)
    assert during(features, frames, clip_frames).flatten().tolist() == list(expected)


def test_the_last_of_several_outputs_is_recorded():
    class Several(nn.Module):
        def forward(self, x):
            return x, [2 * x], 3 * x

    network = nn.Sequential(nn.Identity(), Several())
    taps = Tap(network, "0"), Tap(network, "1")
    network(torch.ones(1))
    assert [tap.take().item() for tap in taps] == [1, 3]


def test_the_term_is_the_mean_squared_error_after_a_projection_in_float64():
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(2, 5, 4, 3, 6, generator=generator)
    target = torch.randn(2, 7, 2, 3, 6, generator=generator)
    hint = Hint(5, 7, (16, 32), 32)
    outputs = Outputs(torch.ones(2, 1, 8, 8), {}, hint(features, target.shape[2:]))
    config = TrainConfig(model="tinyhd-m", teacher=("x",), hint=0.5)
    given = Targets(torch.ones(2, 1, 8, 8), None, features=target)
    terms = {name: term.detach() for name, term in loss_terms(outputs, 1, given, None, config.objectives).items()}
    kernel, bias = (value.detach().double().numpy() for value in hint.projection.parameters())
    own = np.einsum("oc,ncthw->nothw", kernel[:, :, 0, 0, 0], features[:, :, 2:].double().numpy())
    error = (own + bias[:, None, None, None] - target.double().numpy()) ** 2
    assert float(terms["target/hint"]) == pytest.approx(error[0].mean(), rel=1e-5)
    assert float(terms["aux/hint"]) == pytest.approx(error[1].mean(), rel=1e-5)
    assert config.weights["target/hint"] == 0.5
    assert hint(features, torch.Size((8, 14, 14))).shape == (2, 7, 8, 14, 14)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a folder with labeled and unlabeled videos and a teacher of another input size."""
    root = tmp_path_factory.mktemp("hint")
    labeled_videos(root / "videos", count=2, frames=17)
    aux_videos(root / "aux", count=2, frames=17)
    network = lively("tinyhd-m-quarter", seed=5)
    weights.save(root / "teacher.safetensors", network.state_dict(), network.spec, input_size=(96, 64))
    return root


def test_the_teachers_features_are_of_its_last_clip(data):
    """Two clips of a student's block of 16 frames end with its last frames; the last one is the clip itself."""
    config = TrainConfig(aux=("x",), model="tinyhd-m-quarter", size=(64, 64), teacher=str(data / "teacher.safetensors"))
    with_hint = TrainConfig(**(config.to_dict() | {"hint": 1.0}))
    teacher = Teacher(with_hint, with_hint.teacher[0], torch.device("cpu"))
    read = torch.randint(0, 256, (16, 96, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    found = teacher.targets(read).features
    seen = []
    teacher.model.network.encoder.register_forward_hook(lambda module, inputs, output: seen.append(output[-1]))
    teacher.forward([teacher.normalized(read)])
    torch.testing.assert_close(found, seen[0])
    assert teacher.hint_frames == (0, 16)
    without = Teacher(config, config.teacher[0], torch.device("cpu"))
    assert without.targets(read).features is None
    assert without.identity != teacher.identity


def run(tinyhd, data, *more):
    """Run the command line on the data."""
    line = ("distill", "--model", "tinyhd-s-quarter", "--teacher", data / "teacher.safetensors", "--hold-out", "0")
    line += ("--data", data / "videos", "--aux", data / "aux", *OPTIONS, "--hint", "0.01", "--cache", "maps")
    return tinyhd(*line, "--milestones", "0.9", "--batch-size", "1", *more)


def rows(out):
    return list(csv.DictReader(Path(out, "log.csv").read_text().splitlines()))


def test_the_weights_of_a_run_with_a_hint_lack_the_projection(tinyhd, data):
    norms = []

    def record(optimizer, *_):
        gradients = [one.grad for group in optimizer.param_groups for one in group["params"] if one.grad is not None]
        norms.append(float(torch.stack([gradient.norm() for gradient in gradients]).norm()))

    handle = register_optimizer_step_pre_hook(record)
    assert run(tinyhd, data, "--steps", "1", "--clip", "0.001", "--out", "run") == 0
    handle.remove()
    assert norms == [pytest.approx(0.001, rel=1e-3)]  # the projection is clipped, too
    assert all(float(rows("run")[0][term]) > 0 for term in ("target/hint", "aux/hint"))
    saved = weights.load("run/last.safetensors")
    assert saved.spec.same_network(named_spec("tinyhd-s-quarter"))
    checkpoint = torch.load(next(Path("run/checkpoints").iterdir()), weights_only=True)
    assert set(checkpoint["hint"]) == {"projection.weight", "projection.bias"}


@pytest.mark.slow
def test_a_run_with_a_hint_resumes(tinyhd, data):
    assert run(tinyhd, data, "--steps", "2", "--out", "whole") == 0
    assert run(tinyhd, data, "--steps", "1", "--out", "parts") == 0
    assert run(tinyhd, data, "--steps", "2", "--out", "parts", "--extend") == 0
    for whole, part in zip(rows("whole"), rows("parts"), strict=True):
        for term in ("target/hint", "aux/hint", "target/final"):
            assert float(whole[term]) == pytest.approx(float(part[term]), rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "dis-32"), "--hint: dis-32 cannot learn features; use another --model, or --hint 0"),
        (("--teacher", "tinyhd-m"), "--hint: needs one --teacher, not 2"),
        (("--stills",), "--hint: not with --stills"),
        (("--hint", "-1"), "--hint must be at least 0, not -1.0"),
    ],
)
def test_runs_without_features(tinyhd, data, capsys, options, message):
    line = ("distill", "--teacher", data / "teacher.safetensors", "--aux", data / "aux", "--hint", "1")
    assert tinyhd(*line, *options) == 2
    assert message in capsys.readouterr().err
