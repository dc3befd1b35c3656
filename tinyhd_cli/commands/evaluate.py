"""``tinyhd evaluate``: score saliency maps, check a dataset, compare models or write a submission.

This file has the options and the dispatch; each program has a file of its own, ``evaluate_*.py``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from ..layouts import DEFAULT, EXPECTED
from .evaluate_check import run_check
from .evaluate_compare import run_compare
from .evaluate_score import run_scores
from .evaluate_submission import run_submission

DATA = "Dataset"
MAPS = "Maps to score"
OUTPUTS = "Outputs"
PROTOCOL = "Protocol"
INSTEAD = "Instead of scores"

LAYOUTS = "\n\n".join(
    ["Folder layout of each --dataset:", *(f"{name}: {expected}" for name, expected in EXPECTED.items())]
)
"""Epilog of ``--help``."""

Models = Annotated[
    list[str] | None,
    typer.Argument(metavar="[A B ...]", help="With --compare: model names, weights files or folders of maps."),
]
Layout = Annotated[
    str, typer.Option(metavar="dhf1k|hollywood2|ucf-sports|folder|images", help="Folder layout.", rich_help_panel=DATA)
]
Root = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the dataset.", rich_help_panel=DATA)]
Split = Annotated[
    str | None,
    typer.Option(
        metavar="train|val|test", help="Default: the split that papers report results on.", rich_help_panel=DATA
    ),
]
ModelName = Annotated[
    str | None, typer.Option(metavar="NAME", help="A model that `tinyhd weights list` shows.", rich_help_panel=MAPS)
]
WeightsFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A weights file: safetensors or an original .pth.", rich_help_panel=MAPS),
]
PredDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Existing maps: NAME/0001.png, NAME.mp4 or NAME.npz for each video.",
        rich_help_panel=MAPS,
    ),
]
Prior = Annotated[
    bool, typer.Option("--prior", help="The center bias, a lower bound for every model.", rich_help_panel=MAPS)
]
Device = Annotated[
    str, typer.Option(metavar="auto|cpu|cuda|mps", help="Device that runs the network.", rich_help_panel=MAPS)
]
Engine = Annotated[
    str,
    typer.Option(
        metavar="torch|auto|fused|openvino|onnx",
        help="Engine that runs the network: torch is the reference, auto is several times faster.",
        rich_help_panel=MAPS,
    ),
]
Precision = Annotated[
    str,
    typer.Option(metavar="auto|float32|bf16|int8", help="Numeric precision. auto: float32.", rich_help_panel=MAPS),
]
Json = Annotated[Path | None, typer.Option(metavar="FILE", help="All results.", rich_help_panel=OUTPUTS)]
Csv = Annotated[Path | None, typer.Option(metavar="FILE", help="Scores of every frame.", rich_help_panel=OUTPUTS)]
Plot = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Plots: scores over videos and over time, best and worst frames.",
        rich_help_panel=OUTPUTS,
    ),
]
Seed = Annotated[
    int,
    typer.Option(metavar="N", help="Seed for the choice of other videos' frames in s-AUC.", rich_help_panel=PROTOCOL),
]
MonteCarlo = Annotated[
    int | None,
    typer.Option(
        metavar="SEED",
        help="Compute AUCs from random draws, as the MATLAB code does, instead of their exact expectations.",
        rich_help_panel=PROTOCOL,
    ),
]
Baseline = Annotated[
    str,
    typer.Option(
        metavar="auto|train|self|gaussian|none",
        help="The center bias that IG is relative to and that --prior scores. train: fixations of the training split;"
        " self: fixations of the dataset's other videos; gaussian: a Gaussian. auto: train if available, else self.",
        rich_help_panel=PROTOCOL,
    ),
]
Workers = Annotated[
    int,
    typer.Option(metavar="N", help="Parallel processes; 0: one per CPU core.", rich_help_panel=PROTOCOL),
]
Check = Annotated[
    bool,
    typer.Option("--check", help="Check the dataset for faults; score nothing.", rich_help_panel=INSTEAD),
]
Compare = Annotated[
    bool,
    typer.Option("--compare", help="Similarity of the maps of several models: CC, SIM.", rich_help_panel=INSTEAD),
]
Submission = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Write the maps of DHF1K's test split for its benchmark.", rich_help_panel=INSTEAD
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only results and errors.")]


def evaluate(
    models: Models = None,
    dataset: Layout = DEFAULT,
    root: Root = None,
    split: Split = None,
    model: ModelName = None,
    weights: WeightsFile = None,
    pred_dir: PredDir = None,
    prior: Prior = False,
    device: Device = "auto",
    engine: Engine = "torch",
    precision: Precision = "auto",
    json: Json = None,
    csv: Csv = None,
    plot: Plot = None,
    seed: Seed = 0,
    monte_carlo: MonteCarlo = None,
    baseline: Baseline = "auto",
    workers: Workers = 0,
    check: Check = False,
    compare: Compare = False,
    submission: Submission = None,
    quiet: Quiet = False,
) -> int:
    """Score saliency maps against recorded fixations.

    The metrics of the DHF1K benchmark: AUC-J, AUC-B, s-AUC, CC, NSS, SIM, KLDiv, IG.
    Run an interrupted command again to resume it. For example:
    tinyhd evaluate --dataset dhf1k --root DHF1K --json scores.json

    Exit codes: 0 done, 1 some frames could not be scored, or --check found faults,
    2 wrong usage, 3 nothing to score, 4 weights, 5 output, 130 interrupted.
    """
    from ..datasets import open_dataset
    from ..evaluation import EvaluateOptions, EvaluationOutputs, PredictionSpec

    options = EvaluateOptions(seed, monte_carlo, baseline, workers)  # type: ignore[arg-type]  # validated there
    folder = required_root(root, dataset)
    if models and not compare:
        raise UsageError(f"unexpected {models[0]!r}: models are listed with --compare only")
    check_exclusive({"--check": check, "--compare": compare, "--submission": submission})
    outputs = EvaluationOutputs(json, csv, plot)
    check_exclusive({"--model": model, "--weights": weights, "--pred-dir": pred_dir, "--prior": prior})
    opened = open_dataset(dataset, folder, split)
    if check:
        return run_check(opened, quiet)
    network = PredictionSpec(device=device, engine=engine, precision=precision)
    if compare:
        return run_compare(opened, models or [], network, options, outputs, quiet)
    predictions = replace(network, model=weights or model, folder=pred_dir, prior=prior)
    if submission is not None:
        return run_submission(opened, predictions, submission, quiet)
    return run_scores(opened, predictions, options, outputs, quiet)


def required_root(root: Path | None, dataset: str) -> Path:
    """Return ``--root``; raise ``UsageError`` if it is missing."""
    if root is None:
        expected = EXPECTED.get(dataset)
        layout = f", which must contain {expected} (--dataset {dataset})" if expected else ""
        raise UsageError(
            f"--root is missing: give the dataset's folder{layout}; tinyhd evaluate --help lists all layouts"
        )
    return root


def check_exclusive(values: dict[str, object]) -> None:
    """Raise ``UsageError`` if more than one of these options is set.

    Args:
        values: the value of each option; None and False mean that it is not set.
    """
    flags = [flag for flag, value in values.items() if value is not None and value is not False]
    if len(flags) > 1:
        raise UsageError(f"{' and '.join(flags)} cannot be combined")
