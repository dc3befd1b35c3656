"""DIS against values of the original program; tensor names and weights files of DIS and UVA-Net."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import reference
from helpers.reference import check

from tinyhd_cli import weights
from tinyhd_cli.errors import WeightsError
from tinyhd_cli.models import create, named_spec
from tinyhd_cli.models.families.uvanet.original import own_name, side_in
from tinyhd_cli.models.original_names import convert, is_original, recognize
from tinyhd_cli.models.registry import family
from tinyhd_cli.training.losses import mean_squared_error

OUTPUTS = 5e-6
GRADIENTS = 5e-4
"""Largest difference of outputs and gradients, relative to the largest value."""

LOSSES = 1e-6
ROUNDING = 2.5e-6
"""Largest relative difference of loss terms, computed from the original's outputs, and from the network's. TensorFlow's
BatchNorm rounds so much that the original's own terms are up to 2.2e-6 from those of exact arithmetic."""

HEADS = {"two_heads": "two", "fused": "fused"}


# ------------------------------------------------------------------------------------------------------- the original


@pytest.fixture(scope="module")
def dis(shared):
    """The original's tensors, inputs and outputs."""
    procedural, inputs = reference.modules(shared)
    tensors = json.loads((shared / "reference" / "dis_tensors.json").read_text())
    weights = {
        kind: {
            name: torch.from_numpy(value)
            for name, value in procedural.state_dict({one["name"]: one["shape"] for one in tensors[kind]}).items()
        }
        for kind in HEADS
    }
    return SimpleNamespace(
        inputs=inputs,
        tensors=tensors,
        weights=weights,
        expected=np.load(shared / "reference" / "dis_expected.npz"),
    )


def original(dis, kind, side=32):
    """Return the network with the original's procedural weights, in evaluation mode."""
    name = f"dis-{side}"
    network = create(name, heads=HEADS[kind])
    network.load_state_dict(convert(dis.weights[kind], name, heads=HEADS[kind]))
    return network.eval()


@pytest.mark.parametrize("side", [32, 64])
def test_the_two_head_network_agrees_with_the_original(dis, side):
    network = original(dis, "two_heads", side)
    with torch.no_grad():
        mean, maps = network(torch.from_numpy(dis.inputs.frames((2, 3, 2, side, side), 1.0)), intermediate=True)
    for path in ("spatial", "temporal"):
        check(maps[path], dis.expected[f"two_heads/{side}/{path}"], OUTPUTS, path)
    torch.testing.assert_close(mean, (maps["spatial"] + maps["temporal"]) / 2)


@pytest.mark.parametrize("side", [32, 64])
def test_the_fused_network_agrees_with_the_original(dis, side):
    network = original(dis, "fused", side)
    with torch.no_grad():
        saliency = network(torch.from_numpy(dis.inputs.frames((2, 3, 2, side, side), 1.0)))
    check(saliency, dis.expected[f"fused/{side}/saliency"], OUTPUTS)


def test_the_layers_inside_agree_with_the_original(dis):
    network = original(dis, "two_heads")
    first, following = torch.from_numpy(dis.inputs.frames((2, 3, 2, 32, 32), 1.0)).unbind(2)
    with torch.no_grad():
        inside = {}
        x = first
        for layer, name in zip(
            network.low, ("", "conv2_a", "norm1_a", "pool1_a", "", "pool2_a", "conv4_a"), strict=True
        ):
            x = layer(x)
            if name:
                inside[name] = x
        inside["conv6_S"] = network.spatial(x)
        inside["conv6_T"] = network.temporal(torch.cat([x, x - network.low(following)], 1))
    assert len(inside) == 7
    for name, value in inside.items():
        check(value, dis.expected[f"two_heads/32/{name}"], OUTPUTS, name)


TERMS = {
    "distill_s": ("spatial", "teacher"),
    "ground_s": ("spatial", "ground"),
    "distill_t_released": ("temporal", "teacher"),
    "distill_t_intended": ("temporal", "temporal_teacher"),
    "ground_t": ("temporal", "ground"),
    "ground": ("saliency", "ground"),
}
"""Terms of the original's losses: an output and its target. The released script uses one teacher for both paths."""

