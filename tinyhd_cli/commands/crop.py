"""``tinyhd crop``: crop videos to another aspect ratio around the salient regions."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from ..apps.options import CropOptions
from ..errors import UsageError
from ..fields import OUTPUTS
from ..inference.model_options import ModelOptions
from ..wording import plural
from .batch import all_exist, for_each, warn_of_damage
from .model_options import load
from .option_fields import with_options
from .options import Jobs, OutDir, Quiet, Scratch, SkipExisting, Videos
from .run_options import RunOptions
from .task import Task, Turn
from .terminal import say

if TYPE_CHECKING:
    from pathlib import Path

    from ..inference.io_paths import Job
    from ..inference.model import Model
    from ..inference.predict import Summary


@with_options
def crop(
    context: typer.Context,
    videos: Videos,
    *,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Video to write.", rich_help_panel=OUTPUTS)
    ] = "{name}_crop.mp4",
    out_dir: OutDir = None,
    skip_existing: SkipExisting = False,
    options: CropOptions,
    model: ModelOptions,
    jobs: Jobs = None,
    running: RunOptions,
    scratch: Scratch = None,
    quiet: Quiet = False,
) -> int:
    """Crop videos to another aspect ratio; the crop window follows where people look, or an object.

    The window moves smoothly, at a limited speed, and jumps at scene changes. The audio is kept:
    tinyhd crop clip.mp4 --aspect 9:16 -o vertical.mp4
    """
    # An aspect ratio from a settings file is a default, which --size replaces.
    source = context.get_parameter_source("aspect")
    if options.size is not None and source is not None and source.name == "COMMANDLINE":
        raise UsageError("--aspect and --size exclude each other; give one of them")
    return for_each(
        videos, {"output": output}, out_dir, Crops(model, options, skip_existing, quiet), quiet, jobs, running=running
    )


@dataclass(frozen=True)
class Done:
    """The result of one input."""

    summary: Summary
    seconds: float


@dataclass(frozen=True)
class Crops(Task):
    """Crops each input."""

    model: ModelOptions
    options: CropOptions
    skip_existing: bool
    quiet: bool

    def check(self, job: Job) -> None:
        """Refuse an unknown container."""
        from ..video.encoders import check_container

        check_container(job.outputs["output"])

    def load(self) -> Model:
        """Load the model."""
        return load(self.model)

    def work(self, model: Model, turn: Turn) -> Done | None:
        """Crop one input, unless its output exists."""
        from ..apps.crop import crop_file

        if self.skip_existing and all_exist(turn.job):
            return None
        video, started = turn.job.video, time.monotonic()
        summary = crop_file(video, model, turn.job.outputs["output"], self.options, turn.progress)
        warn_of_damage(video, summary.damaged)
        return Done(summary, time.monotonic() - started)

    def frames(self, result: Done) -> int:
        """Return the number of frames of one crop."""
        return result.summary.frames

    def show(self, turn: Turn, result: Done | None) -> None:
        """Print the speed and the output of one input."""
        if self.quiet:
            return
        if result is None:
            self.say_skipped(turn)
        else:
            target, frames = turn.job.outputs["output"], plural(result.summary.frames, "frame")
            say(f"{turn.label}: {frames} in {result.seconds:.1f} s -> {target}{properties(target)}")


def properties(video: Path) -> str:
    """Return the size of a video and whether it has audio, in parentheses; empty for a pipe or device."""
    from ..atomic_files import is_special
    from ..video.reader import VideoReader

    if is_special(video):  # cannot be read back
        return ""
    with VideoReader(video) as reader:
        audio = "with audio" if reader.info.has_audio else "no audio"
        return f" ({reader.info.width} x {reader.info.height}, {audio})"
