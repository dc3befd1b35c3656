"""Collate clips into batches, augment them, and normalize them for the networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import WeightsError
from ..inference.preprocess import scale_and_shift
from ..models import Preprocess
from ..models.registry import named_errors
from ..untrusted import printable
from .clip_cache import Form
from .clips import WHOLE, Sample
from .losses import GroundTruth, Outputs, Targets
from .options import TrainConfig
from .teacher_cache import Teachers


@dataclass(frozen=True)
class Batch:
    """Clips before augmentation; the labeled ones come first."""

    keys: list[str]
    names: list[str]
    form: Form
    """Form in which the student reads frames."""
    before: int
    """Frames of ``reads[form]`` before the student's clips."""
    reads: dict[Form, Tensor]
    """uint8 ``(N, R, H, W, 3)``: the clips in the forms of the student and of the teachers, with context."""
    density: Tensor
    """uint8 ``(N, T, H, W)``."""
    fixation: Tensor
    """uint8 ``(N, T, H, W)``, 0 or 1."""
    mask: Tensor
    """uint8 ``(N, T, H, W)``, 0, 1 or ``NO_MASK``; see ``Sample`` for networks without masks."""
    roles: dict[str, Tensor]
    """Maps of the teachers with roles, float32 ``(N, maps, H, W)`` in 0..1."""
    flips: list[bool]
    colors: Tensor
    """Factors of brightness, contrast and saturation, ``(N, 3)``."""
    crops: list[tuple[float, float, float]]
    """See ``Pick``."""
    angles: Tensor
    """Degrees, ``(N,)``."""

    @property
    def frames(self) -> Tensor:
        """The student's clips, uint8 ``(N, T, H, W, 3)``."""
        return self.reads[self.form][:, self.before : self.before + self.density.shape[1]]


def collate(samples: Sequence[Sample]) -> Batch:
    """Return samples as a batch."""
    return Batch(
        [sample["key"] for sample in samples],
        [sample["name"] for sample in samples],
        samples[0]["form"],
        samples[0]["before"],
        {form: torch.stack([sample["reads"][form] for sample in samples]) for form in samples[0]["reads"]},
        torch.stack([sample["density"] for sample in samples]),
        torch.stack([sample["fixation"] for sample in samples]),
        torch.stack([sample["mask"] for sample in samples]),
        {role: torch.stack([sample["roles"][role] for sample in samples]) for role in samples[0]["roles"]},
        [sample["flip"] for sample in samples],
        torch.tensor([sample["color"] for sample in samples]),
        [sample["crop"] for sample in samples],
        torch.tensor([sample["angle"] for sample in samples]),
    )


def mirrored(values: Tensor, flips: Sequence[bool]) -> Tensor:
    """Return items ``(N, ..., W)``, mirrored where ``flips`` is true."""
    return torch.stack([item.flip(-1) if flip else item for item, flip in zip(values, flips, strict=True)])


def box(crop: tuple[float, float, float], height: int, width: int) -> tuple[slice, slice]:
    """Return the rows and columns inside a crop."""
    fraction, above, left = crop
    rows, columns = max(1, round(height * fraction)), max(1, round(width * fraction))
    top, first = round((height - rows) * above), round((width - columns) * left)
    return slice(top, top + rows), slice(first, first + columns)


def enlarged(values: Tensor, crops: Sequence[tuple[float, float, float]], mode: str = "bilinear") -> Tensor:
    """Return frames or maps ``(N, C, T, H, W)`` or ``(N, T, H, W)`` with each item's crop scaled to the full size."""
    size = values.shape[-2:]
    items = list(values)
    for index, crop in enumerate(crops):
        if crop != WHOLE:
            part = items[index][(..., *box(crop, *size))].float()
            flat = part.reshape(1, -1, *part.shape[-2:])
            items[index] = F.interpolate(flat, size=tuple(size), mode=mode).view_as(items[index]).to(values)
    return torch.stack(items)


def enlarged_points(points: Tensor, crops: Sequence[tuple[float, float, float]]) -> Tensor:
    """Return fixation maps ``(N, T, H, W)`` with each item's crop scaled to the full size; a point stays one pixel."""
    result = points.clone()
    height, width = points.shape[-2:]
    for index, crop in enumerate(crops):
        if crop != WHOLE:
            rows, columns = box(crop, height, width)
            part = points[index, :, rows, columns]
            time, y, x = part.nonzero(as_tuple=True)
            result[index] = 0
            # The center of a pixel is mapped to the pixel that contains it.
            target = ((y + 0.5) * height / part.shape[1]).long(), ((x + 0.5) * width / part.shape[2]).long()
            result[index, time, target[0], target[1]] = part[time, y, x]
    return result


