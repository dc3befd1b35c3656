"""Teachers of a run whose dataset is in memory (:mod:`.resident`), run on every batch.

On a GPU, they run in PyTorch, on a CPU in the fastest engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..engines import hierarchy
from ..engines.base import HierarchyEngine
from ..errors import UsageError
from ..inference.model import load_model
from ..models import ModelSpec
from ..models.registry import family
from . import losses
from .losses import Targets
from .resident import CLIP_FRAMES, CONTEXT, Batch
from .teachers import interpolation, mean

TEACHER_FRAMES = (0, 5, 10, 15)
"""Frames of a clip for which a single-output teacher is run; its maps are interpolated between them."""


class Teacher:
    """A trained network with fixed weights.

    Args:
        name: name of its weights, or their file.
        network: the network with these weights, with hierarchical maps, on the device of the batches.
        run: runs the network in PyTorch on clips; returns the saliency, and its intermediate maps by name.
        frames: frames of a clip for which a network with one map per clip is run, including the first and the last.

    Raises:
        UsageError: the networks of the family have no hierarchical maps, or the frames do not ascend from 0 to 15.
        WeightsError: the weights cannot be loaded.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        run: Callable[[Any, Tensor], tuple[Tensor, dict[str, Tensor]]],
        device: torch.device,
        frames: Sequence[int] = TEACHER_FRAMES,
    ) -> None:
        spec = cast(ModelSpec, network.spec)
        self.network, self.run, self.maps, self.key = network, run, spec.maps, family(spec).hierarchy
        if not self.key:
            raise UsageError(f"{name}: {spec.name} has no hierarchical maps")
        self.frames = tuple(frames)
        if self.frames[0] != 0 or self.frames[-1] != CLIP_FRAMES - 1 or list(frames) != sorted(set(frames)):
            raise UsageError(f"frames of a teacher: must ascend from 0 to {CLIP_FRAMES - 1}, not {list(frames)}")
        self.weights = interpolation(self.frames).to(device)
        self.engine: HierarchyEngine | None = None
        """The engine on a CPU; None: PyTorch."""
        if device.type == "cpu":
            self.engine = hierarchy.choose(load_model(name, "cpu", engine="torch").loaded, exact=True)

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Return the saliency ``(N, maps, H, W)`` and the hierarchical maps ``(N, 4, H, W)`` of clips."""
        if self.engine is None:
            saliency, maps = self.run(self.network, clips)
            return saliency, maps[self.key].mean(2)
        outputs = [self.engine.outputs(clip.contiguous().numpy()) for clip in clips]
        saliency, deep = (torch.stack(list(map(torch.from_numpy, several))) for several in zip(*outputs, strict=True))
        return saliency, deep.mean(2)

    @torch.no_grad()
    def targets(self, clips: Tensor) -> Targets:
        """Return the maps of clips, given after the ``CONTEXT`` frames before them: ``(N, 3, CONTEXT + 16, H, W)``."""
        if self.maps > 1:
            return Targets(*self.forward(clips[:, :, CONTEXT:]))
        parts = [self.forward(clips[:, :, first : first + CLIP_FRAMES]) for first in self.frames]
        sampled = torch.stack([saliency[:, 0] for saliency, _ in parts])
        saliency = torch.einsum("tp,pnhw->nthw", self.weights, sampled)
        return Targets(saliency, torch.stack([deep for _, deep in parts]).mean(0))


@torch.no_grad()
def teacher_targets(teachers: Sequence[Teacher], batch: Batch, single: int = 0) -> Targets:
    """Return the mean of the teachers' maps for a batch; for a static clip, also the mean over time.

    Args:
        teachers: Teachers.
        batch: Clips.
        single: Number of clips at the front for which only the first teacher is run, because they have ground truth.
    """
    first = teachers[0].targets(batch.teacher_clips)
    others = [teacher.targets(batch.teacher_clips[single:]) for teacher in teachers[1:]]
    assert first.final is not None
    assert first.intermediate is not None
    combined = mean([Targets(first.final[single:], first.intermediate[single:]), *others])
    assert combined.final is not None
    assert combined.intermediate is not None
    final = torch.cat([losses.distribution(first.final[:single]), losses.distribution(combined.final)])
    intermediate = torch.cat(
        [losses.distribution(first.intermediate[:single]), losses.distribution(combined.intermediate)]
    )
    static = batch.static.view(-1, 1, 1, 1)
    return Targets(torch.where(static, final.mean(1, keepdim=True), final), intermediate)
