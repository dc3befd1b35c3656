"""A whole data set in device memory, and batches built there, so that a GPU does not wait for data.

A minute of video at the network's size takes 265 MB, so that an hour or two fit. The batches are those of
``tinyhd distill --animate``, put together for all clips of a step at once.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..models.spec import CLIP_FRAMES
from ..weights.registry import IMAGENET
from . import animate
from .augment import recolored
from .losses import GroundTruth

CONTEXT = CLIP_FRAMES - 1
"""Frames before a clip, for teachers that output one map, of the last of 16 frames."""

STILL_SIZE = (288, 384)
"""Height and width of stored photographs; larger than the input, so that a camera can zoom in."""

EVERY = 10
"""Every tenth photograph of each set and every tenth source of videos is held out."""

CALM, LIVELY = 0.5, 5.0
"""Range to which the motion score of a video is clipped for its sampling weight."""

UNKNOWN_MOTION = 1.4

STRIDES, STRIDE_SHARES = (1, 2, 3), (0.6, 0.25, 0.15)
"""Frame strides of clips and their probabilities."""

SLOWEST = 8
"""Lowest frame rate that a stride may leave."""


@dataclass(frozen=True)
class Films:
    """Videos in memory."""

    names: list[str]
    pixels: list[Tensor]
    """uint8 RGB, each ``(frames, H, W, 3)``."""
    fps: list[float]
    weights: NDArray[np.float64]
    """Relative sampling weights."""


@dataclass(frozen=True)
class Photographs:
    """Photographs with fixations in memory."""

    pixels: Tensor
    """uint8 RGB ``(M, 3, *STILL_SIZE)``."""
    density: Tensor
    """uint8 ``(M, 1, *STILL_SIZE)``."""
    points: Tensor
    """``(M, K, 2)``, see ``animate``; NaN where there are fewer than K."""


@dataclass(frozen=True)
class Mix:
    """Number of clips of each kind in a batch; the first two kinds have ground truth."""

    still: int
    """Static photographs."""
    moving: int
    """Photographs under a moving camera."""
    animated: int
    """Photographs across which patches move."""
    films: int
    """Clips of videos; about one in sixteen repeats a single frame."""

    @property
    def labeled(self) -> int:
        """Clips with ground truth."""
        return self.still + self.moving

    @property
    def total(self) -> int:
        """Clips of a batch."""
        return self.labeled + self.animated + self.films


@dataclass(frozen=True)
class Batch:
    """The clips of one step, labeled clips first."""

    shown: Tensor
    """float32 ``(N, 3, CONTEXT + 16, H, W)``, normalized: input of the teachers."""
    student: Tensor
    """``(N, 3, 16, H, W)``: its last 16 frames with color jitter: input of the student."""
    calm: Tensor
    """``(N,)``: whether a clip is static."""
    truth: GroundTruth | None
    paths: Tensor
    """Where patches move in the animated clips, which come after the labeled ones: ``(A, 16, H, W)``."""


def held_back(items: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Split items into a training part and every tenth."""
    kept = [item for index, item in enumerate(items) if index % EVERY != EVERY - 1]
    return kept, list(items[EVERY - 1 :: EVERY])


