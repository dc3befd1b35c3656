"""``tinyhd evaluate``: how well maps match where people looked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import INPUT_UNREADABLE, OK, SOME_INPUT_FAILED, UsageError
from ..layouts import DEFAULT, EXPECTED
from ..untrusted import printable
from ..wording import plural
from .progress import progress_display
from .terminal import say, stdout_console

if TYPE_CHECKING:
    from ..datasets import Dataset
    from ..evaluation.options import EvaluateOptions
    from ..evaluation.results import Results
    from ..evaluation.run import Maps

DATA = "Dataset"
MAPS = "Maps to score"
OUTPUTS = "Outputs"
PROTOCOL = "Protocol"
INSTEAD = "Instead of scores"

LAYOUTS = "\n\n".join(
    ["Folder layout of each --dataset:", *(f"{name}: {expected}" for name, expected in EXPECTED.items())]
)
"""Epilog of ``--help``."""

MAX_VIDEOS = 12
"""Up to so many videos, the table has a row for each."""

WIDE = 100
"""Columns of a terminal from which on scores have four digits."""

MAX_LINES = 20
"""Of the lines about what went wrong, so many are shown; the JSON has all."""


def evaluate(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[A B ...]", help="With --compare: model names, weight files or folders of maps."),
    ] = None,
    dataset: Annotated[
        str,
        typer.Option(metavar="dhf1k|hollywood2|ucf-sports|folder|images", help="Layout on disk.", rich_help_panel=DATA),
    ] = DEFAULT,
    root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The dataset's folder.", rich_help_panel=DATA)
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="train|val|test", help="Default: what papers report on.", rich_help_panel=DATA),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A model that `tinyhd weights list` shows.", rich_help_panel=MAPS),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A weight file: safetensors, or an original .pth.", rich_help_panel=MAPS),
    ] = None,
    pred_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Maps that are there already: NAME/0001.png, NAME.mp4 or NAME.npz for each video.",
            rich_help_panel=MAPS,
        ),
    ] = None,
    prior: Annotated[
        bool, typer.Option("--prior", help="The center bias: what a model must beat.", rich_help_panel=MAPS)
    ] = False,
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where the network runs.", rich_help_panel=MAPS)
    ] = "auto",
    engine: Annotated[
        str,
        typer.Option(
            metavar="torch|auto|fused|openvino|onnx",
            help="What runs the network: PyTorch is the reference, auto is several times as fast.",
            rich_help_panel=MAPS,
        ),
    ] = "torch",
    precision: Annotated[
        str,
        typer.Option(
            metavar="auto|float32|bf16|int8", help="How exactly it computes. auto: float32.", rich_help_panel=MAPS
        ),
    ] = "auto",
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="All results.", rich_help_panel=OUTPUTS)] = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The scores of every frame.", rich_help_panel=OUTPUTS)
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Pictures: scores over videos and over time, best and worst frames.",
            rich_help_panel=OUTPUTS,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", help="For the frames of other videos in s-AUC.", rich_help_panel=PROTOCOL)
    ] = 0,
    monte_carlo: Annotated[
        int | None,
        typer.Option(
            metavar="SEED",
            help="AUCs by random draws, as the MATLAB code has them, instead of their exact expectations.",
            rich_help_panel=PROTOCOL,
        ),
    ] = None,
    baseline: Annotated[
        str,
        typer.Option(
            metavar="auto|train|self|gaussian|none",
            help="The center bias that IG is measured against, and --prior scores: fixations of the training split, of"
            " the set itself without the video in question, a Gaussian. Default: train if it is there, else self.",
            rich_help_panel=PROTOCOL,
        ),
    ] = "auto",
    workers: Annotated[
        int, typer.Option(metavar="N", help="Processes side by side; 0: one a core.", rich_help_panel=PROTOCOL)
    ] = 0,
    check: Annotated[
        bool,
        typer.Option("--check", help="Look for faults in the dataset, score nothing.", rich_help_panel=INSTEAD),
    ] = False,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="How alike the maps of several models are: CC, SIM.", rich_help_panel=INSTEAD),
    ] = False,
    submission: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Maps of DHF1K's test split for its benchmark.", rich_help_panel=INSTEAD),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but the results and errors.")] = False,
) -> int:
    """Score saliency maps against where people looked.

    The metrics of the DHF1K benchmark: AUC-J, AUC-B, s-AUC, CC, NSS, SIM, KLDiv, IG.
    A run that is interrupted goes on where it stopped. For example:
    tinyhd evaluate --dataset dhf1k --root DHF1K --json scores.json

    Exit codes: 0 done, 1 not all could be scored, or --check found faults,
    2 wrong usage, 3 nothing to score, 4 weights, 5 output, 130 interrupted.
    """
    from ..datasets import open_dataset
    from ..evaluation.options import EvaluateOptions
    from ..evaluation.run import Maps

    options = EvaluateOptions(seed, monte_carlo, baseline, workers)  # type: ignore[arg-type]  # checked there
    if root is None:
        expected = EXPECTED.get(dataset)
        shape = f", which must contain {expected} (--dataset {dataset})" if expected else ""
        raise UsageError(
            f"--root is missing: give the dataset's folder{shape}; tinyhd evaluate --help lists all layouts"
        )
    if models and not compare:
        raise UsageError(f"unexpected {models[0]!r}: models stand there with --compare only")
    if sum([check, compare, submission is not None]) > 1:
        raise UsageError("--check, --compare and --submission exclude each other")
    check_outputs(json, csv, plot)
    sources = {"--model": model, "--weights": weights, "--pred-dir": pred_dir, "--prior": prior or None}
    given = [flag for flag, value in sources.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other")
    opened = open_dataset(dataset, root, split)
    if check:
        return run_check(opened, quiet)
    network = Maps(device=device, engine=engine, precision=precision)
    if compare:
        return run_compare(opened, models or [], network, options, json, plot, quiet)
    maps = replace(network, model=weights or model, folder=pred_dir, prior=prior)
    if submission is not None:
        return run_submission(opened, maps, submission, quiet)
    return run_scores(opened, maps, options, (json, csv, plot), quiet)


def check_outputs(json: Path | None, csv: Path | None, plot: Path | None) -> None:
    """Refuse names that nothing can be written to, before the work begins."""
    for flag, path in (("--json", json), ("--csv", csv)):
        if path is not None and path.is_dir():
            raise UsageError(f"{flag} {path}: is a folder")
    if plot is not None and plot.exists() and not plot.is_dir():
        raise UsageError(f"--plot {plot}: is no folder")


def run_scores(
    dataset: Dataset,
    maps: Maps,
    options: EvaluateOptions,
    outputs: tuple[Path | None, Path | None, Path | None],
    quiet: bool,
) -> int:
    """Score, show the table, write what is wanted."""
    from ..evaluation.parallel import KEPT
    from ..evaluation.results import write_csv, write_json
    from ..evaluation.run import evaluate
    from ..system import keep_freed_memory

    json, csv, plot = outputs
    keep_freed_memory(KEPT)
    lines = Lines()
    try:
        with progress_display(quiet) as progress:
            results = evaluate(dataset, maps, options, progress.video, lambda video: lines.say(video.failures))
    except KeyboardInterrupt:
        say("tinyhd: finished videos are kept: the same command goes on from here")
        raise
    lines.close()
    if not quiet:
        notes = Lines("note")
        notes.say([note for video in results.videos for note in video.notes])
        notes.close()
    if json is not None:
        write_json(results, json)
    if csv is not None:
        write_csv(results, csv)
    show(results)
    if plot is not None:
        draw(results, dataset, maps, options, plot, quiet)
    if not results.frames["scored"]:
        return INPUT_UNREADABLE
    return SOME_INPUT_FAILED if results.failures else OK


class Lines:
    """Says what goes wrong, or is odd, as it happens, up to a number of lines."""

    def __init__(self, kind: str = "tinyhd") -> None:
        self._kind = kind
        self._count = 0

    def say(self, lines: list[str]) -> None:
        """Say these, if there is room left."""
        for line in lines:
            self._count += 1
            if self._count <= MAX_LINES:
                say(f"{self._kind}: {line}")

    def close(self) -> None:
        """Say how many were not said."""
        if self._count > MAX_LINES:
            say(f"{self._kind}: and {self._count - MAX_LINES} more (--json has all)")


def show(results: Results) -> None:
    """The results as a table on stdout: means, the paper's rows, few videos one by one; then how they were made."""
    from rich.table import Table

    console = stdout_console()
    digits = 4 if console.width >= WIDE else 3
    metrics = list(dict.fromkeys([*results.metrics, *(name for row in results.published for name in row.scores)]))
    label_width = max(16, console.width - (digits + 4) * len(metrics) - 8)
    table = Table("", *metrics, "frames", box=None, header_style="bold", padding=(0, 1, 0, 0))
    for column in table.columns:
        column.no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"

    def add(label: str, scores: dict[str, float], frames: str = "", style: str = "") -> None:
        label = printable(label)
        label = label if len(label) <= label_width else f"…{label[1 - label_width :]}"
        table.add_row(label, *(number(scores.get(name, math.nan), digits) for name in metrics), frames, style=style)

    if 1 < len(results.videos) <= MAX_VIDEOS:
        for video in results.videos:
            add(video.name, video.means(), str(len(video.numbers)))
    add("mean of frames", results.mean(), str(results.frames["scored"]), "bold")
    if len(results.videos) > 1:
        add("mean of videos", results.macro_mean())
    for row in results.published:
        add(f"paper, {row.split} ({row.table})", dict(row.scores), style="dim")
    console.print(table)
    for label, text in remarks(results):
        console.print(f"{label:9} {printable(text)}", soft_wrap=True)


