"""``tinyhd report``: write HTML reports about videos and images, and one page about all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..apps.options import ReportOptions
from ..errors import UsageError
from ..fields import OUTPUTS
from ..inference.model_options import ModelOptions
from ..wording import plural
from .batch import all_exist, for_each, warn_of_damage
from .model_options import load
from .option_fields import with_options
from .options import Jobs, OutDir, Quiet, Scratch, SkipExisting, Videos
from .run_options import RunOptions
from .tally import Outcome
from .task import Task, Turn
from .terminal import say

if TYPE_CHECKING:
    from ..apps.report.summary import FileSummary
    from ..inference.io_paths import Job
    from ..inference.model import Model


SUMMARY = Path("summary.html")
"""Default name of the page about all files."""


@with_options
def report(
    videos: Videos,
    *,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="HTML file to write.", rich_help_panel=OUTPUTS)
    ] = "{name}_report.html",
    summary: Annotated[
        bool,
        typer.Option("--summary", help="Also write one page about all files.", rich_help_panel=OUTPUTS),
    ] = False,
    summary_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="HTML file of --summary, which it implies. Default: summary.html.",
            rich_help_panel=OUTPUTS,
            show_default=False,
        ),
    ] = None,
    out_dir: OutDir = None,
    skip_existing: SkipExisting = False,
    options: ReportOptions,
    model: ModelOptions,
    jobs: Jobs = None,
    running: RunOptions,
    scratch: Scratch = None,
    quiet: Quiet = False,
) -> int:
    """Write an HTML report about each video or image: heat map, attention over time, scenes, areas of interest.

    The report is one file that opens without a network connection:
    tinyhd report clip.mp4 -o report.html
    """
    page = None
    if skip_existing and (summary or summary_file is not None):
        raise UsageError("--summary needs the results of all files: leave out --skip-existing, or --summary")
    if summary or summary_file is not None:
        page = (out_dir or Path()) / (summary_file or SUMMARY)
    task = Reports(model, options, page, skip_existing, quiet)
    return for_each(videos, {"output": output}, out_dir, task, quiet, jobs, options.input, running)


@dataclass(frozen=True)
class Reports(Task):
    """Writes a report about each input."""

    model: ModelOptions
    options: ReportOptions
    summary: Path | None
    """The page about all inputs; None for none."""
    skip_existing: bool
    quiet: bool

    def check(self, job: Job) -> None:
        """Refuse pages with another suffix, and a summary with the name of a report."""
        from ..apps.report.run import check_page
        from ..inference.io_paths import canonical

        page = job.outputs["output"]
        check_page(page)
        if self.summary is not None:
            check_page(self.summary, "--summary-file")
            if canonical(page) == canonical(self.summary):
                raise UsageError(f"--summary-file {self.summary}: is the report of {job.video}; give another name")

    def load(self) -> Model:
        """Load the model for exact values, and create the summary's folder, so that a failure is reported early."""
        from ..apps.report.run import check_model
        from ..atomic_files import make_parent

        if self.summary is not None:
            make_parent(self.summary)
        loaded = load(self.model, exact=True)
        check_model(loaded)
        return loaded

    def work(self, model: Model, turn: Turn) -> FileSummary | None:
        """Write one report, unless it exists."""
        from ..apps.report.run import report_file
        from ..apps.report.summary import summarize

        if self.skip_existing and all_exist(turn.job):
            return None
        video, page = turn.job.video, turn.job.outputs["output"]
        made = report_file(video, model, page, self.options, turn.progress())
        warn_of_damage(video, made.damaged)
        return summarize(made, page, model)

    def frames(self, result: FileSummary) -> int:
        """Return the number of frames of one report."""
        return result.frames

    def show(self, turn: Turn, result: FileSummary | None) -> None:
        """Print the length and the file of one report."""
        if self.quiet:
            return
        if result is None:
            self.say_skipped(turn)
        else:
            length = "image"
            if result.scenes is not None:
                length = f"{plural(result.frames, 'frame')}, {plural(result.scenes, 'scene')}"
            say(f"{turn.label}: {length} -> {result.page}")

    def files(self) -> list[Path]:
        """Return the page about all inputs."""
        return [self.summary] if self.summary is not None else []

    def finish(self, outcomes: Sequence[Outcome]) -> None:
        """Write the page about all inputs."""
        from ..apps.report.summary import write_summary

        if self.summary is None:
            return
        files = [outcome.result for outcome in outcomes if outcome.result is not None]
        failures = {outcome.name: str(outcome.error) for outcome in outcomes if outcome.error is not None}
        write_summary(files, failures, self.summary)
        if not self.quiet:
            say(f"summary of {plural(len(outcomes), 'file')} -> {self.summary}")
