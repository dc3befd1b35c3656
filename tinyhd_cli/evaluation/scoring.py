"""The scores of one video: its maps beside its ground truth, frame by frame."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets import FrameFiles, Video, read_density
from ..errors import InputError
from ..metrics import METRICS, FrameScorer
from ..wording import plural
from .center_bias import CenterBias
from .fixations import Fixations
from .options import OTHER_FRAMES, EvaluateOptions
from .predictions import FileSource, Source

LISTED = 5
"""How many frame numbers a line of problems names."""


@dataclass
class VideoScores:
    """The scores of one video."""

    name: str
    numbers: list[int] = field(default_factory=list)
    """Of the frames that were scored."""
    scores: dict[str, list[float]] = field(default_factory=dict)
    """Metric to the scores of these frames, NaN where one is not defined."""
    missing: int = 0
    """Annotated frames without a map."""
    failed: int = 0
    """Frames with a map that could not be scored."""
    constant: int = 0
    """Frames whose prediction has the same value everywhere."""
    unannotated: int = 0
    """Predicted frames without ground truth."""
    resized: int = 0
    """Predictions of another size than the ground truth."""
    failures: list[str] = field(default_factory=list)
    """Why frames, or the whole video, could not be scored: a line each."""
    notes: list[str] = field(default_factory=list)
    """What is odd but changes no score."""

    def add(self, number: int, scores: dict[str, float]) -> None:
        """Take the scores of a frame."""
        for name, score in scores.items():
            # A metric may come up late: the first frames may have no fixation map.
            self.scores.setdefault(name, [float("nan")] * len(self.numbers)).append(score)
        self.numbers.append(number)
        for column in self.scores.values():
            column.extend([float("nan")] * (len(self.numbers) - len(column)))

    def means(self) -> dict[str, float]:
        """The mean of each metric over the frames in which it is defined; NaN if there are none."""
        return {name: nan_mean(self.scores[name]) for name in METRICS if name in self.scores}

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, to be kept until the other videos are done."""
        return asdict(self)


def nan_mean(values: Iterable[float]) -> float:
    """The mean of what is not NaN; NaN if nothing is."""
    array = np.asarray(list(values), np.float64)
    array = array[~np.isnan(array)]
    return float(array.mean()) if array.size else float("nan")


class GroundTruthReader:
    """What predictions are compared with. Videos are named by their position in ``videos`` and in ``fixations``."""

    def __init__(
        self,
        videos: tuple[Video, ...],
        fixations: Fixations,
        baseline: CenterBias | None,
        options: EvaluateOptions,
    ) -> None:
        self.videos = videos
        self.fixations = fixations
        self.baseline = baseline
        self.options = options

    def other_frames(self, index: int) -> NDArray[np.int64]:
        """The frames of other videos that negatives of shuffled AUC are taken from."""
        return self.fixations.other_frames(index)

    def compare(
        self, index: int, frame: FrameFiles, prediction: NDArray[Any], others: NDArray[np.int64]
    ) -> FrameScorer:
        """A frame's prediction beside its ground truth. What is random depends on the seed and the frame alone.

        Raises:
            InputError: the ground truth cannot be read, or its maps differ in size.
        """
        density = None if frame.density is None else read_density(frame.density)
        fixation = self.fixations.mask(index, frame.number)
        truth = fixation if fixation is not None else density
        if truth is None:
            raise InputError("its fixation map cannot be read")
        size = (truth.shape[0], truth.shape[1])
        name = zlib.crc32(self.videos[index].name.encode(errors="surrogateescape"))
        other = None
        if others.size and fixation is not None:
            rng = np.random.default_rng([self.options.seed, name, frame.number])
            drawn = rng.choice(others, min(OTHER_FRAMES, others.size), replace=False, shuffle=False)
            other = self.fixations.union(drawn, size)
        seed = self.options.monte_carlo
        return FrameScorer(
            prediction,
            density,
            fixation,
            other,
            self.baseline.map(index, size) if self.baseline and fixation is not None else None,
            rng=None if seed is None else np.random.default_rng([seed, name, frame.number]),
        )


def score_video(index: int, source: Source, truth: GroundTruthReader, done: Callable[[], None]) -> VideoScores:
    """Score all annotated frames of a video.

    Args:
        index: the video's position in the ground truth.
        source: where its maps come from.
        truth: what they are compared with.
        done: called after each scored frame.

    Returns:
        The scores, with a line for everything that went wrong. Nothing is raised for a bad input.
    """
    video = truth.videos[index]
    result = VideoScores(video.name, failures=[f"{video.name}: {line}" for line in video.passed_over])
    if not video.annotated:
        result.failures.append(f"{video.name}: has no annotations")
        return result
    others = truth.other_frames(index)
    for number in video.fixations:
        if problem := truth.fixations.problems.get(f"{index}:{number}"):
            result.failures.append(problem)
    predicted: set[int] = set()
    complete = False
    try:
        for number, prediction in source.maps(video, result.failures.append):
            predicted.add(number)
            frame = video.frame(number)
            if frame.density is None and frame.fixation is None:
                result.unannotated += 1
                continue
            score_frame_of(result, truth, index, frame, prediction, others)
            done()
        complete = True
    except InputError as error:
        result.failures.append(str(error))
    look_back(result, video, predicted, complete)
    if isinstance(source, FileSource):
        if result.resized:
            line = f"{video.name}: {plural(result.resized, 'map')} resized to the size of the ground truth"
            result.notes.append(line)
        if note := source.note(video):
            result.notes.append(note)
    return result


def score_frame_of(
    result: VideoScores,
    truth: GroundTruthReader,
    index: int,
    frame: FrameFiles,
    prediction: NDArray[Any],
    others: NDArray[np.int64],
) -> None:
    """Score one frame and note what is odd about it."""
    try:
        comparison = truth.compare(index, frame, prediction, others)
        if not comparison.finite:
            raise InputError("the map holds NaN or infinity")
        scores = comparison.scores()
    except InputError as error:
        result.failed += 1
        result.failures.append(f"{result.name}: frame {frame.number}: {error}")
        return
    result.resized += prediction.shape != comparison.prediction.shape
    result.constant += comparison.constant
    result.add(frame.number, scores)


def look_back(result: VideoScores, video: Video, predicted: set[int], complete: bool) -> None:
    """Say what is missing and what is too much, once all maps are seen."""
    annotated = {*video.densities, *video.fixations}
    missing = sorted(annotated - predicted)
    result.missing = len(missing)
    if missing and (predicted or complete):  # else the one line about the whole video says it
        result.failures.append(f"{video.name}: no map for {frames(missing)}")
    if extra := sorted(predicted - annotated):
        result.notes.append(f"{video.name}: no ground truth for {frames(extra)}, left out")
    if result.constant:
        result.notes.append(f"{video.name}: {plural(result.constant, 'map')} with one value everywhere")


def frames(numbers: list[int]) -> str:
    """Some frames by number: ``frame 3``, ``12 frames (1, 2, 3, 4, 5, ...)``."""
    if len(numbers) == 1:
        return f"frame {numbers[0]}"
    more = ", ..." if len(numbers) > LISTED else ""
    return f"{len(numbers)} frames ({', '.join(map(str, numbers[:LISTED]))}{more})"
