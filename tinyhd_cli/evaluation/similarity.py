"""Similarity of the maps of several models. Models with equal scores can predict different places (Figure 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..atomic_files import atomic_write
from ..callbacks import OnProgress
from ..datasets import Dataset
from ..datasets.images import Map
from ..errors import InputError
from ..metrics import FrameScorer, resize
from ..storage import copied
from ..untrusted import json_text
from .each_video import Item, OnFrame, Work, each_video, items_of
from .options import EvaluateOptions, PredictionSpec
from .predictions import PredictionSource, open_predictions
from .run import Readiness, place_to_work
from .scoring import nan_mean


@dataclass(frozen=True)
class Similarity:
    """Pairwise similarity of maps, averaged over all frames of all videos."""

    names: tuple[str, ...]
    cc: NDArray[np.float64]
    """``(n, n)``, 1 on the diagonal."""
    sim: NDArray[np.float64]
    """``(n, n)``, 1 on the diagonal."""
    frames: int
    """Number of compared frames."""
    failures: tuple[str, ...]
    """One message for each frame or video that could not be compared."""

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain values, for JSON."""
        return {
            "names": list(self.names),
            "CC": rows(self.cc),
            "SIM": rows(self.sim),
            "frames": self.frames,
            "failures": list(self.failures),
        }


def write_json(similarity: Similarity, path: Path) -> None:
    """Write the similarity to a JSON file; ``OutputError`` if that fails."""
    with atomic_write(path) as temporary:
        temporary.write_text(json_text(similarity.to_dict()), encoding="utf-8")


def rows(matrix: NDArray[np.float64]) -> list[list[float | None]]:
    """Return a matrix as lists, with None instead of NaN, which JSON does not have."""
    return [[None if np.isnan(value) else float(value) for value in row] for row in matrix]


@dataclass(frozen=True)
class Comparing:
    """Factory of the function that compares the maps of videos. Picklable, so that every worker process can call it."""

    names: tuple[str, ...]
    """The names of the dataset's videos."""
    predictions: tuple[PredictionSpec, ...]

    def __call__(self) -> Work:
        return self.comparer([open_predictions(spec, self.names) for spec in self.predictions])

    def comparer(self, sources: Sequence[PredictionSource]) -> Work:
        """Return the function that compares the maps of a video from these sources."""

        def compare_video(item: Item, on_frame: OnFrame) -> tuple[list[list[float]], list[str]]:
            video = item.video
            failures: list[str] = []
            scores = []
            try:
                with copied(item.files):
                    for number, maps in common_frames([source.maps(video, failures.append) for source in sources]):
                        try:
                            scores.append(pairwise_scores(maps))
                        except InputError as error:
                            failures.append(f"{video.name}: frame {number}: {error}")
                        on_frame()
            except InputError as error:
                failures.append(str(error))
            return scores, failures

        return compare_video


def common_frames(sources: Sequence[Iterator[tuple[int, Map]]]) -> Iterator[tuple[int, list[Map]]]:
    """Yield number and maps of each frame of which all sources have a map.

    Args:
        sources: frame numbers and maps of each source, in the order of frame numbers.
    """
    current = [next(source, None) for source in sources]
    while all(item is not None for item in current):
        numbers = [item[0] for item in current if item is not None]
        if min(numbers) == max(numbers):
            yield numbers[0], [item[1] for item in current if item is not None]
        behind = min(numbers)
        current = [
            next(source, None) if item is not None and item[0] == behind else item
            for item, source in zip(current, sources, strict=True)
        ]


def pairwise_scores(maps: Sequence[Map]) -> list[float]:
    """Return CC and SIM of every pair of maps, in the order (0, 1), (0, 2), ..., all at the size of the first map.

    Raises:
        InputError: a map contains NaN or infinity.
    """
    size = (maps[0].shape[0], maps[0].shape[1])
    resized = [values if values.shape == size else resize(values, size) for values in maps]
    scores = []
    for first in range(len(resized)):
        for second in range(first + 1, len(resized)):
            pair = FrameScorer(resized[first], resized[second])
            if not pair.finite or not np.isfinite(resized[second]).all():
                raise InputError("a map contains NaN or infinity")
            scores += [pair.cc(), pair.sim()]
    return scores


def compare(
    dataset: Dataset,
    named: dict[str, PredictionSpec],
    options: EvaluateOptions | None = None,
    progress: OnProgress | None = None,
    on_failure: Callable[[str], None] | None = None,
) -> Similarity:
    """Compare the maps of several models on the videos of a dataset. Annotations are not needed.

    Args:
        dataset: result of ``open_dataset``.
        named: at least two models, by the names to show.
        options: only the place to work is used.
        progress: called after each frame.
        on_failure: called with a message about each frame or video that cannot be compared.

    Raises:
        WeightsError: weights cannot be loaded.
        InputError: a folder of maps is missing.
    """
    report, options = on_failure or (lambda line: None), options or EvaluateOptions()
    comparing = Comparing(dataset.names, tuple(named.values()))
    sources = [open_predictions(spec, dataset.names) for spec in comparing.predictions]
    folders = [dataset.root, *(spec.folder for spec in comparing.predictions if spec.folder)]
    readiness = Readiness.of(folders, comparing.predictions, options)
    where = place_to_work(options, sources, len(dataset.videos), readiness)
    make_work = comparing if where else lambda: comparing.comparer(sources)
    total = sum(len(video.frames) for video in dataset.videos)
    scores: dict[int, list[list[float]]] = {}
    failures: dict[int, list[str]] = {}
    for index, (of_video, lines) in each_video(
        make_work,
        items_of(dataset, lambda video: [path for source in sources for path in source.files(video)]),
        where,
        lambda done: progress(done, max(total, done)) if progress else None,
        lambda item, error: ([], [f"{item.video.name}: {error}"]),
    ):
        scores[index], failures[index] = of_video, lines
        for line in lines:
            report(line)
    frames = [frame for index in sorted(scores) for frame in scores[index]]
    messages = tuple(line for index in sorted(failures) for line in failures[index])
    return Similarity(tuple(named), *matrices(len(named), frames), len(frames), messages)


def matrices(count: int, frames: list[list[float]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the matrices of CC and SIM, averaged over frames.

    Args:
        count: number of models.
        frames: result of :func:`pairwise_scores` for each frame.
    """
    cc, sim = np.eye(count), np.eye(count)
    column = 0
    for first in range(count):
        for second in range(first + 1, count):
            for matrix in (cc, sim):
                matrix[first, second] = matrix[second, first] = nan_mean(frame[column] for frame in frames)
                column += 1
    return cc, sim
