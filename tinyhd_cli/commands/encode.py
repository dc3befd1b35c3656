"""``tinyhd encode``: compression that spends its bits where people look."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from .batch import Turn, for_each, warn_of_damage
from .options import (
    LOOK,
    OUTPUTS,
    RUN,
    AllowPlaylists,
    Crf,
    Device,
    Engine,
    ModelName,
    NoAudio,
    OutDir,
    Precision,
    Quiet,
    Videos,
    WeightsFile,
)
from .predict import load
from .terminal import loading, stdout_console

if TYPE_CHECKING:
    from pathlib import Path

    from ..apps.encode import Compressed, Quality
    from ..inference.model import Model


def encode(
    videos: Videos,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Video to write.", rich_help_panel=OUTPUTS)
    ] = "{name}_encoded.mp4",
    out_dir: OutDir = None,
    crf: Crf = 28,
    strength: Annotated[
        float,
        typer.Option(
            metavar="N", help="Greatest change of the quantizer: 6 is half the bits or double.", rich_help_panel=LOOK
        ),
    ] = 6,
    codec: Annotated[
        str | None, typer.Option(metavar="h264|hevc", help="Default: what suits the file.", rich_help_panel=LOOK)
    ] = None,
    preset: Annotated[
        str, typer.Option(metavar="NAME", help="Encoding speed, superfast to veryslow.", rich_help_panel=LOOK)
    ] = "medium",
    no_audio: NoAudio = False,
    no_compare: Annotated[
        bool,
        typer.Option("--no-compare", help="Make no plain encode of equal size to compare with.", rich_help_panel=RUN),
    ] = False,
    model: ModelName = None,
    weights: WeightsFile = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "auto",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, an object for each video.", rich_help_panel=RUN)
    ] = False,
    allow_playlists: AllowPlaylists = False,
    quiet: Quiet = False,
) -> int:
    """Compress videos with better quality where people look and worse elsewhere.

    Afterwards a plain encode of the same size is made, and quality is compared inside and outside these places:
    tinyhd encode clip.mp4 -o out.mp4 --crf 28
    """
    loading.start(quiet)
    from ..apps.encode import CompressOptions, compress_file
    from ..video.encoders import EncoderOptions, check_container
    from ..video.source import InputOptions

    if preset == "ultrafast":
        raise UsageError("--preset ultrafast has no adaptive quantization, which regions of interest need")
    options = CompressOptions(
        EncoderOptions(codec, crf, preset),
        strength,
        not no_compare,
        not no_audio,
        InputOptions(playlists=allow_playlists),
    )

    def work(loaded: Model, turn: Turn) -> bool:
        video, target = turn.job.video, turn.job.outputs["output"]
        result = compress_file(video, loaded, target, options, turn.progress)
        warn_of_damage(video, result.damaged)
        if as_json:
            print(json.dumps({"video": str(video), "output": str(target), **result.to_dict()}, indent=2))
        elif not quiet:
            show(result, target)
        return True

    ready = partial(load, model, weights, device, engine, precision)
    return for_each(
        videos, {"output": output}, out_dir, lambda job: check_container(job.outputs["output"]), ready, work, quiet
    )


def show(result: Compressed, output: Path) -> None:
    """Sizes and qualities as a table on stdout."""
    from rich.table import Table

    table = Table("", "size", "kbit/s", "PSNR where people look", "elsewhere", box=None, header_style="bold")

    def add(label: str, quality: Quality) -> None:
        rate = 8e-3 * quality.bytes / max(result.duration_s, 1e-9)
        inside, outside = f"{quality.psnr_inside_db:.2f} dB", f"{quality.psnr_outside_db:.2f} dB"
        table.add_row(label, f"{quality.bytes / 1e6:.2f} MB", f"{rate:.0f}", inside, outside)

    add(output.name, result.ours)
    if result.plain is not None:
        add(f"plain, crf {result.plain.crf:g}", result.plain)
    stdout_console().print(table)
