"""``tinyhd distill``: train a network to match the saliency maps of a teacher."""

from __future__ import annotations

from typing import Any

from ..errors import UsageError
from .train_options import run, with_training_options


@with_training_options()
def distill(**options: Any) -> int:
    """Train a network to match the saliency maps of a teacher, and the ground truth of labeled data.

    tinyhd distill --teacher HD2S.pt --model tinyhd-m --data dhf1k:DHF1K --aux KINETICS --out runs/m

    Writes best.safetensors and last.safetensors for tinyhd predict --weights, checkpoints, log.csv, curve.png and
    pictures/ to OUT. Several GPUs or machines: accelerate launch -m tinyhd_cli distill ...
    """
    if (
        not options["teacher"]
        and not options["preset"]
        and not options["config"]
        and not options["resume"]
        and not options["extend"]
    ):
        raise UsageError("--teacher is missing: give the name of a model or a weights file")
    return run(options)
