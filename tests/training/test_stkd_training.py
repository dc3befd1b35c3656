"""Losses, gradients and the first step of STKD against values of the original program."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import reference

from tinyhd_cli.models import build
from tinyhd_cli.models.original_names import convert
from tinyhd_cli.models.registry import family
from tinyhd_cli.training.losses import GroundTruth, Outputs, loss_terms, total
from tinyhd_cli.training.objectives import LABELED, PAIRS
from tinyhd_cli.training.optimizer import build_optimizer, lr_factor, set_lr
from tinyhd_cli.training.settings import build_config

TOLERANCE = 1e-4
"""Largest difference relative to the largest value."""

NORM_TOLERANCE, GRADIENT_TOLERANCE = 0.004, 0.025
"""The same for norms of gradients and for gradients. The original ran in float32, and its gradients are inexact: one
BatchNorm normalizes two values. In float32, the gradients here would also depend on the kind of CPU, by as much."""

SIZE = (129, 161)

CASES = {
    f"{kind}/{variant}": (kind, variant == "released")
    for kind in ("single", "pair")
    for variant in ("released", "intended")
}


@pytest.fixture(scope="module")
def stkd(shared):
    """The original's tensors, inputs and values."""
    procedural, inputs = reference.modules(shared)
    facts = json.loads((shared / "reference" / "stkd_tensors.json").read_text())
    state = {name: torch.from_numpy(value) for name, value in procedural.state_dict(facts["shapes"]).items()}
    masks = [torch.from_numpy(inputs.mask(f"{name}_mask", (2, 1, *SIZE))) for name in ("previous", "current")]
    return SimpleNamespace(
        state=state,
        clip=torch.from_numpy(inputs.frames((2, 3, 2, *SIZE), 2.0)).double(),
        masks=torch.cat(masks, 1),
        norms=facts["gradient_norms"],
        expected=np.load(shared / "reference" / "stkd_expected.npz"),
    )


def config_of(kind, *, slips=False):
    """Return the settings of the published training on single frames or pairs."""
    return build_config({"model": "stkd-pair", "size": SIZE, "original_slips": slips}, "stkd")


def original(stkd):
    """Return the network with mutual attention and the original's procedural weights, in float64, in training mode."""
    config = config_of("pair")
    network = build(config.spec)
    network.load_state_dict(convert(stkd.state, "stkd-pair"))
    return network.double().train()


@pytest.fixture(scope="module")
def runs(stkd):
    """Return for each case its terms, its loss, its gradients, and the network with those of the kind's last case."""
    found = {}
    for kind in ("single", "pair"):
        network, first = original(stkd), 0 if kind == "pair" else 1
        saliency, maps = network(stkd.clip[:, :, first:], intermediate=True)
        truth = GroundTruth(torch.empty(0), torch.empty(0), stkd.masks[:, first:], (0,))
        clips = PAIRS if kind == "pair" else LABELED
        for case in (f"{kind}/released", f"{kind}/intended"):
            objectives = config_of(kind, slips=CASES[case][1]).objectives
            terms = loss_terms(Outputs(saliency, maps), 2, None, truth, objectives, clips)
            loss = total(terms, objectives.weights)
            network.zero_grad()  # does not change the gradients of the other case, but makes new ones
            loss.backward(retain_graph=True)
            gradients = {name: one.grad for name, one in network.named_parameters() if one.grad is not None}
            values = {name.partition("/")[2]: value.item() for name, value in terms.items()}
            found[case] = SimpleNamespace(terms=values, loss=loss.item(), gradients=gradients, network=network)
    return found


def own(name):
    """Return tinyhd's name of an original tensor."""
    found = family("stkd").rename(name)
    assert found is not None
    return found


def check(found, expected, largest=None, tolerance=TOLERANCE):
    """Compare arrays with a tolerance relative to the largest expected value."""
    found, largest = np.asarray(found, np.float64), largest or np.abs(expected).max()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * largest


