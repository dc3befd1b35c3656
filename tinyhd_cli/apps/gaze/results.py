"""Results of a study: how well each observer agrees with the others, and how close a model comes to that."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...untrusted import csv_cell
from ...version import __version__

METRICS = ("NSS", "AUC", "CC")
"""Names of the scores, in the order of tables and of the last axis of their arrays."""

CHANCE = {"NSS": 0.0, "AUC": 0.5, "CC": 0.0}
"""Score of a map that is independent of the gaze."""

Scores = Mapping[str, float | None]
"""Mean of each metric; None if it is not defined in any frame."""

LEAST_AGREEING = 3
"""Number of observers that are named as those that agree least with the others."""


@dataclass(frozen=True)
class Observer:
    """One observer's recording, and how well the gaze of the others predicts it."""

    name: str
    file: Path
    rate: float | None
    """Samples per second; None, as the three below, if the file has fixations alone."""
    valid: float | None
    """Fraction of the samples that are valid."""
    lost: float | None
    """Fraction of the expected samples that are missing or invalid."""
    longest_gap_s: float | None
    """Longest time without valid gaze."""
    fixations: int
    """Number of fixations, or of valid samples (of their means above 250 Hz)."""
    on_video: float | None
    """Fraction of these that are on the video's frame; None without any."""
    notes: tuple[str, ...] = ()
    """Assumptions that were made while reading, such as the unit of the time."""
    frames: int = 0
    """Number of frames in which the observer looks at the video."""
    others: Scores | None = None
    """Scores of the other observers' density against this observer's gaze; None if there was never another one."""
    model: Scores | None = None
    """Scores of the model's maps against this observer's gaze, in the same frames."""


@dataclass(frozen=True)
class Ceiling:
    """Agreement of the observers: the scores that a model of the average observer can reach."""

    leave_one_out: Scores
    """Density of all observers but one against the gaze of that one; mean over frames and observers."""
    halves: Scores
    """Density of one half of the observers against the gaze of the other; the halves are drawn anew for each frame."""
    pairs: int
    """Number of pairs of a frame and an observer in the mean of ``leave_one_out``."""


@dataclass(frozen=True)
class ModelScores:
    """Scores of a model against the same gaze as :class:`Ceiling`."""

    name: str
    leave_one_out: Scores
    halves: Scores

    def share(self, ceiling: Ceiling) -> dict[str, float | None]:
        """Return the model's fraction of the ceiling above chance, in the leave-one-out scores."""
        return {name: share_of(self.leave_one_out[name], ceiling.leave_one_out[name], CHANCE[name]) for name in METRICS}


@dataclass(frozen=True)
class Second:
    """Means over one second of the video."""

    time_s: float
    """Start of the second."""
    observers: float
    """NSS of the other observers' density, leave one out."""
    model: float | None
    """NSS of the model's maps."""


