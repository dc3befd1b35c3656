"""Collect the scores of all frames in constant memory, except for one entry per second."""

from __future__ import annotations

import numpy as np

from .agreement import FrameScores
from .points import Numbers
from .results import METRICS, Ceiling, ModelScores, Scores, Second, mean_scores


class Mean:
    """Means of scores, in which those that are not defined do not count.

    Args:
        rows: number of separate means of the three metrics.
    """

    def __init__(self, rows: int) -> None:
        self.sums = np.zeros((rows, len(METRICS)))
        self.counts = np.zeros((rows, len(METRICS)), np.int64)

    def add(self, rows: object, scores: Numbers, defined: Numbers) -> None:
        """Add scores ``(n, 3)`` to ``n`` different rows; ``defined`` marks those that count."""
        self.sums[rows] += np.where(defined, scores, 0)
        self.counts[rows] += defined

    def of(self, row: int) -> dict[str, float | None] | None:
        """Return the means of one row; None if it has no scores at all."""
        return mean_scores(self.sums[row], self.counts[row]) if self.counts[row].any() else None

    def overall(self) -> dict[str, float | None]:
        """Return the means over all scores."""
        return mean_scores(self.sums.sum(axis=0), self.counts.sum(axis=0))


class CeilingCollector:
    """The scores of observers against each other, and of a model against observers.

    Args:
        observers: number of observers.
        model: the model's name; None without one.
    """

    def __init__(self, observers: int, model: str | None) -> None:
        self._model = model
        self._others, self._model_alone = Mean(observers), Mean(observers)
        self._halves, self._model_halves = Mean(1), Mean(1)
        self._seconds: dict[int, list[float]] = {}

    def add(self, time_s: float, scores: FrameScores) -> None:
        """Add one frame. Only gaze for which both the others and the model have a score counts."""
        defined, half_defined = np.isfinite(scores.alone), np.isfinite(scores.halves)
        if scores.model_alone is not None and scores.model_halves is not None:
            defined &= np.isfinite(scores.model_alone)
            half_defined &= np.isfinite(scores.model_halves)
            self._model_alone.add(scores.observers, scores.model_alone, defined)
            for row in range(2):
                self._model_halves.add(0, scores.model_halves[row], half_defined[row])
        self._others.add(scores.observers, scores.alone, defined)
        for row in range(2):
            self._halves.add(0, scores.halves[row], half_defined[row])
        counted = defined[:, 0]
        if counted.any():
            second = self._seconds.setdefault(int(time_s), [0.0, 0.0, 0.0])
            second[0] += float(counted.sum())
            second[1] += float(scores.alone[counted, 0].sum())
            second[2] += 0.0 if scores.model_alone is None else float(scores.model_alone[counted, 0].sum())

    def ceiling(self) -> Ceiling | None:
        """Return the observers' agreement; None without scores."""
        pairs = int(self._others.counts[:, 0].sum())
        return Ceiling(self._others.overall(), self._halves.overall(), pairs) if pairs else None

    def model(self) -> ModelScores | None:
        """Return the model's scores; None without a model."""
        if self._model is None:
            return None
        return ModelScores(self._model, self._model_alone.overall(), self._model_halves.overall())

    def of_observer(self, number: int) -> tuple[Scores | None, Scores | None]:
        """Return the scores of the others and of the model against one observer."""
        return self._others.of(number), self._model_alone.of(number)

    def curve(self) -> tuple[Second, ...]:
        """Return the agreement over time."""
        return tuple(
            Second(float(second), others / count, None if self._model is None else model / count)
            for second, (count, others, model) in sorted(self._seconds.items())
        )
