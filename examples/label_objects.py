"""Label the salient object of photographs and video frames: weak masks, for training and for cut-outs.

python examples/label_objects.py images:osie images:mit1003 --videos clips --out objects

Where people look is recorded for photographs with density maps, and predicted by the default model for videos. GrabCut
(Rother et al., SIGGRAPH 2004) separates that region from its surroundings. It runs from two starting regions; a mask is
kept only if both results agree, if most of the density lies inside, and if it has the shape and the contrast of an
object. With an object network as --model, its own maps are the start: a second round completes the masks of the first.
About one image in five passes. The masks are a guess about where the object ends: they are good enough to train
with, not to score with.

OUT/images and OUT/masks can be used as --data images:OUT of tinyhd train, and as objects of compose_objects.py.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tinyhd_cli import Model, load_model
from tinyhd_cli.atomic_files import atomic_write
from tinyhd_cli.datasets import Video, read_density
from tinyhd_cli.training import TrainConfig
from tinyhd_cli.training.sources import hold_out, labeled, unlabeled

Mask = NDArray[np.uint8]
Map = NDArray[np.float32]

WIDTH = 240
"""Width at which GrabCut runs, in pixels; its time grows with the number of pixels."""

STARTS = (0.25, 0.5)
"""Fractions of the maximum density above which a pixel probably belongs to the object at the start."""

CERTAIN = 0.85
"""Fraction of the maximum density above which a pixel certainly belongs to the object."""

FAR = 0.12
"""Distance from all fixations, as a fraction of the width, from which a pixel certainly belongs to the background."""

SEEN = 0.45
"""Fraction of the maximum density that a connected part of the object reaches somewhere."""

MIN_AGREEMENT = 0.75
"""Smallest intersection over union of the two results."""

MIN_INSIDE = 0.45
"""Smallest fraction of the density inside the mask."""

AREA = (0.015, 0.4)
"""Smallest and largest area, as a fraction of the image."""

MIN_COMPACTNESS = 0.12
"""Smallest 4 pi area / perimeter^2, which is 1 for a disc."""

MAX_BORDER = 0.12
"""Largest fraction of the image's border that the object covers."""

MIN_CONTRAST = 0.5
"""Smallest distance between the color histograms inside and around the object, 0 to 1."""


