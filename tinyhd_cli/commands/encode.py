"""``tinyhd encode``: encode videos with better quality in salient regions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from ..apps.options import EncodeOptions
from ..fields import OUTPUTS, RUN
from ..inference.model_options import ModelOptions
from .batch import Task, Turn, for_each, warn_of_damage
from .model_options import load
from .option_fields import with_options
from .options import Jobs, OutDir, Quiet, Videos
from .terminal import stdout_console

if TYPE_CHECKING:
    from pathlib import Path

    from ..apps.encode import EncodeSummary, Quality
    from ..inference.io_paths import Job
    from ..inference.model import Model


@with_options
def encode(
    videos: Videos,
    *,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Video to write.", rich_help_panel=OUTPUTS)
    ] = "{name}_encoded.mp4",
    out_dir: OutDir = None,
    options: EncodeOptions,
    model: ModelOptions,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, one object per video.", rich_help_panel=RUN)
    ] = False,
    jobs: Jobs = None,
    quiet: Quiet = False,
) -> int:
    """Encode videos with better quality where people look, or on their objects, and lower quality elsewhere.

    Then a plain encode of the same size is made, and the quality of both is compared inside and outside these regions:
    tinyhd encode clip.mp4 -o out.mp4 --crf 28
    """
    return for_each(videos, {"output": output}, out_dir, Encodes(model, options, as_json, quiet), quiet, jobs)


@dataclass(frozen=True)
class Done:
    """The result of one input."""

    summary: EncodeSummary
    inside: str
    """Names the regions with better quality."""


@dataclass(frozen=True)
class Encodes(Task):
    """Encodes each input."""

    model: ModelOptions
    options: EncodeOptions
    as_json: bool
    quiet: bool

    def check(self, job: Job) -> None:
        """Refuse an unknown container."""
        from ..video.encoders import check_container

        check_container(job.outputs["output"])

    def load(self) -> Model:
        """Load the model."""
        return load(self.model)

    def work(self, model: Model, turn: Turn) -> Done:
        """Encode one input."""
        from ..apps.encode import encode_file

        video = turn.job.video
        summary = encode_file(video, model, turn.job.outputs["output"], self.options, turn.progress)
        warn_of_damage(video, summary.damaged)
        return Done(summary, "on the object" if model.spec.task == "object" else "where people look")

    def show(self, turn: Turn, result: Done) -> None:
        """Print the sizes and qualities of one encode, as JSON or as a table."""
        video, target = turn.job.video, turn.job.outputs["output"]
        if self.as_json:
            print(json.dumps({"video": str(video), "output": str(target), **result.summary.to_dict()}, indent=2))
        elif not self.quiet:
            show(result.summary, target, result.inside)


def show(result: EncodeSummary, output: Path, inside: str) -> None:
    """Print the sizes and qualities as a table; ``inside`` names the regions with better quality."""
    from rich.table import Table

    table = Table("", "size", "kbit/s", f"PSNR {inside}", "elsewhere", box=None, header_style="bold")

    def add(label: str, quality: Quality) -> None:
        rate = 8e-3 * quality.bytes / max(result.duration_s, 1e-9)
        levels = [quality.psnr_inside_db, quality.psnr_outside_db]
        shown = ["-" if level is None else f"{level:.2f} dB" for level in levels]
        table.add_row(label, f"{quality.bytes / 1e6:.2f} MB", f"{rate:.0f}", *shown)

    add(output.name, result.guided)
    if result.plain is not None:
        add(f"plain, crf {result.plain.crf:g}", result.plain)
    stdout_console().print(table)
