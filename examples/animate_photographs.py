"""Make clips from photographs: a moving camera, and patches of other photographs that move across them.

python examples/animate_photographs.py images:photos --out animated --count 300

Photographs with fixations are many, videos with small objects that move are few. The clips are unlabeled; use them as
--aux of tinyhd distill, so that a teacher labels them. Photographs that tinyhd distill holds out for validation are not
used.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import torch

from tinyhd_cli.atomic_files import atomic_write
from tinyhd_cli.datasets import Video
from tinyhd_cli.training import TrainConfig
from tinyhd_cli.training.animate import paste_patches, random_patches, random_views, render_views
from tinyhd_cli.training.sources import hold_out, labeled

SIZE = (240, 320)
"""Height and width of the clips, in pixels."""

RATE = 25
"""Frames per second."""

MAX_PATCHES = 2
"""Maximum number of moving patches in a clip."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("data", nargs="+", metavar="[LAYOUT:]DIR", help="photographs, as for --data of tinyhd distill")
    add("--out", type=Path, required=True, help="folder of the clips")
    add("--count", type=int, default=300, help="number of clips (default: 300)")
    add("--frames", type=int, default=48, help="frames of each clip (default: 48)")
    add("--seed", type=int, default=0, help="seed of all random choices (default: 0)")
    return parser.parse_args(arguments)


def photographs(data: Sequence[str]) -> list[Video]:
    """Return the photographs of some datasets, except those that are held out."""
    found: list[Video] = []
    for argument in data:
        kept, _ = hold_out(labeled(argument, ("train",)), TrainConfig().hold_out)
        found += [video for video in kept if video.single is not None]
    return found


def pixels(photograph: Video) -> torch.Tensor:
    """Return a photograph as uint8 ``(3, H, W)`` in the size of the clips."""
    _, image = next(iter(photograph.read()))
    return torch.from_numpy(cv2.resize(image, SIZE[::-1], interpolation=cv2.INTER_AREA)).permute(2, 0, 1)


def clip(photos: Sequence[Video], frames: int, generator: torch.Generator) -> np.ndarray:
    """Return the frames of a clip, uint8 ``(T, H, W, 3)``."""
    chosen = torch.randint(len(photos), (1 + MAX_PATCHES,), generator=generator).tolist()
    ground, *others = (pixels(photos[index]) for index in chosen)
    view = random_views(1, frames, generator)
    patches = random_patches(1, frames, len(others), MAX_PATCHES, generator)
    moving = paste_patches(render_views(ground[None], view, SIZE), torch.stack(others), patches)
    return moving[0].permute(1, 2, 3, 0).round().clamp(0, 255).byte().numpy()


def write(images: np.ndarray, path: Path) -> None:
    """Write a clip as H.264."""
    with atomic_write(path) as temporary, av.open(str(temporary), "w") as file:
        stream = file.add_stream("libx264", rate=Fraction(RATE), options={"crf": "18"})
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for image in images:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode())


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the clips."""
    options = parse(arguments)
    photos = photographs(options.data)
    for number in range(options.count):
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + number)
        write(clip(photos, options.frames, generator), options.out / f"animated-{number:04d}.mp4")
    print(f"{options.out}: {options.count} clips of {options.frames} frames, from {len(photos)} photographs")


if __name__ == "__main__":
    main()
