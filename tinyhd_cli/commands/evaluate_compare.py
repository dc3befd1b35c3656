"""``tinyhd evaluate --compare``: pairwise similarity of the maps of several models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import INPUT_UNREADABLE, OK, SOME_INPUT_FAILED, UsageError
from ..untrusted import printable
from ..wording import plural
from .limited_reporter import LimitedReporter
from .progress import progress_display
from .terminal import say, stdout_console

if TYPE_CHECKING:
    from ..datasets import Dataset
    from ..evaluation import EvaluateOptions, EvaluationOutputs, PredictionSpec, Similarity


def run_compare(
    dataset: Dataset,
    models: Sequence[str],
    predictions: PredictionSpec,
    options: EvaluateOptions,
    outputs: EvaluationOutputs,
    quiet: bool,
) -> int:
    """Compare the maps of several models, print two tables and write the outputs.

    Args:
        dataset: the videos.
        models: model names, weights files and folders of maps.
        predictions: only the device, engine and precision are used.
        options: only the number of workers is used.
        outputs: ``json`` and ``plot`` are written.
        quiet: whether to print only results and errors.

    Returns:
        The exit code.
    """
    from ..evaluation import compare
    from ..evaluation.plots import plot_similarity
    from ..evaluation.similarity import write_json

    named = name_models(models, predictions)
    reporter = LimitedReporter()
    with progress_display(quiet) as progress:
        similarity = compare(dataset, named, options, progress.video("comparing"), reporter.report)
    reporter.close()
    if outputs.json is not None:
        write_json(similarity, outputs.json)
    show(similarity, len(dataset.videos))
    if outputs.plot is not None:
        written = plot_similarity(similarity, outputs.plot / "similarity.png")
        if not quiet:
            say(f"plot: {written}")
    if not similarity.frames:
        return INPUT_UNREADABLE
    return SOME_INPUT_FAILED if similarity.failures else OK


def name_models(models: Sequence[str], predictions: PredictionSpec) -> dict[str, PredictionSpec]:
    """Return the predictions of each model by its name in the tables; ``UsageError`` for fewer than two models."""
    network = replace(predictions, model=None, weights=None, folder=None, prior=False)
    named: dict[str, PredictionSpec] = {}
    for model in models:
        path = Path(model)
        name = path.stem if path.is_file() else path.name or model
        origin = {"folder": path} if path.is_dir() else {"weights": path} if path.is_file() else {"model": model}
        named[model if name in named else name] = replace(network, **origin)
    if len(named) < 2:
        raise UsageError("--compare needs two or more: model names, weights files or folders of maps")
    return named


def show(similarity: Similarity, videos: int) -> None:
    """Print the two matrices on stdout."""
    from rich.table import Table

    console = stdout_console()
    names = [printable(name) for name in similarity.names]
    for metric, matrix in (("CC", similarity.cc), ("SIM", similarity.sim)):
        table = Table(metric, *names, box=None, header_style="bold", pad_edge=False)
        for name, row in zip(names, matrix, strict=True):
            table.add_row(name, *(f"{value:.4f}" for value in row))
        console.print(table)
    console.print(f"Mean over {plural(similarity.frames, 'frame')} of {plural(videos, 'video')}.")
