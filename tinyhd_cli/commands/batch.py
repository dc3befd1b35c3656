"""Process the inputs of a command. A failed input does not stop the others; failures are listed at the end."""

from __future__ import annotations

import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic_files import sweep
from ..complete import is_complete
from ..errors import OK, SOME_INPUT_FAILED, TinyhdError, describe_unexpected
from ..parallel import Event, Finished, Message, Processes, Progress, Ready, Report, Work, run
from ..storage import check_destination, name_of, named, share_scratch
from ..system import engine_threads, limit_threads
from ..wording import damage
from . import terminal
from .jobs import count_processes
from .progress import ProgressDisplay, fraction_of, progress_display
from .terminal import loading, print_event, print_logged, say
from .time_left import Overall, TimeLeft

if TYPE_CHECKING:
    from ..callbacks import OnProgress
    from ..inference.io_paths import Job, Plan
    from ..inference.model import Model
    from ..inference.model_options import ModelOptions
    from ..video.options import InputOptions

log = logging.getLogger("tinyhd")

MAX_LISTED = 20
"""Maximum number of inputs in the list of failures."""

MAX_LEFT_OUT = 3
"""Maximum number of files in the note on ignored files."""


@dataclass(frozen=True)
class Turn:
    """One input to process."""

    job: Job
    label: str
    """The input's name in messages, with its number if there are several inputs."""
    progress: Callable[..., OnProgress]
    """Starts the progress display; takes the name of the phase if the work has several phases."""


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

    def finish(self, outcomes: Sequence[Outcome]) -> None:  # noqa: B027  (most commands need no last step)
        """Use the results of all inputs, in the order of the command line; not called after an interruption."""


@dataclass
class Tally:
    """Results of the inputs of a command."""

    total: int
    done: int = 0
    skipped: int = 0
    failed: list[tuple[str, TinyhdError]] = field(default_factory=list)
    """Each failed input with its error."""

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


def for_each(
    arguments: Sequence[str],
    wanted: Mapping[str, str],
    out_dir: Path | None,
    task: Task,
    quiet: bool,
    jobs: int | None = 1,
    reading: InputOptions | None = None,
) -> int:
    """Process each input of a command line.

    Args:
        arguments: the inputs as given on the command line.
        wanted: name of each kind of output, see ``io_paths.fill``.
        out_dir: folder for all outputs, see ``io_paths.fill``.
        task: the work on each input. Its model is loaded after all names are checked, unless no input was found.
        quiet: whether to hide progress and notes.
        jobs: number of inputs that are processed at the same time; None: as many as this machine carries.
        reading: how folders of images are read, if the command has options for it; otherwise each is one video.

    Returns:
        The exit code.
    """
    from ..inference.inputs import describe_images, find_videos, folders_as
    from ..inference.io_paths import make_plan

    folders = folders_as(reading) if reading else "video"
    inputs = find_videos(arguments, folders)
    plan = make_plan(inputs.found, wanted, out_dir)
    for job in plan.jobs:
        task.check(job)
    check_destination(path for job in plan.jobs for path in job.outputs.values())
    tally = Tally(len(plan.jobs) + len(inputs.errors) + len(plan.errors))
    for name, error in [*inputs.errors.items(), *plan.errors.items()]:
        tally.fail(name, error)
    if not quiet:
        planned = {job.video for job in plan.jobs}
        used = [item for item in inputs.found if item.path in planned]
        for note in [
            *describe(plan, reading is not None),
            *describe_images(used, reading.rate if reading else None, folders),
        ]:
            say(note)
    if plan.jobs:
        unusable = [Outcome(name, None, error=error) for name, error in tally.failed]
        processes = count_processes(jobs, plan.jobs, task.model.device)
        if processes == 1:
            outcomes = do_each(plan.jobs, task, quiet, tally)
        else:
            outcomes = do_in_parallel(plan.jobs, task, processes, quiet, tally)
        task.finish([*unusable, *outcomes])
        if tally.total > 1 and not quiet:
            say(tally.summary())
    return tally.close()


def describe(plan: Plan, can_read_images: bool) -> list[str]:
    """Return notes on files that were found but are not inputs.

    Args:
        plan: the plan of the command.
        can_read_images: whether the command has ``--as-images``.
    """
    advice = "; use --as-images to read both" if can_read_images else ""
    notes = [
        f"{folder}: images are ignored, because the folder also contains videos{advice}"
        for folder in plan.ignored_image_folders
    ]
    if files := plan.ignored:
        more = f" and {len(files) - MAX_LEFT_OUT} more" if len(files) > MAX_LEFT_OUT else ""
        names = ", ".join(map(str, files[:MAX_LEFT_OUT]))
        notes.append(f"ignored as inputs, because they are outputs of this command: {names}{more}")
    return notes


