"""Progress of the work on videos: a bar on a terminal, events for programs, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from . import terminal
from .terminal import console, loading, say, tell

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

    from ..inference.predict import Progress as OnProgress

LABEL_WIDTH = 28
"""Columns for a video's name and number beside a progress bar, where there is room."""

PARTS = {"left": 8, "all": 13, "count": 12, "speed": 10, "bar": 9}
"""What stands beside the label, from the most important on, and the columns that each needs at least."""

EVENT_INTERVAL_S = 1.0
"""Seconds between progress events with ``--json-log``."""

PLAIN_INTERVAL_S = 10.0
"""Seconds between the lines that stand for a progress bar where stderr is no terminal."""

AllLeft = Callable[[float], "float | None"]
"""Estimates the seconds that are left for all videos, from the share of the current one that is done."""


class ProgressDisplay:
    """Progress over several videos: a bar on a terminal, a line now and then elsewhere, nothing if quiet."""

    def __init__(self, bars: Progress | None, quiet: bool, label_width: int = LABEL_WIDTH) -> None:
        self._bars = bars
        self._quiet = quiet
        self._label_width = label_width

    def video(self, name: str, count: str = "", phase: str = "", all_left: AllLeft | None = None) -> OnProgress:
        """Return what to call as the frames of one video are done.

        Args:
            name: the video's.
            count: which of several it is, such as "(1/2)".
            phase: what is being done, if the work has several parts.
            all_left: estimates the seconds that are left for all videos.
        """
        if self._quiet:
            return lambda done, total: None
        rest = f"{' ' if count else ''}{count}{', ' if phase else ''}{phase}"
        estimate = all_left or (lambda share: None)
        if terminal.as_json:
            return self._events(name + rest, estimate)
        if self._bars is not None:
            return self._bar(self._bars, shortened(name, rest, self._label_width), estimate)
        return self._lines(name + rest, estimate)

    def _bar(self, bars: Progress, label: str, all_left: AllLeft) -> OnProgress:
        for earlier in bars.task_ids:
            bars.remove_task(earlier)
        task = bars.add_task(label, total=None, all_left=all_left)
        return lambda done, total: bars.update(task, completed=done, total=total)

    def _events(self, label: str, all_left: AllLeft) -> OnProgress:
        spoken = 0.0

        def report(done: int, total: int | None) -> None:
            nonlocal spoken
            if time.monotonic() - spoken >= EVENT_INTERVAL_S or done == total:
                spoken = time.monotonic()
                left = all_left(share_of(done, total))
                more = {} if left is None else {"all_left_s": round(left, 1)}
                tell(level="progress", label=label, done=done, total=total, **more)

        return report

    def _lines(self, label: str, all_left: AllLeft) -> OnProgress:
        started = spoken = time.monotonic()

        def report(done: int, total: int | None) -> None:
            nonlocal spoken
            now = time.monotonic()
            if now - spoken < PLAIN_INTERVAL_S:
                return
            spoken = now
            rate = done / (now - started)
            left = f", {(total - done) / rate:.0f} s left" if total and rate else ""
            all_s = all_left(share_of(done, total))
            for_all = "" if all_s is None else f", {all_s:.0f} s for all inputs"
            say(f"{label}: frame {done}{f' of {total}' if total else ''}, {rate:.1f} fps{left}{for_all}")

        return report


def share_of(done: float, total: float | None) -> float:
    """Return the share of a video that is done; 0 if its length is unknown."""
    return min(1.0, done / total) if total else 0.0


def shortened(name: str, rest: str, width: int) -> str:
    """Return a label of at most so many columns: the middle of the name gives way to an ellipsis, the rest stays."""
    from rich.cells import cell_len, set_cell_size

    from ..untrusted import printable

    name = printable(name)
    room = width - cell_len(rest)
    if cell_len(name) <= room:
        return name + rest
    if room < 3:
        return set_cell_size(f"…{rest.lstrip()}", width).rstrip() if room < 1 else "…" + rest
    tail = (room - 1) // 2
    end = ""
    for character in reversed(name):
        if cell_len(character + end) > tail:
            break
        end = character + end
    return f"{set_cell_size(name, room - 1 - cell_len(end)).rstrip()}…{end}{rest}"


def parts_for(width: int, several: bool) -> list[str]:
    """Return what fits beside the label on a terminal of this width."""
    room = width - LABEL_WIDTH if width > 2 * LABEL_WIDTH else max(width // 2, width - 18)
    parts = []
    for part, columns in PARTS.items():
        if (several or part != "all") and columns <= room:
            parts.append(part)
            room -= columns
    return parts


@contextlib.contextmanager
def progress_display(quiet: bool = False, several: bool = False) -> Iterator[ProgressDisplay]:
    """Show progress while the block runs.

    Args:
        quiet: show none.
        several: whether there is an estimate for several videos.
    """
    loading.stop()
    if quiet or terminal.as_json or not console().is_terminal:
        yield ProgressDisplay(None, quiet)
        return
    from rich.progress import Progress

    parts = parts_for(console().width, several)
    taken = sum(PARTS[part] for part in parts)
    with Progress(*columns(parts), console=console(), transient=True, expand="bar" in parts) as bars:
        yield ProgressDisplay(bars, quiet, max(8, min(LABEL_WIDTH, console().width - taken - 1)))


def columns(parts: list[str]) -> list[ProgressColumn]:
    """Return the columns of the progress bar: the label, then the parts in the order of reading."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class SpeedColumn(ProgressColumn):
        """Frames per second."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.1f} fps" if task.speed else "", no_wrap=True)

    class AllColumn(ProgressColumn):
        """The time that is left for all videos."""

        max_refresh = 0.5

        def render(self, task: Task) -> Text:
            left = task.fields["all_left"](share_of(task.completed, task.total))
            return Text("" if left is None else f"all {hours(left)}", no_wrap=True)

    known: dict[str, ProgressColumn] = {
        "bar": BarColumn(bar_width=None),
        "count": MofNCompleteColumn(),
        "speed": SpeedColumn(),
        "left": TimeRemainingColumn(),
        "all": AllColumn(),
    }
    label = TextColumn("{task.description}", markup=False)
    return [label, *(column for part, column in known.items() if part in parts)]


def hours(seconds: float) -> str:
    """Return a time as ``h:mm:ss``, as rich shows it."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"
