"""``tinyhd evaluate``: score saliency maps, check a dataset, compare models or write a submission.

This file chooses the program to run; each program has a file of its own, ``evaluate_*.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from ..evaluation.options import (
    MAPS,
    DatasetOptions,
    EvaluateOptions,
    EvaluationOutputs,
    PredictionSpec,
    check_exclusive,
)
from ..fields import Adjust
from ..layouts import EXPECTED
from .evaluate_check import run_check
from .evaluate_compare import run_compare
from .evaluate_score import run_scores
from .evaluate_submission import run_submission
from .option_fields import with_options
from .options import Scratch
from .terminal import say

INSTEAD = "Instead of scores"

EPILOG = "\n\n".join(
    ["Folder layout of each --dataset:", *(f"{name}: {expected}" for name, expected in EXPECTED.items())]
)
"""Epilog of ``--help``."""


@with_options
def evaluate(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[A B ...]", help="With --compare: model names, weights files or folders of maps."),
    ] = None,
    *,
    dataset: DatasetOptions,
    predictions: Annotated[PredictionSpec, Adjust(panel=MAPS)],
    outputs: EvaluationOutputs,
    options: EvaluateOptions,
    check: Annotated[
        bool,
        typer.Option("--check", help="Check the dataset for faults; score nothing.", rich_help_panel=INSTEAD),
    ] = False,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Similarity of the maps of several models: CC, SIM.", rich_help_panel=INSTEAD),
    ] = False,
    submission: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write maps as the organizers of DHF1K (test split), crowdsal, ntire2026 or avimos expect them.",
            rich_help_panel=INSTEAD,
        ),
    ] = None,
    scratch: Scratch = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only results and errors.")] = False,
) -> int:
    """Score saliency maps against recorded fixations, or against masks of objects.

    Fixations: the metrics of the DHF1K benchmark, AUC-J, AUC-B, s-AUC, CC, NSS, SIM, KLDiv, IG;
    or those of the organizers of CrowdSAL, AUC-J, CC, NSS, SIM.
    Objects: MAE; maximum, mean and adaptive F and E; S; weighted F.
    Run an interrupted command again to resume it. For example:
    tinyhd evaluate --dataset dhf1k --root DHF1K --json scores.json

    Exit codes: 0 done, 1 some frames could not be scored, or --check found faults,
    2 wrong usage, 3 nothing to score, 4 weights, 5 output, 130 interrupted.
    """
    if models and not compare:
        raise UsageError(f"unexpected {models[0]!r}: models are listed with --compare only")
    instead = {"--check": check, "--compare": compare, "--submission": submission}
    check_exclusive(instead)
    if options.calibrate != "none":
        for flag, value in instead.items():
            check_exclusive({flag: value, "--calibrate": True})
    for flag, value in (("--check", check), ("--submission", submission)):
        check_exclusive({flag: value, "--cluster": options.cluster.cluster})
    if dataset.root is None and not quiet:
        say(f"defaults: --root {dataset.folder}")
    opened = dataset.open()
    if check:
        return run_check(opened, quiet)
    if compare:
        return run_compare(opened, models or [], predictions, options, outputs, quiet)
    if submission is not None:
        return run_submission(opened, predictions, submission, quiet)
    return run_scores(opened, predictions, options, outputs, quiet)
