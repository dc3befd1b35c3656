"""How good a student is on clips that it does not train on: the loss term by term, and the field's metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from ..metrics import score_frame
from .augment import collate, mixed, student_clips, targets, truth
from .clips import Clips, Pick
from .losses import EPS, distribution, kl_divergence, loss_terms, total
from .options import TrainConfig
from .run_log import SCORES, Pixels, colored, picture
from .teachers import Teachers

BATCH = 4
PICTURES = 6
"""Clips in the picture of an epoch."""


@dataclass
class Validation:
    """What came of it."""

    terms: dict[str, float] = field(default_factory=dict)
    """Mean of each term of the loss."""
    loss: float = float("nan")
    """Their weighted sum."""
    scores: dict[str, float] = field(default_factory=dict)
    """Means of the metrics over the labeled clips' last frames; empty without ground truth."""
    picture: Pixels | None = None


class Validator:
    """Clips to validate on, and how.

    Args:
        config: the run.
        clips: reads clips.
        labeled: clips with ground truth.
        aux: clips without.
        teacher: None without one.
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
        # Each batch is of one kind.
        self.batches = [(list(labeled[i : i + BATCH]), True) for i in range(0, len(labeled), BATCH)]
        if teacher is not None:
            self.batches += [(list(aux[i : i + BATCH]), False) for i in range(0, len(aux), BATCH)]

    def __len__(self) -> int:
        return sum(len(picks) for picks, _ in self.batches)

    def shown(self) -> set[int]:
        """The batches whose first clips are in the picture: some of both kinds, spread evenly."""
        chosen = []
        for kind in (True, False):
            numbers = [number for number, (_, labeled) in enumerate(self.batches) if labeled == kind]
            chosen += (
                [numbers[i] for i in np.unique(np.linspace(0, len(numbers) - 1, PICTURES // 2).astype(int))]
                if (numbers)
                else []
            )
        return set(chosen)

    @torch.no_grad()
    def run(self, network: nn.Module, frames: int, device: torch.device) -> Validation:
        """Validate a network that gives ``frames`` maps for a clip."""
        network.eval()
        sums: dict[str, list[tuple[float, int]]] = defaultdict(list)
        scores: dict[str, list[float]] = defaultdict(list)
        rows, shown = [], self.shown()
        for number, (picks, labeled) in enumerate(self.batches):
            batch = collate([self.clips[pick] for pick in picks])
            count = len(picks) if labeled else 0
            wanted, known = targets(batch, self.teacher), truth(batch, count, frames, device)
            with mixed(self.config, device):
                saliency, maps = network(student_clips(batch, device), intermediate=True)
            saliency, maps = saliency.float(), {name: value.float() for name, value in maps.items()}
            for name, term in loss_terms(saliency, maps, count, wanted, known, self.config.weights).items():
                sums[name].append((float(term), len(picks)))
            if known is not None:
                for one in zip(saliency[:, -1], known.density[:, -1], known.fixation[:, -1], strict=True):
                    for name, value in score(*one).items():
                        scores[name].append(value)
            if number in shown:
                final = None if wanted is None else wanted.final[0, -1]
                density = None if known is None else known.density[0, -1]
                rows.append(row(batch.reads[0, -1], density, final, saliency[0, -1], maps))
        terms = {name: weighted_mean(pairs) for name, pairs in sums.items()}
        weighted = {name: torch.tensor(value) for name, value in terms.items()}
        loss = float(total(weighted, self.config.weights)) if terms else float("nan")
        means = {name: float(np.nanmean(values)) for name, values in scores.items() if np.isfinite(values).any()}
        return Validation(terms, loss, means, picture(rows) if rows else None)

    @torch.no_grad()
    def best_constant(self) -> dict[str, float]:
        """Divergence of the teacher's final maps from the one map that is nearest to all of them: their mean.

        What a student that does not look at its input could reach at best, for labeled clips (``target/final``) and
        the others (``aux/final``). Empty without a teacher.
        """
        found: dict[str, list[Tensor]] = defaultdict(list)
        for picks, labeled in self.batches if self.teacher is not None else []:
            wanted = targets(collate([self.clips[pick] for pick in picks]), self.teacher)
            assert wanted is not None
            peaks = wanted.final.amax((-2, -1), keepdim=True).clamp_min(EPS)
            found["target/final" if labeled else "aux/final"].append((wanted.final / peaks).half())  # takes less room
        return {name: mean_divergence(maps) for name, maps in found.items()}


def weighted_mean(pairs: Sequence[tuple[float, int]]) -> float:
    """Mean of values, each with its weight."""
    return sum(value * weight for value, weight in pairs) / sum(weight for _, weight in pairs)


def mean_divergence(maps: Sequence[Tensor]) -> float:
    """Mean divergence of maps ``(N, T, H, W)``, as distributions, from their mean, which minimizes it."""
    count = sum(len(m) * m.shape[1] for m in maps)
    mean = torch.stack([distribution(m).double().sum((0, 1)) for m in maps]).sum(0) / count
    return float(sum(kl_divergence(mean, m).sum() for m in maps) / count)


def score(saliency: Tensor, density: Tensor, fixation: Tensor) -> dict[str, float]:
    """The metrics of one frame, of those that its ground truth allows."""
    has_density, has_fixation = bool(density.any()), bool(fixation.any())
    values = score_frame(
        saliency.cpu().numpy(),
        density.cpu().numpy() if has_density else None,
        fixation.cpu().numpy() if has_fixation else None,
    )
    return {name: value for name, value in values.items() if name in SCORES}


def row(
    frame: Tensor, density: Tensor | None, teacher: Tensor | None, student: Tensor, maps: dict[str, Tensor]
) -> dict[str, Pixels]:
    """One clip's last frame and maps, for the picture of an epoch."""
    pictures = {"input": frame.numpy()}
    gray: dict[str, Tensor | None] = {"ground truth": density, "teacher": teacher, "student": student}
    for name, several in maps.items():
        for index, one in enumerate(several[0, :, -1]):
            gray[name if len(several[0]) == 1 else f"{name}.{index + 1}"] = one
    for name, value in gray.items():
        if value is not None:
            pictures[name] = colored(value.float().cpu().numpy())
    return pictures
