"""How the embedded default weights were trained, in two steps: single frames first, then clips.

python examples/train_default.py --photos DIR [DIR ...] --videos DIR --teachers SINGLE MULTI --init FILE --out RUNS

DIR of photographs holds images/, maps/ and, for the NSS term, fixation/; the videos need no labels. The teachers are
weight files of trained networks; the first one teaches on single frames, all of them on clips. What else is in the
recipe stands in the presets `default-stills` and `default`. RUNS/default/best.safetensors is the result.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tinyhd_cli.training.loop import Report, train
from tinyhd_cli.training.options import build_config


def show(report: Report) -> None:
    if report.validation is not None:
        scores = {**report.validation.terms, **report.validation.scores}
        print(f"step {report.step}: " + ", ".join(f"{name} {value:.3f}" for name, value in scores.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", nargs="+", required=True)
    parser.add_argument("--videos", nargs="+", required=True)
    parser.add_argument("--teachers", nargs="+", required=True)
    parser.add_argument("--init", required=True, help="MobileNetV2 of ImageNet, as for tinyhd distill --init")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, help="of each half; default: the recipe's")
    given = parser.parse_args()

    data = {"data": [f"images:{folder}" for folder in given.photos], "aux": given.videos, "cache": given.out / "cache"}
    halves = (
        ("default-stills", {"teacher": given.teachers[:1], "init": given.init}),
        ("default", {"teacher": given.teachers, "init": str(given.out / "default-stills" / "best.safetensors")}),
    )
    for preset, start in halves:
        config = build_config({**data, **start, "steps": given.steps, "out": given.out / preset}, preset)
        print(f"{preset}: {config.steps} steps", flush=True)
        train(config, on_report=show)
    print(given.out / "default" / "best.safetensors")


if __name__ == "__main__":
    main()
