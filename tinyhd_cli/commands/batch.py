"""Process several videos in sequence. A failed video does not stop the others; failures are listed at the end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import OK, SOME_INPUT_FAILED, TinyhdError, describe_unexpected
from ..wording import damage
from . import terminal
from .progress import ProgressDisplay, progress_display
from .terminal import print_event, say
from .time_left import TimeLeft

if TYPE_CHECKING:
    from fractions import Fraction

    from ..callbacks import OnProgress
    from ..inference.io_paths import Job, Plan
    from ..inference.model import Model

log = logging.getLogger("tinyhd")

MAX_LISTED = 20
"""Maximum number of inputs in the list of failures."""

MAX_LEFT_OUT = 3
"""Maximum number of files in the note on ignored files."""


@dataclass(frozen=True)
class Turn:
    """One video to process."""

    job: Job
    label: str
    """The video's name in messages, with its number if there are several videos."""
    progress: Callable[..., OnProgress]
    """Starts the progress display; takes the name of the phase if the work has several phases."""


Work = Callable[["Model", Turn], bool]
"""Processes a video. Returns False if there was nothing to do."""


@dataclass
class Tally:
    """Results of the inputs of a command."""

    total: int
    done: int = 0
    skipped: int = 0
    failed: list[tuple[str, TinyhdError]] = field(default_factory=list)
    """Each failed input with its error."""

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


def for_each(
    arguments: Sequence[str],
    wanted: Mapping[str, str],
    out_dir: Path | None,
    check: Callable[[Job], object],
    load: Callable[[], Model],
    work: Work,
    quiet: bool,
    rate: Fraction | None = None,
) -> int:
    """Process each video of a command line.

    Args:
        arguments: the inputs as given on the command line.
        wanted: name of each kind of output, see ``io_paths.fill``.
        out_dir: folder for all outputs, see ``io_paths.fill``.
        check: raises ``UsageError`` for invalid outputs.
        load: loads the model; called after all names are checked, unless no video was found.
        work: processes one video.
        quiet: whether to hide progress and notes.
        rate: frames per second of a folder of images, if the command has an option for it.

    Returns:
        The exit code.
    """
    from ..inference.inputs import describe_images, find_videos
    from ..inference.io_paths import make_plan

    inputs = find_videos(arguments)
    plan = make_plan(inputs.found, wanted, out_dir)
    for job in plan.jobs:
        check(job)
    tally = Tally(len(plan.jobs) + len(inputs.errors) + len(plan.errors))
    for name, error in [*inputs.errors.items(), *plan.errors.items()]:
        tally.fail(name, error)
    if not quiet:
        for note in [*describe(plan), *describe_images([job.video for job in plan.jobs], rate)]:
            say(note)
    if plan.jobs:
        do_each(plan.jobs, load(), work, quiet, tally)
        if tally.total > 1 and not quiet:
            say(tally.summary())
    return tally.close()


def describe(plan: Plan) -> list[str]:
    """Return notes on files that were found but are not inputs."""
    notes = [
        f"{folder}: images are ignored, because the folder also contains videos"
        for folder in plan.ignored_image_folders
    ]
    if files := plan.ignored:
        more = f" and {len(files) - MAX_LEFT_OUT} more" if len(files) > MAX_LEFT_OUT else ""
        names = ", ".join(map(str, files[:MAX_LEFT_OUT]))
        notes.append(f"ignored as inputs, because they are outputs of this command: {names}{more}")
    return notes


def do_each(jobs: Sequence[Job], model: Model, work: Work, quiet: bool, tally: Tally) -> None:
    """Process every video and count the results."""
    with progress_display(quiet, len(jobs) > 1) as progress, TimeLeft([job.video for job in jobs]) as time_left:
        for number, job in enumerate(jobs):
            turn = make_turn(job, number, len(jobs), progress, time_left)
            try:
                worked = work(model, turn)
            except TinyhdError as error:
                log.debug("%s", job.video, exc_info=True)
                tally.fail(str(job.video), error)
            except KeyboardInterrupt:
                if tally.total > 1:
                    say(f"tinyhd: interrupted at {turn.label}; {tally.summary()}")
                    tally.close()
                raise
            except Exception as error:  # no error in one video may stop the others
                log.debug("%s", job.video, exc_info=True)
                tally.fail(str(job.video), TinyhdError(f"{job.video}: {describe_unexpected(error)}"))
            else:
                tally.done += worked
                tally.skipped += not worked
                if worked:
                    time_left.finish(number)


def make_turn(job: Job, number: int, total: int, progress: ProgressDisplay, time_left: TimeLeft) -> Turn:
    """Return the turn of one video."""
    several = total > 1
    count = f"({number + 1}/{total})" if several else ""
    time_left.start(number)

    def start(phase: str = "") -> OnProgress:
        def left(fraction: float) -> float | None:
            return time_left.seconds(0.0 if phase else fraction)

        return progress.video(job.name, count, phase, left if several else None)

    return Turn(job, f"{job.name} {count}" if several else job.name, start)


def warn_of_damage(video: Path, damaged: int) -> None:
    """Log a warning if parts of a video could not be decoded."""
    if damaged:
        log.warning("%s: skipped %s", video, damage(damaged))