LOSSES_OF = {
    "two_heads": {
        "s": ("distill_s", "ground_s"),
        "t_released": ("distill_t_released", "ground_t"),
        "t_intended": ("distill_t_intended", "ground_t"),
    },
    "fused": {"fused": ("ground",)},
}
FROZEN = ("low", "spatial", "temporal")
"""Modules that the second stage neither trains nor updates."""


def training_pass(dis, kind):
    """Return the network in training mode, and its outputs for the original's training batch.

    In float64, so that only the original's rounding remains.
    """
    network = original(dis, kind).double().train()
    if kind == "fused":
        for name in FROZEN:
            network.get_submodule(name).eval().requires_grad_(False)
    clip = torch.from_numpy(dis.inputs.frames((4, 3, 2, 32, 32), 1.0, salt=1)).double()
    saliency, maps = network(clip, intermediate=True)
    return network, {**maps, "saliency": saliency}


def term_value(dis, outputs, term):
    output, target = TERMS[term]
    return mean_squared_error(outputs[output], torch.from_numpy(dis.inputs.target(target, (4, 1, 32, 32)))).mean()


@pytest.mark.parametrize("kind", HEADS)
def test_outputs_and_losses_in_training_agree_with_the_original(dis, kind):
    _, outputs = training_pass(dis, kind)
    names = ("spatial", "temporal") if kind == "two_heads" else ("saliency",)
    for name in names:
        check(outputs[name], dis.expected[f"train/{kind}/output/{name}"], OUTPUTS, name)
    for loss, terms in LOSSES_OF[kind].items():
        theirs = {name: torch.from_numpy(dis.expected[f"train/{kind}/output/{name}"]) for name in names}
        for tolerance, source in ((LOSSES, theirs), (ROUNDING, outputs)):
            values = {term: term_value(dis, source, term).item() for term in terms}
            for term, value in values.items():
                expected = float(dis.expected[f"train/{kind}/loss_term/{term}"])
                assert value == pytest.approx(expected, rel=tolerance), term
            total = float(dis.expected[f"train/{kind}/loss/{loss}"])
            assert sum(values.values()) == pytest.approx(total, rel=tolerance), loss


@pytest.mark.parametrize(("kind", "loss"), [(kind, loss) for kind, losses in LOSSES_OF.items() for loss in losses])
def test_gradients_agree_with_the_original(dis, kind, loss):
    network, outputs = training_pass(dis, kind)
    sum(term_value(dis, outputs, term) for term in LOSSES_OF[kind][loss]).backward()
    parameters = dict(network.named_parameters())
    ours = {one["name"]: parameters.get(own_name(one["name"])) for one in dis.tensors[kind]}
    gradients = {name: one.grad for name, one in ours.items() if one is not None and one.grad is not None}
    norms = dis.tensors["gradient_norms"][loss]
    assert gradients.keys() == norms.keys()
    largest = max(norms.values())
    for name, norm in norms.items():
        assert float(gradients[name].double().norm()) == pytest.approx(norm, rel=GRADIENTS, abs=1e-9 * largest), name
    whole = [key for key in dis.expected.files if key.startswith(f"train/gradient/{loss}/")]
    assert len(whole) == 2
    for key in whole:
        check(gradients[key.rpartition("/")[2]], dis.expected[key], GRADIENTS, key)


@pytest.mark.parametrize("kind", HEADS)
def test_running_statistics_agree_with_the_original(dis, kind):
    network, _ = training_pass(dis, kind)
    state = network.state_dict()
    keys = [key for key in dis.expected.files if key.startswith(f"train/{kind}/after_update/")]
    assert len(keys) == (4 if kind == "two_heads" else 8)
    for key in keys:
        check(state[own_name(key.rpartition("/")[2])], dis.expected[key], OUTPUTS, key)


def test_each_training_step_updates_the_shared_statistics_twice(dis):
    network, _ = training_pass(dis, "two_heads")
    state = network.state_dict()
    assert int(state["low.0.norm.num_batches_tracked"]) == 2
    assert int(state["spatial.0.norm.num_batches_tracked"]) == 1


@pytest.mark.parametrize(("kind", "trained"), [("two_heads", 343_956), ("fused", 318_498)])
def test_recognizes_the_original_tensors(dis, kind, trained):
    weights = dis.weights[kind]
    spec = recognize(weights)
    assert (spec.name, spec.options["trunk"], spec.options["heads"]) == ("dis-64", "dis", HEADS[kind])
    assert is_original(weights, spec)
    assert recognize(weights, "dis_32").name == "dis-32"
    assert sum(one.numel() for one in create(spec.name, heads=HEADS[kind]).parameters()) == trained


