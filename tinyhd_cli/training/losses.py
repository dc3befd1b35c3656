"""Compute the terms of the loss in float32: those of Hu et al., WACV 2023, equations 1 to 3, and of other families.

Each family defines the terms that its networks are trained with (:class:`tinyhd_cli.models.LossTerm`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models import LossTerm
from ..models.family import FEATURES, FINAL, INTERMEDIATE
from .clip_cache import NO_MASK
from .objectives import AUXILIARY, LABELED, PAIRS, SELF, TEMPORAL, Objectives

EPS = torch.finfo(torch.float32).tiny

BENCHMARK_EPS = 2.2204e-16
"""Epsilon in the KL divergence of saliency benchmarks and of the training of THTD-Net and SalFoM."""


@dataclass(frozen=True)
class Targets:
    """The teachers' maps for N clips. Divergences and correlations do not depend on their scale."""

    final: Tensor | None
    """``(N, T, H, W)``, with as many maps per clip as the student's; None if all teachers have roles."""
    intermediate: Tensor | None
    """Hierarchical maps ``(N, K, H, W)``, shallow to deep, the mean over the T frames; None if the teacher has none."""
    roles: Mapping[str, Tensor] = field(default_factory=dict)
    """Maps of the teachers with roles, ``(N, T, H, W)`` with maximum 1."""
    features: Tensor | None = None
    """Features of the teacher, ``(N, C, T1, H1, W1)``, if the student learns them; see :mod:`.hint`."""

    def map(self, change: Callable[[Tensor], Tensor]) -> Targets:
        """Return the result of a function for each tensor; the function keeps the number of dimensions."""
        given = (self.final, self.intermediate, self.features)
        final, deep, features = (None if maps is None else change(maps) for maps in given)
        return Targets(final, deep, {role: change(maps) for role, maps in self.roles.items()}, features)

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors, in a fixed order."""
        every = (self.final, self.intermediate, self.features, *self.roles.values())
        return [maps for maps in every if maps is not None]

    def part(self, clips: slice) -> Targets:
        """Return the maps of some of the clips."""
        return self.map(lambda maps: maps[clips])


@dataclass(frozen=True)
class GroundTruth:
    """Recorded fixations of N clips, or masks of the objects in them."""

    density: Tensor
    """``(N, T, H, W)``, in any scale; frames without ground truth are zeros."""
    fixation: Tensor
    """``(N, T, H, W)``, 0 or 1; frames without ground truth are zeros."""
    mask: Tensor | None = None
    """``(N, frames of the clip, H, W)``, 0 or 1; ``NO_MASK`` in frames without a mask. None for networks that predict
    fixations; :attr:`density` and :attr:`fixation` are empty for others."""
    map_frames: tuple[int, ...] = ()
    """Frames of the clip that the student's final maps belong to; those of :attr:`mask` for them."""


def distribution(maps: Tensor) -> Tensor:
    """Return maps ``(..., H, W)`` divided by their sums, float32; a map of zeros stays zero."""
    maps = maps.float()
    return maps / maps.sum((-2, -1), keepdim=True).clamp_min(EPS)


def log_distribution(maps: Tensor) -> Tensor:
    """Return the logarithm of :func:`distribution`, finite everywhere."""
    maps = maps.float().clamp_min(EPS)
    return maps.log() - maps.sum((-2, -1), keepdim=True).log()


