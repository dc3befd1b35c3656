"""Make clips whose object masks are exact: cut-outs of photographs that move across other photographs.

python examples/compose_objects.py images:objects --backgrounds images:photos --out composites --count 4000

The cut-outs come from photographs with masks (label_objects.py makes such masks). The background is the part of a
photograph that observers looked at least, often out of focus. Where a photograph of OUT shows an object, it is the
pasted one, and its mask is exact, even if the mask by which it was cut out is not. Use OUT as --data of tinyhd train.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tinyhd_cli.atomic_files import atomic_write
from tinyhd_cli.datasets import Video, read_density, read_mask
from tinyhd_cli.training import TrainConfig
from tinyhd_cli.training.sources import hold_out, labeled

Pixels = NDArray[np.float32]

SIZE = (256, 320)
"""Height and width of the clips, in pixels."""

LARGEST = 400
"""Longer side to which cut-outs are reduced, in pixels."""

TWO = 0.12
"""Fraction of the clips with two objects."""

SCALES = (0.2, 1.1)
"""Smallest and largest size of an object: its longer side, as a fraction of the image's height."""

DRAWS = 3
"""Number of photographs from which the background with the least density is chosen."""

MAX_ANGLE = 25.0
"""Largest rotation of a cut-out, in degrees, to either side."""

MAX_SPEED = 0.03
"""Largest displacement of an object between frames, as a fraction of the image's width."""

MAX_PAN = 0.012
"""Largest displacement of the background between frames, as a fraction of its size."""

BLUR = (0.3, 3.0)
"""Standard deviations of the blur of a background that is out of focus, in pixels."""


@dataclass(frozen=True)
class CutOut:
    """An object that is cut out of its photograph."""

    color: Pixels
    """``(H, W, 3)``, BGR, 0 to 255."""
    alpha: Pixels
    """``(H, W)``, 0 to 1."""


