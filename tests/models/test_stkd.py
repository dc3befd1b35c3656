"""STKD against values of the original program, and its tensor names and weights files."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import reference
from helpers.reference import check
from torch import nn

from tinyhd_cli import weights
from tinyhd_cli.errors import WeightsError
from tinyhd_cli.models import create
from tinyhd_cli.models.families.stkd.original import own_name
from tinyhd_cli.models.original_names import convert, is_original, recognize

OUTPUTS = 1e-5
GRADIENTS = 1e-4
"""Largest difference of outputs and gradients, relative to the largest value."""

FRAMES = ("previous", "current")
MAPS = ("p0", "p1", "p2", "p3")

RATE, DECAY = 1e-3, 5e-4
"""Learning rate and weight decay of SGD; biases have twice the rate and no decay."""


@pytest.fixture(scope="module")
def stkd(shared):
    """The original's tensors, inputs and outputs."""
    procedural, inputs = reference.modules(shared)
    tensors = json.loads((shared / "reference" / "stkd_tensors.json").read_text())
    values = procedural.state_dict(tensors["shapes"])
    frames = torch.from_numpy(inputs.frames((2, 3, 2, 129, 161), 2.0))
    masks = [torch.from_numpy(inputs.mask(f"{frame}_mask", (2, 1, 129, 161))) for frame in FRAMES]
    return SimpleNamespace(
        inputs=inputs,
        frames=frames,
        masks=torch.cat(masks, 1),
        norms=tensors["gradient_norms"],
        weights={name: torch.from_numpy(np.asarray(value)) for name, value in values.items()},
        expected=np.load(shared / "reference" / "stkd_expected.npz"),
    )


def original(stkd, kind):
    """Return the single-frame or pair network with the original's procedural weights, in training mode."""
    name = {"single": "stkd", "pair": "stkd-pair"}[kind]
    given = {key: value for key, value in stkd.weights.items() if kind == "pair" or not for_pairs(key)}
    network = create(name)
    network.load_state_dict(convert(given, name))
    return network


def for_pairs(name):
    return name.startswith(("mutual.", "predict3."))


def training_pass(stkd, kind):
    """Return the network after a forward pass in training mode, and its logits."""
    network = original(stkd, kind)
    clip = stkd.frames if kind == "pair" else stkd.frames[:, :, 1:]
    return network, network(clip, intermediate=True)[1]


@pytest.fixture(scope="module")
def calibrated(stkd):
    """The pair network in evaluation mode, with the statistics of a static pair."""
    network = original(stkd, "pair")
    set_momentum(network, 1.0)
    with torch.no_grad():
        network(torch.from_numpy(stkd.inputs.frames((4, 3, 1, 129, 161), 2.0, salt=1)).expand(-1, -1, 2, -1, -1))
    return network.eval()


def set_momentum(network, momentum):
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum


def single_of(network):
    """Return the single-frame network with the tensors of a pair network."""
    single = create("stkd").eval()
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
        check(logits[..., ::2, ::2], stkd.expected[f"train/single/{name}"], OUTPUTS, name)
    for name in ("high", "low"):
        check(inside[name][:, ::16, ::4, ::4], stkd.expected[f"train/single/feature_{name}"], OUTPUTS, name)
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
            check(logits[:, index : index + 1, ::2, ::2], expected, OUTPUTS, f"{name} {frame}")
    check(inside["attended"][:, :256:8], stkd.expected["train/pair/attended"], OUTPUTS)
    check(inside["mutual"][:, ::8], stkd.expected["train/pair/mutual"], OUTPUTS)
    torch.testing.assert_close(saliency, maps["p3"][:, 1:].sigmoid())
    state, keys = network.state_dict(), [key for key in stkd.expected.files if key.startswith("train/pair/after_forw")]
    assert len(keys) == 4
    for key in keys:
        check(state[own_name(key.rpartition("/")[2])], stkd.expected[key], OUTPUTS, key)


def test_inference_agrees_with_the_original(stkd, calibrated):
    keys = [key for key in stkd.expected.files if key.startswith("calibrated/")]
    assert len(keys) == 4
    for key in keys:
        check(calibrated.state_dict()[own_name(key.rpartition("/")[2])], stkd.expected[key], OUTPUTS, key)
    check_inference(stkd, calibrated, "eval", stkd.frames[:1], 2)


def test_inference_at_the_usual_size_agrees_with_the_original(stkd, calibrated):
    check_inference(stkd, calibrated, "eval_473", torch.from_numpy(stkd.inputs.frames((1, 3, 2, 473, 473), 2.0, 2)), 8)


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
        check(values[..., ::step, ::step], expected[name], OUTPUTS, name)


