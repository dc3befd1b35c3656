"""From clips on disk to what the networks and the loss take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..weights.registry import IMAGENET
from .clips import WHOLE, Sample
from .losses import GroundTruth, Targets
from .options import TrainConfig
from .teachers import Teachers


@dataclass(frozen=True)
class Batch:
    """Clips as they are read; the labeled ones come first."""

    keys: list[str]
    names: list[str]
    reads: Tensor
    """uint8 ``(N, R, H, W, 3)``."""
    density: Tensor
    """uint8 ``(N, 16, H, W)``."""
    fixation: Tensor
    flips: list[bool]
    colors: Tensor
    """Factors of brightness, contrast and saturation, ``(N, 3)``."""
    crops: list[tuple[float, float, float]]
    """See ``Pick``."""


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples as a batch."""
    return Batch(
        [sample["key"] for sample in samples],
        [sample["name"] for sample in samples],
        torch.stack([sample["read"] for sample in samples]),
        torch.stack([sample["density"] for sample in samples]),
        torch.stack([sample["fixation"] for sample in samples]),
        [sample["flip"] for sample in samples],
        torch.tensor([sample["color"] for sample in samples]),
        [sample["crop"] for sample in samples],
    )


def mirrored(values: Tensor, flips: Sequence[bool]) -> Tensor:
    """``(N, ..., W)`` with the chosen items mirrored."""
    return torch.stack([item.flip(-1) if flip else item for item, flip in zip(values, flips, strict=True)])


def box(crop: tuple[float, float, float], height: int, width: int) -> tuple[slice, slice]:
    """The rows and columns that a crop leaves."""
    share, above, left = crop
    rows, columns = max(1, round(height * share)), max(1, round(width * share))
    top, first = round((height - rows) * above), round((width - columns) * left)
    return slice(top, top + rows), slice(first, first + columns)


def enlarged(values: Tensor, crops: Sequence[tuple[float, float, float]]) -> Tensor:
    """Pictures or maps ``(N, C, T, H, W)`` or ``(N, T, H, W)``, each one's crop scaled to the whole size."""
    size = values.shape[-2:]
    items = list(values)
    for index, crop in enumerate(crops):
        if crop != WHOLE:
            part = items[index][(..., *box(crop, *size))].float()
            flat = part.reshape(1, -1, *part.shape[-2:])
            items[index] = F.interpolate(flat, size=tuple(size), mode="bilinear").view_as(items[index]).to(values)
    return torch.stack(items)


def enlarged_points(points: Tensor, crops: Sequence[tuple[float, float, float]]) -> Tensor:
    """Fixation maps ``(N, T, H, W)``, each one's crop scaled to the whole size: points stay points."""
    result = points.clone()
    height, width = points.shape[-2:]
    for index, crop in enumerate(crops):
        if crop != WHOLE:
            rows, columns = box(crop, height, width)
            part = points[index, :, rows, columns]
            time, y, x = part.nonzero(as_tuple=True)
            result[index] = 0
            # The middle of a pixel goes to the middle of what it becomes.
            place = ((y + 0.5) * height / part.shape[1]).long(), ((x + 0.5) * width / part.shape[2]).long()
            result[index, time, place[0], place[1]] = part[time, y, x]
    return result


def mixed(config: TrainConfig, device: torch.device) -> torch.autocast:
    """Where the network runs in the precision that is wanted."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")


def recolored(clips: Tensor, colors: Tensor) -> Tensor:
    """Clips ``(N, 3, T, H, W)`` in 0..1 in other colors, the same for all frames of a clip.

    Args:
        clips: RGB.
        colors: factors of brightness, contrast (around the clip's mean gray) and saturation, ``(N, 3)``.
    """
    brightness, contrast, saturation = (factor.view(-1, 1, 1, 1, 1) for factor in colors.to(clips).unbind(1))
    luma = torch.tensor((0.299, 0.587, 0.114), device=clips.device).view(1, 3, 1, 1, 1)
    clips = clips * brightness
    gray = (clips * luma).sum(1, keepdim=True)
    clips = gray + (clips - gray) * saturation
    middle = gray.mean((2, 3, 4), keepdim=True)
    return (middle + (clips - middle) * contrast).clamp(0, 1)


def student_clips(batch: Batch, device: torch.device) -> Tensor:
    """The frames that the student sees: float32 ``(N, 3, 16, H, W)``, normalized, mirrored, enlarged, recolored."""
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1, 1) for values in IMAGENET)
    frames = batch.reads[:, -batch.density.shape[1] :].to(device).permute(0, 4, 1, 2, 3)
    clips = enlarged(mirrored(frames, batch.flips).float() / 255, batch.crops)
    if (batch.colors != 1).any():
        clips = recolored(clips, batch.colors)
    return (clips - mean) / std


def truth(batch: Batch, labeled: int, frames: int, device: torch.device) -> GroundTruth | None:
    """The ground truth of the first ``labeled`` clips, for the student's ``frames`` maps; None if there is no clip."""
    if not labeled:
        return None
    flips, crops = batch.flips[:labeled], batch.crops[:labeled]
    density, fixation = (mirrored(m[:labeled, -frames:].to(device), flips) for m in (batch.density, batch.fixation))
    return GroundTruth(enlarged(density.float(), crops), enlarged_points(fixation, crops))


def targets(batch: Batch, teacher: Teachers | None) -> Targets | None:
    """What the teacher says of the clips, mirrored and enlarged as they are; None without one."""
    if teacher is None:
        return None
    maps = teacher.targets(batch.keys, batch.reads, batch.flips)
    deep = maps.intermediate
    return Targets(enlarged(maps.final, batch.crops), None if deep is None else enlarged(deep, batch.crops))