@dataclass(frozen=True)
class Path2D:
    """How something moves through the T frames of a clip."""

    center: Pixels
    """``(T, 2)``: x and y, as fractions of the image's sides."""
    scale: Pixels
    """``(T,)``: size relative to the first frame."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("data", nargs="+", metavar="[LAYOUT:]DIR", help="photographs with masks, the sources of the cut-outs")
    add("--backgrounds", nargs="+", required=True, metavar="[LAYOUT:]DIR", help="photographs with density maps")
    add("--held-out", action="store_true", help="use the backgrounds that tinyhd train holds out, not the others")
    add("--out", type=Path, required=True, help="folder of the clips")
    add("--count", type=int, default=1000, help="number of clips (default: 1000)")
    add("--frames", type=int, default=3, help="frames of each clip (default: 3)")
    add("--empty", type=float, default=0.04, help="fraction of the clips without an object (default: 0.04)")
    add("--seed", type=int, default=0, help="seed of all random choices (default: 0)")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one for each core)")
    return parser.parse_args(arguments)


# --------------------------------------------------------------------------------------------------------- sources


def image_of(photograph: Video) -> Pixels:
    """Return a photograph, BGR ``(H, W, 3)``, 0 to 255."""
    _, image = next(iter(photograph.read()))
    return cv2.cvtColor(image, cv2.COLOR_RGB2BGR).astype(np.float32)


@lru_cache(maxsize=512)
def cut_outs(photograph: Video) -> tuple[CutOut, ...]:
    """Return the objects of a photograph, one for each connected part of its mask that is not tiny."""
    frame, _ = next(iter(photograph.read()))
    assert frame.mask is not None
    image, mask = image_of(photograph), read_mask(frame.mask).astype(np.uint8)
    count, parts, boxes, _ = cv2.connectedComponentsWithStats(mask)
    found = []
    for part in range(1, count):
        x, y, width, height, area = boxes[part]
        if area < 0.005 * mask.size:
            continue
        inside = (parts[y : y + height, x : x + width] == part).astype(np.float32)
        alpha = cv2.GaussianBlur(np.pad(inside, 2), (0, 0), 0.8)
        color = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="edge")[y : y + height + 4, x : x + width + 4]
        factor = min(1.0, LARGEST / max(width, height))
        resized = [cv2.resize(one, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) for one in (color, alpha)]
        found.append(CutOut(*resized))
    return tuple(found)


def background(photograph: Video, random: np.random.Generator) -> tuple[float, Pixels]:
    """Return the part of a photograph with the least density, in a random size, BGR, after its relative density."""
    frame, _ = next(iter(photograph.read()))
    image = image_of(photograph)
    height, width = image.shape[:2]
    density = read_density(frame.density).astype(np.float32) if frame.density else np.ones((8, 8), np.float32)
    density = cv2.resize(density, (width, height), interpolation=cv2.INTER_LINEAR)
    part = random.uniform(0.45, 0.85)
    rows, columns = int(part * height), int(part * min(width, height * 4 / 3))
    sums = cv2.integral(density)
    mass = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns] + sums[:-rows, :-columns]
    y, x = np.unravel_index(np.argmin(mass + random.uniform(0, 0.05 * sums[-1, -1], mass.shape)), mass.shape)
    crop = image[y : y + rows, x : x + columns]
    if random.random() < 0.5:
        crop = crop[:, ::-1]
    if random.random() < 0.5:
        crop = cv2.GaussianBlur(np.ascontiguousarray(crop), (0, 0), random.uniform(*BLUR))
    return float(mass[y, x] / max(sums[-1, -1], 1e-6) / part**2), np.ascontiguousarray(crop)


# ------------------------------------------------------------------------------------------------------ composites


def path(frames: int, random: np.random.Generator, speed: float, margin: float) -> Path2D:
    """Return a random path: a straight line with a small tremor.

    Args:
        frames: number of frames.
        random: source of random numbers.
        speed: largest displacement between frames.
        margin: smallest distance of the first center from the border.
    """
    start = random.uniform(margin, 1 - margin, 2)
    angle, length = random.uniform(0, 2 * np.pi), random.uniform(0, speed)
    step = length * np.array([np.cos(angle), np.sin(angle)])
    tremor = random.normal(0, 0.1 * speed, (frames, 2))
    time = np.arange(frames)
    return Path2D(
        (start + time[:, None] * step + tremor).astype(np.float32),
        np.exp(time * random.uniform(-0.03, 0.03)).astype(np.float32),
    )


def adapted(cut_out: CutOut, ground: Pixels, random: np.random.Generator) -> CutOut:
    """Return a cut-out with other colors, partly adapted to the brightness of the background, perhaps mirrored."""
    color, alpha = cut_out.color, cut_out.alpha
    weight = random.uniform(0, 0.6)
    inside = color[alpha > 0.5].mean() if (alpha > 0.5).any() else color.mean()
    gain = ((1 - weight) * inside + weight * ground.mean()) / max(inside, 1)
    color = np.clip(color * gain * random.uniform(0.9, 1.1, 3), 0, 255).astype(np.float32)
    return CutOut(color[:, ::-1], alpha[:, ::-1]) if random.random() < 0.5 else CutOut(color, alpha)


def placement(cut_out: CutOut, center: Pixels, side: float, angle: float) -> Pixels:
    """Return the matrix that moves a cut-out into the image: rotated, its longer side ``side`` pixels long."""
    height, width = cut_out.alpha.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, side / max(width, height))
    matrix[:, 2] += center * np.array(SIZE[::-1]) - (width / 2, height / 2)
    return np.asarray(matrix, np.float32)


def paste(image: Pixels, mask: Pixels, cut_out: CutOut, matrix: Pixels) -> tuple[Pixels, Pixels]:
    """Return an image and its mask with a cut-out pasted over them."""
    color = cv2.warpAffine(cut_out.color, matrix, SIZE[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(cut_out.alpha, matrix, SIZE[::-1], flags=cv2.INTER_LINEAR)
    return image + (color - image) * alpha[..., None], np.maximum(mask, alpha)


def compose(
    objects: Sequence[CutOut], ground: Pixels, frames: int, random: np.random.Generator
) -> Iterator[tuple[Pixels, Pixels]]:
    """Yield the frames of a clip, BGR ``(H, W, 3)``, and the masks of its objects, ``(H, W)`` from 0 to 1."""
    chosen = [adapted(one, ground, random) for one in objects]
    sides = [random.uniform(*SCALES) * SIZE[0] for _ in chosen]
    angles = [random.uniform(-MAX_ANGLE, MAX_ANGLE) for _ in chosen]
    paths = [path(frames, random, MAX_SPEED, 0.15) for _ in chosen]
    camera = path(frames, random, MAX_PAN, 0.5)
    noise = random.uniform(0, 4)
    for number in range(frames):
        zoom = 1.12 * camera.scale[number] * max(SIZE[0] / ground.shape[0], SIZE[1] / ground.shape[1])
        matrix = cv2.getRotationMatrix2D((ground.shape[1] / 2, ground.shape[0] / 2), 0, float(zoom))
        matrix[:, 2] += camera.center[number] * SIZE[::-1] - (ground.shape[1] / 2, ground.shape[0] / 2)
        image = cv2.warpAffine(ground, matrix, SIZE[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        mask = np.zeros(SIZE, np.float32)
        for one, side, angle, way in zip(chosen, sides, angles, paths, strict=True):
            position = placement(one, way.center[number], side * float(way.scale[number]), angle)
            image, mask = paste(image, mask, one, position)
        yield np.clip(image + random.normal(0, noise, image.shape), 0, 255).astype(np.float32), mask


@dataclass(frozen=True)
class Composer:
    """Writes the clips of a run; can be sent to processes."""

    objects: Sequence[Video]
    backgrounds: Sequence[Video]
    options: argparse.Namespace

    def __call__(self, number: int) -> None:
        """Write a clip; its content depends on the seed and its number alone."""
        cv2.setNumThreads(1)
        random = np.random.default_rng([self.options.seed, number])
        draw, empty = random.random(), self.options.empty
        wanted = 0 if draw < empty else 2 if draw < empty + TWO else 1
        chosen: list[CutOut] = []
        while len(chosen) < wanted:
            found = cut_outs(self.objects[random.integers(len(self.objects))])
            chosen += [found[random.integers(len(found))]] if found else []
        drawn = random.integers(len(self.backgrounds), size=DRAWS)
        _, ground = min((background(self.backgrounds[index], random) for index in drawn), key=lambda found: found[0])
        quality = int(random.integers(70, 96))
        for index, (image, mask) in enumerate(compose(chosen, ground, self.options.frames, random), 1):
            folder = self.options.out / f"{number:05d}"
            write(folder / "images" / f"{index:04d}.jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
            write(folder / "masks" / f"{index:04d}.png", np.where(mask > 0.5, 255, 0), [])


def write(file: Path, pixels: NDArray[np.generic], settings: Sequence[int]) -> None:
    """Write an image file in 8 bits."""
    _, encoded = cv2.imencode(file.suffix, pixels.astype(np.uint8), settings)
    with atomic_write(file) as temporary:
        temporary.write_bytes(encoded.tobytes())


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the clips."""
    options = parse(arguments)
    objects = [video for argument in options.data for video in labeled(argument, ("train",), "object")]
    backgrounds: list[Video] = []
    for argument in options.backgrounds:
        kept, held_out = hold_out(labeled(argument, ("train",)), TrainConfig().hold_out)
        backgrounds += held_out if options.held_out else kept
    compose_clip = Composer(objects, backgrounds, options)
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        spread = pool.map if options.jobs > 1 else map
        for _ in spread(compose_clip, range(options.count)):
            pass
    print(f"{options.out}: {options.count} clips, from {len(objects)} cut-outs and {len(backgrounds)} backgrounds")


if __name__ == "__main__":
    main()
