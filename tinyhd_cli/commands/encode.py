"""``tinyhd encode``: encode videos with better quality in salient regions."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ..apps.options import EncodeOptions
from ..fields import OUTPUTS, RUN
from ..inference.model_options import ModelOptions
from .batch import Turn, for_each, warn_of_damage
from .model_options import load
from .option_fields import with_options
from .options import OutDir, Quiet, Videos
from .terminal import stdout_console

if TYPE_CHECKING:
    from pathlib import Path

    from ..apps.encode import EncodeSummary, Quality
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
    quiet: Quiet = False,
) -> int:
    """Encode videos with better quality where people look, or on their objects, and lower quality elsewhere.

    Then a plain encode of the same size is made, and the quality of both is compared inside and outside these regions:
    tinyhd encode clip.mp4 -o out.mp4 --crf 28
    """
    from ..apps.encode import encode_file
    from ..video.encoders import check_container

    def work(loaded: Model, turn: Turn) -> bool:
        video, target = turn.job.video, turn.job.outputs["output"]
        result = encode_file(video, loaded, target, options, turn.progress)
        warn_of_damage(video, result.damaged)
        if as_json:
            print(json.dumps({"video": str(video), "output": str(target), **result.to_dict()}, indent=2))
        elif not quiet:
            show(result, target, "on the object" if loaded.spec.task == "object" else "where people look")
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
