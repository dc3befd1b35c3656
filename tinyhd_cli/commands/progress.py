"""Progress over videos: a bar on a terminal, JSON events with ``--json-log``, otherwise periodic lines."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..wording import plural
from . import terminal
from .terminal import console, loading, print_event, say

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

    from ..callbacks import OnProgress
    from .time_left import Overall

LABEL_WIDTH = 28
"""Terminal columns for a video's name and number next to a progress bar, if the terminal is wide enough."""

PARTS = {"left": 8, "all": 13, "count": 12, "speed": 10, "bar": 9}
"""Parts next to the label, the most important first, with the minimum number of terminal columns of each."""

EVENT_INTERVAL_S = 1.0
"""Seconds between progress events with ``--json-log``."""

BAR_INTERVAL_S = 0.1
"""Minimum seconds between changes of the bar for all inputs."""

PLAIN_INTERVAL_S = 10.0
"""Seconds between progress lines if stderr is not a terminal."""

AllLeft = Callable[[float], "float | None"]
"""Estimates the seconds left for all videos from the fraction of the current video that is done."""


class ProgressDisplay:
    """Progress over several videos: a bar on a terminal, otherwise periodic lines, nothing if quiet."""

    def __init__(self, bars: Progress | None, quiet: bool, label_width: int = LABEL_WIDTH) -> None:
        self._bars = bars
        self._quiet = quiet
        self._label_width = label_width

    def video(
        self, name: str, count: str = "", phase: str = "", all_left: AllLeft | None = None, unit: str = "frame"
    ) -> OnProgress:
        """Return a callback that reports the finished frames of one video.

        Args:
            name: the video's name.
            count: its number among several videos, such as "(1/2)".
            phase: name of the current phase, if the work has several.
            all_left: estimates the seconds left for all videos.
            unit: name of the things that are counted.
        """
        if self._quiet:
            return lambda done, total: None
        rest = f"{' ' if count else ''}{count}{', ' if phase else ''}{phase}"
        estimate = all_left or (lambda fraction: None)
        if terminal.as_json:
            return self._events(name + rest, estimate)
        if self._bars is not None:
            return self._bar(self._bars, shortened(name, rest, self._label_width), estimate)
        return self._lines(name + rest, estimate, unit)

    def overall(self, inputs: int, state: Overall) -> Callable[[], None]:
        """Return a function that shows the progress of all inputs; nothing with JSON, which has events of each input.

        Args:
            inputs: their number.
            state: their progress.
        """
        if self._quiet or terminal.as_json:
            return lambda: None
        if self._bars is None:
            return self._overall_lines(inputs, state)
        bars, task = self._bars, self._bars.add_task("", total=None)
        shown_s = 0.0

        def show() -> None:
            nonlocal shown_s
            now = time.monotonic()
            if now - shown_s < BAR_INTERVAL_S:  # adding up the frames of thousands of images takes milliseconds
                return
            shown_s = now
            done, total = state.frames()
            label = shortened(f"{state.ended} of {plural(inputs, 'input')}", "", self._label_width)
            bars.update(task, description=label, completed=round(done), total=round(total))

        show()
        shown_s = 0.0  # the first change is shown at once
        return show

    def _overall_lines(self, inputs: int, state: Overall) -> Callable[[], None]:
        started = printed_s = time.monotonic()

        def show() -> None:
            nonlocal printed_s
            now = time.monotonic()
            if now - printed_s < PLAIN_INTERVAL_S:
                return
            printed_s = now
            seconds = state.seconds()
            left = "" if seconds is None else f", {seconds:.0f} s left"
            rate = state.frames()[0] / (now - started)
            say(f"{state.ended} of {plural(inputs, 'input')}, {rate:.1f} fps{left}")

        return show

    def _bar(self, bars: Progress, label: str, all_left: AllLeft) -> OnProgress:
        for earlier in bars.task_ids:
            bars.remove_task(earlier)
        task = bars.add_task(label, total=None, all_left=all_left)
        return lambda done, total: bars.update(task, completed=done, total=total)

    def _events(self, label: str, all_left: AllLeft) -> OnProgress:
        printed_s = 0.0

        def report(done: int, total: int | None) -> None:
            nonlocal printed_s
            if time.monotonic() - printed_s >= EVENT_INTERVAL_S or done == total:
                printed_s = time.monotonic()
                left = all_left(fraction_of(done, total))
                more = {} if left is None else {"all_left_s": round(left, 1)}
                print_event(level="progress", label=label, done=done, total=total, **more)

        return report

    def _lines(self, label: str, all_left: AllLeft, unit: str) -> OnProgress:
        started = printed_s = time.monotonic()

        def report(done: int, total: int | None) -> None:
            nonlocal printed_s
            now = time.monotonic()
            if now - printed_s < PLAIN_INTERVAL_S:
                return
            printed_s = now
            rate = done / (now - started)
            left = f", {(total - done) / rate:.0f} s left" if total and rate else ""
            all_s = all_left(fraction_of(done, total))
            for_all = "" if all_s is None else f", {all_s:.0f} s for all inputs"
            speed = f", {rate:.1f} fps" if unit == "frame" else ""
            say(f"{label}: {unit} {done}{f' of {total}' if total else ''}{speed}{left}{for_all}")

        return report


def fraction_of(done: float, total: float | None) -> float:
    """Return the fraction of a video that is done; 0 if its length is unknown."""
    return min(1.0, done / total) if total else 0.0


def shortened(name: str, rest: str, width: int) -> str:
    """Return a label of at most ``width`` columns: an ellipsis replaces the middle of the name, ``rest`` is kept."""
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
    """Return the parts that fit next to the label on a terminal of this width."""
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
        quiet: show nothing.
        several: whether to show an estimate for several videos.
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
    """Return the columns of the progress bar: the label, then the parts from left to right."""
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
        """Time left for all videos."""

        max_refresh = 0.5

        def render(self, task: Task) -> Text:
            left = task.fields["all_left"](fraction_of(task.completed, task.total))
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
    """Return a time as ``h:mm:ss``, the format of rich."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"
