"""``tinyhd evaluate --submission``: write the maps of DHF1K's test split for its benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import OK, SOME_INPUT_FAILED, UsageError
from ..wording import plural
from .limited_reporter import LimitedReporter
from .progress import progress_display

if TYPE_CHECKING:
    from ..datasets import Dataset
    from ..evaluation import PredictionSpec


def run_submission(dataset: Dataset, predictions: PredictionSpec, folder: Path, quiet: bool) -> int:
    """Write the maps and their archive, print a summary, and return the exit code."""
    from ..evaluation.predictions import NetworkSource, open_predictions
    from ..evaluation.submission import check_submission, write_submission

    check_submission(dataset)
    if predictions.folder is not None or predictions.prior:
        raise UsageError("--submission runs a network: give --model or --weights, not --pred-dir or --prior")
    source = open_predictions(predictions, dataset)
    assert isinstance(source, NetworkSource)
    if source.spec.task != "fixation":
        raise UsageError(f"--submission needs a model for fixations, and {source.spec.name} predicts objects")
    reporter = LimitedReporter()
    with progress_display(quiet) as progress:
        count, archive = write_submission(dataset, source, folder, progress.video, reporter.report)
    reporter.close()
    print(f"{count} of {plural(len(dataset.videos), 'video')} in {folder}, packed as {archive}")
    print("No scores: the annotations of this split are held out; the benchmark's organizers compute them.")
    return OK if count == len(dataset.videos) else SOME_INPUT_FAILED
