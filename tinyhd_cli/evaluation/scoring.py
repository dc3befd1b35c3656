"""Score one video: compare its maps with the ground truth, frame by frame."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
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
from .map_files import FileSource
from .options import OTHER_FRAMES, EvaluateOptions
from .parallel import OnFrame
from .predictions import PredictionSource

MAX_LISTED = 5
"""Maximum number of frame numbers in one message."""


@dataclass
class VideoScores:
    """The scores of one video."""

    name: str
    numbers: list[int] = field(default_factory=list)
    """Numbers of the scored frames."""
    scores: dict[str, list[float]] = field(default_factory=dict)
    """Scores of these frames by metric; NaN where the metric is not defined."""
    missing: int = 0
    """Number of annotated frames without a map."""
    failed: int = 0
    """Number of frames with a map that could not be scored."""
    constant: int = 0
    """Number of frames with a constant map."""
    unannotated: int = 0
    """Number of maps without ground truth."""
    resized: int = 0
    """Number of maps that differ in size from the ground truth."""
    failures: list[str] = field(default_factory=list)
    """One message for each frame, file or video that could not be scored."""
    notes: list[str] = field(default_factory=list)
    """Messages about oddities that change no score."""

    def add(self, number: int, scores: dict[str, float]) -> None:
        """Add the scores of a frame."""
        for name, score in scores.items():
            # A metric may be missing at first: the first frames may have no fixation map.
            self.scores.setdefault(name, [float("nan")] * len(self.numbers)).append(score)
        self.numbers.append(number)
        for column in self.scores.values():
            column.extend([float("nan")] * (len(self.numbers) - len(column)))

    def means(self) -> dict[str, float]:
        """Return the mean of each metric over the frames in which it is defined; NaN without such frames."""
        return {name: nan_mean(self.scores[name]) for name in METRICS if name in self.scores}

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain values."""
        return asdict(self)


def nan_mean(values: Iterable[float]) -> float:
    """Return the mean of the values that are not NaN; NaN if all are."""
    array = np.asarray(list(values), np.float64)
    array = array[~np.isnan(array)]
    return float(array.mean()) if array.size else float("nan")


class GroundTruthReader:
    """Reader of the ground truth of frames. Videos are identified by their position in ``videos`` and ``fixations``."""

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
        """Return the frames of other videos, from which the negatives of shuffled AUC are drawn."""
        return self.fixations.other_frames(index)

    def frame_scorer(
        self, index: int, frame: FrameFiles, prediction: NDArray[Any], others: NDArray[np.int64]
    ) -> FrameScorer:
        """Return the scorer that compares a frame's map with its ground truth.

        Random draws depend only on the seed, the video's name and the frame number, not on the order of work.

        Args:
            index: position of the video.
            frame: files of the frame.
            prediction: the map.
            others: result of :meth:`other_frames`.

        Raises:
            InputError: the ground truth cannot be read, or its maps differ in size.
        """
        density = None if frame.density is None else read_density(frame.density)
        fixation = self.fixations.mask(index, frame.number)
        reference = fixation if fixation is not None else density
        if reference is None:
            raise InputError("the fixation map cannot be read")
        size = (reference.shape[0], reference.shape[1])
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


def score_video(
    index: int, source: PredictionSource, ground_truth: GroundTruthReader, on_frame: OnFrame
) -> VideoScores:
    """Score all annotated frames of a video.

    Args:
        index: position of the video in the ground truth.
        source: source of the maps.
        ground_truth: reads the ground truth.
        on_frame: called after each scored frame.

    Returns:
        The scores, with one message for each failure. Bad input raises no exception.
    """
    video = ground_truth.videos[index]
    result = VideoScores(video.name, failures=[f"{video.name}: {line}" for line in video.unsupported])
    if not video.annotated:
        result.failures.append(f"{video.name}: has no annotations")
        return result
    others = ground_truth.other_frames(index)
    for number in video.fixations:
        if problem := ground_truth.fixations.problems.get(f"{index}:{number}"):
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
            score_frame_of(result, ground_truth, index, frame, prediction, others)
            on_frame()
        complete = True
    except InputError as error:
        result.failures.append(str(error))
    report_mismatches(result, video, predicted, complete)
    if isinstance(source, FileSource):
        if result.resized:
            line = f"{video.name}: {plural(result.resized, 'map')} resized to the size of the ground truth"
            result.notes.append(line)
        if note := source.note(video):
            result.notes.append(note)
    return result


def score_frame_of(
    result: VideoScores,
    ground_truth: GroundTruthReader,
    index: int,
    frame: FrameFiles,
    prediction: NDArray[Any],
    others: NDArray[np.int64],
) -> None:
    """Score one frame; add the scores or the failure to ``result``."""
    try:
        scorer = ground_truth.frame_scorer(index, frame, prediction, others)
        if not scorer.finite:
            raise InputError("the map contains NaN or infinity")
        scores = scorer.scores()
    except InputError as error:
        result.failed += 1
        result.failures.append(f"{result.name}: frame {frame.number}: {error}")
        return
    result.resized += prediction.shape != scorer.prediction.shape
    result.constant += scorer.constant
    result.add(frame.number, scores)


def report_mismatches(result: VideoScores, video: Video, predicted: set[int], complete: bool) -> None:
    """Record frames without a map, maps without a frame and constant maps.

    Args:
        result: the scores of the video.
        video: the video.
        predicted: numbers of the frames with a map.
        complete: whether all maps were read; if not, ``result`` already has a message.
    """
    annotated = {*video.densities, *video.fixations}
    missing = sorted(annotated - predicted)
    result.missing = len(missing)
    if missing and (predicted or complete):  # otherwise there is already a message about the whole video
        result.failures.append(f"{video.name}: no map for {describe_frames(missing)}")
    if extra := sorted(predicted - annotated):
        result.notes.append(f"{video.name}: no ground truth for {describe_frames(extra)}, maps ignored")
    if result.constant:
        result.notes.append(f"{video.name}: {plural(result.constant, 'constant map')}")


def describe_frames(numbers: list[int]) -> str:
    """Return frame numbers as text: ``frame 3``, ``12 frames (1, 2, 3, 4, 5, ...)``."""
    if len(numbers) == 1:
        return f"frame {numbers[0]}"
    more = ", ..." if len(numbers) > MAX_LISTED else ""
    return f"{len(numbers)} frames ({', '.join(map(str, numbers[:MAX_LISTED]))}{more})"
