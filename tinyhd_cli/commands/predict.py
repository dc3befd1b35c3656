"""``tinyhd predict``: write overlays, saliency maps and statistics of videos."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from ..fields import OUTPUTS, Adjust
from ..inference.model_options import ModelOptions
from ..inference.options import FIRST_MAP, Outputs, PredictOptions
from ..wording import plural
from .batch import Turn, for_each, warn_of_damage
from .model_options import load
from .option_fields import with_options
from .options import VIDEOS, OutDir, Quiet
from .terminal import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..inference.io_paths import Job
    from ..inference.model import Model


@with_options
def predict(
    videos: Annotated[
        list[str],
        typer.Argument(metavar="VIDEO", help=f"{VIDEOS}, - for standard input.", show_default=False),
    ],
    *,
    outputs: Annotated[dict[str, Any], Outputs, Adjust(without=("aoi_plot",))],
    out_dir: OutDir = None,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Do not write outputs that already exist.", rich_help_panel=OUTPUTS)
    ] = False,
    model: ModelOptions,
    options: PredictOptions,
    plots: Annotated[dict[str, Any], Outputs, Adjust(only=("aoi_plot",))],
    quiet: Quiet = False,
) -> int:
    """Predict where people look in videos, or find their salient objects.

    Writes the overlay NAME_overlay.mp4 (.png for images) to the current folder, or the requested outputs, in one pass:
    tinyhd predict clip.mp4 --overlay out.mp4 --csv out.csv

    Exit codes: 0 done, 1 some video failed, 2 wrong usage, 3 video unreadable, 4 weights, 5 output, 130 interrupted.
    """
    from ..inference.io_paths import default_output
    from ..inference.outputs import map_names
    from ..inference.predict import check_task

    if plots and not options.areas:
        raise UsageError("--aoi-plot needs areas: --aoi NAME=X,Y,WIDTH,HEIGHT")
    planned: list[Outputs] = []

    def check(job: Job) -> None:
        planned.append(Outputs(**job.outputs))

    def ready() -> Model:
        loaded = load(model, exact=bool(options.areas) or any(wanted.has_numbers for wanted in planned))
        for wanted in planned:
            check_task(loaded.spec, wanted, options)
        return loaded

    def work(loaded: Model, turn: Turn) -> bool:
        wanted = Outputs(**turn.job.outputs)
        if skip_existing:
            wanted = wanted.missing(map_names(turn.job.video).values() or (FIRST_MAP,))
        return run_job(turn, wanted, loaded, options, quiet)

    names = outputs | plots or default_output(videos)
    return for_each(videos, names, out_dir, check, ready, work, quiet, options.input.rate)


def run_job(turn: Turn, outputs: Outputs, model: Model, options: PredictOptions, quiet: bool) -> bool:
    """Predict one video and report the result. Return False if there was nothing to do."""
    from ..inference.predict import predict_file

    if not outputs.requested():
        if not quiet:
            say(f"{turn.label}: skipped, all outputs exist")
        return False
    started = time.monotonic()
    summary = predict_file(turn.job.video, model, outputs, options, turn.progress())
    warn_of_damage(turn.job.video, summary.damaged)
    if not quiet:
        seconds = time.monotonic() - started
        written = ", ".join(str(path) for _, path in outputs.requested())
        rate = summary.frames / seconds
        say(f"{turn.label}: {plural(summary.frames, 'frame')} in {seconds:.1f} s ({rate:.1f} fps) -> {written}")
        for name, found in summary.areas.items():
            say(f"{name}: {attention(found, summary.subject)}")
    return True


def attention(found: Mapping[str, float | None], subject: str) -> str:
    """Return the statistics of an area of interest as one line; ``subject`` is what is in the area."""
    fraction, size, most, at_s = (found[key] or 0.0 for key in ("share", "size", "most", "most_at_s"))
    return f"{fraction:.1%} of the {subject} on {size:.1%} of the frame, maximum {most:.1%} at {at_s:.2f} s"