def sources_of(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of a folder's MANIFEST.json whose videos exist."""
    found = json.loads((folder / "MANIFEST.json").read_text(encoding="utf-8"))
    return [{**item, "at": folder / item["file"]} for item in found if (folder / item["file"]).is_file()]


def split_by_source(items: Sequence[dict[str, Any]], folder: Path) -> tuple[list[Any], list[Any]]:
    """Split videos by repository: training, and every tenth repository of the whole manifest."""
    everything = json.loads((folder / "MANIFEST.json").read_text(encoding="utf-8"))
    _, held = held_back(sorted({item["repository"] for item in everything}))
    kept = [item for item in items if item["repository"] not in held]
    return kept, [item for item in items if item["repository"] in held]


def shares(items: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
    """Return sampling weights: proportional to motion, divided by the square root of the total of the source."""
    lively = np.array([np.clip(item.get("motion", UNKNOWN_MOTION), CALM, LIVELY) for item in items])
    groups: dict[str, float] = defaultdict(float)
    for item, weight in zip(items, lively, strict=True):
        groups[item["repository"]] += float(weight)
    weights = lively / np.sqrt([groups[item["repository"]] for item in items])
    return np.asarray(weights / weights.sum())


def decode(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the frames of a video, RGB ``(frames, *size, 3)``."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    frames = []
    while True:
        there, frame = capture.read()
        if not there:
            break
        if frame.shape[:2] != size:
            frame = cv2.resize(frame, size[::-1], interpolation=cv2.INTER_LINEAR)
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    capture.release()
    return np.asarray(np.stack(frames), dtype=np.uint8)


def load_films(items: Sequence[dict[str, Any]], size: tuple[int, int], device: torch.device, workers: int) -> Films:
    """Decode videos into device memory."""
    with ThreadPoolExecutor(max(1, workers)) as pool:
        pixels = [
            torch.from_numpy(frames).to(device) for frames in pool.map(lambda item: decode(item["at"], size), items)
        ]
    return Films([item["file"] for item in items], pixels, [item["fps"] for item in items], shares(items))


def load_photograph(image: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """Return a photograph (RGB), its density map (zeros if there is none) and its fixations ``(K, 2)``."""
    from ..datasets import read_density, read_fixation, read_image

    density = np.zeros(STILL_SIZE, np.float32)
    for path in image.parent.parent.glob(f"maps/{image.stem}.*"):
        density = fit(read_density(path).astype(np.float32))
    points = np.zeros((0, 2), np.float32)
    for path in image.parent.parent.glob(f"fixation/{image.stem}.*"):
        fixation = read_fixation(path)
        y, x = np.nonzero(fixation)
        height, width = fixation.shape
        points = np.stack([(x + 0.5) * 2 / width - 1, (y + 0.5) * 2 / height - 1], -1).astype(np.float32)
    scaled = np.rint(density * (255 / max(float(density.max()), 1e-6))).astype(np.uint8)
    return fit(read_image(image)), scaled, points


def fit(picture: NDArray[Any]) -> NDArray[Any]:
    """Resize an image or map to the size of stored photographs."""
    return np.asarray(cv2.resize(picture, STILL_SIZE[::-1], interpolation=cv2.INTER_LINEAR), picture.dtype)


def load_photographs(images: Sequence[Path], device: torch.device, workers: int) -> Photographs:
    """Read photographs into device memory."""
    with ThreadPoolExecutor(max(1, workers)) as pool:
        found = list(pool.map(load_photograph, images))
    most = max(1, *(len(points) for _, _, points in found))
    points = np.full((len(found), most, 2), np.nan, np.float32)
    for row, (_, _, its) in zip(points, found, strict=True):
        row[: len(its)] = its
    pixels = torch.from_numpy(np.stack([pixels for pixels, _, _ in found])).permute(0, 3, 1, 2).contiguous()
    density = torch.from_numpy(np.stack([density for _, density, _ in found])).unsqueeze(1)
    return Photographs(pixels.to(device), density.to(device), torch.from_numpy(points).to(device))


def normalized(clips: Tensor) -> Tensor:
    """Normalize clips ``(N, 3, T, H, W)`` in 0..1 for the networks."""
    mean, std = (torch.tensor(values, device=clips.device).view(3, 1, 1, 1) for values in IMAGENET)
    return (clips - mean) / std


class Batches:
    """Builds the batches of a run; the content of batch n depends only on the seed and n.

    Args:
        films: videos.
        photographs: with ground truth.
        mix: of the kinds of clips.
        size: height and width of the clips.
        jitter: by how much the student's colors change.
        seed: of all that is random.
    """

    def __init__(
        self, films: Films, photographs: Photographs, mix: Mix, size: tuple[int, int], jitter: float, seed: int
    ) -> None:
        self.films, self.photographs, self.mix, self.size = films, photographs, mix, size
        self.jitter, self.seed = jitter, seed
        self.device = photographs.pixels.device

    def batch(self, number: int) -> Batch:
        """Return the batch of a step."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        rng = np.random.default_rng([self.seed, number])
        frames = CONTEXT + CLIP_FRAMES
        labeled, truth = self.labeled_clips(frames, generator)
        films, frozen = self.film_clips(frames, generator, rng)
        animated, paths = self.animated_clips(frames, generator)
        clips = torch.cat([labeled, animated, films]) / 255
        calm = torch.zeros(len(clips), dtype=torch.bool)
        calm[: self.mix.still] = True
        calm[len(clips) - self.mix.films :] = frozen
        colors = animate.uniform((len(clips), 3), 1 - self.jitter, 1 + self.jitter, generator)
        student = recolored(clips[:, :, CONTEXT:], colors)
        return Batch(normalized(clips), normalized(student), calm.to(self.device), truth, paths)

    def labeled_clips(self, frames: int, generator: torch.Generator) -> tuple[Tensor, GroundTruth | None]:
        """Return static photographs, then photographs under a moving camera, with their ground truth."""
        mix, pictures = self.mix, self.photographs
        views = [
            animate.camera(mix.still, frames, generator, pan=0, shake=0),
            animate.camera(mix.moving, frames, generator, pan=0.7, shake=0.5),
        ]
        view = self.sent(*views)
        chosen = torch.randint(len(pictures.pixels), (mix.labeled,), generator=generator).to(self.device)
        clips = animate.seen(pictures.pixels[chosen], view, self.size)
        late = animate.View(view.scale[:, CONTEXT:], view.center[:, CONTEXT:])
        density = animate.seen(pictures.density[chosen], late, self.size).squeeze(1)
        fixation = animate.seen_points(pictures.points[chosen], late, self.size)
        return clips, GroundTruth(density, fixation) if mix.labeled else None

    def animated_clips(self, frames: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return photographs with moving patches of others, a third of them under a moving camera, and the paths."""
        count, pictures = self.mix.animated, self.photographs.pixels
        view = self.sent(animate.camera(count, frames, generator, pan=0.15, shake=0.25))
        chosen = torch.randint(len(pictures), (count,), generator=generator).to(self.device)
        clips = animate.seen(pictures[chosen], view, self.size)
        patches = animate.patches(count, frames, len(pictures), 3, generator)
        moving = animate.Patches(**{name: value.to(self.device) for name, value in vars(patches).items()})
        return animate.paste(clips, pictures, moving), animate.paths(moving, CONTEXT, self.size)

    def film_clips(self, frames: int, generator: torch.Generator, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return clips of videos sampled by liveliness, at several frame rates, and which of them are static."""
        count = self.mix.films
        chosen = rng.choice(len(self.films.pixels), count, p=self.films.weights)
        frozen = rng.random(count) < 1 / 16
        indices = np.stack([self.frame_numbers(int(film), frames, rng) for film in chosen])
        indices[frozen] = indices[frozen][:, -1:]
        places = torch.from_numpy(indices).to(self.device)
        read = torch.stack([self.films.pixels[film][place] for film, place in zip(chosen, places, strict=True)])
        view = self.sent(animate.camera(count, frames, generator, pan=0, shake=0))
        return animate.seen(read.permute(0, 1, 4, 2, 3), view, self.size), torch.from_numpy(frozen)

    def frame_numbers(self, film: int, frames: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the frame indices of a clip; indices before the start of the video repeat its first frame."""
        there = len(self.films.pixels[film])
        most = max(1, min(there // CLIP_FRAMES, int(self.films.fps[film] / SLOWEST)))
        stride = min(int(rng.choice(STRIDES, p=STRIDE_SHARES)), most)
        last = rng.integers(min(there, (CLIP_FRAMES - 1) * stride + 1) - 1, there)
        return np.asarray(np.clip(last + stride * np.arange(1 - frames, 1), 0, there - 1))

    def sent(self, *views: animate.View) -> animate.View:
        """Stack views on the device."""
        scale = torch.cat([view.scale for view in views]).to(self.device)
        return animate.View(scale, torch.cat([view.center for view in views]).to(self.device))
