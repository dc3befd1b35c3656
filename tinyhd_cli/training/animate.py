"""Photographs as clips: a camera that pans, zooms and shakes, and patches of other photographs that move across.

Photographs are where most of the measured fixations are, but nothing moves in them. A clip made of one tells a network
what a moving camera does to a scene, and that a small thing which moves through a still scene is worth a look.

All functions work on batches, on any device, and draw from the generator that they are given.

Coordinates are those of ``torch.nn.functional.grid_sample``: from -1 to 1 between the outer edges of a picture. A view
maps places of the output to places of the picture: ``place * scale + center``, each ``(N, T, 2)``, x before y. A
negative scale mirrors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SOFT_EDGE = 0.25
"""Share of a patch's radius over which it fades out."""


@dataclass(frozen=True)
class View:
    """The part of an image inside the camera's view at each time."""

    scale: Tensor
    """``(N, T, 2)``: half the sides of the view, as shares of the image's; x, then y."""
    center: Tensor
    """``(N, T, 2)``."""


@dataclass(frozen=True)
class Patches:
    """Discs and rounded boxes cut out of other images that move across a clip; P in each of N clips."""

    source: Tensor
    """``(N, P)``: index of the source image of each patch."""
    origin: Tensor
    """``(N, P, 2)``: its center in the source image."""
    place: Tensor
    """``(N, P, T, 2)``: its center in the clip."""
    radius: Tensor
    """``(N, P, T, 2)``: half its sides, as shares of half the clip's."""
    roundness: Tensor
    """``(N, P)``: exponent of the norm that is its outline; 2: an ellipse."""
    shown: Tensor
    """``(N, P)``: 1, or 0 for a patch that is left out."""


def uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Random numbers from ``low`` to ``high``."""
    return low + (high - low) * torch.rand(shape, generator=generator)


def chance(count: int, share: float, generator: torch.Generator) -> Tensor:
    """``count`` times True with this probability."""
    return torch.rand(count, generator=generator) < share


def camera(
    count: int, frames: int, generator: torch.Generator, *, crop: float = 0.35, pan: float = 0.5, shake: float = 0.3
) -> View:
    """Ways of a camera over pictures.

    Args:
        count: cameras.
        frames: of a clip.
        generator: of random numbers.
        crop: half of the cameras see up to this share less of the picture's sides.
        pan: share of the cameras that pan and zoom; they start zoomed in, to have somewhere to go.
        shake: share of the cameras that shake: a random walk.
    """
    moves = chance(count, pan, generator).view(-1, 1, 1)
    cropped = chance(count, 0.5, generator).view(-1, 1, 1)
    less = uniform((count, 1, 2), 0, crop, generator) * cropped
    scale = (1 - less).expand(-1, frames, -1)
    time = torch.linspace(0, 1, frames).view(1, -1, 1)
    begin, end = (uniform((count, 1, 1), 0.55, 0.9, generator) for _ in range(2))
    scale = torch.where(moves, scale * (begin + (end - begin) * time), scale)
    first, last = (uniform((count, 1, 2), -1, 1, generator) for _ in range(2))
    reach = uniform((count, 1, 1), 0, 1, generator)
    where = torch.where(moves, first + (last - first) * reach * time, first)
    steps = torch.randn((count, frames, 2), generator=generator) * uniform((count, 1, 1), 0.001, 0.005, generator)
    trembles = chance(count, shake, generator).view(-1, 1, 1)
    center = where * (1 - scale) + torch.where(trembles, steps.cumsum(1), torch.zeros(()))
    mirror = torch.where(chance(count, 0.5, generator), -1.0, 1.0).view(-1, 1, 1)
    return View(scale * torch.cat([mirror, torch.ones_like(mirror)], -1), center)


def patches(count: int, frames: int, pictures: int, most: int, generator: torch.Generator) -> Patches:
    """Patches on their way, at least one in each clip.

    Args:
        count: clips.
        frames: of a clip.
        pictures: how many there are to cut patches out of.
        most: patches in a clip.
        generator: of random numbers.
    """
    shape = (count, most)
    size = torch.exp(uniform((*shape, 1, 1), -2.9, -1.2, generator))  # 0.055 to 0.3 of half the height
    aspect = torch.exp(uniform((*shape, 1, 1), -0.4, 0.4, generator))
    growth = 1 + uniform((*shape, 1, 1), -0.2, 0.2, generator) * torch.linspace(0, 1, frames).view(1, 1, -1, 1)
    radius = size * growth * torch.cat([aspect * 0.75, 1 / aspect], -1)  # pictures are 4 wide, 3 high
    angle = uniform(shape, 0, 2 * torch.pi, generator)
    speed = uniform(shape, 0.001, 0.02, generator)  # shares of half the width in a frame
    speed = torch.where(torch.rand(shape, generator=generator) < 0.15, torch.zeros(()), speed)
    step = torch.stack([angle.cos(), angle.sin() * 4 / 3], -1) * speed.unsqueeze(-1)
    wobble = torch.randn((*shape, frames, 2), generator=generator) * 0.004
    wobble = wobble.cumsum(2) * (torch.rand(shape, generator=generator) < 0.3).view(*shape, 1, 1)
    way = uniform((*shape, 1, 2), -1, 1, generator) + step.unsqueeze(2) * torch.arange(frames).view(1, 1, -1, 1)
    place = bounced(way + wobble, (1 - radius).clamp_min(0.1))
    shown = (torch.rand(shape, generator=generator) < 0.4).float()
    shown[:, 0] = 1
    return Patches(
        torch.randint(pictures, shape, generator=generator),
        uniform((*shape, 2), -0.8, 0.8, generator),
        place,
        radius,
        torch.where(torch.rand(shape, generator=generator) < 0.6, 2.0, 6.0),
        shown,
    )


def bounced(place: Tensor, limit: Tensor) -> Tensor:
    """Places thrown back at the edges, ``-limit`` and ``limit``."""
    turned = torch.remainder(place + limit, 4 * limit)
    return torch.where(turned > 2 * limit, 4 * limit - turned, turned) - limit


def raster(size: tuple[int, int], device: torch.device) -> Tensor:
    """The places of a picture's pixels, ``(H, W, 2)``."""
    y, x = ((torch.arange(side, device=device) + 0.5) * (2 / side) - 1 for side in size)
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)