@pytest.mark.parametrize("case", CASES)
def test_losses(stkd, runs, case):
    terms, loss = runs[case].terms, runs[case].loss
    kind, slips = CASES[case]
    value = {name.split("/")[-1]: float(stkd.expected[name]) for name in stkd.expected.files if f"{kind}/loss_" in name}
    if kind == "single":
        expected = {f"p{i}": value[f"ground_p{i}"] for i in range(3)}
        expected |= {f"self-p{i}": value[f"distill_p{i}"] for i in (0, 1)}
    else:
        frames = ("previous", "current")
        expected = {f"p{i}": sum(value[f"ground_p{i}_{frame}"] for frame in frames) for i in range(4)}
        expected |= {f"temporal-p{i}": sum(value[f"temporal_p{i}_{frame}"] for frame in frames) for i in (0, 1)}
        expected["temporal-p2"] = value["temporal_p2_previous"]
        if slips:
            expected |= {"p3": value["ground_p3_previous"], "p3-current": value["ground_p2_current"]}
    assert terms == pytest.approx(expected, rel=TOLERANCE)
    assert loss == pytest.approx(float(stkd.expected[f"train/{kind}/loss/{case.split('/')[1]}"]), rel=TOLERANCE)


@pytest.mark.parametrize("case", CASES)
def test_gradients(stkd, runs, case):
    kind, variant = case.split("/")
    gradients = runs[case].gradients
    norms = stkd.norms[case]
    assert {own(name) for name in norms} == set(gradients)
    found = np.array([gradients[own(name)].double().norm().item() for name in norms])
    check(found, np.array(list(norms.values())), tolerance=NORM_TOLERANCE)
    prefix = f"train/{kind}/gradient/{variant}/"
    whole = [name for name in stkd.expected.files if name.startswith(prefix)]
    assert len(whole) >= 5
    for name in whole:
        # A bias before a BatchNorm has no gradient but rounding errors.
        original_name = name.removeprefix(prefix)
        no_gradient = norms[original_name] < TOLERANCE * max(norms.values())
        gradient = gradients[own(original_name)].numpy()
        largest, tolerance = (max(norms.values()), TOLERANCE) if no_gradient else (None, GRADIENT_TOLERANCE)
        check(gradient, stkd.expected[name], largest, tolerance)


def test_the_variants_differ_only_in_their_gradients(stkd, runs):
    """On single frames, the released loss has the same value as the intended one, but another gradient."""
    released, intended = (runs[f"single/{variant}"] for variant in ("released", "intended"))
    assert released.loss == intended.loss
    gradients = [run.gradients["predict0.bias"].item() for run in (released, intended)]
    assert abs(gradients[0] - gradients[1]) > 0.003
    assert runs["pair/released"].loss < runs["pair/intended"].loss - 0.05


def test_the_first_step(stkd, runs):
    config, network = config_of("pair"), runs["pair/intended"].network
    statistics = dict(network.named_buffers())
    prefix = "train/pair/after_forward/"
    buffers = [name for name in stkd.expected.files if name.startswith(prefix)]
    assert len(buffers) == 4
    for name in buffers:
        check(statistics[own(name.removeprefix(prefix))].numpy(), stkd.expected[name])

    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    optimizer = build_optimizer(network, config)
    set_lr(optimizer, lr_factor(config, 0, 80_000))
    optimizer.step()
    after = dict(network.named_parameters())
    prefix = "train/pair/after_step/"
    stepped = [name for name in stkd.expected.files if name.startswith(prefix)]
    assert len(stepped) == 4
    for name in stepped:
        own_name = own(name.removeprefix(prefix))
        expected = stkd.expected[name]
        check(after[own_name].detach().numpy(), expected)
        # The change itself, which is small beside the values.
        change, wanted = (after[own_name] - before[own_name]).detach().numpy(), expected - before[own_name].numpy()
        assert np.abs(wanted).max() > 0
        assert np.abs(change - wanted).max() <= 2 * GRADIENT_TOLERANCE * np.abs(wanted).max() + 1e-7
