"""``tinyhd report``: a page about a video."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ..wording import plural
from .batch import Turn, for_each, warn_of_damage
from .options import (
    AREAS,
    OUTPUTS,
    AllowPlaylists,
    Device,
    Engine,
    ModelName,
    OutDir,
    Precision,
    Quiet,
    Videos,
    WeightsFile,
)
from .predict import load
from .terminal import loading, say

if TYPE_CHECKING:
    from ..inference.model import Model


def report(
    videos: Videos,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Page to write.", rich_help_panel=OUTPUTS)
    ] = "{name}_report.html",
    out_dir: OutDir = None,
    aoi: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=X,Y,W,H|FILE", help="As for tinyhd predict.", rich_help_panel=AREAS),
    ] = None,
    aoi_threshold: Annotated[
        float, typer.Option(metavar="0..1", help="As for tinyhd predict.", rich_help_panel=AREAS)
    ] = 0.1,
    model: ModelName = None,
    weights: WeightsFile = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "auto",
    allow_playlists: AllowPlaylists = False,
    quiet: Quiet = False,
) -> int:
    """Write a page about each video: filmstrip, heat map, attention over time, scenes, areas of interest.

    One HTML file that needs no network and no other file:
    tinyhd report clip.mp4 -o report.html
    """
    loading.start(quiet)
    from ..apps.report import check_page, report_file
    from ..inference.area_parsing import parse_areas
    from ..inference.options import PredictOptions
    from ..video.source import InputOptions

    options = PredictOptions(
        areas=parse_areas(aoi or []), area_threshold=aoi_threshold, input=InputOptions(playlists=allow_playlists)
    )

    def work(loaded: Model, turn: Turn) -> bool:
        video, page = turn.job.video, turn.job.outputs["output"]
        progress = turn.progress()
        made = report_file(video, loaded, page, options.areas, options.area_threshold, progress, options.input)
        warn_of_damage(video, made.damaged)
        if not quiet:
            say(f"{turn.label}: {plural(len(made.times_s), 'frame')}, {plural(len(made.scenes), 'scene')} -> {page}")
        return True

    ready = partial(load, model, weights, device, engine, precision, exact=True)
    return for_each(
        videos, {"output": output}, out_dir, lambda job: check_page(job.outputs["output"]), ready, work, quiet
    )
