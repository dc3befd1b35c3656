"""``tinyhd report``: write an HTML report about videos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..apps.options import ReportOptions
from ..fields import OUTPUTS
from ..inference.model_options import ModelOptions
from ..wording import plural
from .batch import Turn, for_each, warn_of_damage
from .model_options import load
from .option_fields import with_options
from .options import OutDir, Quiet, Videos
from .terminal import say

if TYPE_CHECKING:
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
    from ..apps.report import check_model, check_page, report_file

    def ready() -> Model:
        loaded = load(model, exact=True)
        check_model(loaded)
        return loaded

    def work(loaded: Model, turn: Turn) -> bool:
        video, page = turn.job.video, turn.job.outputs["output"]
        made = report_file(video, loaded, page, options, turn.progress())
        warn_of_damage(video, made.damaged)
        if not quiet:
            say(f"{turn.label}: {plural(len(made.times_s), 'frame')}, {plural(len(made.scenes), 'scene')} -> {page}")
        return True

    return for_each(
        videos,
        {"output": output},
        out_dir,
        lambda job: check_page(job.outputs["output"]),
        ready,
        work,
        quiet,
    )
