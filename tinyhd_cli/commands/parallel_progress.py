"""Progress of inputs that are processed at the same time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..parallel import Event, Finished, Progress, Ready
from ..storage import name_of
from . import terminal
from .progress import ProgressDisplay, fraction_of, progress_display
from .terminal import about
from .time_left import Overall

if TYPE_CHECKING:
    from ..callbacks import OnProgress
    from ..inference.io_paths import Job


class ParallelProgress:
    """Progress of inputs that are processed at the same time: one bar or line for all; JSON events for each.

    Args:
        stack: closes the display.
        jobs: the inputs.
        quiet: show nothing.
    """

    def __init__(self, stack: contextlib.ExitStack, jobs: Sequence[Job], quiet: bool) -> None:
        self._stack, self._jobs, self._quiet = stack, jobs, quiet
        self._display: ProgressDisplay | None = None
        self._overall = Overall([job.video for job in jobs])
        self._update: Callable[[], None] = lambda: None
        self._phases: dict[tuple[int, str], OnProgress] = {}

    def show(self, event: Event) -> None:
        """Show what has changed with an event; the display starts when the first process is ready."""
        if isinstance(event, Ready):
            self._display = self._stack.enter_context(progress_display(self._quiet))
            self._stack.enter_context(self._overall)
            self._update = self._display.overall(len(self._jobs), self._overall)
        elif isinstance(event, Progress):
            self._overall.update(event.number, 0.0 if event.phase else fraction_of(event.done, event.total))
            if terminal.as_json and self._display is not None:
                self._event(self._display, event)
        elif isinstance(event, Finished):
            self._overall.end(event.number, event.result is not None and event.result.result is not None)
        self._update()

    def _event(self, display: ProgressDisplay, event: Progress) -> None:
        key = event.number, event.phase
        if key not in self._phases:
            name, count = self._jobs[event.number].name, count_of(event.number, len(self._jobs))
            self._phases[key] = display.video(name, count, event.phase, lambda fraction: self._overall.seconds())
        with about_input(event.number, self._jobs[event.number]):
            self._phases[key](event.done, event.total)


def count_of(number: int, total: int) -> str:
    """Return the number of an input among several, such as ``(1/2)``."""
    return f"({number + 1}/{total})" if total > 1 else ""


def label_of(job: Job, number: int, total: int) -> str:
    """Return the label of a turn."""
    return f"{job.name} {count_of(number, total)}".rstrip()


def about_input(number: int, job: Job) -> contextlib.AbstractContextManager[None]:
    """Add the input to the events for programs that are printed meanwhile."""
    return about(task=number + 1, video=name_of(job.video))
