"""``tinyhd report``: write an HTML report about videos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from ..apps.options import ReportOptions
from ..fields import OUTPUTS
from ..inference.model_options import ModelOptions
from ..wording import plural
from .batch import Task, Turn, for_each, warn_of_damage
from .model_options import load
from .option_fields import with_options
from .options import OutDir, Quiet, Videos
from .terminal import say

if TYPE_CHECKING:
    from ..inference.io_paths import Job
    from ..inference.model import Model


@with_options
def report(
    videos: Videos,
    *,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="HTML file to write.", rich_help_panel=OUTPUTS)
    ] = "{name}_report.html",
    out_dir: OutDir = None,
    options: ReportOptions,
    model: ModelOptions,
    quiet: Quiet = False,
) -> int:
    """Write an HTML report about each video: filmstrip, heat map, attention over time, scenes, areas of interest.

    The report is one file that opens without a network connection:
    tinyhd report clip.mp4 -o report.html
    """
    return for_each(videos, {"output": output}, out_dir, Reports(model, options, quiet), quiet)


@dataclass(frozen=True)
class Done:
    """The result of one input."""

    frames: int
    scenes: int


@dataclass(frozen=True)
class Reports(Task):
    """Writes a report about each input."""

    model: ModelOptions
    options: ReportOptions
    quiet: bool

    def check(self, job: Job) -> None:
        """Refuse a page with another suffix."""
        from ..apps.report import check_page

        check_page(job.outputs["output"])

    def load(self) -> Model:
        """Load the model, whose values matter."""
        from ..apps.report import check_model

        loaded = load(self.model, exact=True)
        check_model(loaded)
        return loaded

    def work(self, model: Model, turn: Turn) -> Done:
        """Write one report."""
        from ..apps.report import report_file

        video = turn.job.video
        made = report_file(video, model, turn.job.outputs["output"], self.options, turn.progress())
        warn_of_damage(video, made.damaged)
        return Done(len(made.times_s), len(made.scenes))

    def show(self, turn: Turn, result: Done) -> None:
        """Print the length and the file of one report."""
        if not self.quiet:
            length = f"{plural(result.frames, 'frame')}, {plural(result.scenes, 'scene')}"
            say(f"{turn.label}: {length} -> {turn.job.outputs['output']}")
