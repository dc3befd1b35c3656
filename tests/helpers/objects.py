"""Small generated datasets with masks of objects."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from .training_data import write_png


def scene(number: int, width: int = 96, height: int = 72) -> tuple[np.ndarray, np.ndarray]:
    """Return an image with a bright disc in front of dark stripes, BGR, and its mask, 0 or 255."""
    rng = np.random.default_rng(number // 100)
    image = np.tile(np.uint8(60 + 30 * np.sin(np.arange(width) / rng.uniform(2, 6)))[None, :, None], (height, 1, 3))
    center = int(width * (0.3 + 0.02 * (number % 20))), int(height * rng.uniform(0.35, 0.65))
    mask = np.zeros((height, width), np.uint8)
    cv2.circle(mask, center, height // 5, 255, -1)
    image[mask > 0] = rng.integers(150, 255, 3)
    return image, mask


def masked_videos(root: Path, count: int = 3, frames: int = 8) -> Path:
    """Write videos as ``NAME/{images,masks}``."""
    for video in range(count):
        for number in range(frames):
            image, mask = scene(100 * video + number)
            write_png(root / f"v{video}" / "images" / f"{number + 1:04d}.png", image)
            write_png(root / f"v{video}" / "masks" / f"{number + 1:04d}.png", mask)
    return root


def masked_photographs(root: Path, count: int = 6) -> Path:
    """Write photographs and masks of the same names to ``images`` and ``masks``."""
    for number in range(count):
        image, mask = scene(100 * number + 7, 120, 90)
        write_png(root / "images" / f"{1000 + 7 * number}.png", image)
        write_png(root / "masks" / f"{1000 + 7 * number}.png", mask)
    return root
