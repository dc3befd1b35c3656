"""``tinyhd crop``: another aspect ratio, following the attention."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from ..errors import OK
from .options import LOOK, Crf, Device, Engine, ModelName, NoAudio, Precision, Preset, Quiet, WeightsFile
from .predict import load
from .terminal import progress_display, say

MOTION = "Motion of the window"


def crop(
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="The video.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Default: NAME_crop.mp4.", show_default=False),
    ] = None,
    aspect: Annotated[str, typer.Option(metavar="W:H", help="Aspect ratio of the result.")] = "9:16",
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
    quiet: Quiet = False,
) -> int:
    """Crop a video to another aspect ratio, the window following what people look at.

    It moves smoothly, at a bounded speed, and jumps where the scene changes; the sound is kept:
    tinyhd crop clip.mp4 --aspect 9:16 -o vertical.mp4
    """
    from ..inference.reframe import CropOptions, crop_file, parse_aspect
    from ..video.encoders import EncoderOptions, check_container
    from ..video.reader import VideoReader

    encoder = EncoderOptions(codec, crf, preset)
    options = CropOptions(parse_aspect(aspect), smooth, max_speed, encoder, audio=not no_audio)
    output = output or Path(f"{video.stem}_crop.mp4")
    check_container(output)
    VideoReader(video).close()  # one that cannot be read is said before the weights are loaded
    loaded = load(model, weights, device, engine, precision)
    started = time.monotonic()
    with progress_display(quiet) as progress:
        summary = crop_file(video, loaded, output, options, progress.video(video.name))
    if not quiet:
        seconds = time.monotonic() - started
        with VideoReader(output) as reader:
            size = f"{reader.info.width} x {reader.info.height}"
            sound = "with sound" if reader.info.has_sound else "no sound"
        say(f"{video.name}: {summary.frames} frames in {seconds:.1f} s -> {output} ({size}, {sound})")
    return OK