def test_convert_is_strict(dis):
    weights = dict(dis.weights["two_heads"])
    with pytest.raises(WeightsError, match=r"not weights of dis-32: they lack 'head\.0\.conv\.weight'"):
        convert(weights, "dis-32")
    with pytest.raises(WeightsError, match=r"no tensor 'conv5_S\.bias'"):
        convert({**weights, "conv5_S.bias": torch.zeros(64)}, "dis-32", heads="two")
    with pytest.raises(WeightsError, match=r"'spatial\.0\.conv\.weight' has shape \(64, 32, 3, 3\)"):
        convert({**weights, "conv5_S.weight": torch.zeros(64, 32, 3, 3)}, "dis-32", heads="two")
    del weights["conv6_T.norm.running_var"]
    with pytest.raises(WeightsError, match=r"lack 'temporal\.1\.norm\.running_var'"):
        convert(weights, "dis-32", heads="two")


# ------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("trunk", ["dis", "uva"])
@pytest.mark.parametrize("heads", ["fused", "two"])
def test_recognizes_own_tensors(trunk, heads):
    state = create(f"{trunk}-32", heads=heads).state_dict()
    spec = recognize(state, f"{trunk}_32")
    assert (spec.name, spec.options["trunk"], spec.options["heads"]) == (f"{trunk}-32", trunk, heads)
    assert spec.options["output"] == "raw"
    assert recognize(state).name == f"{trunk}-64"
    assert not is_original(state, spec)


@pytest.mark.parametrize(("trunk", "heads"), [("uva", "fused"), ("dis", "two")])
@pytest.mark.parametrize("prefix", ["", "module.", "student."])
def test_pytorch_files_with_own_names(tmp_path, caplog, trunk, heads, prefix):
    state = create(f"{trunk}-32", heads=heads).state_dict()
    content = {"epoch": 3, "state_dict": {f"{prefix}{name}": values for name, values in state.items()}}
    torch.save(content, tmp_path / f"{trunk}_32.pth")
    loaded = weights.load(tmp_path / f"{trunk}_32.pth")
    assert (loaded.spec.name, loaded.spec.options["heads"]) == (f"{trunk}-32", heads)
    assert state.keys() == loaded.state_dict.keys()
    assert all(torch.equal(values, loaded.state_dict[name]) for name, values in state.items())
    assert not caplog.messages


def test_pytorch_files_with_the_original_names(dis, tmp_path):
    torch.save({"model": dis.weights["fused"]}, tmp_path / "dis_128.pth")
    loaded = weights.load(tmp_path / "dis_128.pth")
    assert loaded.spec.name == "dis-128"
    expected = convert(dis.weights["fused"], "dis-128")
    assert all(torch.equal(values, loaded.state_dict[name]) for name, values in expected.items())


@pytest.mark.parametrize(
    ("stem", "side"),
    [
        ("dis_32", 32),
        ("DIS-256-3000", 256),
        ("uva64", 64),
        ("model.ckpt-3000", None),
        ("model.ckpt-128", None),
        ("dis_96.ckpt-32", 96),
        ("dis_1280", None),
        ("dis_33", None),
        ("", None),
    ],
)
def test_the_side_in_the_name_of_a_file(stem, side):
    assert side_in(stem) == side
    spec = named_spec(f"dis-{side or 64}")
    assert family(spec).ambiguity(spec, stem) == (
        ""
        if side
        else "its tensors do not determine the size of the input; 64x64 assumed (a name like dis_32 states it)"
    )


def test_a_size_that_no_network_has_is_not_taken_from_the_name():
    spec = recognize(create("uva-64").state_dict(), "uva_256")
    assert spec.name == "uva-64"
    assert family(spec).ambiguity(spec, "uva_256")


@pytest.mark.parametrize(
    "name",
    [
        *("conv1_S.weight", "conv1.bias", "conv5.weight", "conv5_ST.weight", "conv11_S.weight", "deconv3_S.weight"),
        *("conv5_S.norm", "conv5_S.norm.weight.x", "xconv5_S.weight", "", "low.0.conv.weight", "conv7_X.weight"),
    ],
)
def test_names_that_the_original_does_not_have(name):
    assert own_name(name) is None
