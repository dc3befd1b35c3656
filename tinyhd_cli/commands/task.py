"""The work of a command on its inputs, as subclasses of commands define it and ``batch`` runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .split_lengths import Split
from .tally import Outcome
from .terminal import say

if TYPE_CHECKING:
    from pathlib import Path

    from ..callbacks import OnProgress
    from ..inference.io_paths import Job
    from ..inference.model import Model
    from ..inference.model_options import ModelOptions
    from ..inference.split_plan import Part


@dataclass(frozen=True)
class Turn:
    """One input to process."""

    job: Job
    label: str
    """The input's name in messages, with its number if there are several inputs."""
    progress: Callable[..., OnProgress]
    """Starts the progress display; takes the name of the phase if the work has several phases."""
    part: Part | None = None
    """The part of the video to process; None for the whole video."""


class Task(ABC):
    """The work of a command on each of its inputs.

    A subclass is a frozen dataclass of picklable values, because worker processes get a copy (see ``--jobs``): a
    change to it in one process is not seen by the others.
    """

    model: ModelOptions

    @abstractmethod
    def check(self, job: Job) -> None:
        """Raise ``UsageError`` for invalid outputs. Called for all inputs before anything else."""

    @abstractmethod
    def load(self) -> Model:
        """Load the model, once in each process that works."""

    @abstractmethod
    def work(self, model: Model, turn: Turn) -> Any:
        """Process one input, perhaps in a worker process: print nothing.

        Returns:
            A small, picklable result; None if there was nothing to do.
        """

    @abstractmethod
    def show(self, turn: Turn, result: Any) -> None:
        """Print the result of one input (None if there was nothing to do); called as soon as it is done."""

    def say_skipped(self, turn: Turn) -> None:
        """Print that there was nothing to do."""
        say(f"{turn.label}: skipped, all outputs exist")

    @abstractmethod
    def frames(self, result: Any) -> int:
        """Return the number of frames of a result."""

    def parts(self, job: Job, split: Split) -> list[Part]:
        """Plan the parts of a long video; none if it is to be processed in one piece."""
        return []

    def why_whole(self, job: Job, split: Split) -> str:
        """Return why a video is processed in one piece, whatever its length; empty if it need not be."""
        return ""

    def join(self, job: Job, parts: Sequence[Part], seconds: float) -> Any:
        """Join the parts of a video, in the main process; return the same as :meth:`work` for the whole video.

        Commands whose :meth:`parts` never cuts a video do not implement it.

        Args:
            job: the input.
            parts: all its parts, on each of which :meth:`work` was called.
            seconds: time since work on it began.
        """
        raise NotImplementedError

    def files(self) -> list[Path]:
        """Return the files that :meth:`finish` writes."""
        return []

    def finish(self, outcomes: Sequence[Outcome]) -> None:  # noqa: B027  (most commands need no last step)
        """Use the results of all inputs, in the order of the command line; not called after an interruption."""
