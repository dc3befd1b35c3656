"""Process the inputs of a command. A failed input does not stop the others; failures are listed at the end."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic_files import sweep
from ..complete import is_complete
from ..errors import TinyhdError, describe_unexpected
from ..parallel import Again, Finished, Message, Processes, Report, Where, Work
from ..storage import check_destination, given_scratch, name_of, named, share_scratch
from ..system import limit_threads
from ..wording import damage
from .jobs import count_processes
from .parallel_progress import ParallelProgress, about_input, count_of, label_of
from .parts import Divided, divide, run_in_parts
from .progress import ProgressDisplay, progress_display
from .run_metrics import MetricsFile, check_metrics, show_table
from .run_options import RunOptions
from .split_lengths import Split
from .tally import Outcome, Tally
from .task import Task, Turn
from .terminal import loading, print_logged, say
from .time_left import TimeLeft

if TYPE_CHECKING:
    from ..callbacks import OnProgress
    from ..inference.io_paths import Job, Plan
    from ..inference.model import Model
    from ..video.options import InputOptions

log = logging.getLogger("tinyhd")

MAX_LEFT_OUT = 3
"""Maximum number of files in the note on ignored files."""


def for_each(
    arguments: Sequence[str],
    wanted: Mapping[str, str],
    out_dir: Path | None,
    task: Task,
    quiet: bool,
    jobs: int | None = 1,
    reading: InputOptions | None = None,
    running: RunOptions | None = None,
    split: Split | None = None,
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
        running: where the inputs are processed, if the command has options for it; otherwise on this machine.
        split: how long videos are cut into parts; None: not at all.

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
    running = running or RunOptions()
    read = [*(item.path for item in inputs.found), *([task.model.weights] if task.model.weights else [])]
    check_metrics(running.metrics, read, [*(path for job in plan.jobs for path in job.outputs.values()), *task.files()])
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
        where = running.where(jobs, plan.jobs, task.model)
        turns = [Turn(job, label_of(job, number, len(plan.jobs)), unseen) for number, job in enumerate(plan.jobs)]
        divided = divide(turns, task, split)
        if divided.note and not quiet:
            say(divided.note)
        if divided.videos and isinstance(where, Processes):
            items = divided.count_items(len(turns))
            where = replace(where, count=count_processes(jobs, plan.jobs, task.model.device, items))
        with contextlib.closing(MetricsFile(running.metrics, tally)) as metrics:
            if isinstance(where, Processes) and where.count == 1 and not divided.videos:
                outcomes = do_each(plan.jobs, task, quiet, tally, metrics, where.threads)
            else:
                outcomes = do_in_parallel(turns, divided, task, where, quiet, tally, metrics)
        task.finish([*unusable, *outcomes])
        if tally.total > 1 and not quiet:
            show_table(tally)
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


def do_each(
    jobs: Sequence[Job], task: Task, quiet: bool, tally: Tally, metrics: MetricsFile, threads: int | None = None
) -> list[Outcome]:
    """Process every input in this process, count and show the results, and return them."""
    if threads is not None:
        limit_threads(threads)
    model = task.load()
    outcomes = []
    with progress_display(quiet, len(jobs) > 1) as progress, TimeLeft([job.video for job in jobs]) as time_left:
        for number, job in enumerate(jobs):
            turn = make_turn(job, number, len(jobs), progress, time_left)
            with about_input(number, job):
                try:
                    outcome = attempt(task, model, turn)
                except KeyboardInterrupt:
                    if tally.total > 1:
                        say(f"tinyhd: interrupted at {turn.label}; {tally.summary()}")
                        tally.close()
                    raise
                outcomes.append(outcome)
                count_and_show(outcome, turn, task, tally)
            metrics.update()
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


def do_in_parallel(
    turns: Sequence[Turn],
    divided: Divided,
    task: Task,
    where: Where,
    quiet: bool,
    tally: Tally,
    metrics: MetricsFile,
) -> list[Outcome]:
    """Do the same as :func:`do_each` in several processes. Messages about one input are printed together."""
    jobs = [turn.job for turn in turns]
    outcomes: dict[int, Outcome] = {}
    here = where.count if isinstance(where, Processes) else where.local
    place = f"{here} processes" if here else f"the workers of {where.address}"  # type: ignore[union-attr]
    loading.show(f"loading {task.model.source} in {place}")
    with contextlib.ExitStack() as stack:
        work = InProcess(task, here or 1)
        events = stack.enter_context(contextlib.closing(run_in_parts(work, turns, where, task, divided)))
        progress = ParallelProgress(stack, jobs, quiet)
        try:
            for event in events:
                if isinstance(event, Message):
                    if not quiet or event.level > logging.INFO:
                        print_logged(event.level, event.text)
                elif isinstance(event, Again):
                    tally.retries += 1
                    with about_input(event.number, jobs[event.number]):
                        log.warning("%s: is run again: %s", turns[event.number].label, event.reason)
                elif isinstance(event, Finished):
                    with about_input(event.number, jobs[event.number]):
                        outcomes[event.number] = take(event, turns[event.number], task, tally)
                progress.show(event)
                metrics.update()
        except KeyboardInterrupt:
            if tally.total > 1:
                say(f"tinyhd: interrupted; {tally.summary()}")
                tally.close()
            raise
    in_order = [outcomes[number] for number in range(len(jobs))]
    order = {outcome.name: number for number, outcome in enumerate(in_order)}
    tally.failed.sort(key=lambda failure: order.get(failure[0], -1))
    return in_order


@dataclass(frozen=True)
class InProcess:
    """Prepares a worker process: loads the model."""

    task: Task
    processes: int
    """Number of processes that share the space for copies of inputs."""
    scratch: str | None = field(default_factory=given_scratch)
    """``--scratch`` of the command."""

    def __call__(self) -> Work:
        """Return the work on one turn."""
        share_scratch(self.processes, self.scratch)
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
    count_and_show(outcome, turn, task, tally)
    return outcome


def count_and_show(outcome: Outcome, turn: Turn, task: Task, tally: Tally) -> None:
    """Count the end of one input, and print its result or its failure."""
    tally.add(outcome)
    if outcome.error is None:
        if outcome.result is not None:
            tally.frames += task.frames(outcome.result)
        task.show(turn, outcome.result)


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
