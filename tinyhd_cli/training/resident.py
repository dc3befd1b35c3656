"""Hold a whole dataset in device memory and build batches there, so that a GPU never waits for data.

One minute of video at the network's input size takes 265 MB, so an hour or two fits. The batches mix static
photographs, photographs under a moving camera, animated photographs (:mod:`.animate`) and clips of videos.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..atomic_files import atomic_write
from ..models.spec import IMAGENET
from . import animate
from .augment import recolored
from .losses import GroundTruth

CLIP_FRAMES = 16
"""Frames of a clip of the networks that are trained on resident data."""

CONTEXT = CLIP_FRAMES - 1
"""Frames before a clip, for teachers that output one map, which belongs to the last of 16 frames."""

PHOTO_SIZE = (288, 384)
"""Height and width of stored photographs; larger than the input, which leaves room to zoom in."""

HOLD_OUT_EVERY = 10
"""One in this many photographs of each set, and one in this many sources of videos, is held out."""

MIN_MOTION, MAX_MOTION = 0.5, 5.0
"""Range to which the motion score of a video is clipped for its sampling weight."""

UNKNOWN_MOTION = 1.4
"""Motion score of a video whose manifest entry has none."""

STRIDES, STRIDE_PROBABILITIES = (1, 2, 3), (0.6, 0.25, 0.15)
"""Frame strides of clips and their probabilities."""

MIN_FPS = 8
"""Lowest frame rate that a stride may produce."""

STATIC_PROBABILITY = 1 / 16
"""Probability that a clip of a video repeats a single frame."""

SPLIT_PARTS, SPLIT_PROBABILITIES = (2, 3), (0.7, 0.3)
"""Numbers of videos in a split screen and their probabilities."""

HELD_PROBABILITY = 0.75
"""Probability that only one video of a split screen moves and the others repeat a single frame."""


@dataclass(frozen=True)
class Videos:
    """Videos in memory."""

    names: list[str]
    pixels: list[Tensor]
    """uint8 RGB, each ``(frames, H, W, 3)``."""
    fps: list[float]
    weights: NDArray[np.float64]
    """Sampling probabilities."""


@dataclass(frozen=True)
class Photographs:
    """Photographs with fixations in memory."""

    pixels: Tensor
    """uint8 RGB ``(M, 3, *PHOTO_SIZE)``."""
    density: Tensor
    """uint8 ``(M, 1, *PHOTO_SIZE)``."""
    points: Tensor
    """``(M, K, 2)`` in the coordinates of :mod:`.animate`; NaN where a photograph has fewer than K fixations."""


@dataclass(frozen=True)
class Mix:
    """Number of clips of each kind in a batch; the first two kinds have ground truth."""

    static: int
    """Static photographs."""
    moving: int
    """Photographs under a moving camera."""
    animated: int
    """Photographs with patches moving across them."""
    videos: int
    """Clips of videos."""

    @property
    def labeled(self) -> int:
        """Number of clips with ground truth."""
        return self.static + self.moving

    @property
    def total(self) -> int:
        """Number of clips in a batch."""
        return self.labeled + self.animated + self.videos


@dataclass(frozen=True)
class Batch:
    """The clips of one step, in the order of :class:`Mix`: labeled clips first, then animated ones, then videos."""

    teacher_clips: Tensor
    """float32 ``(N, 3, CONTEXT + 16, H, W)``, normalized: input of the teachers."""
    student_clips: Tensor
    """``(N, 3, 16, H, W)``: the last 16 frames with color jitter: input of the student."""
    static: Tensor
    """bool ``(N,)``: whether a clip is static."""
    ground_truth: GroundTruth | None
    motion: Tensor
    """Maps of the moving patches in the A animated clips: ``(A, 16, H, W)``."""

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors, in a fixed order."""
        labels = [self.ground_truth.density, self.ground_truth.fixation] if self.ground_truth else []
        return [self.teacher_clips, self.student_clips, self.static, self.motion, *labels]


