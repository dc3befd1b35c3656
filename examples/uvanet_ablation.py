"""Repeat the ablation of the UVA-Net paper on your data: each path alone, fused, and without coupled distillation.

python examples/uvanet_ablation.py --data images:photos --aux clips --val folder:recordings \
    --teacher spatial=d123s_rc4_rc1T.pth --teacher temporal=d123m_rc4_rc1T.pth --out ablation

Trains two networks for the same number of steps: one by coupled distillation, one on the ground truth of --data alone.
Prints a table of NSS and CC on --val. Training that was interrupted is resumed.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from tinyhd_cli import TrainConfig, evaluate, train, weights
from tinyhd_cli.datasets import open_dataset
from tinyhd_cli.evaluation import EvaluateOptions, PredictionSpec
from tinyhd_cli.models import create, named_spec
from tinyhd_cli.training import build_config
from tinyhd_cli.training.checkpoints import paths
from tinyhd_cli.training.sources import split_argument

PATHS = ("spatial", "temporal")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", action="append", required=True, metavar="[LAYOUT:]DIR", help="labeled data to train on")
    add("--aux", action="append", default=[], metavar="DIR", help="unlabeled videos, for distillation")
    add("--val", action="append", required=True, metavar="[LAYOUT:]DIR", help="recordings to score the networks on")
    add("--teacher", action="append", required=True, metavar="ROLE=NAME|FILE", help="as for tinyhd distill")
    add("--model", default="uva-32", help="network (default: uva-32)")
    add("--steps", type=int, default=1500, help="optimizer steps per stage (default: 1500)")
    add("--batch-size", type=int, default=24, help="labeled clips per step (default: 24)")
    add("--workers", type=int, default=2, help="processes that read clips (default: 2)")
    add("--cache", type=Path, help="folder of decoded clips and of the teachers' maps (default: in OUT)")
    add("--out", type=Path, required=True, help="folder of the runs")
    return parser.parse_args(arguments)


def train_both(options: argparse.Namespace) -> dict[str, TrainConfig]:
    """Train the network with and without coupled distillation; return the configuration of each run."""
    common = {name: getattr(options, name) for name in ("model", "steps", "batch_size", "workers")} | {
        "cache": options.cache or options.out / "cache",
        "data": tuple(options.data),
    }
    with_teachers = {"teacher": tuple(options.teacher), "aux": tuple(options.aux)}
    runs = {}
    for name, given in (("coupled", with_teachers), ("alone", {})):
        config = build_config({**common, **given, "out": options.out / name}, preset="uva")
        train(config, resume=bool(paths(config.out) or paths(config.out / "stage-1")))
        runs[name] = config
    return runs


def path_alone(two_heads: Path, path: str, out: Path) -> Path:
    """Save one path of the two-head network, with its head, as a network; return its file."""
    checkpoint = weights.load(two_heads)
    options = {**checkpoint.spec.options, "heads": path}
    spec = dataclasses.replace(checkpoint.spec, options=options)
    own = create(spec.name, **options).state_dict()
    weights.save(out, {name: checkpoint.state_dict[name] for name in own}, spec)
    return out


def scores(file: Path, recordings: Sequence[str]) -> tuple[float, float]:
    """Return the mean NSS and CC of a weights file over the frames of all recordings."""
    sums = {"NSS": [0.0, 0], "CC": [0.0, 0]}
    for argument in recordings:
        layout, root = split_argument(argument)
        dataset = open_dataset(layout or "folder", root, None)
        found = evaluate(dataset, PredictionSpec(weights=file), EvaluateOptions(baseline="none", workers=1))
        for video in found.videos:
            for name, total in sums.items():
                values = [value for value in video.scores.get(name, []) if math.isfinite(value)]
                total[0] += sum(values)
                total[1] += len(values)
    nss, cc = (total / max(1, count) for total, count in sums.values())
    return nss, cc


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the networks, and print the table."""
    options = parse(arguments)
    runs = train_both(options)
    two_heads = options.out / "coupled" / "stage-1" / "best.safetensors"
    rows = {f"{path} path only": path_alone(two_heads, path, options.out / f"{path}.safetensors") for path in PATHS}
    rows["fused"] = runs["coupled"].out / "best.safetensors"
    rows["fused, without coupled distillation"] = runs["alone"].out / "best.safetensors"
    spec = named_spec(options.model)
    print(f"| {spec.name}, {options.steps} steps per stage | NSS | CC |\n|---|---|---|")
    for name, file in rows.items():
        nss, cc = scores(file, options.val)
        print(f"| {name} | {nss:.3f} | {cc:.3f} |", flush=True)


if __name__ == "__main__":
    main()
