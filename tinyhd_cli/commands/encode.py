"""``tinyhd encode``: encode videos with better quality in salient regions, or write the regions for other programs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..apps.encode.roi_formats import ROI_FORMATS
from ..apps.options import EncodeOptions
from ..errors import UsageError
from ..fields import OUTPUTS, RUN
from ..inference.model_options import ModelOptions
from ..storage import named
from ..wording import plural
from .batch import all_exist, for_each, warn_of_damage
from .model_options import load
from .option_fields import with_options
from .options import Jobs, OutDir, Quiet, Scratch, SkipExisting, Videos
from .run_options import RunOptions
from .task import Task, Turn
from .terminal import say, stdout_console

if TYPE_CHECKING:
    from pathlib import Path

    from ..apps.encode.quality import Quality
    from ..apps.encode.roi_file import RoiSummary
    from ..apps.encode.run import Curves, EncodeSummary
    from ..inference.io_paths import Job
    from ..inference.model import Model

DEFAULT_OUTPUT = "{name}_encoded.mp4"


@with_options
def encode(
    videos: Videos,
    *,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help=f"Video to write. Default: {DEFAULT_OUTPUT}, or none with --roi-file.",
            rich_help_panel=OUTPUTS,
            show_default=False,
        ),
    ] = None,
    roi_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Write the regions for another encoder; needs --format.", rich_help_panel=OUTPUTS
        ),
    ] = None,
    roi_format: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help=f"{', '.join(ROI_FORMATS)}.", rich_help_panel=OUTPUTS),
    ] = None,
    plot: Annotated[
        str | None,
        typer.Option(metavar="FILE.png", help="Plot the curves of --compare.", rich_help_panel=OUTPUTS),
    ] = None,
    out_dir: OutDir = None,
    skip_existing: SkipExisting = False,
    options: EncodeOptions,
    model: ModelOptions,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, one object per video.", rich_help_panel=RUN)
    ] = False,
    jobs: Jobs = None,
    running: RunOptions,
    scratch: Scratch = None,
    quiet: Quiet = False,
) -> int:
    """Encode videos with better quality where people look, or on their objects, and lower quality elsewhere.

    Then a plain encode of the same size is made, and the quality of both is compared inside and outside these regions:
    tinyhd encode clip.mp4 -o out.mp4 --crf 28
    """
    if (roi_file is None) != (roi_format is None):
        raise UsageError("--roi-file and --format belong together, such as --roi-file clip.roi --format svtav1")
    if plot is not None and not options.qualities:
        raise UsageError("--plot needs --compare, such as --compare 23,28,33,38")
    if roi_file is not None and output is None and options.qualities:
        raise UsageError("--compare encodes the video: give --output, too, or leave out --roi-file")
    wanted = {
        "output": output or (None if roi_file else DEFAULT_OUTPUT),
        "roi_file": roi_file,
        "plot": plot,
    }
    names = {kind: name for kind, name in wanted.items() if name is not None}
    task = Encodes(model, options, roi_format, as_json, skip_existing, quiet)
    return for_each(videos, names, out_dir, task, quiet, jobs, running=running)


@dataclass(frozen=True)
class Done:
    """The result of one input."""

    roi: RoiSummary | None
    """The region map; None if none was requested."""
    summary: EncodeSummary | None
    """The encode; None if only a region map was requested."""
    inside: str
    """Names the regions with better quality."""


@dataclass(frozen=True)
class Encodes(Task):
    """Encodes each input, or writes its region map."""

    model: ModelOptions
    options: EncodeOptions
    roi_format: str | None
    as_json: bool
    skip_existing: bool
    quiet: bool

    def check(self, job: Job) -> None:
        """Refuse outputs with a wrong suffix, and unknown formats."""
        from ..apps.encode.roi_file import check_roi_file
        from ..video.encoders import check_container

        if "output" in job.outputs:
            check_container(job.outputs["output"])
        if self.roi_format is not None:
            check_roi_file(job.outputs["roi_file"], self.roi_format)
        if "plot" in job.outputs and job.outputs["plot"].suffix.lower() != ".png":
            raise UsageError(f"--plot {job.outputs['plot']}: the suffix must be .png")

    def load(self) -> Model:
        """Load the model."""
        return load(self.model)

    def work(self, model: Model, turn: Turn) -> Done | None:
        """Write the outputs of one input, unless all exist."""
        from ..apps.encode.plot import plot_curves
        from ..apps.encode.roi_file import write_roi_file
        from ..apps.encode.run import encode_file

        if self.skip_existing and all_exist(turn.job):
            return None
        video, outputs = turn.job.video, turn.job.outputs
        roi = summary = None
        if self.roi_format is not None:
            roi = write_roi_file(video, model, outputs["roi_file"], self.roi_format, self.options, turn.progress)
            warn_of_damage(video, roi.damaged)
        if "output" in outputs:
            summary = encode_file(video, model, outputs["output"], self.options, turn.progress)
            warn_of_damage(video, summary.damaged)
            if summary.curves is not None and "plot" in outputs:
                plot_curves(summary, summary.curves, outputs["plot"], video.name)
        return Done(roi, summary, "on the object" if model.spec.task == "object" else "where people look")

    def frames(self, result: Done) -> int:
        """Return the number of frames of one encode."""
        done = result.summary or result.roi
        return 0 if done is None else done.frames

    def show(self, turn: Turn, result: Done | None) -> None:
        """Print the results of one input, as JSON or as text and tables."""
        outputs = turn.job.outputs
        if result is None:
            if not self.quiet:
                self.say_skipped(turn)
        elif self.as_json:
            print(named(json.dumps(self.facts(turn, result), indent=2)))
        elif not self.quiet:
            if result.roi is not None and self.roi_format is not None:
                contents = ROI_FORMATS[self.roi_format].contents
                say(f"{turn.label}: {plural(result.roi.frames, 'frame')} -> {outputs['roi_file']}: {contents}")
            if result.summary is not None:
                show(result.summary, outputs["output"], result.inside)

    def facts(self, turn: Turn, result: Done) -> dict[str, Any]:
        """Return the results of one input for JSON."""
        found: dict[str, Any] = {"video": str(turn.job.video)}
        if result.roi is not None and self.roi_format is not None:
            rows, columns = result.roi.blocks
            found |= {"roi_file": str(turn.job.outputs["roi_file"]), "format": self.roi_format}
            found |= {"frames": result.roi.frames, "block": ROI_FORMATS[self.roi_format].block}
            found |= {"rows": rows, "columns": columns}
        if result.summary is not None:
            found |= {"output": str(turn.job.outputs["output"]), **result.summary.to_dict()}
        return found


def show(result: EncodeSummary, output: Path, inside: str) -> None:
    """Print the sizes and qualities as a table; ``inside`` names the regions with better quality."""
    from rich.table import Table

    table = Table("", "size", "kbit/s", f"PSNR {inside}", "elsewhere", box=None, header_style="bold")

    def add(label: str, quality: Quality) -> None:
        levels = [quality.psnr_inside_db, quality.psnr_outside_db]
        table.add_row(label, f"{quality.bytes / 1e6:.2f} MB", rate(quality, result), *map(decibels, levels))

    add(output.name, result.guided)
    if result.plain is not None:
        add(f"plain, crf {result.plain.crf:g}", result.plain)
    stdout_console().print(table)
    if result.curves is not None:
        show_curves(result, result.curves)


def show_curves(result: EncodeSummary, curves: Curves) -> None:
    """Print the comparison at several qualities."""
    from rich.table import Table

    from ..apps.encode.plot import describe

    table = Table("crf", "", "kbit/s", "weighted PSNR", "PSNR", box=None, header_style="bold")
    for pair in zip(curves.guided, curves.plain, strict=True):
        for name, quality in zip(("tinyhd", "plain"), pair, strict=True):
            levels = map(decibels, (quality.weighted_psnr_db, quality.psnr_db))
            table.add_row(f"{quality.crf:g}", name, rate(quality, result), *levels)
    stdout_console().print(table)
    stdout_console().print(
        f"BD-rate at equal attention-weighted PSNR: {describe(curves.bd_rate_weighted_percent)};"
        f" at equal PSNR: {describe(curves.bd_rate_percent)}"
    )


def rate(quality: Quality, result: EncodeSummary) -> str:
    """Return the bit rate of an encode in kbit/s."""
    return f"{result.kbit_per_s(quality):.0f}"


def decibels(level: float | None) -> str:
    """Return a ratio as text."""
    return "-" if level is None else f"{level:.2f} dB"