def hold_out(items: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Split items into a training part and every tenth item."""
    kept = [item for index, item in enumerate(items) if index % HOLD_OUT_EVERY != HOLD_OUT_EVERY - 1]
    return kept, list(items[HOLD_OUT_EVERY - 1 :: HOLD_OUT_EVERY])


def read_manifest(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of a folder's MANIFEST.json whose videos exist, with their path as ``path``."""
    entries = json.loads((folder / "MANIFEST.json").read_text(encoding="utf-8"))
    return [{**item, "path": folder / item["file"]} for item in entries if (folder / item["file"]).is_file()]


def split_by_source(items: Sequence[dict[str, Any]], folder: Path) -> tuple[list[Any], list[Any]]:
    """Split videos by repository: a training part, and every tenth repository of the whole manifest."""
    entries = json.loads((folder / "MANIFEST.json").read_text(encoding="utf-8"))
    _, held_out = hold_out(sorted({item["repository"] for item in entries}))
    kept = [item for item in items if item["repository"] not in held_out]
    return kept, [item for item in items if item["repository"] in held_out]


def sampling_weights(items: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
    """Return sampling probabilities: proportional to motion, divided by the square root of the source's total."""
    motion = np.array([np.clip(item.get("motion", UNKNOWN_MOTION), MIN_MOTION, MAX_MOTION) for item in items])
    totals: dict[str, float] = defaultdict(float)
    for item, weight in zip(items, motion, strict=True):
        totals[item["repository"]] += float(weight)
    weights = motion / np.sqrt([totals[item["repository"]] for item in items])
    return np.asarray(weights / weights.sum())


def decode(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the frames of a video, RGB ``(frames, *size, 3)``."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    frames = []
    while True:
        success, frame = capture.read()
        if not success:
            break
        if frame.shape[:2] != size:
            frame = cv2.resize(frame, size[::-1], interpolation=cv2.INTER_LINEAR)
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    capture.release()
    return np.asarray(np.stack(frames), dtype=np.uint8)


def decode_mapped(path: Path, size: tuple[int, int], folder: Path) -> Tensor:
    """Return the frames of a video as :func:`decode`, mapped from a file in a folder, which is written if it is new.

    The name of the file depends on the path, length and time of the video. The mapping needs no open file, of which a
    process may have fewer than there are videos.
    """
    facts = path.stat()
    name = hashlib.sha256(f"{path.resolve()}\n{facts.st_size}\n{facts.st_mtime_ns}\n{size}".encode()).hexdigest()[:24]
    file, frame_bytes = folder / f"{name}.u8", 3 * size[0] * size[1]
    if not file.is_file():
        with atomic_write(file) as temporary:
            decode(path, size).tofile(temporary)
    frames = file.stat().st_size // frame_bytes
    mapped = torch.from_file(str(file), shared=False, size=frames * frame_bytes, dtype=torch.uint8)
    return mapped.view(frames, *size, 3)


def load_videos(
    items: Sequence[dict[str, Any]],
    size: tuple[int, int],
    device: torch.device,
    workers: int,
    folder: Path | None = None,
) -> Videos:
    """Decode videos into device memory.

    Args:
        items: entries of a manifest.
        size: height and width of the frames.
        device: device of the frames.
        workers: number of threads.
        folder: on a CPU, folder of files from which the frames are mapped, for more video than fits into memory.
    """

    def load(item: dict[str, Any]) -> Tensor:
        return decode_mapped(item["path"], size, folder) if folder else torch.from_numpy(decode(item["path"], size))

    with ThreadPoolExecutor(max(1, workers)) as pool:
        pixels = [frames.to(device) for frames in pool.map(load, items)]
    names, fps = [item["file"] for item in items], [item["fps"] for item in items]
    return Videos(names, pixels, fps, sampling_weights(items))


def favor(videos: Videos, factors: dict[str, float]) -> Videos:
    """Return videos whose sampling probabilities are multiplied by factors; a name without a factor keeps its own."""
    weights = videos.weights * [factors.get(name, 1.0) for name in videos.names]
    return replace(videos, weights=weights / weights.sum())


def load_photograph(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """Return a photograph (RGB), its density map (zeros if it has none) and its fixations ``(K, 2)``."""
    from ..datasets import read_density, read_fixation, read_image

    density = np.zeros(PHOTO_SIZE, np.float32)
    for map_path in path.parent.parent.glob(f"maps/{path.stem}.*"):
        density = resize(read_density(map_path).astype(np.float32))
    points = np.zeros((0, 2), np.float32)
    for map_path in path.parent.parent.glob(f"fixation/{path.stem}.*"):
        fixation = read_fixation(map_path)
        y, x = np.nonzero(fixation)
        height, width = fixation.shape
        points = np.stack([(x + 0.5) * 2 / width - 1, (y + 0.5) * 2 / height - 1], -1).astype(np.float32)
    scaled = np.rint(density * (255 / max(float(density.max()), 1e-6))).astype(np.uint8)
    return resize(read_image(path)), scaled, points


def resize(image: NDArray[Any]) -> NDArray[Any]:
    """Resize an image or map to the size of stored photographs."""
    return np.asarray(cv2.resize(image, PHOTO_SIZE[::-1], interpolation=cv2.INTER_LINEAR), image.dtype)


def load_photographs(paths: Sequence[Path], device: torch.device, workers: int) -> Photographs:
    """Read photographs into device memory."""
    with ThreadPoolExecutor(max(1, workers)) as pool:
        loaded = list(pool.map(load_photograph, paths))
    max_points = max(1, *(len(points) for _, _, points in loaded))
    padded = np.full((len(loaded), max_points, 2), np.nan, np.float32)
    for row, (_, _, points) in zip(padded, loaded, strict=True):
        row[: len(points)] = points
    pixels = torch.from_numpy(np.stack([pixels for pixels, _, _ in loaded])).permute(0, 3, 1, 2).contiguous()
    density = torch.from_numpy(np.stack([density for _, density, _ in loaded])).unsqueeze(1)
    return Photographs(pixels.to(device), density.to(device), torch.from_numpy(padded).to(device))


def normalize(clips: Tensor) -> Tensor:
    """Normalize clips ``(N, 3, T, H, W)`` in 0..1 for the networks."""
    mean, std = (torch.tensor(values, device=clips.device).view(3, 1, 1, 1) for values in IMAGENET)
    return (clips - mean) / std


class Batches:
    """Builder of a run's batches. The content of batch n depends only on the seed and n.

    Args:
        videos: Videos without ground truth.
        photographs: Photographs with ground truth.
        mix: Number of clips of each kind in a batch.
        size: Height and width of the clips.
        jitter: Strength of the color jitter of the student's clips.
        seed: Seed of all random numbers.
        split: Probability that a clip of a video becomes a split screen with other videos (:meth:`split_screen`).
    """

    def __init__(
        self,
        videos: Videos,
        photographs: Photographs,
        mix: Mix,
        size: tuple[int, int],
        jitter: float,
        seed: int,
        split: float = 0.0,
    ) -> None:
        self.videos, self.photographs, self.mix, self.size = videos, photographs, mix, size
        self.jitter, self.seed, self.split = jitter, seed, split
        self.device = photographs.pixels.device

    def batch(self, number: int, epoch: int = 0) -> Batch:
        """Return the batch with a number; in another epoch, it has the same clips with other colors."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        rng = np.random.default_rng([self.seed, number])
        frames = CONTEXT + CLIP_FRAMES
        labeled, ground_truth = self.labeled_clips(frames, generator)
        videos, repeated = self.video_clips(frames, generator, rng)
        animated, motion = self.animated_clips(frames, generator)
        clips = torch.cat([labeled, animated, videos]) / 255
        static = torch.zeros(len(clips), dtype=torch.bool)
        static[: self.mix.static] = True
        static[len(clips) - self.mix.videos :] = repeated
        for _ in range(1 + epoch):
            colors = animate.uniform((len(clips), 3), 1 - self.jitter, 1 + self.jitter, generator)
        student_clips = recolored(clips[:, :, CONTEXT:], colors)
        return Batch(normalize(clips), normalize(student_clips), static.to(self.device), ground_truth, motion)

    def labeled_clips(self, frames: int, generator: torch.Generator) -> tuple[Tensor, GroundTruth | None]:
        """Return static photographs, then photographs under a moving camera, with their ground truth."""
        mix, photographs = self.mix, self.photographs
        view = self.to_device(
            animate.random_views(mix.static, frames, generator, pan=0, shake=0),
            animate.random_views(mix.moving, frames, generator, pan=0.7, shake=0.5),
        )
        chosen = torch.randint(len(photographs.pixels), (mix.labeled,), generator=generator).to(self.device)
        clips = animate.render_views(photographs.pixels[chosen], view, self.size)
        student_view = animate.View(view.scale[:, CONTEXT:], view.center[:, CONTEXT:])
        density = animate.render_views(photographs.density[chosen], student_view, self.size).squeeze(1)
        fixation = animate.render_points(photographs.points[chosen], student_view, self.size)
        return clips, GroundTruth(density, fixation) if mix.labeled else None

    def animated_clips(self, frames: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return photographs with moving patches of others, some under a moving camera, and the motion maps."""
        count, images = self.mix.animated, self.photographs.pixels
        view = self.to_device(animate.random_views(count, frames, generator, pan=0.15, shake=0.25))
        chosen = torch.randint(len(images), (count,), generator=generator).to(self.device)
        clips = animate.render_views(images[chosen], view, self.size)
        on_cpu = animate.random_patches(count, frames, len(images), 3, generator)
        patches = animate.Patches(**{name: value.to(self.device) for name, value in vars(on_cpu).items()})
        return animate.paste_patches(clips, images, patches), animate.motion_maps(patches, CONTEXT, self.size)

    def video_clips(self, frames: int, generator: torch.Generator, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return clips of randomly chosen videos at several frame rates, and which of the clips are static."""
        count = self.mix.videos
        if not count:
            return torch.zeros((0, 3, frames, *self.size), device=self.device), torch.zeros(0, dtype=torch.bool)
        chosen = rng.choice(len(self.videos.pixels), count, p=self.videos.weights)
        static = rng.random(count) < STATIC_PROBABILITY
        indices = np.stack([self.frame_numbers(int(video), frames, rng) for video in chosen])
        indices[static] = indices[static][:, -1:]
        on_device = torch.from_numpy(indices).to(self.device)
        pixels = torch.stack([self.videos.pixels[video][index] for video, index in zip(chosen, on_device, strict=True)])
        for clip in (rng.random(count) < self.split).nonzero()[0] if self.split else ():
            pixels[clip] = self.split_screen(frames, rng)
            static[clip] = False
        view = self.to_device(animate.random_views(count, frames, generator, pan=0, shake=0))
        return animate.render_views(pixels.permute(0, 1, 4, 2, 3), view, self.size), torch.from_numpy(static)

    def split_screen(self, frames: int, rng: np.random.Generator) -> Tensor:
        """Return a clip ``(frames, H, W, 3)`` of two or three videos side by side, of which often only one moves.

        Its maps teach which of several similar objects, such as faces, attracts the gaze: the one that moves.
        """
        count = int(rng.choice(SPLIT_PARTS, p=SPLIT_PROBABILITIES))
        moving = int(rng.integers(count)) if rng.random() < HELD_PROBABILITY else None
        edges = np.linspace(0, self.size[1], count + 1).astype(int)
        parts = []
        for part, video in enumerate(rng.choice(len(self.videos.pixels), count, p=self.videos.weights)):
            indices = self.frame_numbers(int(video), frames, rng)
            if moving not in (None, part):
                indices[:] = indices[-1]
            width = edges[part + 1] - edges[part]
            left = int(rng.triangular(0, (self.size[1] - width) / 2, self.size[1] - width))
            pixels = self.videos.pixels[video][torch.from_numpy(indices).to(self.device)]
            parts.append(pixels[:, :, left : left + width])
        return torch.cat(parts, dim=2)

    def frame_numbers(self, video: int, frames: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the frame indices of a clip; indices before the start of the video repeat its first frame."""
        length = len(self.videos.pixels[video])
        max_stride = max(1, min(length // CLIP_FRAMES, int(self.videos.fps[video] / MIN_FPS)))
        stride = min(int(rng.choice(STRIDES, p=STRIDE_PROBABILITIES)), max_stride)
        last = rng.integers(min(length, (CLIP_FRAMES - 1) * stride + 1) - 1, length)
        return np.asarray(np.clip(last + stride * np.arange(1 - frames, 1), 0, length - 1))

    def to_device(self, *views: animate.View) -> animate.View:
        """Concatenate views on the device."""
        scale = torch.cat([view.scale for view in views]).to(self.device)
        return animate.View(scale, torch.cat([view.center for view in views]).to(self.device))
