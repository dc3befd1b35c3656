"""Small generated datasets for the tests of training."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import torch

from helpers import clips
from tinyhd_cli import weights
from tinyhd_cli.models import build, named_spec

SIZE = (64, 64)
"""Input size of the networks in these tests."""

OPTIONS = ("--size", "64x64", "--workers", "0", "--init", "none", "--batch-size", "2", "--device", "cpu", "--quiet")
"""Command-line options of every run in these tests."""


def density_map(number: int, width: int = 96, height: int = 72) -> np.ndarray:
    """Return a density map whose peak is on the disc of ``clips.image``."""
    y, x = np.mgrid[:height, :width]
    center = width * (0.3 + 0.02 * (number % 20))
    return np.uint8(255 * np.exp(-((x - center) ** 2 + (y - height * 0.6) ** 2) / (2 * 8**2)))


def write_png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())


def labeled_videos(root: Path, count: int = 3, frames: int = 20) -> Path:
    """Write videos as ``NAME/{images,maps,fixation}``, each darker than the one before."""
    for video in range(count):
        for number in range(frames):
            image = clips.image(number + 3 * video, 96, 72) // (video + 1)
            write_png(root / f"v{video}" / "images" / f"{number + 1:04d}.png", image[..., ::-1])
            write_png(root / f"v{video}" / "maps" / f"{number + 1:04d}.png", density_map(number + 3 * video))
            points = (density_map(number + 3 * video) > 250).astype(np.uint8) * 255
            write_png(root / f"v{video}" / "fixation" / f"{number + 1:04d}.png", points)
    return root


def photographs(root: Path, count: int = 3) -> Path:
    """Write photographs, density maps and fixation maps of the same names to ``images``, ``maps`` and ``fixation``."""
    for number in range(count):
        name = f"{1000 + 7 * number}.png"
        write_png(root / "images" / name, clips.image(5 * number, 120, 90)[..., ::-1])
        write_png(root / "maps" / name, density_map(5 * number, 120, 90))
        write_png(root / "fixation" / name, (density_map(5 * number, 120, 90) > 253).astype(np.uint8) * 255)
    return root


def aux_videos(root: Path, count: int = 3, frames: int = 24) -> Path:
    """Write unlabeled videos in the layout of Kinetics: one folder per class."""
    for number in range(count):
        (root / f"class{number % 2}").mkdir(parents=True, exist_ok=True)
        # A lossless codec, because H.264 does not always encode the same frames in the same way.
        clips.make(root / f"class{number % 2}" / f"clip{number}.mkv", codec="ffv1", frames=frames + number)
    return root


def procedural_file(path: Path, shared: Path, name: str) -> Path:
    """Write a weights file of a network with procedural weights, with input size ``SIZE``."""
    sys.path.insert(0, str(shared / "upstream"))
    try:
        import procedural
    finally:
        sys.path.pop(0)
    network = build(named_spec(name))
    state = {}
    for key, value in network.state_dict().items():
        array = procedural.tensor(key, tuple(value.shape))
        state[key] = torch.from_numpy(array)
    weights.save(path, state, network.spec, input_size=SIZE)
    return path