def kl_divergence(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of a target y from a prediction x, in nats (equation 1).

    Args:
        prediction: ``(..., H, W)``, nonnegative, in any scale and precision.
        target: as ``prediction``; pixels where it is 0 contribute nothing.

    Returns:
        ``(...)``, float32; 0 for a target of zeros.
    """
    y = distribution(target)
    return (torch.xlogy(y, y) - y * log_distribution(prediction)).sum((-2, -1))


def kl_divergence_eps(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the KL divergence of a target y from a prediction x as saliency benchmarks compute it, in nats.

    It is the sum of y log(eps + y / (x + eps)), so a pixel where x is 0 adds at most 36 y to the loss.

    Args:
        prediction: ``(..., H, W)``, nonnegative, in any scale and precision.
        target: as ``prediction``.

    Returns:
        ``(...)``, float32; 0 for a target of zeros.
    """
    x, y = distribution(prediction.float().clamp_min(EPS)), distribution(target)
    return (y * (BENCHMARK_EPS + y / (x + BENCHMARK_EPS)).log()).sum((-2, -1))


def standardize(maps: Tensor) -> Tensor:
    """Return maps ``(..., H, W)`` with mean 0 and standard deviation 1, float32."""
    maps = maps.float()
    deviation = maps.std((-2, -1), keepdim=True, correction=0)
    return (maps - maps.mean((-2, -1), keepdim=True)) / deviation.clamp_min(1e-12)


def cc(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the linear correlation coefficient (CC) of maps ``(..., H, W)``: ``(...)``."""
    return (standardize(prediction) * standardize(target)).mean((-2, -1))


def nss(prediction: Tensor, fixation: Tensor) -> Tensor:
    """Return the normalized scanpath saliency (NSS), the mean standardized value at fixations; 0 without fixations."""
    points = fixation.float()
    return (standardize(prediction) * points).sum((-2, -1)) / points.sum((-2, -1)).clamp_min(1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the values where ``mask`` is 1; 0 if the mask is empty."""
    return (values * mask).sum() / mask.sum().clamp_min(1)


def mean_squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared error of maps ``(..., H, W)``: ``(...)``, float32."""
    return (prediction.float() - target.float()).square().mean((-2, -1))


def cross_entropy(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the binary cross-entropy of maps ``(..., H, W)`` in 0..1: ``(...)``, float32."""
    maps = (prediction.float().clamp(0, 1), target.float().clamp(0, 1))
    prediction, target = torch.broadcast_tensors(*maps)  # type: ignore[no-untyped-call]
    return F.binary_cross_entropy(prediction, target, reduction="none").mean((-2, -1))


def logits_cross_entropy(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the binary cross-entropy of logits ``(..., H, W)`` and maps in 0..1: ``(...)``, float32."""
    return F.binary_cross_entropy_with_logits(prediction.float(), target.float(), reduction="none").mean((-2, -1))


KINDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "kl": kl_divergence,
    "kl-eps": kl_divergence_eps,
    "mse": mean_squared_error,
    "bce": cross_entropy,
    "logits": logits_cross_entropy,
    "cc": lambda prediction, target: 1 - cc(prediction, target),
    "nss": lambda prediction, target: -nss(prediction, target),
}
"""The loss functions of :attr:`LossTerm.kind`, from maps ``(..., H, W)`` to ``(...)``."""


@dataclass(frozen=True)
class Outputs:
    """A student's outputs for N clips."""

    saliency: Tensor
    """``(N, T, H, W)``."""
    maps: Mapping[str, Tensor]
    """Intermediate maps by name, ``(N, K, T1, H, W)``, or ``(N, T1, H, W)`` for K = 1."""
    features: Tensor | None = None
    """Features in the shape of the teacher's, if they learn from them; see :mod:`.hint`."""

    def part(self, clips: slice) -> Outputs:
        """Return the outputs for some of the clips."""
        features = None if self.features is None else self.features[clips]
        return Outputs(self.saliency[clips], {name: value[clips] for name, value in self.maps.items()}, features)

    def named(self, name: str) -> list[Tensor]:
        """Return the outputs with a name (see :attr:`LossTerm.of`), each ``(N, T1, H, W)``; may be empty."""
        if name == FINAL:
            return [self.saliency]
        if name == FEATURES:
            return [] if self.features is None else [self.features.flatten(1, 2)]
        key, _, index = name.partition(".")
        every = key == INTERMEDIATE
        found = [value for own, value in self.maps.items() if every or own == key or is_repetition(own, key)]
        found = [value if value.dim() == 5 else value.unsqueeze(1) for value in found]
        if index:
            return [value[:, int(index)] for value in found if int(index) < value.shape[1]]
        return [one for value in found for one in value.unbind(1)]


def is_repetition(name: str, key: str) -> bool:
    """Return whether a name is a numbered repetition of a key, as ``d1_2`` of ``d1``."""
    stem, _, number = name.rpartition("_")
    return stem == key and number.isdigit()


def target_of(
    term: LossTerm, outputs: Outputs, targets: Targets | None, ground_truth: GroundTruth | None
) -> Tensor | None:
    """Return the target of a term, ``(N, T, H, W)``; None if these clips have none.

    The target of temporal distillation is in the order of the frames; see :func:`with_neighbors`.
    """
    place, _, rest = term.to.partition(".")
    if place in (SELF, TEMPORAL):
        found = next(iter(outputs.named(rest)), None)
        if found is None:
            return None
        found = found.detach() if term.detached else found
        return found.float().sigmoid() if term.kind == "logits" else found
    if place == "teacher":
        if targets is None or not rest:
            return None if targets is None else targets.final
        if rest == FEATURES:
            return None if targets.features is None else targets.features.flatten(1, 2)
        if not rest.isdigit():
            return targets.roles.get(rest)
        deep = targets.intermediate
        return deep[:, int(rest), None] if deep is not None and int(rest) < deep.shape[1] else None
    return None if ground_truth is None else getattr(ground_truth, place)


def with_neighbors(output: Tensor, target: Tensor, frames: Sequence[int]) -> tuple[Tensor, Tensor] | None:
    """Return the maps of frames, and beside each the target of a frame next to it; None without neighbors.

    Args:
        output: maps ``(N, T, H, W)``.
        target: ``(N, T, H, W)``.
        frames: the frames to return maps of; frames with two neighbors appear twice.
    """
    count = output.shape[1]
    pairs = [(frame, other) for frame in frames for other in (frame - 1, frame + 1) if 0 <= other < count]
    if not pairs or target.shape[1] != count:
        return None
    own, others = zip(*pairs, strict=True)
    return output[:, list(own)], target[:, list(others)]


def compared(term: LossTerm, output: Tensor, target: Tensor, map_frames: Sequence[int]) -> tuple[Tensor, Tensor] | None:
    """Return the maps that a term compares, of equal frames: ``(N, F, H, W)``; None if there are none.

    Args:
        term: the term.
        output: the student's output, ``(N, T, H, W)``.
        target: as :func:`target_of` returned it.
        map_frames: frames of the clip that the final maps belong to.
    """
    if term.to == "mask" and output.shape[1] != target.shape[1]:
        target = target[:, list(map_frames)]
    chosen = range(output.shape[1]) if term.frames is None else [n for n in term.frames if n < output.shape[1]]
    if term.to.startswith(f"{TEMPORAL}."):
        return with_neighbors(output, target, chosen)
    if term.frames is None:
        return output, target
    return (output[:, chosen], target[:, chosen] if target.shape[1] > 1 else target) if chosen else None


def annotated(term: LossTerm, target: Tensor) -> Tensor:
    """Return for each map ``(N, F, H, W)`` of a target whether it exists, 1 or 0: ``(N, F)``."""
    if not term.labeled_only:
        return target.new_ones(target.shape[:2])
    there = (target != NO_MASK).all(-1).all(-1) if term.to == "mask" else target.sum((-2, -1)) > 0
    return there.float()


def term_value(
    term: LossTerm,
    outputs: Outputs,
    targets: Targets | None,
    ground_truth: GroundTruth | None,
    kind: str = LABELED,
) -> Tensor | None:
    """Return the value of a term, averaged over clips and frames; None if its output or target is missing.

    Terms that need ground truth are averaged over the frames that have it. On pairs, the value is summed over frames.
    """
    target, found = target_of(term, outputs, targets, ground_truth), outputs.named(term.of)
    if target is None or not found:
        return None
    if term.to == "density" and term.kind in ("mse", "bce"):
        target = target.float() / target.float().amax((-2, -1), keepdim=True).clamp_min(EPS)
    map_frames = () if ground_truth is None else ground_truth.map_frames
    values = []
    for output in found:
        maps = compared(term, output, target, map_frames)
        if maps is None:
            return None
        there = annotated(term, maps[1])
        several = KINDS[term.kind](maps[0], maps[1] * (maps[1] != NO_MASK) if term.to == "mask" else maps[1])
        if kind == PAIRS:
            values.append(sum_over_frames(several, there))
        else:
            values.append(masked_mean(several, there) if term.labeled_only else several.mean())
    return torch.stack(values).mean()


def sum_over_frames(values: Tensor, there: Tensor) -> Tensor:
    """Return the sum over frames of the means over the clips where ``there`` is 1; both are ``(N, F)``."""
    return ((values * there).sum(0) / there.sum(0).clamp_min(1)).sum()


def loss_terms(
    outputs: Outputs,
    labeled: int,
    targets: Targets | None,
    ground_truth: GroundTruth | None,
    objectives: Objectives,
    kind: str = LABELED,
) -> dict[str, Tensor]:
    """Return all terms that have a weight, by full name (equation 3 for TinyHD).

    Args:
        outputs: the student's outputs for N clips.
        labeled: number of labeled clips, which come first; the others are auxiliary.
        targets: the teacher's maps of all clips; None without a teacher.
        ground_truth: recorded fixations or masks of the labeled clips, if any.
        objectives: the terms and their weights.
        kind: kind of the labeled clips, ``LABELED`` or ``PAIRS``.
    """
    values: dict[str, Tensor] = {}
    parts = {kind: slice(0, labeled), AUXILIARY: slice(labeled, len(outputs.saliency))}
    for own_kind, part in parts.items():
        if not len(outputs.saliency[part]):
            continue
        own, own_targets = outputs.part(part), None if targets is None else targets.part(part)
        for term in objectives.terms:
            name = f"{own_kind}/{term.name}"
            if objectives.weights.get(name):
                value = term_value(term, own, own_targets, ground_truth if own_kind == kind else None, own_kind)
                if value is not None:
                    values[name] = value
    return {name: values[name] for name in objectives.weights if name in values}


def left_out(outputs: Outputs, objectives: Objectives) -> list[str]:
    """Return the terms with a weight that use an output that the network does not have, as ``NAME (OUTPUT)``."""
    return [
        f"{term.name} ({output})"
        for term in objectives.terms
        if any(objectives.weights_of(term).values())
        for output in dict.fromkeys((term.of, term.own_output or FINAL))
        if not outputs.named(output)
    ]


def total(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Return the loss: the weighted sum of its terms."""
    return torch.stack([weights[name] * value for name, value in terms.items()]).sum()


def change_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the error in the changes between consecutive maps, in percent of the maps' maximum.

    Divergences and correlations hardly notice a map that flickers by one percent; viewers of a heat map do.

    Args:
        prediction: ``(N, T, H, W)``, nonnegative, T at least 2.
        target: as ``prediction``, in any scale.

    Returns:
        One number, differentiable: the mean absolute error over all changes.
    """
    changes = []
    for maps in (prediction.float(), target.float()):
        high = maps.amax((-3, -2, -1), keepdim=True).detach().clamp_min(EPS)
        changes.append((maps / high).diff(dim=1))
    return 100 * (changes[0] - changes[1]).abs().mean()


PERIODS = (2, 4, 8)
"""Periods, in pixels, of the grid that pixel shuffle can leave in maps."""

SMOOTH = 6.0
"""Standard deviation, in pixels, of the Gaussian that separates a map's smooth part from a grid."""


def smooth(maps: Tensor) -> Tensor:
    """Return maps ``(..., H, W)`` blurred with a Gaussian of standard deviation ``SMOOTH``."""
    rows, columns = (blur_matrix(side, maps.device) for side in maps.shape[-2:])
    return rows @ maps @ columns.T


@lru_cache
def blur_matrix(side: int, device: torch.device) -> Tensor:
    """Return the matrix that blurs a row of ``side`` pixels with a Gaussian; the row is reflected at its ends."""
    with torch.inference_mode(False):  # the cached matrix may be needed for gradients later
        reach = round(3 * SMOOTH)
        kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / SMOOTH) ** 2)
        around = F.pad(torch.eye(side).unsqueeze(1), (reach, reach), mode="reflect")
        blurred = F.conv1d(around, (kernel / kernel.sum()).view(1, 1, -1)).squeeze(1)
        return blurred.T.to(device).contiguous()


def grid_pattern(maps: Tensor) -> Tensor:
    """Return the strength of the grid in maps: the deviation of their periodic part, as a fraction of their range.

    As a penalty in training, it removes the grid, so that maps need not be blurred.

    Args:
        maps: ``(N, H, W)``, H and W multiples of 8.

    Returns:
        One number, differentiable: the sum over the periods, the mean over the maps.
    """
    maps = maps.float()
    low, high = maps.amin((-2, -1), keepdim=True).detach(), maps.amax((-2, -1), keepdim=True).detach()
    maps = (maps - low) / (high - low).clamp_min(1e-6)
    weight, rest = maps.detach(), maps - smooth(maps)  # the grid is visible where a map is high
    found = maps.new_zeros(len(maps))
    for period in PERIODS:
        shape = (len(maps), maps.shape[1] // period, period, maps.shape[2] // period, period)
        weights, values = (x.reshape(shape).sum((1, 3)) for x in (weight, weight * rest))
        pattern = values / weights.clamp_min(1e-6)
        deviation = pattern - pattern.mean((-2, -1), keepdim=True)
        found = found + (deviation.square().mean((-2, -1)) + 1e-10).sqrt()
    return found.mean()
