"""Counts of a run over many inputs: the table at its end, and OpenMetrics text during the run."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import OutputError
from ..version import __version__
from . import terminal
from .terminal import console, print_event

if TYPE_CHECKING:
    from .tally import Tally

UPDATE_INTERVAL_S = 5.0
"""Seconds between two versions of the file; node exporters read it once or twice per minute."""

log = logging.getLogger("tinyhd")


class MetricsFile:
    """The file of ``--metrics``, which a reader always finds complete.

    Args:
        path: the file; None to write none.
        tally: the counts.
    """

    def __init__(self, path: Path | None, tally: Tally) -> None:
        self._path, self._tally = path, tally
        self._written_s = 0.0
        if path is not None:
            self._write(path)  # a folder that cannot be written to is reported before the work

    def update(self) -> None:
        """Write the counts, unless they were written seconds ago."""
        if self._path is not None and time.monotonic() - self._written_s >= UPDATE_INTERVAL_S:
            self.close()

    def close(self) -> None:
        """Write the last counts. A failure is a warning, because the inputs are done."""
        if self._path is None:
            return
        try:
            self._write(self._path)
        except OutputError as error:
            log.warning("--metrics: %s", error)

    def _write(self, path: Path) -> None:
        from ..atomic_files import atomic_write, make_parent

        self._written_s = time.monotonic()
        make_parent(path)
        with atomic_write(path) as temporary:
            temporary.write_text(openmetrics(self._tally), encoding="utf-8", newline="\n")


def openmetrics(tally: Tally) -> str:
    """Return the counts in the text format of OpenMetrics 1.0."""
    ended = tally.done + tally.skipped + len(tally.failed)
    counts = {"done": tally.done, "skipped": tally.skipped, "failed": len(tally.failed)}
    lines = [
        *family("tinyhd_run", "info", "Version of tinyhd."),
        f'tinyhd_run_info{{version="{__version__}"}} 1',
        *family("tinyhd_run_start_seconds", "gauge", "Start of the run in Unix time.", "seconds"),
        f"tinyhd_run_start_seconds {tally.start_time:.3f}",
        *family("tinyhd_run_update_seconds", "gauge", "Time of these counts in Unix time.", "seconds"),
        f"tinyhd_run_update_seconds {time.time():.3f}",
        *family("tinyhd_inputs", "gauge", "Inputs of the command."),
        f"tinyhd_inputs {tally.total}",
        *family("tinyhd_inputs_waiting", "gauge", "Inputs that have not ended."),
        f"tinyhd_inputs_waiting {tally.total - ended}",
        *family("tinyhd_inputs_ended", "counter", "Inputs that have ended, by outcome."),
        *(f'tinyhd_inputs_ended_total{{outcome="{name}"}} {count}' for name, count in counts.items()),
        *family("tinyhd_frames", "counter", "Frames of inputs that are done."),
        f"tinyhd_frames_total {tally.frames}",
        *family("tinyhd_retries", "counter", "Inputs that were run again because a worker was lost."),
        f"tinyhd_retries_total {tally.retries}",
    ]
    return "\n".join([*lines, "# EOF", ""])


def family(name: str, kind: str, text: str, unit: str = "") -> list[str]:
    """Return the description of one metric."""
    return [f"# TYPE {name} {kind}", *([f"# UNIT {name} {unit}"] if unit else []), f"# HELP {name} {text}"]


def show_table(tally: Tally) -> None:
    """Print the counts of a run over several inputs: a table, or one event for programs."""
    rate = tally.frames / max(1e-9, tally.seconds)
    counts = {"videos": tally.total, "frames": tally.frames, "frames/s": round(rate, 1)}
    counts |= {"failures": len(tally.failed), "retries": tally.retries}
    if terminal.as_json:
        facts = {name.replace("frames/s", "frames_per_second"): value for name, value in counts.items()}
        print_event(level="summary", seconds=round(tally.seconds, 3), **facts)
        return
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for name in counts:
        table.add_column(name, justify="right")
    table.add_row(*(f"{count:,}" for count in counts.values()))
    console().print(table)
