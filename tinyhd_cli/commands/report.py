"""``tinyhd report``: a page about a video."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import TinyhdError
from .options import AREAS, OUTPUTS, Device, Engine, ModelName, OutDir, Precision, Quiet, Videos, WeightsFile
from .predict import load
from .several import do_each, exit_code, say_missing, warn_of_damage
from .terminal import ProgressDisplay, say


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
    quiet: Quiet = False,
) -> int:
    """Write a page about each video: filmstrip, heat map, attention over time, scenes, areas of interest.

    One HTML file that needs no network and no other file:
    tinyhd report clip.mp4 -o report.html
    """
    from ..inference.areas import parse_areas
    from ..inference.jobs import find_videos, outputs_of
    from ..inference.options import PredictOptions
    from ..inference.report import check_page, report_file

    options = PredictOptions(areas=parse_areas(aoi or []), area_threshold=aoi_threshold)
    found, errors = find_videos(videos)
    outputs = outputs_of(found, output, out_dir)
    for path in outputs:
        check_page(path)
    say_missing(errors)
    failures: list[TinyhdError] = list(errors)
    if found:
        loaded = load(model, weights, device, engine, precision, exact=True)

        def work(number: int, label: str, progress: ProgressDisplay) -> None:
            areas, threshold = options.areas, options.area_threshold
            page = report_file(found[number], loaded, outputs[number], areas, threshold, progress.video(label))
            warn_of_damage(found[number], page.damaged)
            if not quiet:
                scenes = "1 scene" if len(page.scenes) == 1 else f"{len(page.scenes)} scenes"
                say(f"{label}: {len(page.times_s)} frames, {scenes} -> {outputs[number]}")

        failures += do_each(found, quiet, work)
    return exit_code(failures, len(found) + len(errors))
