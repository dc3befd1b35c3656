"""How scores are computed, for the readers of the results: the protocol and notes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from ..datasets import Dataset, describe_ignored
from ..errors import InputError
from .center_bias import Baseline
from .fixations import Fixations
from .options import OTHER_FRAMES, EvaluateOptions


def check_annotated(dataset: Dataset) -> None:
    """Raise ``InputError`` if no video of a dataset has annotations."""
    if any(video.annotated for video in dataset.videos):
        return
    if dataset.official is not None and dataset.official.held_out:
        raise InputError(
            f"{dataset.root}: the publishers of {dataset.layout} held out the annotations of the {dataset.split} split,"
            " so it cannot be scored; --submission DIR writes the maps for their benchmark"
        )
    raise InputError(f"{dataset.root}: no video has annotations; tinyhd evaluate --check lists the files found")


def describe_protocol(options: EvaluateOptions, fixations: Fixations, baseline: Baseline) -> dict[str, Any]:
    """Return all details of the computation that are needed to reproduce the scores, as plain values."""
    monte_carlo = options.monte_carlo
    return {
        "metrics": "as defined by the MATLAB code of the DHF1K benchmark (cvzoya/saliency)",
        "resize": "maps to the size of the ground truth, bicubic as MATLAB's imresize; ground truth never",
        "frames": "all annotated frames",
        "mean": "over all frames in which a metric is defined; macro_mean: over videos",
        "aucs": "exact expectations" if monte_carlo is None else f"100 random splits, seed {monte_carlo}",
        "seed": options.seed,
        "other_fixations": f"of {OTHER_FRAMES} random frames of other videos"
        if fixations.videos > 1
        else "none: the dataset has a single video, so s-AUC is not computed",
        "baseline": baseline.describe(fixations),
    }


def describe_dataset(dataset: Dataset) -> dict[str, Any]:
    """Return layout, path, split, number of videos and the publisher's counts of a dataset, as plain values."""
    return {
        "layout": dataset.layout,
        "root": str(dataset.root),
        "split": dataset.split,
        "videos": len(dataset.videos),
        "official": asdict(dataset.official) if dataset.official else None,
    }


def general_notes(dataset: Dataset, fixations: Fixations) -> Iterator[str]:
    """Yield notes that apply to all scores: an incomplete split, ignored videos, no shuffled AUC."""
    official = dataset.official
    if official is not None and official.videos != len(dataset.videos):
        yield (
            f"{len(dataset.videos)} of the split's {official.videos} videos are here:"
            " scores are not comparable to published ones"
        )
    if dataset.ignored:
        yield describe_ignored(dataset.ignored)
    if fixations.videos <= 1:
        yield "s-AUC is left out: its negatives are fixations of other videos, and the dataset has a single video"
