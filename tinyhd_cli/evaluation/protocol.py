"""How scores are computed, for the readers of the results: the protocol and notes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from ..datasets import Dataset, describe_ignored
from ..errors import InputError, UsageError
from ..metrics.frame import FixationProtocol
from ..metrics.object_scores import ObjectProtocol
from ..models import ModelSpec
from ..storage import name_of
from .center_bias import CenterBias, describe_baseline
from .fixations import Fixations
from .options import OTHER_FRAMES, EvaluateOptions

CROWDSAL_LAYOUTS = ("crowdsal", "ntire2026", "avimos")
"""Layouts of the datasets whose organizers score by the protocol of CrowdSAL."""


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


def choose_protocol(
    dataset: Dataset, spec: ModelSpec | None, options: EvaluateOptions
) -> FixationProtocol | ObjectProtocol:
    """Return the protocol of an evaluation: that of the options, or for ``auto`` that of the network or the data.

    Args:
        dataset: an annotated dataset.
        spec: the network; None for maps from files and for the center bias.
        options: the wanted protocol.

    Raises:
        UsageError: the dataset lacks the ground truth of the protocol, or other options do not apply to it.
    """
    masks = any(video.masks for video in dataset.videos)
    fixations = any(video.has_maps for video in dataset.videos)
    wanted, name = options.protocol, f"--protocol {options.protocol}"
    of_fixations: FixationProtocol = "crowdsal" if dataset.layout in CROWDSAL_LAYOUTS else "dhf1k"
    if wanted == "auto":
        wanted = "object" if (spec.task == "object" if spec else not fixations) else of_fixations
        name = f"{spec.name} predicts {spec.task}s" if spec else "no protocol is given"
    if wanted in ("dhf1k", "crowdsal"):
        if not fixations:
            raise UsageError(
                f"{name}, but {dataset.root} has only masks of objects: choose a model for objects"
                " (tinyhd weights list), or score any map against the masks with --protocol object"
            )
    elif not masks:
        raise UsageError(
            f"{name}, but {dataset.root} has no masks of objects: choose a model for fixations"
            f" (tinyhd weights list), or score any map against the fixations with --protocol {of_fixations}"
        )
    check_applicable(wanted, options)
    return wanted


def check_applicable(protocol: FixationProtocol | ObjectProtocol, options: EvaluateOptions) -> None:
    """Raise ``UsageError`` if an option is given that does not apply to a protocol."""
    if protocol == "crowdsal" and options.monte_carlo is not None:
        raise UsageError("--monte-carlo applies to --protocol dhf1k: the metrics of crowdsal draw no random numbers")
    if protocol in ("object", "stdistill"):
        flags = {
            "--monte-carlo": options.monte_carlo is not None,
            "--baseline": options.baseline != "auto",
            "--calibrate": options.calibrate != "none",
        }
        if unused := [flag for flag, given in flags.items() if given]:
            raise UsageError(f"{unused[0]} applies to fixations, not to masks of objects")


def describe_object_protocol(protocol: ObjectProtocol) -> dict[str, Any]:
    """Return all details of the computation that are needed to reproduce the scores of objects, as plain values."""
    if protocol == "stdistill":
        metrics = "as defined by the code of STDistill: maximum F of the precision and recall averaged over frames"
    else:
        metrics = "as defined by pysodmetrics: curves of F and E averaged over frames, then their maximum and mean"
    return {
        "name": protocol,
        "main": "mean",
        "metrics": metrics,
        "maps": "8 bits, range of each map stretched to 0..1, except of constant maps",
        "resize": "maps to the size of the mask, bilinear; masks never",
        "frames": "all frames with a mask; F is 0 if the mask is empty",
        "mean": "over all frames; macro_mean: over frames of a video, then over videos",
    }


def describe_crowdsal_protocol() -> dict[str, Any]:
    """Return all details of the computation by the definitions of CrowdSAL's organizers, as plain values."""
    return {
        "name": "crowdsal",
        "main": "macro_mean",
        "metrics": "as defined by the organizers of CrowdSAL, NTIRE 2026 and AIM 2024; AUC-J with their slip",
        "maps": "range of each map stretched to 0..1; repeated fixations count",
        "resize": "maps to the size of the ground truth, bilinear without antialiasing; ground truth never",
        "frames": "all annotated frames",
        "mean": "over all frames in which a metric is defined; macro_mean: over frames of a video, then over videos",
    }


def describe_dhf1k_protocol(options: EvaluateOptions, fixations: Fixations, bias: CenterBias | None) -> dict[str, Any]:
    """Return all details of the computation that are needed to reproduce the scores, as plain values."""
    monte_carlo = options.monte_carlo
    return {
        "name": "dhf1k",
        "main": "mean",
        "metrics": "as defined by the MATLAB code of the DHF1K benchmark (cvzoya/saliency)",
        "resize": "maps to the size of the ground truth, bicubic as MATLAB's imresize; ground truth never",
        "frames": "all annotated frames",
        "mean": "over all frames in which a metric is defined; macro_mean: over videos",
        "aucs": "exact expectations" if monte_carlo is None else f"100 random splits, seed {monte_carlo}",
        "seed": options.seed,
        "other_fixations": f"of {OTHER_FRAMES} random frames of other videos"
        if fixations.videos > 1
        else "none: the dataset has a single video, so s-AUC is not computed",
        "baseline": describe_baseline(bias),
    }


def describe_dataset(dataset: Dataset) -> dict[str, Any]:
    """Return layout, path, split, number of videos and the publisher's counts of a dataset, as plain values."""
    return {
        "layout": dataset.layout,
        "root": name_of(dataset.root),
        "split": dataset.split,
        "videos": len(dataset.videos),
        "official": asdict(dataset.official) if dataset.official else None,
    }


def dataset_notes(dataset: Dataset) -> Iterator[str]:
    """Yield notes about the dataset: an incomplete split, ignored videos."""
    official = dataset.official
    if official is not None and official.videos not in (None, len(dataset.videos)):
        yield (
            f"{len(dataset.videos)} of the split's {official.videos} videos are here:"
            " scores are not comparable to published ones"
        )
    if dataset.ignored:
        yield describe_ignored(dataset.ignored)


def fixation_notes(fixations: Fixations) -> Iterator[str]:
    """Yield a note if shuffled AUC is not computed."""
    if fixations.videos <= 1:
        yield "s-AUC is left out: its negatives are fixations of other videos, and the dataset has a single video"