def number(value: float, digits: int) -> str:
    """A score for a table; nothing where it is not defined."""
    return "" if math.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0 makes 0 of -0


def remarks(results: Results) -> Iterator[tuple[str, str]]:
    """What must stand below the table: what was left out, and the protocol."""
    protocol, frames = results.protocol, results.frames
    where = " ".join(str(part) for part in (results.dataset["layout"], results.dataset["split"]) if part)
    yield "data", f"{where}: {plural(len(results.videos), 'video')}"
    if frames["failed"] or frames["missing"]:
        left_out = " and ".join(f"{frames[reason]} {reason}" for reason in ("failed", "missing") if frames[reason])
        yield "left out", f"{left_out} of {plural(frames['scored'] + frames['failed'] + frames['missing'], 'frame')}"
    undefined = ", ".join(f"{name} in {count}" for name, count in results.undefined().items() if count)
    if undefined:
        yield "undefined", f"{undefined} (frames, excluded from the means)"
    yield "AUCs", protocol["aucs"]
    if "s-AUC" in results.metrics:
        yield "s-AUC", f"against fixations {protocol['other_fixations']}, seed {protocol['seed']}"
    if "IG" in results.metrics:
        yield "IG", f"over a center bias: {protocol['baseline']}"
    for note in results.notes:
        yield "note", note


