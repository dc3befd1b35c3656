"""Validation of a student on held-out clips: the terms of the loss, and the usual metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from ..metrics import score_frame
from ..metrics.object import Curve, ObjectScorer
from ..models import LossTerm
from .augment import autocast, collate, ground_truth, run_student, student_clips, targets
from .clips import Clips, Pick
from .losses import EPS, GroundTruth, Outputs, Targets, distribution, kl_divergence, loss_terms, total
from .options import TrainConfig
from .run_log import MAE, MAX_F, SCORES, Pixels, colorize, image_grid
from .teacher_cache import Teachers

BATCH_SIZE = 4

DIVERGENCES = (LossTerm("final", "kl"), LossTerm("final", "kl-eps"))
"""The terms whose value for the best constant map is computed."""

PREVIEW_CLIPS = 6
"""Maximum number of clips in the preview image of a validation."""


@dataclass
class Validation:
    """Result of a validation."""

    terms: dict[str, float] = field(default_factory=dict)
    """Mean of each term of the loss."""
    loss: float = float("nan")
    """Weighted sum of the terms."""
    scores: dict[str, float] = field(default_factory=dict)
    """Means of the metrics over the last map of each labeled clip; empty without ground truth. For object networks,
    MAE and the maximum of the mean F-measure over thresholds."""
    image: Pixels | None = None
    """Preview of some clips and their maps."""

    @property
    def selection(self) -> float:
        """The value that is lowest for the best weights: MAE minus maximum F of objects, or the loss."""
        if MAE in self.scores:
            return self.scores[MAE] - self.scores[MAX_F]
        return self.loss


class Validator:
    """Validation of a network on a fixed set of clips.

    Args:
        config: configuration of the run.
        clips: reader of the clips.
        labeled: clips with ground truth.
        aux: clips without ground truth; not used without a teacher.
        teacher: teachers that are run on the clips, if any.
    """

    def __init__(
        self,
        config: TrainConfig,
        clips: Clips,
        labeled: Sequence[Pick],
        aux: Sequence[Pick],
        teacher: Teachers | None,
    ) -> None:
        self.config, self.clips, self.teacher = config, clips, teacher
        # Each batch has clips of one kind only.
        self.batches = [(list(labeled[i : i + BATCH_SIZE]), True) for i in range(0, len(labeled), BATCH_SIZE)]
        if config.teacher:
            self.batches += [(list(aux[i : i + BATCH_SIZE]), False) for i in range(0, len(aux), BATCH_SIZE)]

    def __len__(self) -> int:
        return sum(len(picks) for picks, _ in self.batches)

    def preview_batches(self) -> set[int]:
        """Return the indices of the batches whose first clips are in the preview: evenly spaced, of both kinds."""
        chosen: list[int] = []
        for kind in (True, False):
            numbers = [number for number, (_, labeled) in enumerate(self.batches) if labeled == kind]
            if numbers:
                evenly_spaced = np.linspace(0, len(numbers) - 1, PREVIEW_CLIPS // 2).astype(int)
                chosen += [numbers[index] for index in np.unique(evenly_spaced)]
        return set(chosen)

    @torch.no_grad()
    def run(self, network: nn.Module, device: torch.device) -> Validation:
        """Validate a network."""
        spec, objectives = self.config.spec, self.config.objectives
        network.eval()
        sums: dict[str, list[tuple[float, int]]] = defaultdict(list)
        scores: dict[str, list[float]] = defaultdict(list)
        curves: list[Curve] = []
        rows, previewed = [], self.preview_batches()
        for number, (picks, labeled) in enumerate(self.batches):
            batch = collate([self.clips[pick] for pick in picks])
            count = len(picks) if labeled else 0
            teacher_maps, labels = (
                targets(batch, self.teacher, device),
                ground_truth(batch, count, self.config.map_frames, device),
            )
            with autocast(self.config, device):
                outputs = run_student(network, student_clips(batch, spec.preprocess, device), self.config)
            saliency, maps = outputs.saliency.float(), {name: value.float() for name, value in outputs.maps.items()}
            losses = loss_terms(Outputs(saliency, maps), count, teacher_maps, labels, objectives)
            for name, term in losses.items():
                sums[name].append((float(term), len(picks)))
            if labels is not None and labels.mask is not None:
                for saliency_map, mask in zip(saliency[:, -1], labels.mask[:, -1], strict=True):
                    scorer = ObjectScorer(saliency_map.cpu().numpy(), mask.byte().cpu().numpy())
                    scores[MAE].append(scorer.mae())
                    curves.append(scorer.f_curve)
            elif labels is not None:
                last = saliency[:, -1], labels.density[:, -1], labels.fixation[:, -1]
                for maps_of_clip in zip(*last, strict=True):
                    for name, value in score(*maps_of_clip).items():
                        scores[name].append(value)
            if number in previewed:
                final = None if teacher_maps is None else preview_of(teacher_maps)
                frame = batch.frames[0, self.config.map_frames[-1]]
                limits = (0.0, 1.0) if self.config.is_object else None
                rows.append(preview_row(frame, preview_labels(labels), final, saliency[0, -1], maps, limits))
        terms = {name: weighted_mean(pairs) for name, pairs in sums.items()}
        weighted = {name: torch.tensor(value) for name, value in terms.items()}
        loss = float(total(weighted, self.config.weights)) if terms else float("nan")
        means = {name: float(np.nanmean(values)) for name, values in scores.items() if np.isfinite(values).any()}
        if curves:
            means[MAX_F] = float(np.mean(curves, axis=0).max())
        return Validation(terms, loss, means, image_grid(rows) if rows else None)

    @torch.no_grad()
    def best_constant(self) -> dict[str, float]:
        """Return the divergence of the teacher's final maps from the best constant map, which is their mean.

        It is the lower bound for a student that ignores its input: for labeled clips (``target/final``) and for
        auxiliary clips (``aux/final``). Empty if all teachers have roles or there is none, and if the student has no
        term of :data:`DIVERGENCES`.
        """
        found: dict[str, list[Tensor]] = defaultdict(list)
        compared = self.teacher is not None and not set(DIVERGENCES).isdisjoint(self.config.objectives.terms)
        device = torch.device("cpu")
        for picks, labeled in self.batches if compared else []:
            teacher_maps = targets(collate([self.clips[pick] for pick in picks]), self.teacher, device)
            assert teacher_maps is not None and teacher_maps.final is not None
            peaks = teacher_maps.final.amax((-2, -1), keepdim=True).clamp_min(EPS)
            scaled = (teacher_maps.final / peaks).half()  # to save memory
            found["target/final" if labeled else "aux/final"].append(scaled)
        return {name: mean_divergence(maps) for name, maps in found.items()}


def weighted_mean(pairs: Sequence[tuple[float, int]]) -> float:
    """Return the weighted mean of pairs of a value and a weight."""
    return sum(value * weight for value, weight in pairs) / sum(weight for _, weight in pairs)


def mean_divergence(maps: Sequence[Tensor]) -> float:
    """Return the mean divergence of maps ``(N, T, H, W)`` from their mean, which minimizes it; all as distributions."""
    count = sum(len(m) * m.shape[1] for m in maps)
    mean = torch.stack([distribution(m).double().sum((0, 1)) for m in maps]).sum(0) / count
    return float(sum(kl_divergence(mean, m).sum() for m in maps) / count)


def score(saliency: Tensor, density: Tensor, fixation: Tensor) -> dict[str, float]:
    """Return the metrics of one map, as far as its ground truth allows. Negative saliency counts as 0."""
    has_density, has_fixation = bool(density.any()), bool(fixation.any())
    values = score_frame(
        saliency.clamp_min(0).cpu().numpy(),
        density.cpu().numpy() if has_density else None,
        fixation.cpu().numpy() if has_fixation else None,
    )
    return {name: value for name, value in values.items() if name in SCORES}


def preview_of(teacher_maps: Targets) -> Tensor | None:
    """Return the last map of the first clip: the teacher's, or the mean over the teachers with roles."""
    several = [*teacher_maps.roles.values()] if teacher_maps.final is None else [teacher_maps.final]
    return torch.stack([maps[0, -1] for maps in several]).mean(0) if several else None


