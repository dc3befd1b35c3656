"""Measure on your data whether a network learns more with self-distillation and with temporal distillation.

python examples/distillation_ablation.py --data images:photos --val folder:recordings --out ablation --seeds 3

Trains the network without them, with each of them, and with both, as often as there are --seeds, from the same initial
weights and on the same clips. Prints a table of NSS and CC on --val: means and standard deviations over the seeds. A
difference that is not clearly larger than the standard deviations means nothing. Training that was interrupted is
resumed. With --teacher and --aux, the network is distilled.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

from tinyhd_cli import evaluate, train
from tinyhd_cli.datasets import Dataset, open_dataset
from tinyhd_cli.evaluation import EvaluateOptions, PredictionSpec
from tinyhd_cli.training import build_config
from tinyhd_cli.training.checkpoints import paths
from tinyhd_cli.training.sources import split_argument

METRICS = ("NSS", "CC")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", action="append", required=True, metavar="[LAYOUT:]DIR", help="labeled data to train on")
    add("--aux", action="append", default=[], metavar="DIR", help="unlabeled videos, for distillation")
    add("--val", required=True, metavar="[LAYOUT:]DIR", help="recordings to score the networks on")
    add("--teacher", action="append", default=[], metavar="NAME|FILE", help="as for tinyhd distill")
    add("--init", metavar="imagenet|none|FILE", help="initial weights (default: imagenet)")
    add("--preset", default="laptop", help="settings of all runs (default: laptop)")
    add("--size", type=int, nargs=2, metavar=("H", "W"), help="input size (default: the network's)")
    add("--steps", type=int, default=600, help="optimizer steps (default: 600)")
    add("--batch-size", type=int, default=4, help="labeled clips per step (default: 4)")
    add("--self-distill", type=float, default=0.5, help="weight of self-distillation (default: 0.5)")
    add("--temporal-distill", type=float, default=0.3, help="weight of temporal distillation (default: 0.3)")
    add("--seeds", type=int, default=3, help="runs of each kind (default: 3)")
    add("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    add("--workers", type=int, default=2, help="processes that read clips (default: 2)")
    add("--cache", type=Path, help="folder of decoded clips and of the teacher's maps (default: in OUT)")
    add("--out", type=Path, required=True, help="folder of the runs")
    return parser.parse_args(arguments)


def trained(options: argparse.Namespace, changes: dict[str, float], out: Path, seed: int) -> Path:
    """Train a network, unless it has been trained; return its weights after the last step."""
    same = ("init", "size", "steps", "batch_size", "device", "workers")
    several = {name: tuple(getattr(options, name)) for name in ("data", "aux", "teacher")}
    common = {name: getattr(options, name) for name in same} | several
    own = {"cache": options.cache or options.out / "cache", "seed": seed, "hold_out": 0.0, "out": out}
    config = build_config({**common, **own, **changes}, preset=options.preset)
    train(config, resume=bool(paths(config.out)))
    return config.out / "last.safetensors"


def scores(file: Path, recordings: Dataset) -> list[float]:
    """Return the means of the metrics of a weights file over the frames of all recordings."""
    found = evaluate(recordings, PredictionSpec(weights=file), EvaluateOptions(baseline="none", workers=1))
    mean = found.mean()
    return [mean[name] for name in METRICS]


def shown(values: Sequence[float]) -> str:
    """Return the mean and the standard deviation of values as text."""
    deviation = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{deviation}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the networks, and print the table."""
    options = parse(arguments)
    layout, root = split_argument(options.val)
    recordings = open_dataset(layout or "folder", root, None)
    own, temporal = {"self_distill": options.self_distill}, {"temporal_distill": options.temporal_distill}
    rows: dict[str, dict[str, float]] = {
        "neither": {},
        "self-distillation": own,
        "temporal distillation": temporal,
        "both": own | temporal,
    }
    print(f"| {options.steps} steps, {options.seeds} runs each | {' | '.join(METRICS)} |\n|---|---|---|")
    for name, changes in rows.items():
        files = [
            trained(options, changes, options.out / f"{name.replace(' ', '-')}-{seed}", seed)
            for seed in range(options.seeds)
        ]
        columns = zip(*(scores(file, recordings) for file in files), strict=True)
        print(f"| {name} | {' | '.join(map(shown, columns))} |", flush=True)


if __name__ == "__main__":
    main()
