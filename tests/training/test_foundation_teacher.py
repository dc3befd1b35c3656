"""Distillation from a video foundation model, whose clips have another length and size, into THTD-Net and TinyHD."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import video_backbones
from helpers.training_data import aux_videos, labeled_videos

from tinyhd_cli import load_model, models, weights
from tinyhd_cli.datasets.images import read_image
from tinyhd_cli.models.families.vfm import files
from tinyhd_cli.training import loop
from tinyhd_cli.training.picks import PickSampler

TINY = ("--set", "channels=32", "--set", "depths=1,1,1,1")
STUDENTS = {
    "thtdnet": ("--preset", "thtdnet-kd", *TINY),
    "tinyhd-m-quarter": ("--model", "tinyhd-m-quarter", "--weight", "cc=1", "--weight", "final-cc=1"),
}
WEIGHT = 0.7
"""Weight of the teacher's terms (lambda)."""


@dataclass
class Step:
    """The tensors and terms of a training step."""

    outputs: object
    targets: object
    truth: object
    terms: dict[str, float]
    picks: list


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a folder of videos, some shorter than the students' clips."""
    root = tmp_path_factory.mktemp("foundation")
    labeled_videos(root / "videos", count=2, frames=36)
    labeled_videos(root / "short", count=1, frames=9)
    aux_videos(root / "aux", count=1, frames=40)
    return root


def write_teacher(root: Path, side: int) -> Path:
    """Write the weights of a network on a tiny VideoMAE with 16 frames of ``side`` pixels; its maps vary."""
    files.find_backbone.cache_clear()
    backbone = video_backbones.write(root / f"videomae-{side}", "videomae", image_size=side, num_frames=16)
    spec = models.named_spec("vfm", backbone=str(backbone), decoder_width=128, lora_rank=2)
    assert (spec.clip_frames, spec.input_size) == (16, (side, side))
    network = models.build(spec)
    generator = torch.Generator().manual_seed(4)
    for name, parameter in network.named_parameters():
        if name.startswith("decoder.") and parameter.dim() > 1:
            fan_in = parameter[0].numel()
            parameter.data.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
    path = root / f"teacher-{side}.safetensors"
    weights.save(path, network.state_dict(), spec)
    return path


@pytest.fixture
def steps(monkeypatch):
    """Record the tensors of each training step."""
    recorded, picked = [], []
    original, original_picks = loop.loss_terms, PickSampler.picks

    def picks(self, step, part=0):
        picked.append(original_picks(self, step, part))
        return picked[-1]

    def loss_terms(outputs, labeled, targets, truth, objectives, kind):
        terms = original(outputs, labeled, targets, truth, objectives, kind)
        found = {name: float(value.detach()) for name, value in terms.items()}
        recorded.append(Step(outputs, targets, truth, found, picked[len(recorded)]))
        return terms

    monkeypatch.setattr(PickSampler, "picks", picks)
    monkeypatch.setattr(loop, "loss_terms", loss_terms)
    return recorded


def array(maps: torch.Tensor) -> np.ndarray:
    """Return a tensor in float64."""
    return maps.detach().double().numpy()


def divergence(student: np.ndarray, target: np.ndarray, eps: float) -> float:
    """Return the mean KL divergence of maps ``(T, H, W)``, with the epsilon of saliency benchmarks or without."""
    values = []
    for s, t in zip(student, target, strict=True):
        s, t = (s / s.sum())[t > 0], (t / t.sum())[t > 0]
        values.append((t * np.log(eps + t / (s + eps))).sum())
    return float(np.mean(values))


def correlation(student: np.ndarray, target: np.ndarray) -> float:
    """Return the mean CC of maps ``(T, H, W)``."""
    return float(np.mean([np.corrcoef(s.ravel(), t.ravel())[0, 1] for s, t in zip(student, target, strict=True)]))


def expected_terms(step: Step, eps: float) -> dict[str, float]:
    """Return the terms of a step on one labeled and one unlabeled clip, in float64."""
    saliency, teacher, density = (
        array(maps) for maps in (step.outputs.saliency, step.targets.final, step.truth.density)
    )
    there = density[0].sum((-2, -1)) > 0
    return {
        "target/ground-truth": divergence(saliency[0][there], density[0][there], eps),
        "target/cc": 1 - correlation(saliency[0][there], density[0][there]),
        "target/final": divergence(saliency[0], teacher[0], eps),
        "target/final-cc": 1 - correlation(saliency[0], teacher[0]),
        "aux/final": divergence(saliency[1], teacher[1], eps),
        "aux/final-cc": 1 - correlation(saliency[1], teacher[1]),
    }


