"""Small data sets that the tests of training make for themselves."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import torch

from helpers import clips
from tinyhd_cli import weights
from tinyhd_cli.models import build, config

SIZE = (64, 64)

# What every run of these tests has in common.
OPTIONS = ("--size", "64x64", "--workers", "0", "--init", "none", "--batch-size", "2", "--device", "cpu", "--quiet")


def blob(number: int, width: int = 96, height: int = 72) -> np.ndarray:
    """Where people look: at the disc of ``clips.image``."""
    y, x = np.mgrid[:height, :width]
    center = width * (0.3 + 0.02 * (number % 20))
    return np.uint8(255 * np.exp(-((x - center) ** 2 + (y - height * 0.6) ** 2) / (2 * 8**2)))


def write_png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())


def labeled_videos(root: Path, count: int = 3, frames: int = 20) -> Path:
    """``NAME/{images,maps,fixation}``, each video brighter than the one before."""
    for video in range(count):
        for number in range(frames):
            image = clips.image(number + 3 * video, 96, 72) // (video + 1)
            write_png(root / f"v{video}" / "images" / f"{number + 1:04d}.png", image[..., ::-1])
            write_png(root / f"v{video}" / "maps" / f"{number + 1:04d}.png", blob(number + 3 * video))
            points = (blob(number + 3 * video) > 250).astype(np.uint8) * 255
            write_png(root / f"v{video}" / "fixation" / f"{number + 1:04d}.png", points)
    return root


def photographs(root: Path, count: int = 3) -> Path:
    """``images``, ``maps`` and ``fixation`` with the same names."""
    for number in range(count):
        name = f"{1000 + 7 * number}.png"
        write_png(root / "images" / name, clips.image(5 * number, 120, 90)[..., ::-1])
        write_png(root / "maps" / name, blob(5 * number, 120, 90))
        write_png(root / "fixation" / name, (blob(5 * number, 120, 90) > 253).astype(np.uint8) * 255)
    return root


def aux_videos(root: Path, count: int = 3, frames: int = 24) -> Path:
    """Kinetics' layout: a folder for each class."""
    for number in range(count):
        (root / f"class{number % 2}").mkdir(parents=True, exist_ok=True)
        # Without losses: those of H.264 differ from time to time.
        clips.make(root / f"class{number % 2}" / f"clip{number}.mkv", codec="ffv1", frames=frames + number)
    return root


def procedural_file(path: Path, shared: Path, name: str) -> Path:
    """A weight file of a network with procedural weights, for input of ``SIZE``."""
    sys.path.insert(0, str(shared / "upstream"))
    try:
        import procedural
    finally:
        sys.path.pop(0)
    network = build(config(name))
    state = {}
    for key, value in network.state_dict().items():
        array = procedural.tensor(key, tuple(value.shape))
        state[key] = torch.from_numpy(array)
    weights.save(path, state, network.config, input_size=SIZE)
    return path
