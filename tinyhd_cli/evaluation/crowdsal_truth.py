"""The ground truth as the organizers of CrowdSAL score against it: density maps, and fixations with repetitions."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..datasets import FixationFrame, FrameFiles, Video, read_density, read_fixation, read_fixation_points
from ..datasets.fixation_lists import inside
from ..errors import InputError
from ..metrics.crowdsal import CrowdsalScorer
from .center_bias import CenterBias, describe_baseline
from .ground_truth import FrameScores
from .protocol import describe_crowdsal_protocol


@dataclass(frozen=True)
class CrowdsalTruth:
    """Density maps and fixations, read frame by frame."""

    bias: CenterBias | None = None
    """None if it is not needed."""
    fixations_key: str = ""
    """Hash of the fixations of the dataset, if the center bias is needed."""
    kind: str = "annotations"
    sparse: bool = False

    def numbers(self, video: Video) -> list[int]:
        return video.map_numbers

    def files(self, video: Video) -> list[Path]:
        return video.map_files

    def center_bias(self) -> CenterBias | None:
        return self.bias

    def reader(self) -> CrowdsalReader:
        return CrowdsalReader()

    def describe(self) -> dict[str, Any]:
        described = describe_crowdsal_protocol()
        if self.fixations_key:
            described["baseline"] = describe_baseline(self.bias)
        return described

    def notes(self) -> Iterator[str]:
        yield from ()

    def keys(self) -> dict[str, str]:
        return {"fixations": self.fixations_key, "training": self.bias.key if self.bias else ""}


class CrowdsalReader:
    """Reader of density maps and fixations."""

    def __init__(self) -> None:
        self._truth = functools.lru_cache(maxsize=1)(self._read)

    def problems(self, index: int, video: Video) -> Iterator[str]:
        yield from ()

    def score(self, index: int, video: Video, frame: FrameFiles, prediction: NDArray[Any]) -> FrameScores:
        density, fixation, size, outside = self._truth(video, frame)
        scorer = CrowdsalScorer(prediction, density, fixation, size)
        if not scorer.finite:
            raise InputError("the map contains NaN or infinity")
        return FrameScores(scorer.scores(), scorer.prediction.shape, scorer.constant, outside=outside)

    def _read(self, video: Video, frame: FrameFiles) -> tuple[NDArray[Any] | None, NDArray[Any] | None, Any, int]:
        """Return density, fixations, size, and the number of fixations that are left out because they are outside."""
        density = None if frame.density is None else read_density(frame.density)
        if not isinstance(frame.fixation, FixationFrame):
            return density, None if frame.fixation is None else read_fixation(frame.fixation), None, 0
        size = video.map_size if density is None else (density.shape[0], density.shape[1])
        if size is None:
            raise InputError("the size of the map in which fixations are counted is not known")
        points = read_fixation_points(frame.fixation)
        kept = inside(points, size)
        return density, kept, size, len(points) - len(kept)
