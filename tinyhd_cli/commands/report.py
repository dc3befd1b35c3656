"""``tinyhd report``: a page about one video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import OK
from .options import AREAS, Device, Engine, ModelName, Precision, Quiet, WeightsFile
from .predict import load
from .terminal import progress_display, say


def report(
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="The video.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Default: NAME_report.html.", show_default=False),
    ] = None,
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
    quiet: Quiet = False,
) -> int:
    """Write a page about a video: filmstrip, heat map, attention over time, scenes, areas of interest.

    One HTML file that needs no network and no other file:
    tinyhd report clip.mp4 -o report.html
    """
    from ..inference.areas import parse_areas
    from ..inference.options import PredictOptions
    from ..inference.report import check_page, report_file
    from ..video.reader import VideoReader

    output = output or Path(f"{video.stem}_report.html")
    check_page(output)
    options = PredictOptions(areas=parse_areas(aoi or []), area_threshold=aoi_threshold)
    VideoReader(video).close()  # one that cannot be read is said before the weights are loaded
    loaded = load(model, weights, device, engine, precision, exact=True)
    with progress_display(quiet) as progress:
        collected = report_file(
            video, loaded, output, options.areas, options.area_threshold, progress.video(video.name)
        )
    if not quiet:
        scenes = "1 scene" if len(collected.scenes) == 1 else f"{len(collected.scenes)} scenes"
        say(f"{video.name}: {len(collected.times_s)} frames, {scenes} -> {output}")
    return OK