def do_each(jobs: Sequence[Job], task: Task, quiet: bool, tally: Tally) -> list[Outcome]:
    """Process every input in this process, count and show the results, and return them."""
    model = task.load()
    outcomes = []
    with progress_display(quiet, len(jobs) > 1) as progress, TimeLeft([job.video for job in jobs]) as time_left:
        for number, job in enumerate(jobs):
            turn = make_turn(job, number, len(jobs), progress, time_left)
            try:
                outcome = attempt(task, model, turn)
            except KeyboardInterrupt:
                if tally.total > 1:
                    say(f"tinyhd: interrupted at {turn.label}; {tally.summary()}")
                    tally.close()
                raise
            tally.add(outcome)
            outcomes.append(outcome)
            if outcome.error is None:
                task.show(turn, outcome.result)
            if outcome.result is not None:
                time_left.finish(number)
    return outcomes


def attempt(task: Task, model: Model, turn: Turn) -> Outcome:
    """Process one input; no error may stop the others."""
    name = name_of(turn.job.video)
    try:
        return Outcome(name, turn.job, task.work(model, turn))
    except TinyhdError as error:
        log.debug("%s", name, exc_info=True)
        error.args = (named(str(error)),)  # stand-ins of another process would not be recognized
        return Outcome(name, turn.job, error=error)
    except Exception as error:
        log.debug("%s", name, exc_info=True)
        return Outcome(name, turn.job, error=TinyhdError(f"{name}: {describe_unexpected(error)}"))


def do_in_parallel(jobs: Sequence[Job], task: Task, processes: int, quiet: bool, tally: Tally) -> list[Outcome]:
    """Do the same as :func:`do_each` in several processes. Messages about one input are printed together."""
    turns = [Turn(job, label_of(job, number, len(jobs)), unseen) for number, job in enumerate(jobs)]
    outcomes: dict[int, Outcome] = {}
    loading.show(f"loading {task.model.source} in {processes} processes")
    with contextlib.ExitStack() as stack:
        events = stack.enter_context(contextlib.closing(run(InProcess(task, processes), turns, Processes(processes))))
        progress = ParallelProgress(stack, jobs, quiet)
        try:
            for event in events:
                if isinstance(event, Message):
                    print_logged(event.level, event.text)
                elif isinstance(event, Finished):
                    outcomes[event.number] = take(event, turns[event.number], task, tally)
                progress.show(event)
        except KeyboardInterrupt:
            say(f"tinyhd: interrupted; {tally.summary()}")
            tally.close()
            raise
    in_order = [outcomes[number] for number in range(len(jobs))]
    order = {outcome.name: number for number, outcome in enumerate(in_order)}
    tally.failed.sort(key=lambda failure: order.get(failure[0], -1))
    return in_order


@dataclass(frozen=True)
class InProcess:
    """Prepares a worker process: loads the model, whose engine gets a share of the cores."""

    task: Task
    processes: int

    def __call__(self) -> Work:
        """Return the work on one turn."""
        limit_threads(max(1, engine_threads() // self.processes))
        share_scratch(self.processes)
        model = self.task.load()

        def work(turn: Turn, report: Report) -> Outcome:
            return attempt(self.task, model, replace(turn, progress=lambda phase="": partial(report, phase)))

        return work


def take(event: Finished, turn: Turn, task: Task, tally: Tally) -> Outcome:
    """Print and count the end of one input, and return its outcome."""
    name = name_of(turn.job.video)
    for message in event.messages:
        print_logged(message.level, message.text)
    if event.error is None:
        outcome: Outcome = event.result
    else:
        outcome = Outcome(name, turn.job, error=TinyhdError(f"{name}: {event.error}"))
        for path in turn.job.outputs.values():  # the process could not remove its temporary files
            sweep(path.parent)
    tally.add(outcome)
    if outcome.error is None:
        task.show(turn, outcome.result)
    return outcome


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
        self._phases[key](event.done, event.total)


def make_turn(job: Job, number: int, total: int, progress: ProgressDisplay, time_left: TimeLeft) -> Turn:
    """Return the turn of one video."""
    several = total > 1
    count = count_of(number, total)
    time_left.start(number)

    def start(phase: str = "") -> OnProgress:
        def left(fraction: float) -> float | None:
            return time_left.seconds(0.0 if phase else fraction)

        return progress.video(job.name, count, phase, left if several else None)

    return Turn(job, label_of(job, number, total), start)


def count_of(number: int, total: int) -> str:
    """Return the number of an input among several, such as ``(1/2)``."""
    return f"({number + 1}/{total})" if total > 1 else ""


def label_of(job: Job, number: int, total: int) -> str:
    """Return the label of a turn."""
    return f"{job.name} {count_of(number, total)}".rstrip()


def unseen(phase: str = "") -> OnProgress:
    """Show no progress, until a process replaces this."""
    return lambda done, total: None


def all_exist(job: Job) -> bool:
    """Return whether all outputs of an input exist and are complete."""
    return all(map(is_complete, job.outputs.values()))


def warn_of_damage(video: Path, damaged: int) -> None:
    """Log a warning if parts of a video could not be decoded."""
    if damaged:
        log.warning("%s: skipped %s", video, damage(damaged))
