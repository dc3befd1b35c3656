"""Score one video: compare its maps with the ground truth, frame by frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets import Video
from ..errors import InputError
from ..metrics.object_scores import Curves, scores_of_curves
from ..wording import plural
from .calibration import Calibration
from .each_video import OnFrame
from .ground_truth import ALL_METRICS, GroundTruth, GroundTruthReader
from .map_files import FileSource
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
    curves: dict[str, list[float]] = field(default_factory=dict)
    """Sums of the frames' curves, see ``score_with_curves``; empty for fixations."""
    calibrated: dict[str, list[float]] = field(default_factory=dict)
    """Scores of the calibrated maps of these frames by metric; empty without a calibration."""
    missing: int = 0
    """Number of annotated frames without a map."""
    failed: int = 0
    """Number of frames with a map that could not be scored."""
    constant: int = 0
    """Number of frames with a constant map."""
    empty: int = 0
    """Number of frames with an empty mask."""
    gray: int = 0
    """Number of frames with a mask that is not binary."""
    outside: int = 0
    """Number of fixations outside of their frames, which are left out."""
    unannotated: int = 0
    """Number of maps without ground truth."""
    resized: int = 0
    """Number of maps that differ in size from the ground truth."""
    failures: list[str] = field(default_factory=list)
    """One message for each frame, file or video that could not be scored."""
    notes: list[str] = field(default_factory=list)
    """Messages about oddities that change no score."""

    def add(
        self,
        number: int,
        scores: dict[str, float],
        curves: Curves | None = None,
        calibrated: dict[str, float] | None = None,
    ) -> None:
        """Add the scores and the curves of a frame, and the scores of its calibrated map."""
        for name, curve in (curves or {}).items():
            self.curves[name] = (curve + self.curves.get(name, 0)).tolist()
        self.numbers.append(number)
        add_row(self.scores, scores, len(self.numbers))
        add_row(self.calibrated, calibrated or {}, len(self.numbers))

    def means(self) -> dict[str, float]:
        """Return the mean of each metric over the frames in which it is defined; NaN without such frames.

        Scores that depend on curves are those of the mean curve.
        """
        return column_means(self.scores) | (scores_of_curves(self.mean_curves()) if self.curves else {})

    def mean_curves(self) -> Curves:
        """Return the means of the frames' curves."""
        return {name: np.array(total) / len(self.numbers) for name, total in self.curves.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain values."""
        return asdict(self)


def add_row(columns: dict[str, list[float]], scores: dict[str, float], rows: int) -> None:
    """Add the scores of a frame to the columns of metrics, which then have so many ``rows``.

    A metric may be missing in some frames, which have no fixations, for example; it is NaN there.
    """
    for name in scores:
        columns.setdefault(name, [float("nan")] * (rows - 1))
    for name, column in columns.items():
        column.append(scores.get(name, float("nan")))


def column_means(columns: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the mean of each metric over the frames in which it is defined, in the order of tables."""
    return {name: nan_mean(columns[name]) for name in ALL_METRICS if name in columns}


def nan_mean(values: Iterable[float]) -> float:
    """Return the mean of the values that are not NaN; NaN if all are."""
    array = np.asarray(list(values), np.float64)
    array = array[~np.isnan(array)]
    return float(array.mean()) if array.size else float("nan")


def score_video(
    index: int,
    video: Video,
    source: PredictionSource,
    ground_truth: GroundTruth,
    reader: GroundTruthReader,
    on_frame: OnFrame,
    calibration: Calibration | None = None,
) -> VideoScores:
    """Score all annotated frames of a video.

    Args:
        index: position of the video in the dataset.
        video: the video.
        source: source of the maps.
        ground_truth: describes the ground truth.
        reader: reads it.
        on_frame: called after each scored frame.
        calibration: also score the maps after this; None to score only the maps themselves.

    Returns:
        The scores, with one message for each failure. Bad input raises no exception.
    """
    result = VideoScores(video.name, failures=[f"{video.name}: {line}" for line in video.unsupported])
    annotated = set(ground_truth.numbers(video))
    if not annotated:
        if not video.problem:
            result.failures.append(f"{video.name}: has no {ground_truth.kind}")
        return result
    result.failures += reader.problems(index, video)
    predicted: set[int] = set()
    complete = False
    try:
        for number, prediction in source.maps(video, result.failures.append):
            predicted.add(number)
            if number not in annotated:
                result.unannotated += 1
                continue
            score_frame_of(result, reader, index, video, number, prediction, calibration)
            on_frame()
        complete = True
    except InputError as error:
        result.failures.append(str(error))
    report_mismatches(result, annotated, predicted, complete)
    if not ground_truth.sparse and (extra := sorted(predicted - annotated)):
        result.notes.append(f"{video.name}: {describe_frames(extra)} without ground truth, not scored")
    report_masks(result)
    if result.outside:
        left_out = plural(result.outside, "fixation")
        result.notes.append(
            f"{video.name}: {left_out} outside of the frame left out (tinyhd evaluate --check lists them)"
        )
    if isinstance(source, FileSource):
        if result.resized:
            line = f"{video.name}: {plural(result.resized, 'map')} resized to the size of the ground truth"
            result.notes.append(line)
        if note := source.note(video):
            result.notes.append(note)
    return result


def score_frame_of(
    result: VideoScores,
    reader: GroundTruthReader,
    index: int,
    video: Video,
    number: int,
    prediction: NDArray[Any],
    calibration: Calibration | None,
) -> None:
    """Score one frame; add the scores or the failure to ``result``."""
    frame = video.frame(number)
    try:
        scored = reader.score(index, video, frame, prediction)
        calibrated = reader.score(index, video, frame, calibration.apply(prediction)).scores if calibration else None
    except InputError as error:
        result.failed += 1
        result.failures.append(f"{result.name}: frame {number}: {error}")
        return
    result.resized += prediction.shape != scored.size
    result.constant += scored.constant
    result.empty += scored.empty
    result.gray += scored.gray
    result.outside += scored.outside
    result.add(number, scored.scores, scored.curves, calibrated)


def report_mismatches(result: VideoScores, annotated: set[int], predicted: set[int], complete: bool) -> None:
    """Record frames without a map and constant maps.

    Args:
        result: the scores of the video.
        annotated: numbers of the frames with ground truth.
        predicted: numbers of the frames with a map.
        complete: whether all maps were read; if not, ``result`` already has a message.
    """
    missing = sorted(annotated - predicted)
    result.missing = len(missing)
    if missing and (predicted or complete):  # otherwise there is already a message about the whole video
        result.failures.append(f"{result.name}: no map for {describe_frames(missing)}")
    if result.constant:
        result.notes.append(f"{result.name}: {plural(result.constant, 'constant map')}")


def report_masks(result: VideoScores) -> None:
    """Record masks that are not binary or empty; discard the scores of a video in which all masks are empty."""
    if result.gray:
        masks = "1 mask is" if result.gray == 1 else f"{result.gray} masks are"
        result.notes.append(f"{result.name}: {masks} not binary; levels above half of white count as object")
    if not result.empty:
        return
    if result.empty < len(result.numbers):
        result.notes.append(f"{result.name}: {plural(result.empty, 'empty mask')}, where F is 0")
        return
    result.failed += len(result.numbers)
    result.numbers, result.scores, result.curves = [], {}, {}
    result.failures.append(f"{result.name}: all masks are empty, so there is no object to score")


def describe_frames(numbers: list[int]) -> str:
    """Return frame numbers as text: ``frame 3``, ``12 frames (1, 2, 3, 4, 5, ...)``."""
    if len(numbers) == 1:
        return f"frame {numbers[0]}"
    more = ", ..." if len(numbers) > MAX_LISTED else ""
    return f"{len(numbers)} frames ({', '.join(map(str, numbers[:MAX_LISTED]))}{more})"