def preview_labels(labels: GroundTruth | None) -> Tensor | None:
    """Return the density map or the mask of the last frame of the first clip, if any."""
    if labels is None:
        return None
    return labels.density[0, -1] if labels.mask is None else labels.mask[0, -1]


def preview_row(
    frame: Tensor,
    labels: Tensor | None,
    teacher: Tensor | None,
    student: Tensor,
    maps: dict[str, Tensor],
    limits: tuple[float, float] | None,
) -> dict[str, Pixels]:
    """Return the frame that a clip's last map belongs to, and the maps of it by name, as one row of the preview.

    Args:
        frame: the frame.
        labels: the ground truth.
        teacher: the teacher's map.
        student: the final map.
        maps: intermediate maps of the clips.
        limits: values that all but the intermediate maps are scaled from; None for each map's minimum and maximum.
    """
    images = {"input": frame.numpy()}
    final: dict[str, Tensor | None] = {"ground truth": labels, "teacher": teacher, "student": student}
    gray: dict[str, Tensor] = {}
    for name, channels in maps.items():
        several = channels[0, :, -1] if channels.dim() == 5 else channels[0, -1:]
        for index, channel in enumerate(several):
            gray[name if len(several) == 1 else f"{name}.{index + 1}"] = channel
    for name, value in final.items():
        if value is not None:
            images[name] = colorize(value.float().cpu().numpy(), limits)
    return images | {name: colorize(value.float().cpu().numpy()) for name, value in gray.items()}
