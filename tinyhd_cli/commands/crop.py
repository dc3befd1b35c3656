"""``tinyhd crop``: another aspect ratio, following the attention."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from ..wording import plural
from .batch import Turn, for_each, warn_of_damage
from .options import (
    LOOK,
    OUTPUTS,
    AllowPlaylists,
    Crf,
    Device,
    Engine,
    ModelName,
    NoAudio,
    OutDir,
    Precision,
    Preset,
    Quiet,
    Videos,
    WeightsFile,
)
from .predict import load
from .terminal import loading, say

if TYPE_CHECKING:
    from ..inference.model import Model

MOTION = "Motion of the window"


def crop(
    context: typer.Context,
    videos: Videos,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Video to write.", rich_help_panel=OUTPUTS)
    ] = "{name}_crop.mp4",
    out_dir: OutDir = None,
    aspect: Annotated[
        str | None, typer.Option(metavar="W:H", help="Aspect ratio of the result. Default: 9:16.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="Scale the result to this size, in place of --aspect. Default: as it is cut."),
    ] = None,
    smooth: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="Movements shorter than this are not followed.", rich_help_panel=MOTION),
    ] = 0.8,
    max_speed: Annotated[
        float,
        typer.Option(
            metavar="N", help="Greatest speed in frame widths a second; 0: stand still.", rich_help_panel=MOTION
        ),
    ] = 0.25,
    model: ModelName = None,
    weights: WeightsFile = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "auto",
    codec: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="As for tinyhd predict.", rich_help_panel=LOOK),
    ] = None,
    crf: Crf = 18,
    preset: Preset = "veryfast",
    no_audio: NoAudio = False,
    allow_playlists: AllowPlaylists = False,
    quiet: Quiet = False,
) -> int:
    """Crop videos to another aspect ratio, the window following what people look at.

    It moves smoothly, at a bounded speed, and jumps where the scene changes; the sound is kept:
    tinyhd crop clip.mp4 --aspect 9:16 -o vertical.mp4
    """
    loading.start(quiet)
    from ..apps.crop import CropOptions, crop_file, parse_aspect
    from ..atomic_files import is_special
    from ..video.encoders import EncoderOptions, check_container
    from ..video.reader import VideoReader
    from ..video.source import InputOptions, parse_size

    # A settings file may give an aspect ratio for all days; --size is said for this one.
    source = context.get_parameter_source("aspect")
    if size is not None and source is not None and source.name == "COMMANDLINE":
        raise UsageError("--aspect and --size: name one of them")
    encoder = EncoderOptions(codec, crf, preset)
    options = CropOptions(
        parse_aspect(aspect or "9:16"),
        smooth,
        max_speed,
        encoder,
        not no_audio,
        parse_size(size) if size else None,
        InputOptions(playlists=allow_playlists),
    )

    def work(loaded: Model, turn: Turn) -> bool:
        video, target = turn.job.video, turn.job.outputs["output"]
        started = time.monotonic()
        summary = crop_file(video, loaded, target, options, turn.progress)
        warn_of_damage(video, summary.damaged)
        if not quiet:
            seconds = time.monotonic() - started
            told = f"{turn.label}: {plural(summary.frames, 'frame')} in {seconds:.1f} s -> {target}"
            if not is_special(target):  # a pipe or device cannot be read back
                with VideoReader(target) as reader:
                    audio = "with audio" if reader.info.has_audio else "no audio"
                    told += f" ({reader.info.width} x {reader.info.height}, {audio})"
            say(told)
        return True

    ready = partial(load, model, weights, device, engine, precision)
    return for_each(
        videos, {"output": output}, out_dir, lambda job: check_container(job.outputs["output"]), ready, work, quiet
    )
