"""STKD against values of the original program, and its tensor names and weights files.

The losses, gradients and first step are compared in ``tests/training/test_stkd_training.py``.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import reference
from helpers.reference import check
from torch import nn

from tinyhd_cli import weights
from tinyhd_cli.errors import WeightsError
from tinyhd_cli.models import create
from tinyhd_cli.models.families.stkd.original import own_name
from tinyhd_cli.models.original_names import convert, is_original, recognize

OUTPUTS = 1e-5
"""Largest difference relative to the largest value."""

MEASURED = 5e-4
"""The same if BatchNorm's statistics are measured: one layer normalizes as few values as there are clips, so that the
original's values, in float32, are inexact. In float32, those here would also depend on the kind of CPU."""

FRAMES = ("previous", "current")
MAPS = ("p0", "p1", "p2", "p3")


@pytest.fixture(scope="module")
def stkd(shared):
    """The original's tensors, inputs and outputs."""
    procedural, inputs = reference.modules(shared)
    shapes = json.loads((shared / "reference" / "stkd_tensors.json").read_text())["shapes"]
    return SimpleNamespace(
        inputs=inputs,
        frames=torch.from_numpy(inputs.frames((2, 3, 2, 129, 161), 2.0)).double(),
        weights={name: torch.from_numpy(np.asarray(value)) for name, value in procedural.state_dict(shapes).items()},
        expected=np.load(shared / "reference" / "stkd_expected.npz"),
    )


def original(stkd, kind):
    """Return the single-frame or pair network with the original's procedural weights, in training mode."""
    name = {"single": "stkd", "pair": "stkd-pair"}[kind]
    given = {key: value for key, value in stkd.weights.items() if kind == "pair" or not for_pairs(key)}
    network = create(name)
    network.load_state_dict(convert(given, name))
    return network.double()


def for_pairs(name):
    return name.startswith(("mutual.", "predict3."))


@pytest.fixture(scope="module")
def calibrated(stkd):
    """The pair network in evaluation mode, with the statistics of a static pair."""
    network = original(stkd, "pair")
    set_momentum(network, 1.0)
    with torch.no_grad():
        clip = torch.from_numpy(stkd.inputs.frames((4, 3, 1, 129, 161), 2.0, salt=1)).double()
        network(clip.expand(-1, -1, 2, -1, -1))
    return network.eval()


def set_momentum(network, momentum):
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum


def single_of(network):
    """Return the single-frame network with the tensors of a pair network."""
    single = create("stkd").double().eval()
    single.load_state_dict({name: value for name, value in network.state_dict().items() if not for_pairs(name)})
    return single


# -------------------------------------------------------------------------------------------------------------- network


@pytest.mark.parametrize(("name", "count"), [("stkd", 35_757_778), ("stkd-pair", 36_334_038)])
def test_the_number_of_parameters_is_the_original_s(name, count):
    with torch.device("meta"):
        network = create(name)
    assert sum(one.numel() for one in network.parameters()) == count
    assert sum(one.numel() for one in network.trunk.parameters()) == 23_508_032


def test_single_frames_in_training_agree_with_the_original(stkd):
    network = original(stkd, "single")
    inside = {}
    network.predict0.register_forward_hook(lambda module, args, output: inside.update(high=args[0]))
    network.predict1.register_forward_hook(lambda module, args, output: inside.update(low=args[0][:, 1:]))
    saliency, maps = network(stkd.frames[:, :, 1:], intermediate=True)
    assert list(maps) == ["p0", "p1", "p2"]
    for name, logits in maps.items():
        check(logits[..., ::2, ::2], stkd.expected[f"train/single/{name}"], MEASURED, name)
    for name in ("high", "low"):
        check(inside[name][:, ::16, ::4, ::4], stkd.expected[f"train/single/feature_{name}"], MEASURED, name)
    torch.testing.assert_close(saliency, maps["p2"].sigmoid())


def test_pairs_in_training_agree_with_the_original(stkd):
    network = original(stkd, "pair")
    inside = {}
    network.mutual.register_forward_hook(lambda module, args, output: inside.update(attended=args[0], mutual=output))
    saliency, maps = network(stkd.frames, intermediate=True)
    assert tuple(maps) == MAPS
    for name, logits in maps.items():
        for index, frame in enumerate(FRAMES):
            expected = stkd.expected[f"train/pair/{name}_{frame}"]
            check(logits[:, index : index + 1, ::2, ::2], expected, MEASURED, f"{name} {frame}")
    check(inside["attended"][:, :256:8], stkd.expected["train/pair/attended"], MEASURED)
    check(inside["mutual"][:, ::8], stkd.expected["train/pair/mutual"], MEASURED)
    torch.testing.assert_close(saliency, maps["p3"][:, 1:].sigmoid())
    state, keys = network.state_dict(), [key for key in stkd.expected.files if key.startswith("train/pair/after_forw")]
    assert len(keys) == 4
    for key in keys:
        check(state[own_name(key.rpartition("/")[2])], stkd.expected[key], MEASURED, key)


