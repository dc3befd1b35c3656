"""Pictures of an evaluation: scores over videos and over time, the best and the worst frames."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets import Dataset, Video, read_density
from ..datasets.images import Image
from ..errors import InputError
from ..figures import new_figure, plain_text, save_figure
from ..untrusted import printable
from ..video.options import OverlayStyle
from ..video.overlay import Painter
from ..wording import plural
from .predictions import Source
from .results import Results
from .scoring import VideoScores
from .similarity import Likeness

DPI = 110

RANKED_BY = ("NSS", "CC", "SIM")
"""The first of these that is there ranks videos and frames."""

OVER_TIME = ("NSS", "CC", "SIM", "AUC-J")
"""Metrics drawn over time."""

STRIP = 4
"""Frames in a picture strip."""

MAX_LETTERS = 48
"""Maximum length of a video's name in the name of a plot; file systems allow 255 bytes."""

MAX_VIDEOS = 6
"""Up to so many videos, each is drawn over time; of more, the best, the middle and the worst."""


@plain_text()
def plot(results: Results, dataset: Dataset, source: Source, folder: Path) -> list[Path]:
    """Draw all pictures of an evaluation into a folder.

    Returns:
        What was written.
    """
    written = [plot_distribution(results, folder / "scores.png")]
    metric = ranking_metric(results)
    if metric is None:
        return written
    scored = [video for video in results.videos if not math.isnan(video.means().get(metric, math.nan))]
    ranked = sorted(scored, key=lambda video: video.means()[metric])
    chosen = ranked if len(ranked) <= MAX_VIDEOS else [ranked[0], ranked[len(ranked) // 2], ranked[-1]]
    for video in chosen:
        if len(video.numbers) == 1:
            continue  # a photograph, or a shot of one frame
        name = re.sub(r"[^\w.-]+", "_", video.name)[:MAX_LETTERS]
        path = folder / f"over_time_{name}.png"
        if path in written:  # "a b" and "a/b" become the same name
            path = path.with_stem(f"{path.stem}_{zlib.crc32(video.name.encode(errors='surrogateescape')):08x}")
        written.append(plot_over_time(video, path))
    painter = Painter(OverlayStyle(threshold=0.05))
    for kind, sign in (("worst", 1), ("best", -1)):
        frames = [found for one in pick_frames(ranked, metric, sign) if (found := look(one, dataset, source))]
        if frames:
            written.append(plot_strip(frames, metric, painter, folder / f"{kind}_frames.png"))
    return written


def ranking_metric(results: Results) -> str | None:
    """The metric to rank by; None if no map could be scored."""
    return next((name for name in RANKED_BY if not math.isnan(results.mean().get(name, math.nan))), None)


def plot_distribution(results: Results, path: Path) -> Path:
    """Each metric's distribution over videos: a box, a dot for each video, the mean as a line.

    Of a single video, the distribution over its frames.
    """
    single = len(results.videos) == 1
    metrics = [name for name in results.metrics if not math.isnan(results.macro_mean()[name])]
    figure = new_figure(max(4.0, 1.5 * len(metrics)), 3.6)
    rng = np.random.default_rng(0)
    for number, name in enumerate(metrics):
        axes = figure.add_subplot(1, len(metrics), number + 1)
        videos = results.videos
        scores = videos[0].scores[name] if single else [video.means().get(name, math.nan) for video in videos]
        values = [score for score in scores if not math.isnan(score)]
        axes.boxplot([values], widths=0.5, showfliers=False, medianprops={"color": "black"})
        axes.plot(1 + rng.uniform(-0.15, 0.15, len(values)), values, ".", color="tab:blue", alpha=0.5)
        axes.axhline(results.macro_mean()[name], color="tab:orange", linewidth=1)
        axes.set_title(f"{name}\n{results.macro_mean()[name]:.4f}", fontsize=10)
        axes.set_xticks([])
    what = plural(results.frames["scored"], "frame") if single else plural(len(results.videos), "video")
    figure.suptitle(f"Scores of {what}, and their mean (orange)", fontsize=11)
    save_figure(figure, path, DPI)
    return path


def plot_over_time(video: VideoScores, path: Path) -> Path:
    """A video's scores, frame by frame."""
    metrics = [name for name in OVER_TIME if name in video.scores]
    figure = new_figure(8, 1.5 * len(metrics) + 0.6)
    for number, name in enumerate(metrics):
        axes = figure.add_subplot(len(metrics), 1, number + 1)
        axes.plot(video.numbers, video.scores[name], linewidth=1, marker="." if len(video.numbers) < 60 else "")
        axes.axhline(video.means()[name], color="tab:orange", linewidth=1)
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
        if number < len(metrics) - 1:
            axes.set_xticklabels([])
    axes.set_xlabel("frame")
    figure.suptitle(printable(video.name), fontsize=11)
    save_figure(figure, path, DPI)
    return path


@dataclass(frozen=True)
class Picked:
    """A frame worth a look."""

    video: str
    number: int
    score: float


@dataclass(frozen=True)
class Looked:
    """A frame worth a look, with what there is to see."""

    picked: Picked
    image: Image
    density: NDArray[Any] | None
    prediction: NDArray[Any]


def pick_frames(videos: Sequence[VideoScores], metric: str, sign: int) -> list[Picked]:
    """The frames with the lowest (sign 1) or highest (sign -1) scores: one of each video, several if there are few."""
    each = max(1, math.ceil(STRIP / max(1, len(videos))))
    picked = []
    for video in videos:
        scores = np.array(video.scores[metric])
        order = [int(at) for at in np.argsort(sign * scores, kind="stable") if not math.isnan(scores[at])]
        apart: list[int] = []
        for at in order:  # neighbors look the same: take frames that are apart
            if all(abs(at - other) > len(scores) / (2 * each) for other in apart):
                apart.append(at)
        picked += [Picked(video.name, video.numbers[at], float(scores[at])) for at in apart[:each]]
    return sorted(picked, key=lambda frame: sign * frame.score)[:STRIP]


def look(picked: Picked, dataset: Dataset, source: Source) -> Looked | None:
    """Get the picture, the density and the prediction of a frame; None if one of them cannot be had again."""
    video = next(video for video in dataset.videos if video.name == picked.video)
    try:
        position, image = find_image(video, picked.number)
        for number, prediction in source.maps(video, lambda line: None, start=position):
            if number == picked.number:
                density = video.densities.get(number)
                return Looked(picked, image, read_density(density) if density else None, prediction)
    except InputError:
        pass
    return None


def find_image(video: Video, number: int) -> tuple[int, Image]:
    """A frame's position in its video and its picture; ``InputError`` if it is not there."""
    for position, (files, image) in enumerate(video.read(lambda line: None)):
        if files.number == number:
            return position, image
    raise InputError(f"{video.name}: frame {number} is not there")


def plot_strip(frames: Sequence[Looked], metric: str, painter: Painter, path: Path) -> Path:
    """Frames side by side: the picture, where people looked, the prediction."""
    figure = new_figure(3.2 * len(frames), 6.6)
    for column, frame in enumerate(frames):
        shown = [("", frame.image), ("prediction", painted(painter, frame.image, frame.prediction))]
        if frame.density is not None:
            shown.insert(1, ("people", painted(painter, frame.image, frame.density)))
        for row, (label, image) in enumerate(shown):
            axes = figure.add_subplot(len(shown), len(frames), row * len(frames) + column + 1)
            axes.imshow(image)
            axes.set_xticks([])
            axes.set_yticks([])
            if column == 0:
                axes.set_ylabel(label)
            if row == 0:
                title = (
                    f"{printable(frame.picked.video)}, frame {frame.picked.number}\n{metric} {frame.picked.score:.2f}"
                )
                axes.set_title(title, fontsize=9)
    save_figure(figure, path, DPI)
    return path


def painted(painter: Painter, image: Image, values: NDArray[Any]) -> Image:
    """A picture with a map drawn on it, the map scaled to its own range."""
    scaled = values.astype(np.float32) - values.min()
    return painter.paint(image, scaled / max(float(scaled.max()), 1e-12))


@plain_text()
def plot_likeness(similarity: Likeness, path: Path) -> Path:
    """CC and SIM of every pair of models as heat maps with their numbers."""
    names = [printable(name) for name in similarity.names]
    count = len(names)
    side = 2.2 + 0.8 * count
    figure = new_figure(2 * side, side)
    for number, (name, matrix) in enumerate((("CC", similarity.cc), ("SIM", similarity.sim))):
        axes = figure.add_subplot(1, 2, number + 1)
        shown = axes.imshow(matrix, cmap="viridis", vmin=min(0.0, float(np.nanmin(matrix))), vmax=1)
        axes.set_xticks(range(count), names, rotation=30, ha="right", fontsize=8)
        axes.set_yticks(range(count), names if number == 0 else [""] * count, fontsize=8)
        axes.set_title(name)
        for row in range(count):
            for column in range(count):
                value = matrix[row, column]
                color = "black" if value > 0.6 else "white"
                axes.text(column, row, f"{value:.3f}", ha="center", va="center", color=color, fontsize=8)
        figure.colorbar(shown, ax=axes, shrink=0.8)
    save_figure(figure, path, DPI)
    return path
