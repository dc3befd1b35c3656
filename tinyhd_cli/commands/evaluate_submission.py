"""``tinyhd evaluate --submission``: write maps in the form that the organizers of a dataset expect."""

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
    """Write the maps, print a summary, and return the exit code."""
    from ..evaluation.predictions import NetworkSource, open_predictions
    from ..evaluation.submission import check_submission, claim_folder, write_submission
    from ..evaluation.video_submission import write_videos

    check_submission(dataset)
    if predictions.folder is not None or predictions.prior:
        raise UsageError("--submission runs a network: give --model or --weights, not --pred-dir or --prior")
    source = open_predictions(predictions, dataset.names)
    assert isinstance(source, NetworkSource)
    if source.spec.task != "fixation":
        raise UsageError(f"--submission needs a model for fixations, and {source.spec.name} predicts objects")
    claim_folder(folder, source)
    reporter = LimitedReporter()
    videos = plural(len(dataset.videos), "video")
    with progress_display(quiet) as progress:
        if dataset.layout == "dhf1k":
            count, archive = write_submission(dataset, source, folder, progress.video, reporter.report)
        else:
            count = write_videos(dataset, source, folder, progress.video, reporter.report)
    reporter.close()
    if dataset.layout == "dhf1k":
        print(f"{count} of {videos} in {folder}, packed as {archive}")
        print("No scores: the annotations of this split are held out; the benchmark's organizers compute them.")
    else:
        print(f"{count} of {videos} in {folder}, one gray video per clip")
        print(f"No scores: run the command with --pred-dir {folder} instead of --submission to compute them.")
    return OK if count == len(dataset.videos) else SOME_INPUT_FAILED
