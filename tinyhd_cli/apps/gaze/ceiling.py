"""Collect the scores of all frames in constant memory, except for one entry per second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...video.reader import Frame, VideoInfo
from .agreement import FrameScores
from .observers import StudyGaze
from .points import Indices, Numbers
from .results import METRICS, Ceiling, GazeResult, ModelScores, Observer, Second, mean_scores


class Mean:
    """Means of scores, in which those that are not defined do not count.

    Args:
        rows: number of separate means of the three metrics.
    """

    def __init__(self, rows: int) -> None:
        self.sums = np.zeros((rows, len(METRICS)))
        self.counts = np.zeros((rows, len(METRICS)), np.int64)

    def add(self, rows: Any, scores: Numbers, defined: NDArray[np.bool_]) -> None:
        """Add scores ``(n, 3)`` to ``n`` different rows; ``defined`` marks those that count."""
        self.sums[rows] += np.where(defined, scores, 0)
        self.counts[rows] += defined

    def of(self, row: int) -> dict[str, float | None] | None:
        """Return the means of one row; None if it has no scores at all."""
        return mean_scores(self.sums[row], self.counts[row]) if self.counts[row].any() else None

    def overall(self) -> dict[str, float | None]:
        """Return the means over all scores."""
        return mean_scores(self.sums.sum(axis=0), self.counts.sum(axis=0))


class StudyCollector:
    """The scores of observers against each other, and of a model against observers.

    Args:
        observers: the observers, without scores.
        model: the model's name; None without one.

    Attributes:
        frames: number of frames added so far.
        frames_with_gaze: number of those during which someone looks at the video.
    """

    def __init__(self, observers: Sequence[Observer], model: str | None) -> None:
        self.frames = 0
        self._observers, self._model = observers, model
        self._watched = np.zeros(len(observers), np.int64)
        self.frames_with_gaze, self._duration_s = 0, 0.0
        self._others, self._model_alone = Mean(len(observers)), Mean(len(observers))
        self._halves, self._model_halves = Mean(1), Mean(1)
        self._seconds: dict[int, list[float]] = {}

    def add(self, frame: Frame, observers: Indices, scores: FrameScores | None) -> None:
        """Add one frame.

        Args:
            frame: the frame.
            observers: number of the observer of each point in it.
            scores: None if the frame is not scored.
        """
        self.frames += 1
        self._watched[np.unique(observers)] += 1
        self.frames_with_gaze += len(observers) > 0
        self._duration_s = frame.time_s + float(frame.duration * frame.info.time_base)
        if scores is not None:
            self._add_scores(frame.time_s, scores)

    def _add_scores(self, time_s: float, scores: FrameScores) -> None:
        """Add the scores of a frame. Only gaze for which both the others and the model have a score counts."""
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

    def result(self, info: VideoInfo, study: StudyGaze, damaged: int) -> GazeResult:
        """Return the means over all frames.

        Args:
            info: the video.
            study: the gaze.
            damaged: number of packets and frames that could not be decoded.
        """
        pairs, name = int(self._others.counts[:, 0].sum()), self._model
        numbers = range(len(self._observers))
        return GazeResult(
            video=info.path,
            frames=self.frames,
            duration_s=self._duration_s,
            damaged=damaged,
            width=info.width,
            height=info.height,
            sigma=study.canvas.sigma,
            sigma_deg=study.sigma_deg,
            assumptions=study.assumptions,
            frames_with_gaze=self.frames_with_gaze,
            observers=tuple(self._of_observer(number) for number in numbers),
            ceiling=Ceiling(self._others.overall(), self._halves.overall(), pairs) if pairs else None,
            model=ModelScores(name, self._model_alone.overall(), self._model_halves.overall()) if name else None,
            curve=self._curve(),
        )

    def _of_observer(self, number: int) -> Observer:
        """Return an observer with scores."""
        return replace(
            self._observers[number],
            frames=int(self._watched[number]),
            others=self._others.of(number),
            model=self._model_alone.of(number),
        )

    def _curve(self) -> tuple[Second, ...]:
        """Return the agreement over time."""
        return tuple(
            Second(float(second), others / count, None if self._model is None else model / count)
            for second, (count, others, model) in sorted(self._seconds.items())
        )
