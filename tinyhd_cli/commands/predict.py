"""``tinyhd predict``: videos in, overlays, maps and numbers out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from ..wording import plural
from .batch import Turn, for_each, warn_of_damage
from .options import (
    AREAS,
    LOOK,
    OUTPUTS,
    RUN,
    VIDEOS,
    AllowPlaylists,
    Alpha,
    Colormap,
    Crf,
    Device,
    Engine,
    ModelName,
    NoAudio,
    OutDir,
    Precision,
    Preset,
    Quiet,
    WeightsFile,
)
from .terminal import loading, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..inference.io_paths import Job
    from ..inference.model import Model
    from ..inference.options import Outputs, PredictOptions


def predict(
    videos: Annotated[
        list[str],
        typer.Argument(metavar="VIDEO", help=f"{VIDEOS}, - for standard input.", show_default=False),
    ],
    overlay: Annotated[
        str | None,
        typer.Option(
            "--overlay",
            "-o",
            metavar="FILE",
            help="Video with the maps drawn on it; -: y4m to stdout.",
            rich_help_panel=OUTPUTS,
        ),
    ] = None,
    maps: Annotated[
        str | None,
        typer.Option(metavar="DIR|FILE", help="Maps as a folder of PNGs, or as a gray video.", rich_help_panel=OUTPUTS),
    ] = None,
    npz: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The network's output: saliency and time_s.", rich_help_panel=OUTPUTS),
    ] = None,
    csv: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Peak, centroid, entropy, spread of each frame.", rich_help_panel=OUTPUTS),
    ] = None,
    json: Annotated[
        str | None, typer.Option(metavar="FILE", help="Summary of the video.", rich_help_panel=OUTPUTS)
    ] = None,
    out_dir: OutDir = None,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave alone what is already there.", rich_help_panel=OUTPUTS)
    ] = False,
    model: ModelName = None,
    weights: WeightsFile = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "auto",
    normalize: Annotated[
        str | None,
        typer.Option(
            metavar="running|video|frame|none",
            help="How maps are scaled to be seen: by limits that follow the video slowly, by one scale for the whole"
            " video (two passes), each frame by itself, not at all. Default: running, for PNG maps frame.",
            rich_help_panel=LOOK,
        ),
    ] = None,
    colormap: Colormap = "turbo",
    alpha: Alpha = 0.6,
    threshold: Annotated[
        float, typer.Option(metavar="0..1", help="Saliency below which nothing is drawn.", rich_help_panel=LOOK)
    ] = 0.1,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="Show the source beside the overlay.", rich_help_panel=LOOK)
    ] = False,
    codec: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="h264, hevc, vp9, av1, mpeg4, or an encoder of FFmpeg. Default: what suits the file.",
            rich_help_panel=LOOK,
        ),
    ] = None,
    crf: Crf = 18,
    preset: Preset = "veryfast",
    no_audio: NoAudio = False,
    rate: Annotated[
        float, typer.Option(metavar="N", help="Frames a second of pictures and raw video.", rich_help_panel=RUN)
    ] = 25,
    size: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="Standard input is raw RGB (rgb24) of this size.", rich_help_panel=RUN),
    ] = None,
    aoi: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=X,Y,W,H|FILE",
            help="Area of interest, in pixels or percent (logo=10%,20%,25%,10%), or a JSON file of areas; several are"
            " possible. Their shares of attention go into the CSV and JSON, and are drawn on the overlay.",
            rich_help_panel=AREAS,
        ),
    ] = None,
    aoi_plot: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="PNG of the areas' attention over time.", rich_help_panel=AREAS),
    ] = None,
    aoi_threshold: Annotated[
        float,
        typer.Option(metavar="0..1", help="Share from which an area counts as attended.", rich_help_panel=AREAS),
    ] = 0.1,
    allow_playlists: AllowPlaylists = False,
    quiet: Quiet = False,
) -> int:
    """Predict where people look in videos.

    Writes a video NAME_overlay.mp4 into the current folder, or whichever outputs are asked for, all in one pass:
    tinyhd predict clip.mp4 --overlay out.mp4 --csv out.csv

    Exit codes: 0 done, 1 some video failed, 2 wrong usage, 3 video unreadable, 4 weights, 5 output, 130 interrupted.
    """
    loading.start(quiet)
    from ..inference.area_parsing import parse_areas
    from ..inference.io_paths import DEFAULT_OUTPUT
    from ..inference.options import FIRST_MAP, Outputs, PredictOptions
    from ..inference.outputs import map_names
    from ..video.encoders import EncoderOptions
    from ..video.overlay import OverlayStyle
    from ..video.source import InputOptions, parse_size, to_frame_rate

    options = PredictOptions(
        style=OverlayStyle(colormap, alpha, threshold, side_by_side),
        encoder=EncoderOptions(codec, crf, preset),
        normalize=normalize,  # type: ignore[arg-type]  # checked there, with the known names in the message
        audio=not no_audio,
        input=InputOptions(to_frame_rate(rate), parse_size(size) if size else None, playlists=allow_playlists),
        areas=parse_areas(aoi or []),
        area_threshold=aoi_threshold,
    )
    if aoi_plot is not None and not aoi:
        raise UsageError("--aoi-plot needs areas: --aoi NAME=X,Y,WIDTH,HEIGHT")
    named = {"overlay": overlay, "maps": maps, "npz": npz, "csv": csv, "json": json, "aoi_plot": aoi_plot}
    wanted = {kind: name for kind, name in named.items() if name is not None} or DEFAULT_OUTPUT

    planned: list[Outputs] = []

    def check(job: Job) -> None:
        planned.append(Outputs(**job.outputs))

    def ready() -> Model:
        exact = bool(aoi) or any(outputs.has_numbers for outputs in planned)
        return load(model, weights, device, engine, precision, exact=exact)

    def work(loaded: Model, turn: Turn) -> bool:
        outputs = Outputs(**turn.job.outputs)
        if skip_existing:
            outputs = outputs.missing(map_names(turn.job.video).values() or (FIRST_MAP,))
        return run_job(turn, outputs, loaded, options, quiet)

    return for_each(videos, wanted, out_dir, check, ready, work, quiet, options.input.rate)


def load(
    name: str | None, weights: Path | None, device: str, engine: str, precision: str, *, exact: bool = False
) -> Model:
    """The model that the options name; with both a name and a file, the file must hold the named network.

    ``exact`` says that maps are used as numbers, rather than looked at.
    """
    from ..errors import WeightsError
    from ..inference.model import load_model
    from ..models import config
    from ..weights import default_name

    loading.show(f"loading {weights or name or default_name()} and preparing it for this machine")
    expected = config(name.partition(".")[0]) if name and weights else None
    loaded = load_model(weights or name, device, engine=engine, precision=precision, exact=exact)
    if expected is not None and loaded.config.name != expected.name:
        raise WeightsError(f"{weights}: holds {loaded.config.name}, not {expected.name}")
    return loaded


def run_job(turn: Turn, outputs: Outputs, model: Model, options: PredictOptions, quiet: bool) -> bool:
    """Predict one video and report the result. Return False if there was nothing to do."""
    from ..inference.predict import predict_file

    if not outputs.wanted():
        if not quiet:
            say(f"{turn.label}: skipped, all outputs exist")
        return False
    started = time.monotonic()
    summary = predict_file(turn.job.video, model, outputs, options, turn.progress())
    warn_of_damage(turn.job.video, summary.damaged)
    if not quiet:
        seconds = time.monotonic() - started
        written = ", ".join(str(path) for _, path in outputs.wanted())
        rate = summary.frames / seconds
        say(f"{turn.label}: {plural(summary.frames, 'frame')} in {seconds:.1f} s ({rate:.1f} fps) -> {written}")
        for name, found in summary.areas.items():
            say(f"{name}: {attention(found)}")
    return True


def attention(found: Mapping[str, float | None]) -> str:
    """What became of an area of interest, in a line."""
    share, size, most, at_s = (found[key] or 0.0 for key in ("share", "size", "most", "most_at_s"))
    return f"{share:.1%} of the attention on {size:.1%} of the picture, at most {most:.1%} at {at_s:.2f} s"
