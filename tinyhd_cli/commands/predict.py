"""``tinyhd predict``: write overlays, saliency maps and statistics of videos."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from ..fields import Adjust
from ..inference.model_options import ModelOptions
from ..inference.options import FIRST_MAP, Outputs, PredictOptions
from ..storage import url_of
from ..wording import plural
from .batch import for_each, warn_of_damage
from .model_options import load
from .option_fields import with_options
from .options import VIDEOS, Jobs, OutDir, Quiet, Scratch, SkipExisting, Split
from .run_options import RunOptions
from .split_lengths import Split as Lengths
from .split_lengths import lengths_of
from .task import Task, Turn
from .terminal import say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..inference.io_paths import Job
    from ..inference.model import Model
    from ..inference.predict import Summary
    from ..inference.split_plan import Part


@with_options
def predict(
    videos: Annotated[
        list[str],
        typer.Argument(metavar="VIDEO", help=f"{VIDEOS}, - for standard input.", show_default=False),
    ],
    *,
    outputs: Annotated[dict[str, Any], Outputs, Adjust(without=("aoi_plot",))],
    out_dir: OutDir = None,
    skip_existing: SkipExisting = False,
    model: ModelOptions,
    options: PredictOptions,
    plots: Annotated[dict[str, Any], Outputs, Adjust(only=("aoi_plot",))],
    jobs: Jobs = None,
    running: RunOptions,
    scratch: Scratch = None,
    split: Split = None,
    quiet: Quiet = False,
) -> int:
    """Predict where people look in videos and images, or find their salient objects.

    Writes the overlay NAME_overlay.mp4 (.png for images) to the current folder, or the requested outputs, in one pass:
    tinyhd predict clip.mp4 --overlay out.mp4 --csv out.csv

    Exit codes: 0 done, 1 some video failed, 2 wrong usage, 3 video unreadable, 4 weights, 5 output, 130 interrupted.
    """
    from ..inference.io_paths import DEFAULT_OUTPUT

    if plots and not options.areas:
        raise UsageError("--aoi-plot needs areas: --aoi NAME=X,Y,WIDTH,HEIGHT")
    names = outputs | plots or DEFAULT_OUTPUT
    task = Prediction(tuple(names.items()), skip_existing, model, options, quiet, split)
    lengths = lengths_of(split, running.cluster.cluster is not None, keep=skip_existing)
    return for_each(videos, names, out_dir, task, quiet, jobs, options.input, running, lengths)


@dataclass(frozen=True)
class Done:
    """The result of one input."""

    summary: Summary
    seconds: float


@dataclass(frozen=True)
class Prediction(Task):
    """Predicts each input."""

    names: tuple[tuple[str, str], ...]
    """Kind and name of each output, before placeholders are replaced."""
    skip_existing: bool
    model: ModelOptions
    options: PredictOptions
    quiet: bool
    split: str | None = None
    """The length of parts, as on the command line."""

    def check(self, job: Job) -> None:
        """Refuse invalid outputs, and those that are not written in parts."""
        outputs = Outputs(**job.outputs)
        if self.split is not None:
            from ..inference.split_plan import check_can_split

            check_can_split(job.video, outputs, self.split)

    def load(self) -> Model:
        """Load the model, and refuse outputs that its task does not have."""
        from ..inference.io_paths import fill
        from ..inference.predict import check_task

        wanted = Outputs(**{kind: fill(name, Path("video"), None) for kind, name in self.names})
        loaded = load(self.model, exact=bool(self.options.areas) or wanted.has_numbers)
        check_task(loaded.spec, wanted, self.options)
        return loaded

    def work(self, model: Model, turn: Turn) -> Done | None:
        """Predict one input, unless its outputs exist."""
        from ..inference.predict import predict_file
        from ..inference.split_plan import remove_parts

        outputs = self._wanted(turn.job)
        if not outputs.requested():
            return None
        if turn.part is not None:
            from ..inference.split_part import predict_part

            predict_part(turn.job.video, turn.part, model, outputs, self.options, turn.progress())
            return None
        started = time.monotonic()
        summary = predict_file(turn.job.video, model, outputs, self.options, turn.progress())
        remove_parts(turn.job.video, Outputs(**turn.job.outputs))
        warn_of_damage(turn.job.video, summary.damaged)
        return Done(summary, time.monotonic() - started)

    def frames(self, result: Done) -> int:
        """Return the number of frames of one prediction."""
        return result.summary.frames

    def _wanted(self, job: Job) -> Outputs:
        """Return the outputs that are to be written."""
        from ..inference.outputs import map_names

        outputs = Outputs(**job.outputs)
        return outputs.missing(map_names(job.video).values() or (FIRST_MAP,)) if self.skip_existing else outputs

    def parts(self, job: Job, split: Lengths) -> list[Part]:
        """Plan the parts of a long video."""
        from ..inference.split_plan import make_parts

        outputs = self._wanted(job)
        if not outputs.requested() or self.why_whole(job, split):
            return []
        seconds, longer_than_s = split.seconds, split.longer_than_s
        return make_parts(
            job.video,
            outputs,
            self.options,
            seconds,
            longer_than_s,
            self.model,
            keep=split.keep,
            all_outputs=Outputs(**job.outputs),
        )

    def why_whole(self, job: Job, split: Lengths) -> str:
        """Return why a video is processed in one piece, whatever its length."""
        from ..inference.split_plan import why_whole
        from ..video.source import IMAGE_SUFFIXES

        if job.video.suffix.lower() in IMAGE_SUFFIXES:
            return ""
        if split.is_automatic and url_of(job.video) is not None:  # thousands would have to be read before work begins
            return f"{job.video} is in an object store; use --split to cut it"
        return why_whole(job.video, Outputs(**job.outputs))

    def join(self, job: Job, parts: Sequence[Part], seconds: float) -> Done:
        """Join the parts of a video."""
        from ..inference.split_join import join_parts

        summary = join_parts(job.video, parts, self._wanted(job), self.options)
        warn_of_damage(job.video, summary.damaged)
        return Done(summary, seconds)

    def show(self, turn: Turn, result: Done | None) -> None:
        """Print the speed, the outputs, and the areas of one input."""
        if self.quiet:
            return
        if result is None:
            self.say_skipped(turn)
            return
        summary, seconds = result.summary, result.seconds
        written = ", ".join(str(path) for _, path in summary.outputs.requested())
        rate = summary.frames / seconds
        say(f"{turn.label}: {plural(summary.frames, 'frame')} in {seconds:.1f} s ({rate:.1f} fps) -> {written}")
        for name, found in summary.areas.items():
            say(f"{name}: {attention(found, summary.subject)}")


def attention(found: Mapping[str, float | None], subject: str) -> str:
    """Return the statistics of an area of interest as one line; ``subject`` is what is in the area."""
    fraction, size, most, at_s = (found[key] or 0.0 for key in ("share", "size", "most", "most_at_s"))
    return f"{fraction:.1%} of the {subject} on {size:.1%} of the frame, maximum {most:.1%} at {at_s:.2f} s"
