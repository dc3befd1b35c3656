"""From clips on disk to what the networks and the loss take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..weights.known import IMAGENET
from .clips import Sample
from .losses import Targets, Truth
from .options import TrainConfig
from .teachers import Teachers


@dataclass(frozen=True)
class Batch:
    """Clips as they are read; the labelled ones come first."""

    keys: list[str]
    names: list[str]
    reads: Tensor
    """uint8 ``(N, R, H, W, 3)``."""
    density: Tensor
    """uint8 ``(N, 16, H, W)``."""
    fixation: Tensor
    flips: list[bool]
    colours: Tensor
    """Factors of brightness, contrast and saturation, ``(N, 3)``."""


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples as a batch."""
    return Batch(
        [sample["key"] for sample in samples],
        [sample["name"] for sample in samples],
        torch.stack([sample["read"] for sample in samples]),
        torch.stack([sample["density"] for sample in samples]),
        torch.stack([sample["fixation"] for sample in samples]),
        [sample["flip"] for sample in samples],
        torch.tensor([sample["colour"] for sample in samples]),
    )


def mirrored(values: Tensor, flips: Sequence[bool]) -> Tensor:
    """``(N, ..., W)`` with the chosen items mirrored."""
    return torch.stack([item.flip(-1) if flip else item for item, flip in zip(values, flips, strict=True)])


def mixed(config: TrainConfig, device: torch.device) -> torch.autocast:
    """Where the network runs in the precision that is wanted."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")


def recoloured(clips: Tensor, colours: Tensor) -> Tensor:
    """Clips ``(N, 3, T, H, W)`` in 0..1 in other colours, the same for all frames of a clip.

    Args:
        clips: RGB.
        colours: factors of brightness, contrast (around the clip's mean grey) and saturation, ``(N, 3)``.
    """
    brightness, contrast, saturation = (factor.view(-1, 1, 1, 1, 1) for factor in colours.to(clips).unbind(1))
    luma = torch.tensor((0.299, 0.587, 0.114), device=clips.device).view(1, 3, 1, 1, 1)
    clips = clips * brightness
    grey = (clips * luma).sum(1, keepdim=True)
    clips = grey + (clips - grey) * saturation
    middle = grey.mean((2, 3, 4), keepdim=True)
    return (middle + (clips - middle) * contrast).clamp(0, 1)


def student_clips(batch: Batch, device: torch.device) -> Tensor:
    """The frames that the student sees: float32 ``(N, 3, 16, H, W)``, ImageNet-normalised, mirrored, recoloured."""
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1, 1) for values in IMAGENET)
    frames = batch.reads[:, -batch.density.shape[1] :].to(device).permute(0, 4, 1, 2, 3)
    clips = mirrored(frames, batch.flips).float() / 255
    if (batch.colours != 1).any():
        clips = recoloured(clips, batch.colours)
    return (clips - mean) / std


def truth(batch: Batch, labelled: int, frames: int, device: torch.device) -> Truth | None:
    """The ground truth of the first ``labelled`` clips, for the student's ``frames`` maps; None if there is no clip."""
    if not labelled:
        return None
    flips = batch.flips[:labelled]
    maps = [mirrored(m[:labelled, -frames:].to(device), flips) for m in (batch.density, batch.fixation)]
    return Truth(*maps)


def targets(batch: Batch, teacher: Teachers | None) -> Targets | None:
    """What the teacher says of the clips, mirrored; None without one."""
    return teacher.targets(batch.keys, batch.reads, batch.flips) if teacher else None
