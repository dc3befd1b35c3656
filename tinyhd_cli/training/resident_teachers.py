"""Teachers of a run whose dataset is in memory (:mod:`.resident`): TinyHD networks, run on every batch.

On a GPU, they run in PyTorch, in bfloat16. On a CPU, they run in the fastest engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .. import weights
from ..engines import hierarchy
from ..engines.base import HierarchyEngine
from ..inference.model import load_model
from ..models import build
from ..models.families.tinyhd.network import TinyHD
from . import losses
from .losses import Targets
from .resident import CLIP_FRAMES, CONTEXT, Batch
from .teachers import interpolation, mean

TEACHER_FRAMES = (0, 5, 10, 15)
"""Frames of a clip for which a single-output teacher is run; its maps are interpolated between them."""


def load_network(name: str) -> TinyHD:
    """Return a network with its weights.

    Args:
        name: name of the weights, or their file.

    Raises:
        WeightsError: the weights cannot be loaded.
    """
    checkpoint = weights.load(name)
    network = build(checkpoint.spec)
    assert isinstance(network, TinyHD)
    network.load_state_dict(checkpoint.state_dict)
    return network.eval()


def forward(network: TinyHD, clips: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the saliency and the decoders' maps of clips; on a GPU, all layers but the last run in bfloat16."""
    with torch.autocast(clips.device.type, torch.bfloat16, clips.device.type == "cuda", cache_enabled=False):
        streams = network.encoder(clips)
        logits = {name: decoder(streams) for name, decoder in network.decoders.items()}
    maps = {name: torch.sigmoid(value.float()) for name, value in logits.items()}
    aligned = [m.expand(-1, -1, network.frames, -1, -1) for m in maps.values()]
    return torch.sigmoid(network.fusion(torch.cat(aligned, dim=1))).squeeze(1), maps


class Teacher:
    """A trained network with fixed weights.

    Args:
        name: name of its weights, or their file.
        device: device of the batches.
        accelerate: replaces the layers of a network by faster ones, for a GPU.
        frames: frames of a clip for which a network with one map per clip is run, the first and the last among them.

    Raises:
        WeightsError: the weights cannot be loaded.
    """

    def __init__(
        self,
        name: str,
        device: torch.device,
        accelerate: Callable[[nn.Module], object] | None = None,
        frames: Sequence[int] = TEACHER_FRAMES,
    ) -> None:
        self.frames = tuple(frames)
        self.engine: HierarchyEngine | None = None
        """The engine on a CPU."""
        if device.type == "cpu":
            loaded = load_model(name, "cpu", engine="torch").loaded
            self.engine, self.maps = hierarchy.choose(loaded, exact=True), loaded.spec.maps
            return
        self.network = load_network(name).to(device)
        self.maps = self.network.frames
        if accelerate:
            accelerate(self.network)

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Return the saliency ``(N, maps, H, W)`` and the hierarchical maps ``(N, 4, H, W)`` of clips."""
        if self.engine is None:
            saliency, maps = forward(self.network, clips)
            return saliency, maps["d1"].mean(2)
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
        saliency = torch.einsum("tp,pnhw->nthw", interpolation(self.frames).to(sampled), sampled)
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
