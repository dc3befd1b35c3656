"""How an evaluation is made: shared by the command line and the Python API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import UsageError, did_you_mean

BaselineKind = Literal["auto", "train", "self", "gaussian", "none"]

OTHER_FRAMES = 10
"""Frames of other videos whose fixations are the negatives of shuffled AUC."""


@dataclass(frozen=True)
class EvaluateOptions:
    """The protocol, and how much of the machine to use."""

    seed: int = 0
    """For the frames of other videos in shuffled AUC."""

    monte_carlo: int | None = None
    """Seed for AUCs by random draws, as the MATLAB code has them; None for their exact expectations."""

    baseline: BaselineKind = "auto"
    """What IG is measured against: the fixations of the training split (``train``), those of the set itself without
    the video in question (``self``), a Gaussian at the center (``gaussian``), nothing. ``auto``: train where it is
    there, else self."""

    workers: int = 0
    """Processes that score videos side by side; 0 for as many as there are processor cores."""

    def __post_init__(self) -> None:
        if self.baseline not in get_args(BaselineKind):
            known = get_args(BaselineKind)
            raise UsageError(f"--baseline {self.baseline!r} is unknown: {did_you_mean(self.baseline, known)}")
        if self.workers < 0:
            raise UsageError(f"--workers must not be negative, not {self.workers}")
        for flag, seed in (("--seed", self.seed), ("--monte-carlo", self.monte_carlo)):
            if seed is not None and seed < 0:
                raise UsageError(f"{flag} must not be negative, not {seed}")
