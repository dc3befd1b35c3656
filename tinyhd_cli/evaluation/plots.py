"""Plots of an evaluation: scores over videos and over time, the best and the worst frames."""

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

from ..datasets import Dataset, FrameFiles, Video, read_density, read_mask
from ..datasets.images import Image
from ..errors import InputError
from ..figures import new_figure, plain_text, save_figure
from ..metrics import OBJECT_METRICS
from ..metrics.object import to_eight_bits
from ..untrusted import printable
from ..video.options import OverlayStyle
from ..video.overlay import Painter
from ..wording import plural
from .predictions import PredictionSource
from .results import Results
from .scoring import VideoScores
from .similarity import Similarity

DPI = 110

RANKED_BY = ("NSS", "CC", "SIM", "S", "maxF")
"""Metrics that rank videos and frames; the first one with scores is used."""

OVER_TIME = ("NSS", "CC", "SIM", "AUC-J", "S", "maxF", "maxE", "MAE")
"""Metrics drawn over time."""

STRIP_FRAMES = 4
"""Number of frames in a strip of best or worst frames."""

MAX_NAME_CHARACTERS = 48
"""Maximum length of a video's name in the name of a plot; file systems allow 255 bytes."""

MAX_VIDEOS = 6
"""Maximum number of videos that are all drawn over time; of more videos, only the best, median and worst are."""


@plain_text()
def plot(results: Results, dataset: Dataset, source: PredictionSource, folder: Path) -> list[Path]:
    """Draw all plots of an evaluation into a folder.

    Args:
        results: the scores.
        dataset: the scored dataset.
        source: source of the scored maps.
        folder: where to write.

    Returns:
        The written files.
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
            continue  # an image, or a shot of one frame
        name = re.sub(r"[^\w.-]+", "_", video.name)[:MAX_NAME_CHARACTERS]
        path = folder / f"over_time_{name}.png"
        if path in written:  # "a b" and "a/b" have the same file name
            path = path.with_stem(f"{path.stem}_{zlib.crc32(video.name.encode(errors='surrogateescape')):08x}")
        written.append(plot_over_time(video, path))
    painter = Painter(OverlayStyle(threshold=0.05))
    for kind, sign in (("worst", 1), ("best", -1)):
        frames = [
            shown
            for frame in pick_frames(ranked, metric, sign)
            if (shown := load_frame(frame, metric, dataset, source))
        ]
        if frames:
            written.append(plot_strip(frames, metric, painter, folder / f"{kind}_frames.png"))
    return written


def ranking_metric(results: Results) -> str | None:
    """Return the metric to rank by; None if no map could be scored."""
    return next((name for name in RANKED_BY if not math.isnan(results.mean().get(name, math.nan))), None)


def plot_distribution(results: Results, path: Path) -> Path:
    """Plot each metric's distribution over videos: a box, a dot for each video, the mean as a line.

    For a single video, plot the distribution over its frames.
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
    scored = plural(results.frames["scored"], "frame") if single else plural(len(results.videos), "video")
    figure.suptitle(f"Scores of {scored}, and their mean (orange)", fontsize=11)
    save_figure(figure, path, DPI)
    return path


def plot_over_time(video: VideoScores, path: Path) -> Path:
    """Plot a video's scores, frame by frame."""
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
class RankedFrame:
    """One of the best or worst frames."""

    video: str
    number: int
    score: float


@dataclass(frozen=True)
class LoadedFrame:
    """One of the best or worst frames with its image, its density or mask, and its map."""

    ranked: RankedFrame
    image: Image
    truth: NDArray[Any] | None
    prediction: NDArray[Any]


def pick_frames(videos: Sequence[VideoScores], metric: str, sign: int) -> list[RankedFrame]:
    """Return the frames with the lowest or highest scores: one per video, or several if there are few videos.

    Args:
        videos: the scores.
        metric: the metric to rank by.
        sign: 1 for the lowest scores, -1 for the highest.
    """
    each = max(1, math.ceil(STRIP_FRAMES / max(1, len(videos))))
    picked = []
    for video in videos:
        scores = np.array(video.scores[metric])
        order = [int(at) for at in np.argsort(sign * scores, kind="stable") if not math.isnan(scores[at])]
        apart: list[int] = []
        for at in order:  # consecutive frames look the same: pick distant ones
            if all(abs(at - other) > len(scores) / (2 * each) for other in apart):
                apart.append(at)
        picked += [RankedFrame(video.name, video.numbers[at], float(scores[at])) for at in apart[:each]]
    return sorted(picked, key=lambda frame: sign * frame.score)[:STRIP_FRAMES]


def load_frame(ranked: RankedFrame, metric: str, dataset: Dataset, source: PredictionSource) -> LoadedFrame | None:
    """Load image, ground truth and map of a frame again; return None if one of them cannot be read."""
    video = next(video for video in dataset.videos if video.name == ranked.video)
    try:
        position, image = find_image(video, ranked.number)
        for number, prediction in source.maps(video, lambda line: None, start=position):
            if number == ranked.number:
                return LoadedFrame(ranked, image, load_truth(video.frame(number), metric), prediction)
    except InputError:
        pass
    return None


def load_truth(frame: FrameFiles, metric: str) -> NDArray[Any] | None:
    """Return the ground truth that a metric compares with: the mask of a frame, or its density; None if it has none."""
    if metric in OBJECT_METRICS:
        return read_mask(frame.mask, on_gray=lambda path: None) if frame.mask else None
    return read_density(frame.density) if frame.density else None


def find_image(video: Video, number: int) -> tuple[int, Image]:
    """Return a frame's position in its video and its image; ``InputError`` if the video does not have it."""
    for position, (files, image) in enumerate(video.read(lambda line: None)):
        if files.number == number:
            return position, image
    raise InputError(f"{video.name}: frame {number} is missing")


def plot_strip(frames: Sequence[LoadedFrame], metric: str, painter: Painter, path: Path) -> Path:
    """Plot frames side by side, in rows: the image, the ground truth, the predicted map."""
    figure = new_figure(3.2 * len(frames), 6.6)
    for column, frame in enumerate(frames):
        scale = object_scale if metric in OBJECT_METRICS else full_scale
        shown = [("", frame.image), ("prediction", painter.paint(frame.image, scale(frame.prediction)))]
        if frame.truth is not None:
            shown.insert(1, ("ground truth", painter.paint(frame.image, scale(frame.truth))))
        for row, (label, image) in enumerate(shown):
            axes = figure.add_subplot(len(shown), len(frames), row * len(frames) + column + 1)
            axes.imshow(image)
            axes.set_xticks([])
            axes.set_yticks([])
            if column == 0:
                axes.set_ylabel(label)
            if row == 0:
                title = (
                    f"{printable(frame.ranked.video)}, frame {frame.ranked.number}\n{metric} {frame.ranked.score:.2f}"
                )
                axes.set_title(title, fontsize=9)
    save_figure(figure, path, DPI)
    return path


def full_scale(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return a saliency or density map with its range stretched to 0..1."""
    scaled = values.astype(np.float32) - values.min()
    return np.asarray(scaled / np.float32(max(scaled.max(), 1e-12)), np.float32)


def object_scale(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return a map or mask of objects as probabilities; its range is not stretched."""
    return np.asarray(to_eight_bits(values, values.shape) / 255, np.float32)


@plain_text()
def plot_similarity(similarity: Similarity, path: Path) -> Path:
    """Plot CC and SIM of every pair of models as heat maps with their values."""
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