def test_inference_without_calibration_agrees_with_the_original(stkd):
    network = original(stkd, "single").eval()
    with torch.no_grad():
        _, maps = network(stkd.frames[:1, :, 1:], intermediate=True)
    for name, logits in maps.items():
        check(logits[..., ::2, ::2], stkd.expected[f"eval_raw/single/{name}_logit"], OUTPUTS, name)


# --------------------------------------------------------------------------------------------------------------- losses


def single_terms(maps, mask, detach):
    """Return the terms of spatial distillation, without weights."""
    teacher = maps["p2"].sigmoid()
    teacher = teacher.detach() if detach else teacher
    return {
        **{f"ground_{name}": entropy(maps[name], mask) for name in ("p0", "p1", "p2")},
        **{f"distill_{name}": entropy(maps[name], teacher) for name in ("p0", "p1")},
    }


def pair_terms(maps, masks, detach):
    """Return the terms of temporal distillation, without weights."""
    teachers = maps["p2"].sigmoid()
    teachers = teachers.detach() if detach else teachers
    terms = {}
    for index, frame in enumerate(FRAMES):
        for name in MAPS:
            terms[f"ground_{name}_{frame}"] = entropy(maps[name][:, index], masks[:, index])
        for name in MAPS[: 3 - index]:
            terms[f"temporal_{name}_{frame}"] = entropy(maps[name][:, index], teachers[:, 1 - index])
    return terms


def entropy(logits, target):
    return F.binary_cross_entropy_with_logits(logits, target)


def loss_of(stkd, kind, maps, version):
    """Return the terms of a loss, and their sum; ``released``: with the mistakes of the original program."""
    released = version == "released"
    if kind == "single":
        terms = single_terms(maps, stkd.masks[:, 1:], detach=not released)
        total = sum(value * (0.5 if name.startswith("distill") else 1) for name, value in terms.items())
        return terms, total
    terms = pair_terms(maps, stkd.masks, detach=not released)
    counted = {**terms, "ground_p3_current": terms["ground_p2_current"]} if released else terms
    return terms, sum(value * (0.3 if name.startswith("temporal") else 1) for name, value in counted.items())


@pytest.mark.parametrize("version", ["released", "intended"])
@pytest.mark.parametrize("kind", ["single", "pair"])
def test_losses_and_gradients_agree_with_the_original(stkd, kind, version):
    network, maps = training_pass(stkd, kind)
    terms, total = loss_of(stkd, kind, maps, version)
    prefix = f"train/{kind}/loss_term/"
    expected = {key.removeprefix(prefix): float(stkd.expected[key]) for key in stkd.expected.files if prefix in key}
    assert terms.keys() == expected.keys()
    for name, value in terms.items():
        assert value.item() == pytest.approx(expected[name], rel=1e-5), name
    assert total.item() == pytest.approx(float(stkd.expected[f"train/{kind}/loss/{version}"]), rel=1e-5)
    total.backward()
    parameters = dict(network.named_parameters())
    norms = stkd.norms[f"{kind}/{version}"]
    largest = max(norms.values())
    for name, norm in norms.items():
        found = float(parameters[own_name(name)].grad.double().norm())
        assert found == pytest.approx(norm, rel=1e-3, abs=GRADIENTS * largest), name
    reached = {name for name, one in parameters.items() if one.grad is not None}
    assert reached == {own_name(name) for name in norms}
    for key in stkd.expected.files:
        if key.startswith(f"train/{kind}/gradient/{version}/") and not key.endswith("mutual.0.bias"):  # rounding
            check(parameters[own_name(key.rpartition("/")[2])].grad, stkd.expected[key], 10 * GRADIENTS, key)


def test_the_first_step_agrees_with_the_original(stkd):
    network, maps = training_pass(stkd, "pair")
    loss_of(stkd, "pair", maps, "intended")[1].backward()
    parameters = dict(network.named_parameters())
    biases = {name for name in parameters if name.endswith("bias")}
    groups = [
        {"params": [parameters[name] for name in parameters if name in biases], "lr": 2 * RATE, "weight_decay": 0.0},
        {"params": [parameters[name] for name in parameters if name not in biases], "lr": RATE, "weight_decay": DECAY},
    ]
    torch.optim.SGD(groups, momentum=0.95).step()
    keys = [key for key in stkd.expected.files if key.startswith("train/pair/after_step/")]
    assert len(keys) == 4
    for key in keys:
        name = key.rpartition("/")[2]
        before, after = stkd.weights[name].numpy(), stkd.expected[key]
        check(parameters[own_name(name)], after, 1e-6, name)
        step = parameters[own_name(name)].detach() - stkd.weights[name]
        check(step, after - before, 10 * GRADIENTS, f"step of {name}")


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
