"""Progress of a download in bytes: a bar on a terminal, JSON events with ``--json-log``, otherwise periodic lines."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from . import terminal
from .progress import EVENT_INTERVAL_S, PLAIN_INTERVAL_S, hours
from .terminal import console, file_size, loading, print_event, say

OnBytes = Callable[[int, int], None]
"""Called with the bytes that are done and all bytes."""


@contextlib.contextmanager
def transfer_display(label: str, quiet: bool) -> Iterator[OnBytes]:
    """Show the progress of a download while the block runs; yield the callback to report to."""
    loading.stop()
    if quiet:
        yield lambda done, total: None
    elif terminal.as_json or not console().is_terminal:
        yield periodic(label)
    else:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.progress import TransferSpeedColumn as SpeedColumn

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), SpeedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=console(), transient=True) as bars:
            task = bars.add_task(label, total=None)
            yield lambda done, total: bars.update(task, completed=done, total=total)


def periodic(label: str) -> OnBytes:
    """Return a callback that prints a line or a JSON event at intervals."""
    started = printed_s = time.monotonic()
    first: int | None = None

    def report(done: int, total: int) -> None:
        nonlocal printed_s, first
        first = done if first is None else first
        now = time.monotonic()
        if now - printed_s < (EVENT_INTERVAL_S if terminal.as_json else PLAIN_INTERVAL_S):
            return
        printed_s = now
        if terminal.as_json:
            print_event(level="progress", label=label, done=done, total=total)
            return
        rate = (done - first) / (now - started)  # what earlier attempts fetched is not this one's speed
        left = f", {hours((total - done) / rate)} left" if rate > 0 else ""
        say(f"{label}: {file_size(done)} of {file_size(total)}, {file_size(round(rate))}/s{left}")

    return report