def test_inference_agrees_with_the_original(stkd, calibrated):
    keys = [key for key in stkd.expected.files if key.startswith("calibrated/")]
    assert len(keys) == 4
    for key in keys:
        check(calibrated.state_dict()[own_name(key.rpartition("/")[2])], stkd.expected[key], MEASURED, key)
    check_inference(stkd, calibrated, "eval", stkd.frames[:1], 2)


@pytest.mark.slow
def test_inference_at_the_usual_size_agrees_with_the_original(stkd, calibrated):
    clip = torch.from_numpy(stkd.inputs.frames((1, 3, 2, 473, 473), 2.0, 2)).double()
    check_inference(stkd, calibrated, "eval_473", clip, 8)


def check_inference(stkd, network, group, clip, step):
    """Compare logits and saliency of a single frame, of a pair, and of a video's first frame."""
    expected = {
        key.removeprefix(f"{group}/"): stkd.expected[key] for key in stkd.expected.files if key.startswith(f"{group}/")
    }
    assert len(expected) == 14
    with torch.no_grad():
        single, maps = single_of(network)(clip[:, :, 1:], intermediate=True)
        pair, pair_maps = network(clip, intermediate=True)
        _, first_maps = network(clip[:, :, [1, 1]], intermediate=True)
        assert torch.equal(network(clip), pair)
    found = {f"single/{name}_logit": logits for name, logits in maps.items()}
    for index, frame in enumerate(FRAMES):
        found |= {f"pair/{name}_{frame}_logit": logits[:, index : index + 1] for name, logits in pair_maps.items()}
    found |= {"single/p2_sigmoid": single, "pair/p3_current_sigmoid": pair}
    found["pair_first_frame/p3_current_logit"] = first_maps["p3"][:, 1:]
    assert found.keys() == expected.keys()
    for name, values in found.items():
        check(values[..., ::step, ::step], expected[name], MEASURED, name)


def test_inference_without_calibration_agrees_with_the_original(stkd):
    network = original(stkd, "single").eval()
    with torch.no_grad():
        _, maps = network(stkd.frames[:1, :, 1:], intermediate=True)
    for name, logits in maps.items():
        check(logits[..., ::2, ::2], stkd.expected[f"eval_raw/single/{name}_logit"], OUTPUTS, name)


# ---------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("kind", ["single", "pair"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_original_files_are_read(stkd, tmp_path, kind, prefix):
    given = {key: value for key, value in stkd.weights.items() if kind == "pair" or not for_pairs(key)}
    torch.save({f"{prefix}{name}": value for name, value in given.items()}, tmp_path / "iter_80000.pth")
    loaded = weights.load(tmp_path / "iter_80000.pth")
    assert loaded.spec.name == {"single": "stkd", "pair": "stkd-pair"}[kind]
    assert loaded.spec.input_size == (473, 473)
    assert loaded.state_dict.keys() == create(loaded.spec.name).state_dict().keys()
    assert torch.equal(loaded.state_dict["trunk.conv1.weight"], given["head.layer0.0.weight"])
    assert torch.equal(loaded.state_dict["high.6.fuse.0.weight"], given["head.reduce_high.6.fuse.0.weight"])


def test_original_files_with_other_tensors_are_refused(stkd, tmp_path):
    path = tmp_path / "broken.pth"

    def problem(change):
        tensors = dict(stkd.weights)
        change(tensors)
        torch.save(tensors, path)
        with pytest.raises(WeightsError) as caught:
            weights.load(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "they lack 'predict1.0.weight' (and 0 more)" in problem(lambda tensors: tensors.pop("predict1.0.weight"))
    assert "they lack 'trunk.conv1.weight'" in problem(lambda tensors: tensors.pop("head.layer0.0.weight"))
    wrong = torch.zeros(1, 128, 1, 1)
    assert "'predict0.weight' has shape (1, 128, 1, 1), not (1, 256, 1, 1)" in problem(
        lambda tensors: tensors.update({"predict0.weight": wrong})
    )
    assert "has no tensor 'head.extra'" in problem(lambda tensors: tensors.update({"head.extra": wrong}))
    assert "they lack 'mutual.0.weight'" in problem(lambda tensors: tensors.pop("mutual.0.weight"))


@pytest.mark.parametrize("name", ["stkd", "stkd-pair", "stkd-lite"])
def test_own_tensors_are_recognized(name):
    with torch.device("meta"):
        state = create(name).state_dict()
    spec = recognize(state)
    assert spec.name == name
    assert not is_original(state, spec)


def test_a_mutual_attention_that_no_network_has():
    state = create("stkd-lite").state_dict()
    with pytest.raises(WeightsError, match="no network has trunk=mobilenetv2, mutual=true"):
        recognize({**state, "mutual.0.weight": torch.zeros(1)})


@pytest.mark.parametrize(
    "name", ["head.layer5.0.weight", "head.layer0.2.weight", "head", "", "predict4.0.weight", "x.low.0"]
)
def test_names_that_the_original_does_not_have(name):
    assert own_name(name) is None
