"""Clips that are equally hard to compress everywhere, and maps that look to the left."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np


def textured(path: Path, frames: int = 30, codec: str = "libx264", width: int = 320, height: int = 180) -> Path:
    """Make a clip of moving noise."""
    rng = np.random.default_rng(0)
    texture = rng.integers(60, 200, (height // 4 + 1, width // 4 + 1, 3), np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options={"crf": "8"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            image = np.ascontiguousarray(np.roll(texture, 3 * number, axis=1)[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode(None))
    return path


def left_saliency_of(reader, model):
    """Return the frames of a video with maps whose attention is on the left, instead of a network's."""
    saliency = np.full((192, 256), 0.001, np.float32)
    saliency[30:160, 10:70] = 1
    return ((frame, saliency) for frame in reader)
