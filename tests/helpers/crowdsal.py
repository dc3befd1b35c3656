"""Small datasets in the layouts ``crowdsal``, ``ntire2026`` and ``avimos``: videos, map videos, fixations in JSON.

As in the originals, a density map has 10 bits, scaled by its own minimum and maximum, a fixation is ``[row, column]``
in pixels of the map, and several observers may fixate the same pixel. A disc moves through each video, as in
``datasets_on_disk``, and the observers follow it, so that the ground truth can be learned. Sizes are (width, height).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.stream import VideoStream

from helpers.datasets_on_disk import Size, draw_frame, gaze

SIZE: Size = (96, 64)
"""Default size of landscape videos; portrait ones have width and height swapped."""

OBSERVERS = 20
"""Number of fixations in a frame."""

LOSSLESS = {"qp": "0", "preset": "ultrafast"}
"""Options of x264 with which maps are exact; ``crf`` 0, as in the originals, is exact for 8 bits only."""


def fixations(video: str, number: int, size: Size = SIZE) -> np.ndarray:
    """Return the rows and columns of the fixations in a frame ``(n, 2)``; some are repeated."""
    rng = np.random.default_rng([zlib.crc32(video.encode()), number])
    points = rng.normal(gaze(video, number, size), min(size) / 14, (OBSERVERS, 2)).round().astype(int)
    return points.clip(0, np.array(size) - 1)[:, ::-1]


def density(points: np.ndarray, size: Size = SIZE) -> np.ndarray:
    """Return the density map of fixations, uint16 in 0..1023."""
    counts = np.zeros(size[::-1])
    np.add.at(counts, tuple(points.T), 1)
    blurred = cv2.GaussianBlur(counts, (0, 0), max(size) * 0.03)  # 57.6 pixels of 1920
    return ((blurred - blurred.min()) / np.ptp(blurred) * 1023).round().astype(np.uint16)


def write_maps(
    path: Path, maps: Iterable[np.ndarray], pixel_format: str = "gray10le", codec: str = "libx264", **options: str
) -> Path:
    """Write a map video of 30 frames per second; create its folders. Maps are uint8 or uint16, as the format stores."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        settings = (LOSSLESS if codec == "libx264" else {}) | options
        stream = container.add_stream(codec, rate=30, options=settings)
        assert isinstance(stream, VideoStream)
        for index, values in enumerate(maps):
            if not index:
                stream.height, stream.width, stream.pix_fmt = *values.shape, pixel_format
            frame = av.VideoFrame(values.shape[1], values.shape[0], pixel_format)
            for place, plane in enumerate(frame.planes):
                lines = np.frombuffer(plane, values.dtype).reshape(plane.height, -1)
                lines[:] = 128 * (4 if values.dtype == np.uint16 else 1)  # no color
                if not place:
                    lines[:, : plane.width] = values
            frame.pts, frame.time_base = index, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_clip(path: Path, name: str, frames: int, size: Size = SIZE) -> Path:
    """Write an H.264 video of 30 frames per second; create its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "crf": "12"})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(draw_frame(name, index + 1, size), "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 30)
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    return path


def write_truth(maps: Path, listed: Path, name: str, frames: int, size: Size = SIZE) -> None:
    """Write the map video and the fixations of a video."""
    points = [fixations(name, number, size) for number in range(1, frames + 1)]
    write_maps(maps, (density(found, size) for found in points))
    listed.parent.mkdir(parents=True, exist_ok=True)
    listed.write_text(json.dumps([found.tolist() for found in points]))


def make(layout: str, root: Path, videos: int = 4, frames: int = 8, size: Size = SIZE, portrait: int = 1) -> Path:
    """Write a dataset and return its folder.

    Args:
        layout: ``crowdsal``, ``ntire2026`` or ``avimos``.
        root: the folder.
        videos: number of videos of the training split; the test split has half as many, at least one (crowdsal), or at
            least two, half of them public (the others).
        frames: number of frames of each video.
        size: width and height of landscape videos.
        portrait: number of videos in each split that are portrait, the last ones.
    """
    return (make_crowdsal if layout == "crowdsal" else make_challenge)(root, videos, frames, size, portrait)


def sizes(names: list[str], size: Size, portrait: int) -> dict[str, Size]:
    """Return the size of each video."""
    first = len(names) - portrait
    return {name: size if place < first else size[::-1] for place, name in enumerate(names)}


def make_crowdsal(root: Path, videos: int, frames: int, size: Size, portrait: int) -> Path:
    """Write a dataset in the layout of CrowdSAL; test videos are numbered from 3001."""
    for split, first, count in (("Train", 1, videos), ("Test", 3001, max(1, videos // 2))):
        folder, lines = root / split, []
        for name, upright in sizes([f"{first + n:04d}" for n in range(count)], size, portrait).items():
            write_clip(folder / "Videos" / f"{name}.mp4", name, frames, upright)
            write_truth(
                folder / "Saliency" / f"{name}.mp4", folder / "Fixations" / f"{name}.json", name, frames, upright
            )
            source = f"https://example.org/{name}"
            lines.append(json.dumps({"file_name": f"Videos/{name}.mp4", "license": "CC-BY", "source_url": source}))
        (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return root


def make_challenge(root: Path, videos: int, frames: int, size: Size, portrait: int) -> Path:
    """Write a dataset in the layout of the challenges AIM 2024 (AViMoS) and NTIRE 2026, unpacked."""
    tests = max(2, videos // 2)
    names = [f"{n + 1:04d}" for n in range(videos + tests)]
    splits = {
        "train": names[:videos],
        "public_test": names[videos : videos + tests // 2],
        "private_test": names[videos + tests // 2 :],
    }
    for split, members in splits.items():
        part = "Train" if split == "train" else "Test"
        for name, upright in sizes(members, size, portrait).items():
            write_clip(root / "Videos" / f"{name}.mp4", name, frames, upright)
            maps = root / f"Saliency{part}" / part / f"{name}.mp4"
            write_truth(maps, root / f"Fixations{part}" / part / name / "fixations.json", name, frames, upright)
    (root / "TrainTestSplit.json").write_text(json.dumps(splits))
    (root / "VideoInfo.json").write_text(json.dumps({name: {"fps": 30} for name in names}))
    return root