def distill(tinyhd, data: Path, teacher: Path, student: str, *more: object) -> int:
    """Run 4 steps."""
    common = (
        "--teacher",
        teacher,
        "--hold-out",
        "0",
        "--workers",
        "0",
        "--device",
        "cpu",
        "--init",
        "none",
        "--no-flip",
    )
    amount = (
        "--steps",
        "4",
        "--batch-size",
        "1",
        "--weight",
        f"final={WEIGHT}",
        "--weight",
        f"final-cc={WEIGHT}",
        "--no-flip",
    )
    sources = ("--data", data / "videos", "--aux", data / "aux", "--out", "run")
    return tinyhd("distill", *STUDENTS[student], *common, *sources, *amount, *more)


@pytest.mark.parametrize(
    ("student", "teacher_side", "size"),
    [
        ("thtdnet", 32, (64, 64)),
        pytest.param("tinyhd-m-quarter", 32, (64, 64), marks=pytest.mark.slow),
        pytest.param("thtdnet", 224, None, marks=pytest.mark.slow),
        pytest.param("tinyhd-m-quarter", 224, None, marks=pytest.mark.slow),
    ],
)
def test_the_terms_of_four_steps_agree_with_float64(tinyhd, data, steps, capsys, student, teacher_side, size, tmp_path):
    """The teacher reads 16 frames of a square; THTD-Net 32, TinyHD 16, of another size."""
    teacher = write_teacher(tmp_path, teacher_side)
    more = ("--size", f"{size[0]}x{size[1]}") if size else ()
    assert distill(tinyhd, data, teacher, student, *more) == 0, capsys.readouterr().err
    assert len(steps) == 4
    eps, side = (2.2204e-16, (224, 384)) if student == "thtdnet" else (0.0, (192, 256))
    model = load_model(teacher, "cpu", engine="torch")
    for step in steps:
        assert tuple(step.outputs.saliency.shape[-2:]) == (size or side)
        expected = expected_terms(step, eps)
        found = {name: value for name, value in step.terms.items() if "d1" not in name}
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert found["target/final"] > 1e-3
    check_targets(model, data / "videos", steps[0])


def check_targets(model, videos: Path, step: Step) -> None:
    """Compare the teacher's maps of the labeled clip with those of the frames before and at each map's frame."""
    clip, found = step.picks[0], step.targets.final[0]
    paths = sorted((videos / f"v{clip.video}" / "images").iterdir())
    frames = [model.prepare(read_image(path)) for path in paths]
    last = clip.start + (31 if len(found) == 1 else 15)
    for place, saliency in enumerate(found.flip(0)):
        window = [frames[max(0, number)] for number in range(last - place - 15, last - place + 1)]
        maps = torch.from_numpy(model.infer(np.stack(window, axis=1)))[None]
        maps = torch.nn.functional.interpolate(maps, found.shape[-2:], mode="bilinear", antialias=True)[0]
        assert correlation(array(saliency[None]), array(maps)) > 0.999


def test_with_all_maps_neither_the_backbone_nor_transformers_is_needed(tinyhd, data, tmp_path, capsys, monkeypatch):
    """The shard is computed where they are; the cache and the teacher's weights are copied to another machine."""
    teacher = write_teacher(tmp_path, 32)
    options = ("--size", "64x64", "--cache", "maps")
    assert distill(tinyhd, data, teacher, "thtdnet", *options, "--teacher-shard", "1/1") == 0, capsys.readouterr().err
    shutil.rmtree(tmp_path / "videomae-32")
    files.find_backbone.cache_clear()
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert distill(tinyhd, data, teacher, "thtdnet", *options, "--steps", "1") == 0, capsys.readouterr().err
    assert distill(tinyhd, data, teacher, "thtdnet", *options, "--teacher-flip", "--out", "other") == 2
    assert "pip install 'tinyhd[vfm]'" in capsys.readouterr().err  # other maps need the teacher


def test_videos_shorter_than_a_clip_are_padded_in_front(tinyhd, data, capsys):
    run = (
        "train",
        "--preset",
        "thtdnet",
        *TINY,
        "--size",
        "64x64",
        "--init",
        "none",
        "--workers",
        "0",
        "--device",
        "cpu",
    )
    assert tinyhd(*run, "--data", data / "short", "--steps", "1", "--out", "run", "--quiet") == 0
    warning = "1 video shorter than a clip of 32 frames, with the first frame repeated in front: v0"
    assert capsys.readouterr().err == f"tinyhd: warning: {warning}\n"
