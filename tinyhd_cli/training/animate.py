"""Turn photographs into clips: a camera that pans, zooms and shakes, and patches of other photographs that move.

Most recorded fixations belong to photographs, but photographs contain no motion. Clips made from them teach a network
two things: how a moving camera changes a scene, and that a small object moving through a static scene attracts gaze.

All functions process batches on any device and draw random numbers from the given generator.

Coordinates follow ``torch.nn.functional.grid_sample``: from -1 to 1 between the outer edges of an image. A view maps
output positions to image positions: ``position * scale + center``, each ``(N, T, 2)``, x before y. A negative scale
mirrors the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SOFT_EDGE = 0.25
"""Fraction of a patch's radius over which it fades out."""

MIN_MOTION = 0.02
"""Displacement of a patch's center over a clip above which the patch counts as moving; a fraction of half the sides."""


@dataclass(frozen=True)
class View:
    """The part of an image inside the camera's view in each frame."""

    scale: Tensor
    """``(N, T, 2)``: half the sides of the view, as fractions of the image's sides; x, then y."""
    center: Tensor
    """``(N, T, 2)``: center of the view."""


@dataclass(frozen=True)
class Patches:
    """Discs and rounded boxes cut out of other images that move across N clips; P patches per clip."""

    source: Tensor
    """``(N, P)``: index of the source image of each patch."""
    origin: Tensor
    """``(N, P, 2)``: center of the patch in its source image."""
    position: Tensor
    """``(N, P, T, 2)``: center of the patch in the clip."""
    radius: Tensor
    """``(N, P, T, 2)``: half the sides of the patch, as fractions of half the clip's sides."""
    roundness: Tensor
    """``(N, P)``: exponent of the norm that defines the outline; 2 is an ellipse."""
    visible: Tensor
    """``(N, P)``: 1, or 0 for a patch that is not drawn."""


def uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Return random numbers, uniformly distributed from ``low`` to ``high``."""
    return low + (high - low) * torch.rand(shape, generator=generator)


def bernoulli(count: int, probability: float, generator: torch.Generator) -> Tensor:
    """Return ``count`` booleans, each true with the given probability."""
    return torch.rand(count, generator=generator) < probability


def random_views(
    count: int, frames: int, generator: torch.Generator, *, crop: float = 0.35, pan: float = 0.5, shake: float = 0.3
) -> View:
    """Return the views of random cameras.

    Args:
        count: Number of cameras.
        frames: Frames per clip.
        generator: Source of random numbers.
        crop: Half of the cameras crop each side of the image by up to this fraction.
        pan: Probability that a camera pans and zooms. Such a camera starts zoomed in, which leaves room to move.
        shake: Probability that a camera shakes (a random walk).
    """
    pans = bernoulli(count, pan, generator).view(-1, 1, 1)
    cropped = bernoulli(count, 0.5, generator).view(-1, 1, 1)
    removed = uniform((count, 1, 2), 0, crop, generator) * cropped
    scale = (1 - removed).expand(-1, frames, -1)
    time = torch.linspace(0, 1, frames).view(1, -1, 1)
    first_zoom, last_zoom = (uniform((count, 1, 1), 0.55, 0.9, generator) for _ in range(2))
    scale = torch.where(pans, scale * (first_zoom + (last_zoom - first_zoom) * time), scale)
    first, last = (uniform((count, 1, 2), -1, 1, generator) for _ in range(2))
    distance = uniform((count, 1, 1), 0, 1, generator)
    path = torch.where(pans, first + (last - first) * distance * time, first)
    steps = torch.randn((count, frames, 2), generator=generator) * uniform((count, 1, 1), 0.001, 0.005, generator)
    shakes = bernoulli(count, shake, generator).view(-1, 1, 1)
    center = path * (1 - scale) + torch.where(shakes, steps.cumsum(1), torch.zeros(()))
    mirror = torch.where(bernoulli(count, 0.5, generator), -1.0, 1.0).view(-1, 1, 1)
    return View(scale * torch.cat([mirror, torch.ones_like(mirror)], -1), center)


def random_patches(count: int, frames: int, images: int, max_patches: int, generator: torch.Generator) -> Patches:
    """Return patches on random trajectories, at least one per clip.

    Args:
        count: Number of clips.
        frames: Frames per clip.
        images: Number of images from which patches are cut.
        max_patches: Maximum number of patches per clip.
        generator: Source of random numbers.
    """
    shape = (count, max_patches)
    size = torch.exp(uniform((*shape, 1, 1), -2.9, -1.2, generator))  # 0.055 to 0.3 of half the height
    aspect = torch.exp(uniform((*shape, 1, 1), -0.4, 0.4, generator))
    growth = 1 + uniform((*shape, 1, 1), -0.2, 0.2, generator) * torch.linspace(0, 1, frames).view(1, 1, -1, 1)
    radius = size * growth * torch.cat([aspect * 0.75, 1 / aspect], -1)  # 0.75: the images have an aspect ratio of 4:3
    angle = uniform(shape, 0, 2 * torch.pi, generator)
    speed = uniform(shape, 0.001, 0.02, generator)  # fraction of half the width per frame
    speed = torch.where(torch.rand(shape, generator=generator) < 0.15, torch.zeros(()), speed)
    step = torch.stack([angle.cos(), angle.sin() * 4 / 3], -1) * speed.unsqueeze(-1)
    wobble = torch.randn((*shape, frames, 2), generator=generator) * 0.004
    wobble = wobble.cumsum(2) * (torch.rand(shape, generator=generator) < 0.3).view(*shape, 1, 1)
    trajectory = uniform((*shape, 1, 2), -1, 1, generator) + step.unsqueeze(2) * torch.arange(frames).view(1, 1, -1, 1)
    position = reflect(trajectory + wobble, (1 - radius).clamp_min(0.1))
    visible = (torch.rand(shape, generator=generator) < 0.4).float()
    visible[:, 0] = 1
    return Patches(
        torch.randint(images, shape, generator=generator),
        uniform((*shape, 2), -0.8, 0.8, generator),
        position,
        radius,
        torch.where(torch.rand(shape, generator=generator) < 0.6, 2.0, 6.0),
        visible,
    )


def reflect(position: Tensor, limit: Tensor) -> Tensor:
    """Return positions reflected at ``-limit`` and ``limit``."""
    turned = torch.remainder(position + limit, 4 * limit)
    return torch.where(turned > 2 * limit, 4 * limit - turned, turned) - limit


def pixel_grid(size: tuple[int, int], device: torch.device) -> Tensor:
    """Return the coordinates of all pixels of an image of this height and width, ``(H, W, 2)``."""
    y, x = ((torch.arange(side, device=device) + 0.5) * (2 / side) - 1 for side in size)
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)


def render_views(images: Tensor, view: View, size: tuple[int, int]) -> Tensor:
    """Render clips from camera views.

    Args:
        images: ``(N, C, h, w)``, one image per clip, or ``(N, T, C, h, w)``, one per frame; uint8 or float.
        view: Views of the cameras, on the same device as the images.
        size: Height and width of the clips.

    Returns:
        float32 ``(N, C, T, *size)``. Images are mirrored beyond their edges.
    """
    count, frames = view.scale.shape[:2]
    grid = pixel_grid(size, images.device) * view.scale[:, :, None, None] + view.center[:, :, None, None]
    if images.dim() == 4:
        flat = grid.view(count, frames * size[0], size[1], 2)
        clips = F.grid_sample(images.float(), flat, padding_mode="reflection", align_corners=False)
        return clips.view(count, images.shape[1], frames, *size)
    clips = F.grid_sample(
        images.float().flatten(0, 1), grid.flatten(0, 1), padding_mode="reflection", align_corners=False
    )
    return clips.view(count, frames, images.shape[2], *size).transpose(1, 2)


def paste_patches(clips: Tensor, images: Tensor, patches: Patches) -> Tensor:
    """Return clips ``(N, C, T, H, W)`` with patches of the images ``(M, C, h, w)`` drawn on them."""
    count, frames, size = len(clips), clips.shape[2], tuple(clips.shape[-2:])
    pixels = pixel_grid((size[0], size[1]), clips.device)
    for index in range(patches.visible.shape[1]):
        radius = patches.radius[:, index, :, None, None]
        inside = (pixels - patches.position[:, index, :, None, None]) / radius  # -1 to 1 across the patch
        exponent = patches.roundness[:, index].view(-1, 1, 1, 1)
        outline = inside.abs().clamp_max(4).pow(exponent.unsqueeze(-1)).sum(-1).pow(1 / exponent)
        mask = ((1 - outline) / SOFT_EDGE).clamp(0, 1) * patches.visible[:, index].view(-1, 1, 1, 1)
        # The texture moves with the patch.
        grid = patches.origin[:, index].view(-1, 1, 1, 1, 2) + inside * radius[:, :1]
        source = images[patches.source[:, index]].float()
        flat = grid.reshape(count, frames * size[0], size[1], 2)
        patch = F.grid_sample(source, flat, padding_mode="reflection", align_corners=False)
        clips = torch.lerp(clips, patch.view_as(clips), mask.unsqueeze(1))
    return clips


def motion_maps(patches: Patches, first: int, size: tuple[int, int]) -> Tensor:
    """Return maps with a Gaussian on each moving patch: float32 ``(N, T - first, *size)``.

    Args:
        patches: Patches; those that stay in place add nothing.
        first: First frame for which a map is returned.
        size: Height and width of the maps.
    """
    pixels = pixel_grid(size, patches.position.device)
    positions = patches.position[:, :, first:]
    displacement = (positions.amax(2) - positions.amin(2)).amax(-1)
    moving = patches.visible * (displacement > MIN_MOTION)
    total = torch.zeros((*positions[:, 0, :, 0].shape, *size), device=pixels.device)
    for index in range(moving.shape[1]):
        position, radius = (values[:, index, first:, None, None] for values in (patches.position, patches.radius))
        distance = ((pixels - position) / (0.6 * radius)).square().sum(-1)
        total = total + torch.exp(-0.5 * distance) * moving[:, index].view(-1, 1, 1, 1)
    return total


def render_points(points: Tensor, view: View, size: tuple[int, int]) -> Tensor:
    """Return fixation maps from camera views; each point sets one pixel, whatever the zoom.

    Args:
        points: ``(N, K, 2)``; NaN where an image has fewer than K points.
        view: Views of the cameras.
        size: Height and width of the maps.

    Returns:
        float32 ``(N, T, *size)``, 1 at each point.
    """
    position = (points.unsqueeze(1) - view.center.unsqueeze(2)) / view.scale.unsqueeze(2)  # (N, T, K, 2)
    limits = torch.tensor(size[::-1], device=points.device)
    pixel = ((position + 1) / 2 * limits).floor()
    inside = ((pixel >= 0) & (pixel < limits)).all(-1)  # false for NaN
    index = torch.where(inside, pixel[..., 1] * size[1] + pixel[..., 0], size[0] * size[1]).long()
    maps = torch.zeros((*index.shape[:2], size[0] * size[1] + 1), device=points.device)
    return maps.scatter_(-1, index, 1.0)[..., :-1].reshape(*index.shape[:2], *size)