@dataclass(frozen=True)
class GazeResult:
    """Result of :func:`gaze_file`."""

    video: Path
    frames: int
    duration_s: float
    damaged: int
    width: int
    height: int
    sigma: tuple[float, float]
    """Standard deviation of the Gaussians along x and y, in pixels."""
    frames_with_gaze: int
    observers: tuple[Observer, ...]
    ceiling: Ceiling | None
    """None if no frame has the gaze of two observers."""
    model: ModelScores | None
    curve: tuple[Second, ...]
    """Agreement over time; seconds without scores are left out."""
    sigma_deg: float | None = None
    """``sigma`` in degrees of visual angle; None if it was chosen in pixels."""
    assumptions: tuple[str, ...] = ()
    """Assumptions about the screen and the place of the video."""

    @property
    def share(self) -> dict[str, float | None] | None:
        """The model's fraction of the ceiling; None without a model or a ceiling."""
        return self.model.share(self.ceiling) if self.model and self.ceiling else None

    def least_agreeing(self) -> list[Observer]:
        """Return the observers whose gaze the others predict worst, by NSS, worst first; at most half of them."""
        scored = [(one.others["NSS"], one) for one in self.observers if one.others is not None]
        ordered = sorted(((nss, one) for nss, one in scored if nss is not None), key=lambda pair: pair[0])
        return [one for _, one in ordered[: min(LEAST_AGREEING, len(ordered) // 2)]]

    def notes(self) -> dict[str, list[str]]:
        """Return the names of the observers for each assumption that was made while reading."""
        found: dict[str, list[str]] = {}
        for observer in self.observers:
            for note in observer.notes:
                found.setdefault(note, []).append(observer.name)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the JSON output."""
        ceiling, model = self.ceiling, self.model
        return {
            "tinyhd": __version__,
            "video": str(self.video),
            "frames": self.frames,
            "damaged": self.damaged,
            "duration_s": round(self.duration_s, 6),
            "width": self.width,
            "height": self.height,
            "sigma_pixels": [round(sigma, 4) for sigma in self.sigma],
            "sigma_degrees": self.sigma_deg,
            "assumptions": list(self.assumptions),
            "frames_with_gaze": self.frames_with_gaze,
            "chance": CHANCE,
            "ceiling": ceiling
            and {
                "leave_one_out": rounded(ceiling.leave_one_out),
                "halves": rounded(ceiling.halves),
                "pairs": ceiling.pairs,
            },
            "model": model
            and {
                "name": model.name,
                "leave_one_out": rounded(model.leave_one_out),
                "halves": rounded(model.halves),
                "share": rounded(self.share or {}),
            },
            "observers": [observer_dict(observer) for observer in self.observers],
            "least_agreeing": [observer.name for observer in self.least_agreeing()],
            "seconds": [{key: rounded_value(value) for key, value in vars(second).items()} for second in self.curve],
        }

    def to_csv(self) -> str:
        """Return a table with one row per observer."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        facts = ("rate", "valid", "lost", "longest_gap_s", "fixations", "on_video", "frames")
        writer.writerow(["observer", "file", *facts, *METRICS, *(f"model_{name}" for name in METRICS)])
        for observer in self.observers:
            scores = [
                *((observer.others or {}).get(name) for name in METRICS),
                *((observer.model or {}).get(name) for name in METRICS),
            ]
            cells = [rounded_value(value) for value in (*(getattr(observer, key) for key in facts), *scores)]
            row = ["" if value is None else value for value in cells]
            writer.writerow([csv_cell(observer.name), csv_cell(observer.file), *row])
        return text.getvalue()


def observer_dict(observer: Observer) -> dict[str, Any]:
    """Return the JSON of one observer."""
    values = {key: rounded_value(value) for key, value in vars(observer).items() if key not in ("others", "model")}
    scores = {
        kind: found and rounded(found) for kind, found in (("others", observer.others), ("model", observer.model))
    }
    return {**values, "file": str(observer.file), **scores}


def rounded(scores: Scores) -> dict[str, float | None]:
    """Return scores with six decimals."""
    return {name: rounded_value(value) for name, value in scores.items()}


def rounded_value(value: Any) -> Any:
    """Return a float with six decimals, and other values unchanged."""
    return round(value, 6) if isinstance(value, float) else value


def share_of(score: float | None, ceiling: float | None, chance: float) -> float | None:
    """Return the fraction of a ceiling above chance; None if the ceiling is not above chance."""
    if score is None or ceiling is None or not ceiling > chance:
        return None
    return (score - chance) / (ceiling - chance)


def mean_scores(sums: Any, counts: Any) -> dict[str, float | None]:
    """Return the means of the metrics from arrays of sums and counts, ``(3,)``."""
    means = [float(total) / int(count) if count else math.nan for total, count in zip(sums, counts, strict=True)]
    return {name: None if math.isnan(mean) else mean for name, mean in zip(METRICS, means, strict=True)}
