"""Options of an evaluation, shared by the command line and the Python API."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ..errors import UsageError, did_you_mean

BaselineKind = Literal["auto", "train", "self", "gaussian", "none"]

OTHER_FRAMES = 10
"""Number of frames of other videos whose fixations are the negatives of shuffled AUC."""


@dataclass(frozen=True)
class EvaluateOptions:
    """The protocol of an evaluation and its number of processes."""

    seed: int = 0
    """Seed for the choice of the frames of other videos in shuffled AUC."""

    monte_carlo: int | None = None
    """Seed for AUCs computed from random draws, as in the MATLAB code; None for their exact expectations."""

    baseline: BaselineKind = "auto"
    """The center bias that IG is relative to: fixations of the training split (``train``), fixations of the dataset's
    other videos (``self``), a Gaussian at the center (``gaussian``), or ``none``. ``auto``: ``train`` if the training
    split is available, else ``self``."""

    workers: int = 0
    """Number of processes that score videos in parallel; 0 for the number of CPU cores."""

    def __post_init__(self) -> None:
        if self.baseline not in get_args(BaselineKind):
            known = get_args(BaselineKind)
            raise UsageError(f"--baseline {self.baseline!r} is unknown: {did_you_mean(self.baseline, known)}")
        if self.workers < 0:
            raise UsageError(f"--workers must be 0 or more, not {self.workers}")
        for flag, seed in (("--seed", self.seed), ("--monte-carlo", self.monte_carlo)):
            if seed is not None and seed < 0:
                raise UsageError(f"{flag} must be 0 or more, not {seed}")


@dataclass(frozen=True)
class EvaluationOutputs:
    """Files to write after an evaluation or a comparison; None for those not wanted."""

    json: Path | None = None
    """All results."""
    csv: Path | None = None
    """The scores of every frame."""
    plot: Path | None = None
    """Folder of the plots."""

    def __post_init__(self) -> None:
        for flag, path in (("--json", self.json), ("--csv", self.csv)):
            if path is not None and path.is_dir():
                raise UsageError(f"{flag} {path}: is a folder; give the name of a file")
        if self.plot is not None and self.plot.exists() and not self.plot.is_dir():
            raise UsageError(f"--plot {self.plot}: is not a folder")
