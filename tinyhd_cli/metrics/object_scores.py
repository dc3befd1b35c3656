"""Scores of salient objects over several frames: curves are averaged before the maximum is taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from .object import OBJECT_METRICS, Curve, ObjectScorer, combine

ObjectProtocol = Literal["object", "stdistill"]
"""``object``: the definitions of the library pysodmetrics; ``stdistill``: those of the code of STDistill, whose
maximum F is computed from the precision and the recall averaged over frames."""

Curves = dict[str, Curve]
"""Curves by name: ``F`` and ``E``, or for ``stdistill`` ``precision`` and ``recall``."""


def score_with_curves(
    prediction: ArrayLike, mask: ArrayLike, protocol: ObjectProtocol = "object"
) -> tuple[dict[str, float], Curves]:
    """Return the scores of one frame and the curves to average; arguments and errors: ``score_object_frame``."""
    scorer = ObjectScorer(prediction, mask)
    if protocol == "stdistill":
        curves = dict(zip(("precision", "recall"), scorer.precision_recall(), strict=True))
        return {"MAE": scorer.mae(), **scores_of_curves(curves)}, curves
    return scorer.scores(), {"F": scorer.f_curve, "E": scorer.e_curve}


def scores_of_curves(curves: Mapping[str, Curve]) -> dict[str, float]:
    """Return the scores that depend on curves: maximum and mean of F and E, or the maximum F of ``stdistill``."""
    if "precision" in curves:
        return {"maxF": float(combine(curves["precision"], curves["recall"]).max())}
    return {f"{kind}{name}": float(getattr(curves[name], kind)()) for name in ("F", "E") for kind in ("max", "mean")}


def mean_curves(curves: Iterable[Mapping[str, Curve]], weights: Iterable[float]) -> Curves:
    """Return the weighted mean of curves of the same names."""
    found, factors = list(curves), np.asarray(list(weights), np.float64)
    return {name: np.average([one[name] for one in found], axis=0, weights=factors) for name in found[0]}


class ObjectScores:
    """Accumulates the scores of frames.

        scores = ObjectScores()
        for prediction, mask in frames:
            scores.add(prediction, mask)
        print(scores.means()["maxF"])

    Args:
        protocol: the definitions.

    Attributes:
        frames: the scores of each frame, in the order of addition.
        curves: sums of the frames' curves; empty without frames.
    """

    def __init__(self, protocol: ObjectProtocol = "object") -> None:
        self.protocol = protocol
        self.frames: list[dict[str, float]] = []
        self.curves: Curves = {}

    def add(self, prediction: ArrayLike, mask: ArrayLike) -> dict[str, float]:
        """Add a frame and return its scores; arguments and errors: ``score_object_frame``."""
        scores, curves = score_with_curves(prediction, mask, self.protocol)
        self._add([scores], curves)
        return scores

    def _add(self, frames: list[dict[str, float]], curves: Mapping[str, Curve]) -> None:
        self.frames += frames
        for name, curve in curves.items():
            self.curves[name] = self.curves.get(name, np.zeros_like(curve)) + curve

    def merge(self, other: ObjectScores) -> None:
        """Add all frames of another accumulator, such as that of another process or video.

        Raises:
            ValueError: the protocols differ.
        """
        if other.protocol != self.protocol:
            raise ValueError(f"scores of the protocols {self.protocol} and {other.protocol} cannot be merged")
        self._add(other.frames, other.curves)

    def means(self) -> dict[str, float]:
        """Return the means over all frames; maximum and mean of F and E are those of the mean curve. Empty at first."""
        if not self.frames:
            return {}
        means = {name: float(np.mean([frame[name] for frame in self.frames])) for name in self.frames[0]}
        means |= scores_of_curves({name: total / len(self.frames) for name, total in self.curves.items()})
        return {name: means[name] for name in OBJECT_METRICS if name in means}
