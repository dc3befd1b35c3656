"""The ground truth as the organizers of CrowdSAL score against it: density maps, and fixations with repetitions."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..datasets import Dataset, FixationFrame, FrameFiles, Video, read_density, read_fixation, read_fixation_points
from ..datasets.fixation_lists import inside
from ..errors import InputError
from ..metrics.crowdsal import CrowdsalScorer
from .center_bias import Baseline, CenterBias
from .fixations import Fixations
from .ground_truth import FrameScores
from .protocol import describe_crowdsal_protocol


@dataclass(frozen=True)
class CrowdsalTruth:
    """Density maps and fixations, read frame by frame."""

    dataset: Dataset
    baseline: Baseline | None = None
    """Origin of the center bias; None if it is not needed."""
    fixations: Fixations | None = None
    """The fixations of the dataset, for the center bias."""
    kind: str = "annotations"
    sparse: bool = False

    def numbers(self, video: Video) -> list[int]:
        return video.map_numbers

    def files(self, video: Video) -> list[Path]:
        return video.map_files

    def center_bias(self) -> CenterBias | None:
        if self.baseline is None or self.fixations is None:
            return None
        return self.baseline.center_bias(self.fixations)

    def reader(self) -> CrowdsalReader:
        return CrowdsalReader(self.dataset.videos)

    def describe(self) -> dict[str, Any]:
        described = describe_crowdsal_protocol()
        if self.baseline is not None and self.fixations is not None:
            described["baseline"] = self.baseline.describe(self.fixations)
        return described

    def notes(self) -> Iterator[str]:
        yield from ()

    def keys(self) -> dict[str, str]:
        training = self.baseline.training if self.baseline else None
        return {"fixations": self.fixations.key if self.fixations else "", "training": training.key if training else ""}


class CrowdsalReader:
    """Reader of density maps and fixations."""

    def __init__(self, videos: tuple[Video, ...]) -> None:
        self.videos = videos
        self._truth = functools.lru_cache(maxsize=1)(self._read)

    def problems(self, index: int) -> Iterator[str]:
        yield from ()

    def score(self, index: int, frame: FrameFiles, prediction: NDArray[Any]) -> FrameScores:
        density, fixation, size, outside = self._truth(index, frame)
        scorer = CrowdsalScorer(prediction, density, fixation, size)
        if not scorer.finite:
            raise InputError("the map contains NaN or infinity")
        return FrameScores(scorer.scores(), scorer.prediction.shape, scorer.constant, outside=outside)

    def _read(self, index: int, frame: FrameFiles) -> tuple[NDArray[Any] | None, NDArray[Any] | None, Any, int]:
        """Return density, fixations, size, and the number of fixations that are left out because they are outside."""
        density = None if frame.density is None else read_density(frame.density)
        if not isinstance(frame.fixation, FixationFrame):
            return density, None if frame.fixation is None else read_fixation(frame.fixation), None, 0
        size = self.videos[index].map_size if density is None else (density.shape[0], density.shape[1])
        if size is None:
            raise InputError("the size of the map in which fixations are counted is not known")
        points = read_fixation_points(frame.fixation)
        kept = inside(points, size)
        return density, kept, size, len(points) - len(kept)
