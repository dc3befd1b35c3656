"""Results of an evaluation: means, JSON, CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..atomic_files import atomic_write
from ..metrics.object_scores import mean_curves, scores_of_curves
from ..untrusted import csv_cell, json_text
from ..version import __version__
from .ground_truth import ALL_METRICS
from .paper_tables import PublishedRow
from .scoring import VideoScores, column_means, nan_mean


@dataclass(frozen=True)
class Results:
    """The scores of a dataset's videos and the protocol by which they were computed."""

    videos: tuple[VideoScores, ...]
    dataset: dict[str, Any]
    prediction: dict[str, Any]
    protocol: dict[str, Any]
    published: tuple[PublishedRow, ...] = ()
    """Published scores of the same network and dataset."""
    notes: tuple[str, ...] = field(default_factory=tuple)
    """Notes that apply to all videos."""
    calibration: dict[str, Any] | None = None
    """The calibration by which maps were scored a second time, as plain values."""

    @property
    def metrics(self) -> list[str]:
        """Metrics with a score for at least one video, in the order of tables."""
        return [name for name in ALL_METRICS if any(name in video.scores for video in self.videos)]

    def mean(self) -> dict[str, float]:
        """Return each metric's mean over all frames of all videos in which it is defined.

        Curves are averaged over all frames, too, before their maximum is taken.
        """
        means = frame_means([video.scores for video in self.videos])
        return means | self._of_curves(lambda video: len(video.numbers))

    def macro_mean(self) -> dict[str, float]:
        """Return each metric's mean over videos of the video's mean, which the paper's code reports.

        The mean curves of the videos are averaged, too, before their maximum is taken.
        """
        return video_means([video.means() for video in self.videos]) | self._of_curves(lambda video: 1)

    @property
    def main(self) -> str:
        """The mean that the organizers of the protocol report: ``mean`` or ``macro_mean``."""
        return str(self.protocol["main"])

    @property
    def calibrated(self) -> dict[str, Any] | None:
        """The calibration, and the means over the same videos before and after it, as plain values."""
        if self.calibration is None:
            return None
        videos = [video for video in self.videos if video.calibrated]
        found: dict[str, Any] = {**self.calibration, "videos": len(videos)}
        for kind, columns in (("raw", [v.scores for v in videos]), ("calibrated", [v.calibrated for v in videos])):
            means = {"mean": frame_means(columns), "macro_mean": video_means(list(map(column_means, columns)))}
            found[kind] = {name: without_nan(scores) for name, scores in means.items()}
        return found

    def _of_curves(self, weight: Callable[[VideoScores], float]) -> dict[str, float]:
        """Return the scores that depend on curves, those of the weighted mean of the videos' mean curves."""
        videos = [video for video in self.videos if video.curves]
        if not videos:
            return {}
        return scores_of_curves(mean_curves((video.mean_curves() for video in videos), map(weight, videos)))

    def undefined(self) -> dict[str, int]:
        """Return the number of scored frames in which each metric is NaN."""
        return {
            name: sum(math.isnan(score) for video in self.videos for score in video.scores.get(name, ()))
            for name in self.metrics
        }

    @property
    def frames(self) -> dict[str, int]:
        """Number of scored frames, and of frames that were not scored, by reason."""
        return {
            "scored": sum(len(video.numbers) for video in self.videos),
            "failed": sum(video.failed for video in self.videos),
            "missing": sum(video.missing for video in self.videos),
            "unannotated": sum(video.unannotated for video in self.videos),
            "constant": sum(video.constant for video in self.videos),
        }

    @property
    def failures(self) -> list[str]:
        """One message for each frame, file or video that could not be scored."""
        return [line for video in self.videos for line in video.failures]

    def to_dict(self) -> dict[str, Any]:
        """Return all results as plain values, None for undefined scores. Equal runs return equal values."""
        undefined = dict.fromkeys(self.metrics, math.nan)
        return {
            "tinyhd": __version__,
            "dataset": self.dataset,
            "prediction": self.prediction,
            "protocol": self.protocol,
            "mean": without_nan(self.mean()),
            "macro_mean": without_nan(self.macro_mean()),
            "calibration": self.calibrated,
            "undefined": self.undefined(),
            "frames": self.frames,
            "published": [row.to_dict() for row in self.published],
            "videos": {
                video.name: {
                    **without_nan(undefined | video.means()),
                    **({"calibrated": without_nan(column_means(video.calibrated))} if video.calibrated else {}),
                    "frames": len(video.numbers),
                    "failed": video.failed,
                    "missing": video.missing,
                    "failures": video.failures,
                    "notes": video.notes,
                }
                for video in self.videos
            },
            "notes": list(self.notes),
        }


def frame_means(videos: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, float]:
    """Return each metric's mean over all frames of all videos in which it is defined.

    Args:
        videos: scores of the frames of each video, by metric.
    """
    names = [name for name in ALL_METRICS if any(name in columns for columns in videos)]
    return {name: nan_mean(score for columns in videos for score in columns.get(name, ())) for name in names}


def video_means(videos: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return each metric's mean over videos.

    Args:
        videos: means of each video, by metric.
    """
    names = [name for name in ALL_METRICS if any(name in means for means in videos)]
    return {name: nan_mean(means.get(name, math.nan) for means in videos) for name in names}


def without_nan(scores: dict[str, float]) -> dict[str, float | None]:
    """Return scores with None instead of NaN, which JSON does not have."""
    return {name: None if math.isnan(score) else score for name, score in scores.items()}


def write_json(results: Results, path: Path) -> None:
    """Write all results to a JSON file; ``OutputError`` if that fails."""
    with atomic_write(path) as temporary:
        temporary.write_text(json_text(results.to_dict()), encoding="utf-8")


def write_csv(results: Results, path: Path) -> None:
    """Write the scores of every frame to a CSV file, NaN as an empty cell; ``OutputError`` if that fails."""
    metrics = results.metrics
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["video", "frame", *metrics])
        for video in results.videos:
            undefined = [math.nan] * len(video.numbers)
            columns = [video.scores.get(name, undefined) for name in metrics]
            for number, *scores in zip(video.numbers, *columns, strict=True):
                writer.writerow(
                    [csv_cell(video.name), number, *("" if math.isnan(score) else repr(score) for score in scores)]
                )