def seen(pictures: Tensor, view: View, size: tuple[int, int]) -> Tensor:
    """Render clips from the camera views.

    Args:
        pictures: ``(N, C, h, w)``, each seen at every time, or ``(N, T, C, h, w)``; uint8 or float.
        view: of the cameras; on the pictures' device.
        size: height and width of the clips.

    Returns:
        float32 ``(N, C, T, *size)``. Outside a picture is its mirror image.
    """
    count, frames = view.scale.shape[:2]
    grid = raster(size, pictures.device) * view.scale[:, :, None, None] + view.center[:, :, None, None]
    if pictures.dim() == 4:
        flat = grid.view(count, frames * size[0], size[1], 2)
        found = F.grid_sample(pictures.float(), flat, padding_mode="reflection", align_corners=False)
        return found.view(count, -1, frames, *size)
    found = F.grid_sample(
        pictures.float().flatten(0, 1), grid.flatten(0, 1), padding_mode="reflection", align_corners=False
    )
    return found.view(count, frames, -1, *size).transpose(1, 2)


def paste(clips: Tensor, pictures: Tensor, moving: Patches) -> Tensor:
    """Clips ``(N, C, T, H, W)`` with patches of pictures ``(M, C, h, w)`` on them."""
    count, frames, size = len(clips), clips.shape[2], tuple(clips.shape[-2:])
    here = raster((size[0], size[1]), clips.device)
    for index in range(moving.shown.shape[1]):
        radius = moving.radius[:, index, :, None, None]
        inside = (here - moving.place[:, index, :, None, None]) / radius  # -1 to 1 across the patch
        norm = moving.roundness[:, index].view(-1, 1, 1, 1)
        outline = inside.abs().clamp_max(4).pow(norm.unsqueeze(-1)).sum(-1).pow(1 / norm)
        mask = ((1 - outline) / SOFT_EDGE).clamp(0, 1) * moving.shown[:, index].view(-1, 1, 1, 1)
        grid = moving.origin[:, index].view(-1, 1, 1, 1, 2) + inside * radius[:, :1]  # moves with the patch
        source = pictures[moving.source[:, index]].float()
        flat = grid.reshape(count, frames * size[0], size[1], 2)
        patch = F.grid_sample(source, flat, padding_mode="reflection", align_corners=False)
        clips = torch.lerp(clips, patch.view_as(clips), mask.unsqueeze(1))
    return clips


STIRRING = 0.02
"""Way of a patch's center through a clip above which it counts as moving, as a share of half the sides."""


def paths(moving: Patches, first: int, size: tuple[int, int]) -> Tensor:
    """Where patches move, from the frame ``first`` on: float32 ``(N, T, *size)``, zeros where none does."""
    here = raster(size, moving.place.device)
    way = (moving.place[:, :, first:].amax(2) - moving.place[:, :, first:].amin(2)).amax(-1)
    stirs = moving.shown * (way > STIRRING)
    total = torch.zeros((*moving.place[:, 0, first:, 0].shape, *size), device=here.device)
    for index in range(stirs.shape[1]):
        place, radius = (values[:, index, first:, None, None] for values in (moving.place, moving.radius))
        away = ((here - place) / (0.6 * radius)).square().sum(-1)
        total = total + torch.exp(-0.5 * away) * stirs[:, index].view(-1, 1, 1, 1)
    return total


def seen_points(points: Tensor, view: View, size: tuple[int, int]) -> Tensor:
    """Fixations as cameras see them: points stay points.

    Args:
        points: ``(N, K, 2)``; NaN where a picture has fewer than K.
        view: of the cameras.
        size: height and width of the maps.

    Returns:
        float32 ``(N, T, *size)``, 1 where there is a point.
    """
    place = (points.unsqueeze(1) - view.center.unsqueeze(2)) / view.scale.unsqueeze(2)  # (N, T, K, 2)
    limits = torch.tensor(size[::-1], device=points.device)
    pixel = ((place + 1) / 2 * limits).floor()
    inside = ((pixel >= 0) & (pixel < limits)).all(-1)  # NaN is not
    index = torch.where(inside, pixel[..., 1] * size[1] + pixel[..., 0], size[0] * size[1]).long()
    maps = torch.zeros((*index.shape[:2], size[0] * size[1] + 1), device=points.device)
    return maps.scatter_(-1, index, 1.0)[..., :-1].reshape(*index.shape[:2], *size)