FRAMES = (8, 40)
"""Numbers of the frames of a video that are labeled; far enough apart to differ."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("data", nargs="*", metavar="[LAYOUT:]DIR", help="photographs with density maps, as for --data of tinyhd train")
    add("--videos", nargs="+", default=[], metavar="DIR", help="folders of videos")
    add("--model", help="model that predicts the maps of videos, by name or file (default: the default model)")
    add("--out", type=Path, required=True, help="folder of the images and masks")
    add("--held-out", action="store_true", help="label the photographs that tinyhd train holds out, not the others")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one for each core)")
    return parser.parse_args(arguments)


def grab(image: Mask, density: Map, start: float) -> Mask:
    """Return the object as GrabCut finds it, 0 or 1, without parts that nobody looked at.

    Args:
        image: ``(H, W, 3)``, BGR.
        density: ``(H, W)``, maximum 1.
        start: fraction of the maximum density, see :data:`STARTS`.
    """
    state = np.full(density.shape, cv2.GC_PR_BGD, np.uint8)
    state[density > start] = cv2.GC_PR_FGD
    state[density > CERTAIN] = cv2.GC_FGD
    distance = cv2.distanceTransform((density < 0.02).astype(np.uint8), cv2.DIST_L2, 3)
    state[distance > FAR * density.shape[1]] = cv2.GC_BGD
    cv2.setRNGSeed(0)
    cv2.grabCut(image, state, (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)
    found = cv2.medianBlur(((state == cv2.GC_FGD) | (state == cv2.GC_PR_FGD)).astype(np.uint8), 5)
    count, parts = cv2.connectedComponents(found)
    kept = [part for part in range(1, count) if density[parts == part].max() > SEEN]
    return np.isin(parts, kept).astype(np.uint8)


def contrast(image: Mask, mask: Mask) -> float:
    """Return the distance between the histograms of colors inside a mask and in a band around it, 0 to 1."""
    lab = cv2.cvtColor(image, cv2.COLOR_BGR2LAB)
    side = WIDTH // 12 | 1
    band = cv2.dilate(mask, np.ones((side, side), np.uint8)) - mask
    histograms = [cv2.calcHist([lab], [0, 1, 2], area, [6, 10, 10], [0, 256] * 3).ravel() for area in (mask, band)]
    inside, around = (values / max(values.sum(), 1) for values in histograms)
    return float(1 - np.minimum(inside, around).sum())


def is_plausible(image: Mask, density: Map, first: Mask, second: Mask) -> bool:
    """Return whether the second of two results can be an object, and the first one agrees."""
    area = int(second.sum())
    if not AREA[0] * second.size < area < AREA[1] * second.size:
        return False
    outlines, _ = cv2.findContours(second, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    perimeter = sum(cv2.arcLength(outline, True) for outline in outlines)
    border = np.concatenate([second[0], second[-1], second[:, 0], second[:, -1]])
    return bool(
        (first & second).sum() > MIN_AGREEMENT * (first | second).sum()
        and (density * second).sum() > MIN_INSIDE * density.sum()
        and 4 * np.pi * area > MIN_COMPACTNESS * perimeter**2
        and border.mean() < MAX_BORDER
        and contrast(image, second) > MIN_CONTRAST
    )


def weak_mask(image: Mask, density: Map) -> Mask | None:
    """Return the mask of the object that observers looked at, 0 or 255 in the image's size; None if there is none.

    Args:
        image: ``(H, W, 3)``, BGR.
        density: density of the fixations in any scale and size.
    """
    size = (WIDTH, round(WIDTH * image.shape[0] / image.shape[1]))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    density = cv2.resize(density, size, interpolation=cv2.INTER_AREA)
    if density.max() <= 0:
        return None
    density = density / density.max()
    first, second = (grab(small, density, start) for start in STARTS)
    if not is_plausible(small, density, first, second):
        return None
    full = cv2.resize(second * np.float32(255), image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return np.where(full > 127, 255, 0).astype(np.uint8)


def write(out: Path, name: str, image: Mask, density: Map) -> bool:
    """Write an image, BGR, and the mask of its object; return whether it has one."""
    mask = weak_mask(image, density)
    if mask is None:
        return False
    for folder, suffix, pixels in (("images", "jpg", image), ("masks", "png", mask)):
        _, encoded = cv2.imencode(f".{suffix}", pixels)
        with atomic_write(out / folder / f"{name}.{suffix}") as temporary:
            temporary.write_bytes(encoded.tobytes())
    return True


def label_photograph(photograph: Video, out: Path, name: str) -> int:
    """Label a photograph by its recorded density; return the number of masks."""
    cv2.setNumThreads(1)
    frame, image = next(iter(photograph.read()))
    if frame.density is None:
        return 0
    density = read_density(frame.density).astype(np.float32)
    return int(write(out, name, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), density))


@lru_cache
def model(name: str | None) -> Model:
    """Return the model that predicts the maps of videos."""
    return load_model(name, "cpu")


def label_video(video: Video, out: Path, name: str, model_name: str | None) -> int:
    """Label some frames of a video by the predicted maps; return the number of masks."""
    cv2.setNumThreads(1)
    images: dict[int, Mask] = {}

    def frames() -> Iterator[tuple[int, Map]]:
        for number, (_, image) in enumerate(islice(video.read(), FRAMES[-1] + 1)):
            if number in FRAMES:
                images[number] = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
            yield number, model(model_name).prepare(image)

    maps = {number: density for number, density in model(model_name).maps(frames()) if number in FRAMES}
    return sum(write(out, f"{name}-{number:02d}", images[number], density) for number, density in maps.items())


def main(arguments: Sequence[str] | None = None) -> None:
    """Label the photographs and videos."""
    options = parse(arguments)
    photographs: list[Video] = []
    videos: list[Video] = []
    sources = [(labeled(name, ("train",)), photographs) for name in options.data]
    for found, kind in sources + [(unlabeled(name), videos) for name in options.videos]:
        kind += hold_out(found, TrainConfig().hold_out)[1 if options.held_out else 0]
    jobs = [(label_photograph, photographs, "photo"), (partial(label_video, model_name=options.model), videos, "video")]
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        spread, count = pool.map if options.jobs > 1 else map, 0
        for task, items, prefix in jobs:
            names = [f"{prefix}-{number:05d}" for number in range(len(items))]
            count += sum(spread(task, items, [options.out] * len(items), names))
    print(f"{options.out}: {count} masks, from {len(photographs)} photographs and {len(videos)} videos")


if __name__ == "__main__":
    main()
