"""How alike the maps of several models are: models with equal scores can look at different things (Figure 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..atomic_files import atomic_write
from ..datasets import Dataset
from ..errors import InputError
from ..metrics import FrameScorer, resize
from ..system import available_cores
from ..untrusted import json_text
from . import parallel
from .fixations import OnProgress
from .options import EvaluateOptions
from .predictions import Map, Source
from .run import Maps, pick_workers
from .scoring import nan_mean


@dataclass(frozen=True)
class Likeness:
    """Pairwise similarity of maps, averaged over all frames of all videos."""

    names: tuple[str, ...]
    cc: NDArray[np.float64]
    """``(n, n)``, 1 on the diagonal."""
    sim: NDArray[np.float64]
    """Likewise."""
    frames: int
    failures: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "names": list(self.names),
            "CC": rows(self.cc),
            "SIM": rows(self.sim),
            "frames": self.frames,
            "failures": list(self.failures),
        }


def write_json(similarity: Likeness, path: Path) -> None:
    """Write the similarity to a file; ``OutputError`` if that is impossible."""
    with atomic_write(path) as temporary:
        temporary.write_text(json_text(similarity.to_dict()), encoding="utf-8")


def rows(matrix: NDArray[np.float64]) -> list[list[float | None]]:
    """A matrix for JSON, which has no NaN."""
    return [[None if np.isnan(value) else float(value) for value in row] for row in matrix]


@dataclass(frozen=True)
class Comparing:
    """Makes the work of a process: comparing the maps of a video."""

    dataset: Dataset
    maps: tuple[Maps, ...]

    def __call__(self) -> parallel.Work:
        return self.comparer([maps.open(self.dataset, None) for maps in self.maps])

    def comparer(self, sources: Sequence[Source]) -> parallel.Work:
        """What compares the maps of a video from open sources."""

        def compare_video(index: int, done: parallel.Done) -> tuple[list[list[float]], list[str]]:
            video = self.dataset.videos[index]
            failures: list[str] = []
            scores = []
            try:
                for number, maps in in_step([source.maps(video, failures.append) for source in sources]):
                    try:
                        scores.append(similarity(maps))
                    except InputError as error:
                        failures.append(f"{video.name}: frame {number}: {error}")
                    done()
            except InputError as error:
                failures.append(str(error))
            return scores, failures

        return compare_video


def in_step(sources: Sequence[Iterator[tuple[int, Map]]]) -> Iterator[tuple[int, list[Map]]]:
    """The frames that all sources have maps of, each source being in the order of frame numbers."""
    heads = [next(source, None) for source in sources]
    while all(head is not None for head in heads):
        numbers = [head[0] for head in heads if head is not None]
        if min(numbers) == max(numbers):
            yield numbers[0], [head[1] for head in heads if head is not None]
        behind = min(numbers)
        heads = [
            next(source, None) if head is not None and head[0] == behind else head
            for head, source in zip(heads, sources, strict=True)
        ]


def similarity(maps: Sequence[Map]) -> list[float]:
    """CC and SIM of every pair of maps, in the order (0, 1), (0, 2), ..., all at the size of the first."""
    size = (maps[0].shape[0], maps[0].shape[1])
    alike = [values if values.shape == size else resize(values, size) for values in maps]
    scores = []
    for first in range(len(alike)):
        for second in range(first + 1, len(alike)):
            pair = FrameScorer(alike[first], alike[second])
            if not pair.finite or not np.isfinite(alike[second]).all():
                raise InputError("a map holds NaN or infinity")
            scores += [pair.cc(), pair.sim()]
    return scores


def compare(
    dataset: Dataset,
    named: dict[str, Maps],
    options: EvaluateOptions | None = None,
    progress: OnProgress | None = None,
    on_failure: Callable[[str], None] | None = None,
) -> Likeness:
    """Compare the maps of several models on the videos of a dataset. No annotations are needed.

    Args:
        dataset: what ``open_dataset`` found.
        named: at least two models, by the names to show.
        options: of these, the number of workers.
        progress: called as frames are done.
        on_failure: told what could not be compared.

    Raises:
        WeightsError: weights cannot be had.
        InputError: a folder of maps is missing.
    """
    report = on_failure or (lambda line: None)
    comparing = Comparing(dataset, tuple(named.values()))
    sources = [maps.open(dataset, None) for maps in comparing.maps]
    count = len(dataset.videos)
    workers = min(pick_workers(options or EvaluateOptions(), source, count) for source in sources)
    make_work = (lambda: comparing.comparer(sources)) if workers == 1 else comparing
    total = sum(len(video.frames) for video in dataset.videos)
    scores: dict[int, list[list[float]]] = {}
    failures: dict[int, list[str]] = {}
    for index, (of_video, lines) in parallel.run(
        make_work,
        range(count),
        workers,
        max(1, available_cores() // workers),
        lambda done: progress(done, max(total, done)) if progress else None,
    ):
        scores[index], failures[index] = of_video, lines
        for line in lines:
            report(line)
    frames = [frame for index in sorted(scores) for frame in scores[index]]
    said = tuple(line for index in sorted(failures) for line in failures[index])
    return Likeness(tuple(named), *matrices(len(named), frames), len(frames), said)


def matrices(count: int, frames: list[list[float]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """CC and SIM of each pair, averaged over frames."""
    cc, sim = np.eye(count), np.eye(count)
    column = 0
    for first in range(count):
        for second in range(first + 1, count):
            for matrix in (cc, sim):
                matrix[first, second] = matrix[second, first] = nan_mean(frame[column] for frame in frames)
                column += 1
    return cc, sim