def rotated(values: Tensor, angles: Tensor, mode: str = "bilinear") -> Tensor:
    """Return float frames or maps ``(N, ..., H, W)`` rotated around their centers; borders are repeated.

    Args:
        values: the frames or maps.
        angles: degrees counterclockwise, ``(N,)``.
        mode: interpolation, ``bilinear`` or ``nearest``.
    """
    if not angles.any():
        return values
    height, width = values.shape[-2:]
    radians = angles.to(values.device) * (torch.pi / 180)
    cos, sin, zero = radians.cos(), radians.sin(), torch.zeros_like(radians)
    # Coordinates from -1 to 1 along both sides, so that rotations of pixels depend on the aspect ratio.
    rows = ((cos, -sin * height / width, zero), (sin * width / height, cos, zero))
    matrices = torch.stack([torch.stack(row, -1) for row in rows], 1)
    flat = values.reshape(len(values), -1, height, width)
    grid = F.affine_grid(matrices, list(flat.shape), align_corners=False)
    return F.grid_sample(flat, grid, mode, "border", align_corners=False).view_as(values)


def autocast(config: TrainConfig, device: torch.device) -> torch.autocast:
    """Return the context in which the network runs in the precision of the run."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")


def recolored(clips: Tensor, colors: Tensor) -> Tensor:
    """Return clips ``(N, 3, T, H, W)`` in 0..1 with changed colors, in the same way for all frames of a clip.

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


def normalized(clips: Tensor, preprocess: Preprocess) -> Tensor:
    """Return clips ``(N, 3, T, H, W)`` with values in 0..255, normalized exactly as for prediction."""
    scale, shift = (
        torch.tensor(values, device=clips.device).view(3, 1, 1, 1) for values in scale_and_shift(preprocess)
    )
    return clips * scale - shift


def student_clips(batch: Batch, preprocess: Preprocess, device: torch.device) -> Tensor:
    """Return the student's input: float32 ``(N, 3, T, H, W)``, augmented and normalized."""
    clips = batch.frames.to(device).permute(0, 4, 1, 2, 3)
    clips = rotated(enlarged(mirrored(clips, batch.flips).float(), batch.crops), batch.angles)
    if (batch.colors != 1).any():
        clips = recolored(clips / 255, batch.colors) * 255
    return normalized(clips, preprocess)


def ground_truth(batch: Batch, labeled: int, map_frames: Sequence[int], device: torch.device) -> GroundTruth | None:
    """Return the ground truth of the first ``labeled`` clips; None if there are none.

    Fixations are those of the frames ``map_frames``, masks of all frames of the clips.
    """
    if not labeled:
        return None
    flips, crops, frames = batch.flips[:labeled], batch.crops[:labeled], list(map_frames)
    if batch.mask.numel():
        mask = mirrored(batch.mask[:labeled].to(device), flips).float()
        mask = rotated(enlarged(mask, crops, "nearest-exact"), batch.angles[:labeled], "nearest")
        return GroundTruth(batch.density[:labeled], batch.fixation[:labeled], mask, tuple(map_frames))
    density, fixation = (mirrored(m[:labeled, frames].to(device), flips) for m in (batch.density, batch.fixation))
    return GroundTruth(enlarged(density.float(), crops), enlarged_points(fixation, crops))


def targets(batch: Batch, teacher: Teachers | None, device: torch.device) -> Targets | None:
    """Return the teachers' maps of the clips, mirrored and cropped like the clips; None without a teacher."""
    if teacher is None and not batch.roles:
        return None
    maps = Targets(None, None) if teacher is None else teacher.targets(batch.keys, batch.reads, batch.flips)
    roles = {role: mirrored(values.to(device), batch.flips) for role, values in batch.roles.items()}
    every = Targets(maps.final, maps.intermediate, roles, maps.features)
    return every.map(lambda values: enlarged(values, batch.crops))


def run_student(network: nn.Module, clips: Tensor, config: TrainConfig) -> Outputs:
    """Run a student; the outputs include its intermediate maps if the family has any.

    Raises:
        WeightsError: the network is a plugin's and raises an error, or its outputs have another type or shape.
    """
    family = config.family
    with named_errors(family):
        result = network(clips, intermediate=True) if family.intermediate else (network(clips), {})
        saliency, maps = result
        check_shape("saliency", saliency, (len(clips), config.num_maps, *clips.shape[-2:]))
        for name, value in maps.items():
            several = ("K",) if value.dim() == 5 else ()
            check_shape(name, value, (len(clips), *several, "T", *clips.shape[-2:]))
    return Outputs(saliency, maps)


def check_shape(name: str, value: Tensor, expected: tuple[int | str, ...]) -> None:
    """Raise ``WeightsError`` if an output of a student has another shape; letters stand for any number."""
    found = tuple(value.shape)
    numbers = [found[i] == size for i, size in enumerate(expected) if isinstance(size, int) and i < len(found)]
    if len(found) != len(expected) or not all(numbers):
        wanted = ", ".join(map(str, expected))
        raise WeightsError(f"the network outputs {printable(name)} of shape {found}, not ({wanted})")
