"""Results of the inputs of a command: counts, failures, and the exit code."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import OK, SOME_INPUT_FAILED, TinyhdError
from . import terminal
from .terminal import print_event, say

if TYPE_CHECKING:
    from ..inference.io_paths import Job

MAX_LISTED = 20
"""Maximum number of inputs in the list of failures."""


@dataclass(frozen=True)
class Outcome:
    """What became of one input of a command."""

    name: str
    """The input's path, as in messages."""
    job: Job | None
    """The input with its outputs; None if the input was not found or its outputs cannot be named."""
    result: Any = None
    """The task's result; None if it failed, or if there was nothing to do."""
    error: TinyhdError | None = None


@dataclass
class Tally:
    """Results of the inputs of a command."""

    total: int
    done: int = 0
    skipped: int = 0
    failed: list[tuple[str, TinyhdError]] = field(default_factory=list)
    """Each failed input with its error."""
    frames: int = 0
    """Frames of the inputs that are done."""
    retries: int = 0
    """Number of times that an input was run again because a worker of a cluster was lost."""
    start_time: float = field(default_factory=time.time)
    """Start of the run in Unix time."""
    _started_s: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Time since the start of the run."""
        return time.monotonic() - self._started_s

    def add(self, outcome: Outcome) -> None:
        """Count one input, and print its failure."""
        if outcome.error is not None:
            self.fail(outcome.name, outcome.error)
        elif outcome.result is None:
            self.skipped += 1
        else:
            self.done += 1

    def fail(self, name: str, error: TinyhdError) -> None:
        """Record and print a failure."""
        self.failed.append((name, error))
        say(f"tinyhd: {error}")

    def summary(self) -> str:
        """Return the counts as one line."""
        remaining = self.total - self.done - self.skipped - len(self.failed)
        counts = {"done": self.done, "skipped": self.skipped, "failed": len(self.failed), "not done": remaining}
        return f"{self.total} inputs: {', '.join(f'{count} {name}' for name, count in counts.items() if count)}"

    def close(self) -> int:
        """Print the failures, if there are several inputs, and return the exit code."""
        if self.total < 2 or not self.failed:
            return self.failed[0][1].exit_code if self.failed else OK
        headline = f"{len(self.failed)} of {self.total} inputs failed"
        if terminal.as_json:
            failed = [{"input": name, "error": str(error)} for name, error in self.failed]
            print_event(level="error", message=headline, failed=failed)
            return SOME_INPUT_FAILED
        say(f"tinyhd: {headline}:")
        for name, error in self.failed[:MAX_LISTED]:
            say(f"  {failure_line(name, error)}")
        if len(self.failed) > MAX_LISTED:
            say(f"  and {len(self.failed) - MAX_LISTED} more, reported above")
        return SOME_INPUT_FAILED


def failure_line(name: str, error: TinyhdError) -> str:
    """Return an error's message, prefixed with the input's name if the message does not start with it."""
    return str(error) if str(error).startswith(name) else f"{name}: {error}"
