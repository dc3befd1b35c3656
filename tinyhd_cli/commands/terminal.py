"""What people see while a command works: messages and progress, on stderr."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import sys
import time
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..untrusted import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from ..inference.predict import Progress as OnProgress

LABEL_WIDTH = 28
"""Columns for a video's name beside a progress bar."""

EVENT_INTERVAL_S = 1.0
"""Seconds between progress events with ``--json-log``."""

PLAIN_INTERVAL_S = 10.0
"""Seconds between the lines that stand for a progress bar where stderr is no terminal."""


@functools.cache
def console() -> Console:
    """The console on stderr: one for all, so that messages appear above a running progress bar."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def stdout_console() -> Console:
    """The console on stdout, for tables. ``[bold]`` and ``:x:`` in a name are text, as on stderr."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


COMPLAINT = "tinyhd: "
"""What a message about something wrong begins with."""

as_json = False
"""Whether messages and progress are JSON, a line each, for programs (``--json-log``)."""


def say(message: str) -> None:
    """A message of one line for the user, on stderr. Nobody there to read it is no reason to stop working."""
    line = printable(message)
    if as_json:
        complaint = line.startswith(COMPLAINT)
        tell(level="error" if complaint else "info", message=line.removeprefix(COMPLAINT))
        return
    with contextlib.suppress(OSError, ValueError):
        console().print(line)


def tell(**event: object) -> None:
    """One event for a program that reads stderr."""
    with contextlib.suppress(OSError, ValueError):
        print(json.dumps({"time": round(time.time(), 3), **event}), file=sys.stderr, flush=True)


class TerminalHandler(logging.Handler):
    """Shows the package's warnings, and with ``--debug`` all that it logs."""

    def emit(self, record: logging.LogRecord) -> None:
        if as_json:
            tell(level=record.levelname.lower(), message=text_of(record))
            return
        kind = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        with contextlib.suppress(OSError, ValueError):
            console().print(f"tinyhd: {kind}{text_of(record)}")


def text_of(record: logging.LogRecord) -> str:
    """Return the message of a record in one line, and below it the traceback if there is one."""
    error = record.exc_info[1] if record.exc_info else None
    return "\n".join([printable(record.getMessage()), *(traceback_lines(error) if error else ())])


def traceback_lines(error: BaseException) -> list[str]:
    """Return the lines of an exception's traceback, each of them printable."""
    return [printable(line) for part in traceback.format_exception(error) for line in part.splitlines()]


def show_log(debug: bool, json_log: bool = False) -> None:
    """Send the package's log to the terminal, as text or as JSON."""
    global as_json
    as_json = json_log
    logger = logging.getLogger("tinyhd")
    logger.handlers = [TerminalHandler()]
    logger.setLevel(logging.DEBUG if debug else logging.WARNING)
    logger.propagate = False


class ProgressDisplay:
    """Progress over several videos: a bar on a terminal, a line now and then elsewhere, nothing if quiet."""

    def __init__(self, bars: Progress | None, quiet: bool) -> None:
        self._bars = bars
        self._quiet = quiet

    def video(self, label: str) -> OnProgress:
        """What to call as the frames of one video are done."""
        if self._quiet:
            return lambda done, total: None
        if as_json:
            return self._events(label)
        if self._bars is not None:
            return self._bar(self._bars, label)
        return self._lines(label)

    def _bar(self, bars: Progress, label: str) -> OnProgress:
        for earlier in bars.task_ids:
            bars.remove_task(earlier)
        label = printable(label)
        task = bars.add_task(label if len(label) <= LABEL_WIDTH else f"{label[: LABEL_WIDTH - 1]}…", total=None)
        return lambda done, total: bars.update(task, completed=done, total=total)

    def _events(self, label: str) -> OnProgress:
        spoken = 0.0

        def report(done: int, total: int | None) -> None:
            nonlocal spoken
            if time.monotonic() - spoken >= EVENT_INTERVAL_S or done == total:
                spoken = time.monotonic()
                tell(level="progress", label=label, done=done, total=total)

        return report

    def _lines(self, label: str) -> OnProgress:
        started = spoken = time.monotonic()

        def report(done: int, total: int | None) -> None:
            nonlocal spoken
            now = time.monotonic()
            if now - spoken < PLAIN_INTERVAL_S:
                return
            spoken = now
            rate = done / (now - started)
            left = f", {(total - done) / rate:.0f} s left" if total and rate else ""
            say(f"{label}: frame {done}{f' of {total}' if total else ''}, {rate:.1f} a second{left}")

        return report


@contextlib.contextmanager
def progress_display(quiet: bool = False) -> Iterator[ProgressDisplay]:
    """Shows progress while the block runs."""
    if quiet or as_json or not console().is_terminal:
        yield ProgressDisplay(None, quiet)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class RateColumn(ProgressColumn):
        """Frames a second."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.1f} fps" if task.speed else "", no_wrap=True)

    columns = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=console(), transient=True) as bars:
        yield ProgressDisplay(bars, quiet)
