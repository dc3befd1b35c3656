"""The loss, compared with straightforward calculations in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tinyhd_cli.errors import UsageError
from tinyhd_cli.models import LossTerm
from tinyhd_cli.models.family import KL_CC_TERMS
from tinyhd_cli.training.losses import (
    GroundTruth,
    Outputs,
    Targets,
    cc,
    change_error,
    kl_divergence,
    kl_divergence_eps,
    log_distribution,
    loss_terms,
    nss,
    total,
)
from tinyhd_cli.training.objectives import Objectives, objectives
from tinyhd_cli.training.options import TrainConfig

SIZE = (12, 16)

PAPER = TrainConfig().objectives
"""Terms of the loss, with the weights of the paper."""


def maps(seed, *shape):
    return torch.rand(*shape, *SIZE, generator=torch.Generator().manual_seed(seed)) ** 4 * 0.05


def reference_kl(prediction, target):
    """Return equation 1, summed pixel by pixel."""
    x, y = prediction.double().numpy().ravel(), target.double().numpy().ravel()
    x, y = x / x.sum(), y / y.sum()
    return sum(b * np.log(b / a) for a, b in zip(x, y, strict=True) if b > 0)


def test_equation_2_is_the_sum_of_its_terms_in_float64():
    clips, frames = 2, 3
    saliency, d1 = maps(0, clips, frames), maps(1, clips, 4, 1)
    targets = Targets(maps(2, clips, frames), maps(3, clips, 4))
    truth = GroundTruth((maps(4, clips, frames) * 5000).round(), torch.zeros(clips, frames, *SIZE))
    truth.density[:, :, :4] = 0  # regions without fixations, where the target is exactly 0
    terms = loss_terms(Outputs(saliency, {"d1": d1, "d2": maps(9, clips, 1, 1)}), clips, targets, truth, PAPER)

    pairs = [(n, t) for n in range(clips) for t in range(frames)]
    expected = {
        "target/final": np.mean([reference_kl(saliency[p], targets.final[p]) for p in pairs]),
        "target/ground-truth": np.mean([reference_kl(saliency[p], truth.density[p]) for p in pairs]),
    }
    for i in range(4):
        values = [reference_kl(d1[n, i, 0], targets.intermediate[n, i]) for n in range(clips)]
        expected[f"target/d1.{i + 1}"] = np.mean(values)
    assert set(terms) == set(expected)
    for name, value in expected.items():
        assert float(terms[name]) == pytest.approx(value, rel=1e-5), name
    assert float(total(terms, PAPER.weights)) == pytest.approx(sum(expected.values()), rel=1e-5)


def reference_kl_eps(prediction, target):
    """Return the KL divergence of saliency benchmarks."""
    x, y = prediction.double().numpy(), target.double().numpy()
    x, y, eps = x / x.sum(), y / y.sum(), 2.2204e-16
    return float((y * np.log(eps + y / (x + eps))).sum())


def reference_cc(prediction, target):
    return float(np.corrcoef(prediction.double().numpy().ravel(), target.double().numpy().ravel())[0, 1])


def test_the_distillation_of_thtd_net_is_kl_minus_cc_to_the_ground_truth_and_to_the_teacher():
    """L = KL(G, S) - CC(S, G) + lambda (KL(T, S) - CC(S, T)), without ground truth its second part alone."""
    saliency, targets = maps(0, 2, 1), Targets(maps(1, 2, 1), None)
    truth = GroundTruth((maps(2, 1, 1) * 5000).round(), torch.zeros(1, 1, *SIZE))
    truth.density[:, :, :4] = 0
    saliency[0, 0, 5:7] = 0  # where KL without epsilon would be as large as float32 allows
    both = objectives(KL_CC_TERMS, ["final=0.7", "final-cc=0.7"])
    terms = loss_terms(Outputs(saliency, {}), 1, targets, truth, both)
    s, t, g = saliency[:, 0], targets.final[:, 0], truth.density[0, 0]
    expected = {
        "target/final": reference_kl_eps(s[0], t[0]),
        "target/ground-truth": reference_kl_eps(s[0], g),
        "target/cc": 1 - reference_cc(s[0], g),
        "target/final-cc": 1 - reference_cc(s[0], t[0]),
        "aux/final": reference_kl_eps(s[1], t[1]),
        "aux/final-cc": 1 - reference_cc(s[1], t[1]),
    }
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(expected, rel=1e-5)
    labeled = expected["target/ground-truth"] + expected["target/cc"]
    labeled += 0.7 * (expected["target/final"] + expected["target/final-cc"])
    unlabeled = 0.7 * (expected["aux/final"] + expected["aux/final-cc"])
    assert float(total(terms, both.weights)) == pytest.approx(labeled + unlabeled, rel=1e-5)


def test_auxiliary_clips_have_separate_terms():
    """Equation 3: the first clips are labeled, the others are auxiliary."""
    saliency, d1, targets = maps(0, 3, 2), maps(1, 3, 4, 1), Targets(maps(2, 3, 2), maps(3, 3, 4))
    truth = GroundTruth(maps(4, 1, 2), torch.zeros(1, 2, *SIZE))
    terms = loss_terms(Outputs(saliency, {"d1": d1}), 1, targets, truth, PAPER)
    assert set(terms) == {name for name, weight in PAPER.weights.items() if weight}
    assert float(terms["target/final"]) == pytest.approx(float(kl_divergence(saliency[0], targets.final[0]).mean()))
    assert float(terms["aux/final"]) == pytest.approx(float(kl_divergence(saliency[1:], targets.final[1:]).mean()))


@pytest.mark.parametrize("divergence", [kl_divergence, kl_divergence_eps])
def test_extreme_maps_give_finite_losses_and_gradients(divergence):
    """No 0/0 and no log 0, not even after rounding small numbers to bfloat16."""
    dark = torch.zeros(1, *SIZE)
    point = dark.clone()
    point[0, 3, 3] = 1
    for prediction in (dark, point, maps(0, 1) * 1e-30, maps(0, 1).bfloat16()):
        for target in (dark, point, maps(1, 1) * 1e-30):
            leaf = prediction.clone().requires_grad_()
            value = divergence(leaf, target).sum()
            value.backward()
            assert torch.isfinite(value)
            assert torch.isfinite(leaf.grad).all()
            assert value >= -1e-5
    assert float(divergence(point, dark).sum()) == 0
    assert log_distribution(dark).isfinite().all()


def test_the_loss_is_float32_under_mixed_precision():
    with torch.autocast("cpu", torch.bfloat16):
        value = kl_divergence(maps(0, 2).bfloat16(), maps(1, 2))
    assert value.dtype == torch.float32
    assert float(value[0]) == pytest.approx(reference_kl(maps(0, 2)[0].bfloat16().float(), maps(1, 2)[0]), rel=1e-4)


def test_cc_and_nss():
    a, b = maps(0, 1)[0], maps(1, 1)[0]
    assert float(cc(a, b)) == pytest.approx(np.corrcoef(a.numpy().ravel(), b.numpy().ravel())[0, 1], abs=1e-5)
    points = torch.zeros(SIZE)
    points[2, 5] = points[7, 1] = 1
    standard = (a.double() - a.double().mean()) / a.double().std(correction=0)
    assert float(nss(a, points)) == pytest.approx(float((standard[2, 5] + standard[7, 1]) / 2), abs=1e-5)


def test_frames_without_ground_truth_are_ignored():
    saliency, density = maps(0, 1, 2), maps(1, 1, 2)
    density[:, 1] = 0
    truth = GroundTruth(density, torch.zeros_like(density))
    objectives = Objectives(PAPER.terms, {**PAPER.weights, "target/cc": 1.0, "target/nss": 1.0})
    terms = loss_terms(Outputs(saliency, {}), 1, None, truth, objectives)
    assert float(terms["target/ground-truth"]) == pytest.approx(reference_kl(saliency[0, 0], density[0, 0]), rel=1e-5)
    assert float(terms["target/cc"]) == pytest.approx(1 - float(cc(saliency[0, 0], density[0, 0])), rel=1e-5)
    assert float(terms["target/nss"]) == 0


def test_weights_of_terms():
    objectives = TrainConfig(weight=("final=2", "target/cc=0.5", "aux/d1.4=0")).objectives
    weights = objectives.weights
    assert (weights["target/final"], weights["aux/final"]) == (2, 2)
    assert (weights["target/cc"], weights["aux/d1.4"], weights["target/d1.4"]) == (0.5, 0, 1)
    terms = loss_terms(
        Outputs(maps(0, 1, 1), {"d1": maps(1, 1, 4, 1)}), 0, Targets(maps(2, 1, 1), maps(3, 1, 4)), None, objectives
    )
    assert "aux/d1.4" not in terms
    for wrong in ("finale=1", "final=x", "final"):
        with pytest.raises(UsageError, match="--weight"):
            TrainConfig(weight=(wrong,))


def test_best_constant_map():
    """The mean of the distributions minimizes the divergence; the scale of the maps has no effect."""
    from tinyhd_cli.training.validation import mean_divergence

    rng = np.random.default_rng(0)
    maps = [torch.from_numpy(rng.random((2, 3, 8, 8))), 7 * torch.from_numpy(rng.random((1, 3, 8, 8)))]
    best = mean_divergence(maps)
    distributions = [m / m.sum((-2, -1), keepdim=True) for m in maps]
    stacked = torch.cat([m.flatten(0, 1) for m in distributions])

    def divergence(constant):
        return float((stacked * (stacked / constant).log()).sum((-2, -1)).mean())

    mean = stacked.mean(0)
    assert best == pytest.approx(divergence(mean), rel=1e-5)
    other = mean * torch.from_numpy(rng.uniform(0.8, 1.2, (8, 8)))
    assert divergence(other / other.sum()) > best
    assert mean_divergence([maps[0][:1, :1].expand(3, 2, 8, 8)]) == pytest.approx(0, abs=1e-6)


# ------------------------------------------------------------------------------------- terms of any kind and target


def definition(kind, prediction, target):
    """Return a loss of two maps ``(H, W)``, in NumPy and float64."""
    x, y = np.float64(prediction), np.float64(target)
    if kind == "kl":
        x, y = x / x.sum(), y / max(y.sum(), 1e-30)
        return sum(b * np.log(b / a) for a, b in zip(x.ravel(), y.ravel(), strict=True) if b > 0)
    if kind == "mse":
        return ((x - y) ** 2).mean()
    if kind == "bce":
        return -(y * np.log(x) + (1 - y) * np.log(1 - x)).mean()
    if kind == "cc":
        return 1 - np.corrcoef(x.ravel(), y.ravel())[0, 1]
    return -((x - x.mean()) / x.std() * y).sum() / max(y.sum(), 1)


CLIPS, LABELED, FRAMES = 3, 2, 4


def labeled_frames(term, truth):
    """Return the pairs of clip and frame that a term is the mean over."""
    pairs = [(n, t) for n in range(LABELED) for t in range(FRAMES)]
    return [p for p in pairs if truth[p].sum() > 0] if term.labeled_only else pairs


@pytest.mark.parametrize("kind", ["kl", "mse", "bce", "cc", "nss"])
@pytest.mark.parametrize("to", ["teacher", "teacher.1", "density", "fixation", "student.early", "student.final"])
@pytest.mark.parametrize("of", ["final", "early", "deep.1", "deep"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_term_equals_its_definition(kind, to, of, dtype):
    """``early`` has one map for all frames, ``deep`` three per clip; the first frame has no ground truth."""
    term = LossTerm("term", kind, of=of, to=to)
    outputs = Outputs(
        (maps(0, CLIPS, FRAMES) * 10).to(dtype),
        {"early": (maps(1, CLIPS, 1, 1) * 10).to(dtype), "deep": (maps(2, CLIPS, 3, FRAMES) * 10).to(dtype)},
    )
    targets = Targets(maps(3, CLIPS, FRAMES), maps(4, CLIPS, 2))
    truth = GroundTruth((maps(5, LABELED, FRAMES) * 5000).round(), (maps(6, LABELED, FRAMES) > 0.01).to(torch.uint8))
    truth.density[0, 0], truth.fixation[0, 0] = 0, 0
    found = loss_terms(outputs, LABELED, targets, truth, objectives((term,)))
    assert set(found) == {"target/term"} | (set() if term.labeled_only else {"aux/term"})

    final, early, deep = (value.double() for value in (outputs.saliency, *outputs.maps.values()))
    of_frames = {
        "final": [final],
        "early": [early[:, 0].expand(-1, FRAMES, -1, -1)],
        "deep.1": [deep[:, 1]],
        "deep": [deep[:, i] for i in range(3)],
    }
    peaks = truth.density.amax((-2, -1), keepdim=True).clamp_min(1)
    to_frames = {
        "teacher": targets.final,
        "teacher.1": targets.intermediate[:, 1, None].expand(-1, FRAMES, -1, -1),
        "density": truth.density / peaks if kind in ("mse", "bce") else truth.density,
        "fixation": truth.fixation,
        "student.early": of_frames["early"][0],
        "student.final": final,
    }[to]
    pairs = labeled_frames(term, to_frames)
    values = [definition(kind, one[p], to_frames[p]) for one in of_frames[of] for p in pairs]
    assert found["target/term"].dtype == torch.float32
    assert float(found["target/term"]) == pytest.approx(np.mean(values), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 255.0])
def test_densities_of_any_scale_are_compared_by_value(scale):
    density = maps(0, 1, 2) / maps(0, 1, 2).amax((-2, -1), keepdim=True)
    term = LossTerm("term", "mse", to="density")
    truth = GroundTruth(density * scale, torch.zeros(1, 2, *SIZE))
    found = loss_terms(Outputs(density, {}), 1, None, truth, objectives((term,)))
    assert float(found["target/term"]) == pytest.approx(0, abs=1e-12)


def test_a_key_stands_for_its_numbered_repetitions_only():
    outputs = Outputs(
        maps(0, 1, 1),
        {name: maps(i, 1, 1, 1) for i, name in enumerate(["d1", "d1_2", "d1_sharp", "my_key", "my_key_2"])},
    )
    for key, names in {"d1": ["d1", "d1_2"], "my_key": ["my_key", "my_key_2"], "d1_sharp": ["d1_sharp"]}.items():
        found = outputs.named(key)
        assert len(found) == len(names)
        assert all(torch.equal(one, outputs.maps[name][:, 0]) for one, name in zip(found, names, strict=True))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "l2"}, "loss term x: kind must be one of kl, kl-eps, mse, bce, logits, cc, nss, not 'l2'"),
        (
            {"kind": "kl", "to": "teachers"},
            "loss term x: to must be teacher, teacher.I, teacher.ROLE, density, fixation, mask, student.KEY or",
        ),
        ({"kind": "kl", "to": "student"}, "loss term x: to must be"),
    ],
)
def test_terms_that_cannot_be_computed(wrong, message):
    with pytest.raises(UsageError, match=message):
        LossTerm("x", **wrong)


def test_change_error():
    """The error is zero for maps in another scale, and the mean difference of the changes for others."""
    rng = np.random.default_rng(0)
    target = torch.from_numpy(rng.uniform(0, 1, (2, 4, 8, 8)))
    assert float(change_error(3 * target, target)) == pytest.approx(0, abs=1e-4)
    static = target[:, :1].expand(-1, 4, -1, -1)
    high = target.amax((1, 2, 3), keepdim=True)
    expected = 100 * (target / high).diff(dim=1).abs().mean()
    assert float(change_error(target, static)) == pytest.approx(float(expected), rel=1e-5)
