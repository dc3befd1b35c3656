"""Process long videos in parts: each part is an item of work, and the parts of a video are joined when all are done.

To the rest of a command, a video in parts looks like any other: its events are those of one item.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..errors import TinyhdError, describe_unexpected
from ..parallel import Again, Event, Finished, Message, Progress, Ready, Where, Work, run
from ..storage import name_of
from .split_lengths import Split
from .tally import Outcome
from .task import Task, Turn

if TYPE_CHECKING:
    from ..inference.split_plan import Part, Plan

log = logging.getLogger("tinyhd")


@dataclass
class Division:
    """A video in parts."""

    turn: Turn
    parts: list[Part]
    plan: Plan
    fractions: dict[int, float] = field(default_factory=dict)
    """Fraction of each part that is done."""
    finished: set[int] = field(default_factory=set)
    """Parts that are done in this round."""
    messages: list[Message] = field(default_factory=list)
    started: float | None = None
    ended: bool = False
    """Whether its end was reported."""
    decode_from_start: bool = False
    """Whether its index was wrong, so that all parts are to be done again without it."""

    def begin(self, parts: list[Part]) -> None:
        """Start a round of work on these parts."""
        self.parts, self.fractions, self.finished = parts, {}, set()

    def progress(self, number: int, part: Part, fraction: float) -> Progress:
        """Return the progress of the video, with the fraction of one part that is done."""
        self.started = self.started or time.monotonic()
        self.fractions[part.number] = fraction
        done, total = sum(self.fractions.values()) / part.count, len(self.plan.index.pts)
        if part.passes > 1:
            done = (done + (not part.only_maps)) / part.passes
        return Progress(number, "", min(total - 1, round(done * total)), total)

    def cancel(self) -> None:
        """Make processes skip the parts that have not begun."""
        from ..inference.split_plan import cancel

        cancel(self.parts[0].folder)


@dataclass(frozen=True)
class Divided:
    """The videos of a command that are processed in parts."""

    videos: dict[int, Division]
    """Videos in parts, by the number of the input."""
    keep: bool
    """Whether to keep the finished parts of videos that fail."""
    note: str = ""
    """Note for users on videos that are not cut."""

    def count_items(self, inputs: int) -> int:
        """Return the number of items of work, given the number of inputs."""
        return inputs + sum(len(division.parts) - 1 for division in self.videos.values())


def divide(turns: Sequence[Turn], task: Task, split: Split | None) -> Divided:
    """Plan the parts of all videos that are long enough.

    A video that cannot be read is left out: the error is reported when its turn comes.
    """
    videos: dict[int, Division] = {}
    if split is None:
        return Divided(videos, keep=False)
    from ..inference.split_plan import read_plan

    try:
        for number, turn in enumerate(turns):
            with contextlib.suppress(TinyhdError):
                if parts := task.parts(turn.job, split):
                    videos[number] = Division(turn, parts, read_plan(parts[0].folder))
    except BaseException:
        for division in videos.values():
            clean(division, split.keep)
        raise
    reason = next(filter(None, (task.why_whole(turn.job, split) for turn in turns)), "") if split.is_automatic else ""
    return Divided(videos, split.keep, f"long videos are not cut into parts: {reason}" if reason else "")


def run_in_parts(
    make_work: Callable[[], Work],
    turns: Sequence[Turn],
    where: Where,
    task: Task,
    divided: Divided,
) -> Generator[Event]:
    """Do the same as ``parallel.run``, with some videos in parts.

    Args:
        make_work: see ``parallel.run``.
        turns: the inputs.
        where: see ``parallel.run``.
        task: joins the parts of a video.
        divided: the videos in parts.

    Yields:
        Events about the turns, not about their parts.
    """
    pending = [number for number, _ in enumerate(turns)]
    is_ready = False
    try:
        while pending:
            items = list(items_of(pending, turns, divided.videos))
            with contextlib.closing(run(make_work, [turn for _, turn in items], where)) as events:
                for event in events:
                    if isinstance(event, Ready):
                        if not is_ready:
                            is_ready = True
                            yield event
                    elif isinstance(event, Message):
                        yield event
                    else:
                        number, turn = items[event.number]
                        yield from converted(event, number, turn.part, divided.videos.get(number), task)
            pending = [number for number, division in divided.videos.items() if goes_on(division)]
    finally:
        for division in divided.videos.values():
            clean(division, divided.keep)


def items_of(
    pending: Sequence[int], turns: Sequence[Turn], divided: dict[int, Division]
) -> Generator[tuple[int, Turn]]:
    """Yield the items of a round: the number of the input, and its turn or that of one of its parts."""
    for number in pending:
        if number in divided:
            for part in divided[number].parts:
                yield number, replace(turns[number], part=part)
        else:
            yield number, turns[number]


def converted(
    event: Again | Progress | Finished, number: int, part: Part | None, division: Division | None, task: Task
) -> Generator[Event]:
    """Yield the events about a video that follow from an event about it or about one of its parts."""
    if division is None or part is None:
        yield replace(event, number=number)
    elif division.ended or division.decode_from_start:
        return
    elif isinstance(event, Again):
        yield Again(number, f"{event.reason} (part {part.number + 1} of {part.count})")
    elif isinstance(event, Progress):
        yield division.progress(number, part, event.done / event.total if event.total else 0.0)
    else:
        division.messages += [message for message in event.messages if message not in division.messages]
        yield division.progress(number, part, 1.0)
        division.finished.add(part.number)
        error = event.error or event.result.error
        if error is None and len(division.finished) == part.count and not part.only_maps:  # else another round follows
            result, error = joined(task, division)
            if error is None:
                yield ended(number, division, result, None)
        if error is not None:
            yield from failed(number, division, error)


def joined(task: Task, division: Division) -> tuple[Any, TinyhdError | None]:
    """Join the parts of a video; return the result, or the error."""
    job = division.turn.job
    seconds = time.monotonic() - (division.started or time.monotonic())
    try:
        return task.join(job, division.parts, seconds), None
    except TinyhdError as error:
        return None, error
    except Exception as error:
        log.debug("%s", job.video, exc_info=True)
        return None, TinyhdError(f"{name_of(job.video)}: {describe_unexpected(error)}")


def failed(number: int, division: Division, error: TinyhdError) -> Generator[Event]:
    """Stop the work on a video that has failed; if only its index was wrong, it is done again without."""
    from ..video.part_reader import NotSeekableError

    division.cancel()
    if isinstance(error, NotSeekableError) and division.plan.index.is_exact:
        log.info("%s; decoding each part from the start of the video", error)
        division.decode_from_start = True
    else:
        yield ended(number, division, None, error)


def ended(number: int, division: Division, result: Any, error: TinyhdError | None) -> Finished:
    """Return the end of a video."""
    division.ended = True
    name = name_of(division.turn.job.video)
    if error is not None and not str(error).startswith(name):
        error = type(error)(f"{name}: {error}")
    return Finished(number, Outcome(name, division.turn.job, result, error), division.messages)


def goes_on(division: Division) -> bool:
    """Return whether a video needs another round of work, and prepare it."""
    from ..inference.split_plan import read_plan, replan

    if division.ended:
        return False
    if division.decode_from_start:
        division.begin(replan(division.parts, division.plan))
        division.plan, division.decode_from_start = read_plan(division.parts[0].folder), False
    else:
        division.begin([replace(part, only_maps=False) for part in division.parts])
    return True


def clean(division: Division, keep: bool) -> None:
    """Remove the folder of a video's parts, unless finished parts are to be kept for another run."""
    from ..atomic_files import remove

    folder = division.parts[0].folder
    if not keep:
        remove(folder)
    elif folder.exists():
        log.warning("finished parts are kept in %s; the same command with --skip-existing uses them", folder)