def draw(results: Results, dataset: Dataset, maps: Maps, options: EvaluateOptions, folder: Path, quiet: bool) -> None:
    """Write the pictures."""
    from ..evaluation.plots import plot
    from ..evaluation.run import open_maps

    written = plot(results, dataset, open_maps(dataset, maps, options), folder)
    if not quiet:
        say(f"pictures: {', '.join(str(path) for path in written)}")


def run_check(dataset: Dataset, quiet: bool) -> int:
    """The dataset doctor."""
    from ..datasets.check import check
    from ..system import available_cores

    with progress_display(quiet) as progress:
        report = check(dataset, available_cores(), progress.video("checking"))
    for finding in report.findings:
        print(printable(f"{'fault' if finding.fault else 'note'}: {finding}"))
    sizes = ", ".join(f"{width} x {height} ({count})" for (width, height), count in report.sizes.most_common(5))
    more = f" and {len(report.sizes) - 5} more" if len(report.sizes) > 5 else ""
    print(
        f"{plural(report.videos, 'video')}, {plural(report.frames, 'frame')}, of which {report.scored} would be scored;"
        f" sizes: {sizes or 'unknown'}{more}"
    )
    faults = len(report.faults)
    print(plural(faults, "fault") if faults else "no faults")
    return SOME_INPUT_FAILED if faults else OK


def run_compare(
    dataset: Dataset,
    models: list[str],
    network: Maps,
    options: EvaluateOptions,
    json: Path | None,
    plot: Path | None,
    quiet: bool,
) -> int:
    """Compare the maps of several models, networks run as ``network`` says, show two tables, write what is wanted."""
    from rich.table import Table

    from ..evaluation.plots import plot_likeness
    from ..evaluation.similarity import compare, write_json

    named: dict[str, Maps] = {}
    for model in models:
        path = Path(model)
        name = path.stem if path.is_file() else path.name or model
        origin = {"folder": path} if path.is_dir() else {"model": path if path.is_file() else model}
        named[model if name in named else name] = replace(network, **origin)
    if len(named) < 2:
        raise UsageError("--compare needs two or more: model names, weight files or folders of maps")
    lines = Lines()
    with progress_display(quiet) as progress:
        similarity = compare(dataset, named, options, progress.video("comparing"), lambda line: lines.say([line]))
    lines.close()
    if json is not None:
        write_json(similarity, json)
    console = stdout_console()
    for metric, matrix in (("CC", similarity.cc), ("SIM", similarity.sim)):
        names = [printable(name) for name in similarity.names]
        table = Table(metric, *names, box=None, header_style="bold", pad_edge=False)
        for name, row in zip(names, matrix, strict=True):
            table.add_row(name, *(f"{value:.4f}" for value in row))
        console.print(table)
    console.print(f"Mean over {plural(similarity.frames, 'frame')} of {plural(len(dataset.videos), 'video')}.")
    if plot is not None:
        written = plot_likeness(similarity, plot / "similarity.png")
        if not quiet:
            say(f"picture: {written}")
    if not similarity.frames:
        return INPUT_UNREADABLE
    return SOME_INPUT_FAILED if similarity.failures else OK


def run_submission(dataset: Dataset, maps: Maps, folder: Path, quiet: bool) -> int:
    """Write the maps of DHF1K's test split for the benchmark."""
    from ..evaluation.predictions import NetworkSource
    from ..evaluation.submission import check_submission, write_submission

    check_submission(dataset)
    source = maps.open(dataset, None)
    if not isinstance(source, NetworkSource):
        raise UsageError("--submission predicts: it takes --model or --weights")
    lines = Lines()
    with progress_display(quiet) as progress:
        count, archive = write_submission(dataset, source, folder, progress.video, lambda line: lines.say([line]))
    lines.close()
    print(f"{count} of {plural(len(dataset.videos), 'video')} in {folder}, packed as {archive}")
    print("No scores: the annotations of this split are held out; the benchmark's organizers compute them.")
    return OK if count == len(dataset.videos) else SOME_INPUT_FAILED
