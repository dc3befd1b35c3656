"""The loss of the paper: Hu et al., WACV 2023, equations 1 to 3. All in float32, whatever the network computed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .options import INTERMEDIATE

EPS = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Targets:
    """A teacher's maps for N clips, in any scale."""

    final: Tensor
    """``(N, T, H, W)``, T as the student's."""
    intermediate: Tensor | None
    """``(N, 4, H, W)``, shallow to deep, the mean over the T frames; None if the teacher has none."""


@dataclass(frozen=True)
class GroundTruth:
    """Where people looked in N clips."""

    density: Tensor
    """``(N, T, H, W)``, in any scale; a map of zeros is a frame without ground truth."""
    fixation: Tensor
    """``(N, T, H, W)``, 0 or 1; zeros where there is none."""


def distribution(maps: Tensor) -> Tensor:
    """Maps ``(..., H, W)`` divided by their sums, float32; a map of zeros stays one."""
    maps = maps.float()
    return maps / maps.sum((-2, -1), keepdim=True).clamp_min(EPS)


def log_distribution(maps: Tensor) -> Tensor:
    """Logarithm of :func:`distribution`, finite everywhere."""
    maps = maps.float().clamp_min(EPS)
    return maps.log() - maps.sum((-2, -1), keepdim=True).log()


def kl_divergence(prediction: Tensor, target: Tensor) -> Tensor:
    """Kullback-Leibler divergence of two sum-normalized maps, in nats (equation 1; y is the target, x the prediction).

    Args:
        prediction: ``(..., H, W)``, not negative, in any scale and precision.
        target: likewise; where it is 0, it adds nothing.

    Returns:
        ``(...)``, float32. 0 for a target of zeros.
    """
    y = distribution(target)
    return (torch.xlogy(y, y) - y * log_distribution(prediction)).sum((-2, -1))


def standardized(maps: Tensor) -> Tensor:
    """Maps ``(..., H, W)`` with mean 0 and standard deviation 1, float32."""
    maps = maps.float()
    deviation = maps.std((-2, -1), keepdim=True, correction=0)
    return (maps - maps.mean((-2, -1), keepdim=True)) / deviation.clamp_min(1e-12)


def correlation(prediction: Tensor, target: Tensor) -> Tensor:
    """Linear correlation coefficient (CC) of maps ``(..., H, W)``: ``(...)``."""
    return (standardized(prediction) * standardized(target)).mean((-2, -1))


def nss(prediction: Tensor, fixation: Tensor) -> Tensor:
    """Normalized scanpath saliency (NSS): mean of the standardized map at the fixations; 0 where there are none."""
    points = fixation.float()
    return (standardized(prediction) * points).sum((-2, -1)) / points.sum((-2, -1)).clamp_min(1)


def mean_where(values: Tensor, there: Tensor) -> Tensor:
    """Mean of the values that are there; 0 if none is."""
    return (values * there).sum() / there.sum().clamp_min(1)


def distillation_terms(saliency: Tensor, maps: Mapping[str, Tensor], targets: Targets) -> dict[str, Tensor]:
    """The sum of equation 2 that is about the teacher, term by term: means over clips and frames.

    Args:
        saliency: the student's final maps ``(N, T, H, W)``.
        maps: its decoders' maps; those of each d1 are ``(N, 4, 1, H, W)``.
        targets: the teacher's.
    """
    terms = {"final": kl_divergence(saliency, targets.final).mean()}
    hierarchical = [value for name, value in maps.items() if name.partition("_")[0] == "d1"]
    if targets.intermediate is not None and hierarchical:
        for index, name in enumerate(INTERMEDIATE):
            pairs = [kl_divergence(d1[:, index, 0], targets.intermediate[:, index]).mean() for d1 in hierarchical]
            terms[name] = torch.stack(pairs).mean()
    return terms


