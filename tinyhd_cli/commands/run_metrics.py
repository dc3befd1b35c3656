"""Counts of a run over many inputs: the table at its end, and a file for Prometheus during the run."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import OutputError, UsageError
from . import terminal
from .terminal import console, print_event

if TYPE_CHECKING:
    from .tally import Tally

UPDATE_INTERVAL_S = 5.0
"""Seconds between two versions of the file; node exporters read it once or twice per minute."""

log = logging.getLogger("tinyhd")


def check_metrics(path: Path | None, inputs: Iterable[Path], outputs: Iterable[Path]) -> None:
    """Raise ``UsageError`` if the file of ``--metrics`` would overwrite an input or an output.

    Args:
        path: the file; None if there is none.
        inputs: all files and folders that are read.
        outputs: all files that are written.
    """
    if path is None:
        return
    from ..inference.io_paths import canonical, file_key
    from ..video.source import IMAGE_SUFFIXES, STDIN

    if path == STDIN:
        raise UsageError("--metrics -: is written again and again, so it cannot be standard output; give a file")
    key, frames_key = file_key(path), None
    if path.suffix.lower() in IMAGE_SUFFIXES and key is not None:
        frames_key = file_key(path.parent)  # it may be a frame of a folder of images
    read = {file_key(other) for other in inputs if other != STDIN} - {None}
    written = [other for other in outputs if other != STDIN]
    if key in read or frames_key in read:
        raise UsageError(f"--metrics {path}: is an input of this command; write to another file")
    if any(canonical(other) == canonical(path) or (key is not None and file_key(other) == key) for other in written):
        raise UsageError(f"--metrics {path}: is an output of this command; write to another file")


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
            temporary.write_text(prometheus_text(self._tally), encoding="utf-8", newline="\n")


def prometheus_text(tally: Tally) -> str:
    """Return the counts in Prometheus' text format 0.0.4.

    The node exporter refuses a file with the type ``info`` of OpenMetrics, and knows counters by their complete name.
    """
    from ..version import __version__

    ended = tally.done + tally.skipped + len(tally.failed)
    counts = {"done": tally.done, "skipped": tally.skipped, "failed": len(tally.failed)}
    lines = [
        *family("tinyhd_run_info", "gauge", "Version of tinyhd; the value is always 1."),
        f'tinyhd_run_info{{version="{__version__}"}} 1',
        *family("tinyhd_run_start_seconds", "gauge", "Start of the run in Unix time."),
        f"tinyhd_run_start_seconds {tally.start_time:.3f}",
        *family("tinyhd_run_update_seconds", "gauge", "Time of these counts in Unix time."),
        f"tinyhd_run_update_seconds {time.time():.3f}",
        *family("tinyhd_inputs", "gauge", "Inputs of the command."),
        f"tinyhd_inputs {tally.total}",
        *family("tinyhd_inputs_waiting", "gauge", "Inputs that have not ended."),
        f"tinyhd_inputs_waiting {tally.total - ended}",
        *family("tinyhd_inputs_ended_total", "counter", "Inputs that have ended, by outcome."),
        *(f'tinyhd_inputs_ended_total{{outcome="{name}"}} {count}' for name, count in counts.items()),
        *family("tinyhd_frames_total", "counter", "Frames of inputs that are done."),
        f"tinyhd_frames_total {tally.frames}",
        *family("tinyhd_retries_total", "counter", "Inputs that were run again because a worker was lost."),
        f"tinyhd_retries_total {tally.retries}",
    ]
    return "\n".join([*lines, ""])


def family(name: str, kind: str, text: str) -> list[str]:
    """Return the description of one metric."""
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


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
