"""``tinyhd evaluate``: score maps, print the table of scores, write JSON, CSV and plots."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import INPUT_UNREADABLE, OK, SOME_INPUT_FAILED
from ..untrusted import printable
from ..wording import plural
from .limited_reporter import LimitedReporter, report_all
from .progress import progress_display
from .terminal import say, stdout_console

if TYPE_CHECKING:
    from rich.table import Table

    from ..datasets import Dataset
    from ..evaluation import EvaluateOptions, EvaluationOutputs, PredictionSpec, Results

MAX_VIDEOS = 12
"""Maximum number of videos with a row of their own in the table."""

WIDE_COLUMNS = 100
"""Terminal width from which scores have four digits instead of three."""

LABEL_WIDTH = 16
"""Minimum width of the table's first column, in characters."""


def run_scores(
    dataset: Dataset,
    predictions: PredictionSpec,
    options: EvaluateOptions,
    outputs: EvaluationOutputs,
    quiet: bool,
) -> int:
    """Score the maps, print the table, write the outputs, and return the exit code."""
    from ..evaluation import evaluate
    from ..evaluation.each_video import MALLOC_KEEP_BYTES
    from ..evaluation.results import write_csv, write_json
    from ..system import keep_freed_memory

    keep_freed_memory(MALLOC_KEEP_BYTES)
    reporter = LimitedReporter()
    try:
        with progress_display(quiet) as progress:
            results = evaluate(
                dataset,
                predictions,
                options,
                progress.video,
                lambda video: reporter.report(*video.failures),
                (lambda text: None) if quiet else say,
            )
    except KeyboardInterrupt:
        say("tinyhd: finished videos are saved: run the same command again to resume")
        raise
    reporter.close()
    if not quiet:
        report_all("note", (note for video in results.videos for note in video.notes))
    if outputs.json is not None:
        write_json(results, outputs.json)
    if outputs.csv is not None:
        write_csv(results, outputs.csv)
    show(results)
    if outputs.plot is not None:
        draw(results, dataset, predictions, options, outputs.plot, quiet)
    if not results.frames["scored"]:
        return INPUT_UNREADABLE
    return SOME_INPUT_FAILED if results.failures else OK


def draw(
    results: Results,
    dataset: Dataset,
    predictions: PredictionSpec,
    options: EvaluateOptions,
    folder: Path,
    quiet: bool,
) -> None:
    """Write the plots into a folder."""
    from ..evaluation.plots import plot
    from ..evaluation.run import open_both

    source, _ = open_both(dataset, predictions, options)
    written = plot(results, dataset, source, folder)
    if not quiet:
        say(f"plots: {', '.join(str(path) for path in written)}")


def show(results: Results) -> None:
    """Print the results on stdout: the table of scores, then the protocol."""
    console = stdout_console()
    console.print(score_table(results, console.width))
    for label, text in remarks(results):
        console.print(f"{label:9} {printable(text)}", soft_wrap=True)


def score_table(results: Results, width: int) -> Table:
    """Return the table of scores: each video if there are few, the means, published scores.

    Args:
        results: the scores.
        width: of the terminal, in characters.
    """
    from rich.table import Table

    digits = 4 if width >= WIDE_COLUMNS else 3
    metrics = list(dict.fromkeys([*results.metrics, *(name for row in results.published for name in row.scores)]))
    label_width = max(LABEL_WIDTH, width - (digits + 4) * len(metrics) - 8)
    table = Table("", *metrics, "frames", box=None, header_style="bold", padding=(0, 1, 0, 0))
    for column in table.columns:
        column.no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"

    def add(label: str, scores: Mapping[str, float | None], frames: str = "", style: str = "") -> None:
        label = printable(label)
        label = label if len(label) <= label_width else f"…{label[1 - label_width :]}"
        table.add_row(label, *format_scores(scores, metrics, digits), frames, style=style)

    if 1 < len(results.videos) <= MAX_VIDEOS:
        for video in results.videos:
            add(video.name, video.means(), str(len(video.numbers)))
    bold = {results.main: "bold"}
    add("mean of frames", results.mean(), str(results.frames["scored"]), bold.get("mean", ""))
    if len(results.videos) > 1 or results.main == "macro_mean":
        add("mean of videos", results.macro_mean(), style=bold.get("macro_mean", ""))
    if (calibrated := results.calibrated) is not None:
        if calibrated["videos"] < len(results.videos):
            add(f"{calibrated['videos']} of {len(results.videos)} videos", calibrated["raw"][results.main])
        add("  calibrated", calibrated["calibrated"][results.main])
    for row in results.published:
        add(row.label, row.scores, style="dim")
    return table


def format_scores(scores: Mapping[str, float | None], metrics: Sequence[str], digits: int) -> list[str]:
    """Return the text of each metric's score; empty for a score that is not defined."""
    values = [scores.get(name) for name in metrics]
    # Adding 0.0 turns -0.0, which would be printed with its sign, into 0.0.
    return [
        "" if value is None or math.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}" for value in values
    ]


def remarks(results: Results) -> Iterator[tuple[str, str]]:
    """Yield label and text of the lines below the table: the data, frames without a score, the protocol."""
    protocol, frames = results.protocol, results.frames
    data = " ".join(str(part) for part in (results.dataset["layout"], results.dataset["split"]) if part)
    yield "data", f"{data}: {plural(len(results.videos), 'video')}"
    if frames["failed"] or frames["missing"]:
        reasons = " and ".join(f"{frames[reason]} {reason}" for reason in ("failed", "missing") if frames[reason])
        yield "left out", f"{reasons} of {plural(frames['scored'] + frames['failed'] + frames['missing'], 'frame')}"
    undefined = ", ".join(f"{name} in {count}" for name, count in results.undefined().items() if count)
    if undefined:
        yield "undefined", f"{undefined} (frames, excluded from the means)"
    yield "protocol", f"{protocol['name']}: {protocol['metrics']}"
    if "aucs" in protocol:
        yield "AUCs", protocol["aucs"]
    if "s-AUC" in results.metrics:
        yield "s-AUC", f"against fixations {protocol['other_fixations']}, seed {protocol['seed']}"
    if "IG" in results.metrics:
        yield "IG", f"relative to a center bias: {protocol['baseline']}"
    if (calibrated := results.calibrated) is not None:
        text = f"curve of brightness and center prior (weight {calibrated['prior_weight']:.2f}) of calibrated maps"
        yield "fitted", f"{text}: to {calibrated['fitted_on']}"
    for source in dict.fromkeys(row.source for row in results.published if not row.table):
        yield "published", source
    for note in results.notes:
        yield "note", note
