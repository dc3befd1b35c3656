"""``tinyhd crop``: crop videos to another aspect ratio around the salient regions."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ..apps.options import CropOptions
from ..errors import UsageError
from ..fields import OUTPUTS
from ..inference.model_options import ModelOptions
from ..wording import plural
from .batch import Turn, for_each, warn_of_damage
from .model_options import load
from .option_fields import with_options
from .options import OutDir, Quiet, Videos
from .terminal import say

if TYPE_CHECKING:
    from pathlib import Path

    from ..inference.model import Model


@with_options
def crop(
    context: typer.Context,
    videos: Videos,
    *,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Video to write.", rich_help_panel=OUTPUTS)
    ] = "{name}_crop.mp4",
    out_dir: OutDir = None,
    options: CropOptions,
    model: ModelOptions,
    quiet: Quiet = False,
) -> int:
    """Crop videos to another aspect ratio; the crop window follows where people look, or an object.

    The window moves smoothly, at a limited speed, and jumps at scene changes. The audio is kept:
    tinyhd crop clip.mp4 --aspect 9:16 -o vertical.mp4
    """
    from ..apps.crop import crop_file
    from ..video.encoders import check_container

    # An aspect ratio from a settings file is a default, which --size replaces.
    source = context.get_parameter_source("aspect")
    if options.size is not None and source is not None and source.name == "COMMANDLINE":
        raise UsageError("--aspect and --size exclude each other; give one of them")

    def work(loaded: Model, turn: Turn) -> bool:
        video, target = turn.job.video, turn.job.outputs["output"]
        started = time.monotonic()
        summary = crop_file(video, loaded, target, options, turn.progress)
        warn_of_damage(video, summary.damaged)
        if not quiet:
            seconds = time.monotonic() - started
            say(f"{turn.label}: {plural(summary.frames, 'frame')} in {seconds:.1f} s -> {target}{properties(target)}")
        return True

    return for_each(
        videos,
        {"output": output},
        out_dir,
        lambda job: check_container(job.outputs["output"]),
        partial(load, model),
        work,
        quiet,
    )


def properties(video: Path) -> str:
    """Return the size of a video and whether it has audio, in parentheses; empty for a pipe or device."""
    from ..atomic_files import is_special
    from ..video.reader import VideoReader

    if is_special(video):  # cannot be read back
        return ""
    with VideoReader(video) as reader:
        audio = "with audio" if reader.info.has_audio else "no audio"
        return f" ({reader.info.width} x {reader.info.height}, {audio})"
