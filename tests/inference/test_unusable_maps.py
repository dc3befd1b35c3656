"""Tests of maps with NaN and of constant maps, in the commands that show and score them."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import clips, datasets_on_disk
from helpers.networks import lively

from tinyhd_cli import weights


def weights_file(**changes):
    """Write a weights file in which some tensors are filled with the given numbers."""
    network = lively()
    state = network.state_dict()
    for name, number in changes.items():
        state[name.replace("__", ".")].fill_(number)
    path = Path("changed.safetensors")
    weights.save(path, state, network.spec, input_size=(64, 64))
    return path


@pytest.fixture
def not_finite(tinyhd):
    return weights_file(encoder__stem__norm__weight=3e38, encoder__stem__norm__running_var=0)


UNUSABLE = "tinyhd: tinyhd-m-quarter: the saliency maps contain NaN or infinity; use other weights\n"


@pytest.mark.parametrize("frames", [3, 30])
def test_live_reports_maps_that_are_not_finite(tinyhd, capsys, not_finite, frames):
    """Also if the only map is predicted after the last frame of a short video."""
    clips.make(Path("clip.mp4"), frames=frames)
    assert tinyhd("live", "clip.mp4", "--weights", not_finite, "--engine", "torch", "-o", "o.mp4") == 4
    assert capsys.readouterr().err == UNUSABLE
    assert sorted(path.name for path in Path().iterdir()) == ["changed.safetensors", "clip.mp4"]


def test_live_warns_of_constant_maps_once(tinyhd, capsys):
    clips.make(Path("clip.mp4"), frames=40)
    flat = weights_file(fusion__weight=0)
    assert tinyhd("live", "clip.mp4", "--weights", flat, "--engine", "torch", "-o", "o.mp4") == 0
    assert capsys.readouterr().err.count("a saliency map is constant") == 1


def test_evaluate_reports_maps_that_are_not_finite(tinyhd, capsys, not_finite):
    root = datasets_on_disk.folder(Path("set"), {"one": 3, "two": 3})
    command = ("evaluate", "--root", root, "--weights", not_finite, "--workers", 1, "--json", "scores.json")
    assert tinyhd(*command) == 4
    assert capsys.readouterr().err == UNUSABLE
    assert not Path("scores.json").exists()


def test_a_teacher_whose_maps_are_not_finite_is_refused(tinyhd, capsys, not_finite):
    """The message does not mention the learning rate, and no map is cached."""
    root = datasets_on_disk.folder(Path("set"), {"one": 3, "two": 3})
    command = ("distill", "--teacher", not_finite, "--data", f"folder:{root}", "--out", "run", "--size", "64x64")
    options = ("--steps", 2, "--batch-size", 1, "--workers", 0, "--device", "cpu", "--init", "none", "--quiet")
    assert tinyhd(*command, *options, "--cache", "cache") == 4
    warning, error = capsys.readouterr().err.splitlines(keepends=True)
    assert "2 videos shorter than a clip" in warning
    assert error == UNUSABLE
    assert not list(Path("cache").rglob("*.npz"))