def truth_terms(saliency: Tensor, truth: GroundTruth, wanted: Mapping[str, float]) -> dict[str, Tensor]:
    """The terms about the ground truth: KL (equation 2), and 1 - CC and -NSS if they have a weight."""
    has_density = (truth.density.sum((-2, -1)) > 0).float()
    terms = {"ground-truth": mean_where(kl_divergence(saliency, truth.density), has_density)}
    if wanted.get("target/cc"):
        terms["cc"] = mean_where(1 - correlation(saliency, truth.density), has_density)
    if wanted.get("target/nss"):
        has_points = (truth.fixation.sum((-2, -1)) > 0).float()
        terms["nss"] = mean_where(-nss(saliency, truth.fixation), has_points)
    return terms


def loss_terms(
    saliency: Tensor,
    maps: Mapping[str, Tensor],
    labeled: int,
    targets: Targets | None,
    truth: GroundTruth | None,
    weights: Mapping[str, float],
) -> dict[str, Tensor]:
    """All terms of equation 3 that have a weight, by name.

    Args:
        saliency: the student's maps ``(N, T, H, W)``.
        maps: its decoders' maps.
        labeled: how many of the N clips, from the first on, are of the target data; the others are auxiliary.
        targets: the teacher's maps of all N; None without a teacher.
        truth: of the labeled clips; None without ground truth.
        weights: of the terms (``TrainConfig.weights``).
    """
    terms: dict[str, Tensor] = {}
    parts = {"target": slice(0, labeled), "aux": slice(labeled, len(saliency))}
    for kind, part in parts.items():
        if targets is not None and len(saliency[part]):
            deep = targets.intermediate
            own = Targets(targets.final[part], deep[part] if deep is not None else None)
            found = distillation_terms(saliency[part], {name: value[part] for name, value in maps.items()}, own)
            terms |= {f"{kind}/{name}": value for name, value in found.items()}
    if truth is not None and labeled:
        found = truth_terms(saliency[:labeled], truth, weights)
        terms |= {f"target/{name}": value for name, value in found.items()}
    return {name: value for name, value in terms.items() if weights.get(name)}


def total(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The loss: the weighted sum of its terms."""
    return torch.stack([weights[name] * value for name, value in terms.items()]).sum()


PERIODS = (2, 4, 8)
"""Pixels between the lines of a grid that layers of pixel shuffle can leave."""

SMOOTH = 6.0
"""Standard deviation in pixels of what counts as a map's smooth part."""


def smooth(maps: Tensor) -> Tensor:
    """Maps ``(..., H, W)`` under a Gaussian of deviation ``SMOOTH``."""
    rows, columns = (blurring(side, maps.device) for side in maps.shape[-2:])
    return rows @ maps @ columns.T


@lru_cache
def blurring(side: int, device: torch.device) -> Tensor:
    """The Gaussian on so many pixels, reflected at the ends, as a matrix."""
    with torch.inference_mode(False):  # it is kept, and may be needed for gradients later
        reach = round(3 * SMOOTH)
        kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / SMOOTH) ** 2)
        around = F.pad(torch.eye(side).unsqueeze(1), (reach, reach), mode="reflect")
        blurred = F.conv1d(around, (kernel / kernel.sum()).view(1, 1, -1)).squeeze(1)
        return blurred.T.to(device).contiguous()


def grid_pattern(maps: Tensor) -> Tensor:
    """How much of a grid is in maps: the deviation of what repeats every 2, 4 or 8 pixels, as a share of the range.

    Mended where it arises, in training, it need not be blurred away.

    Args:
        maps: ``(N, H, W)``, H and W multiples of 8.

    Returns:
        One number, differentiable: the sum over the periods, the mean over the maps.
    """
    maps = maps.float()
    low, high = maps.amin((-2, -1), keepdim=True).detach(), maps.amax((-2, -1), keepdim=True).detach()
    maps = (maps - low) / (high - low).clamp_min(1e-6)
    weight, rest = maps.detach(), maps - smooth(maps)  # the grid is seen where a map is high
    found = maps.new_zeros(len(maps))
    for period in PERIODS:
        shape = (len(maps), maps.shape[1] // period, period, maps.shape[2] // period, period)
        weights, values = (x.reshape(shape).sum((1, 3)) for x in (weight, weight * rest))
        pattern = values / weights.clamp_min(1e-6)
        away = pattern - pattern.mean((-2, -1), keepdim=True)
        found = found + (away.square().mean((-2, -1)) + 1e-10).sqrt()
    return found.mean()
