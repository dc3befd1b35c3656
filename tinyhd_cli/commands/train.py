"""``tinyhd train``: train a network on ground truth alone."""

from __future__ import annotations

from typing import Any

from .train_options import run, with_training_options

UNTAUGHT = (
    "teacher",
    "teacher_flip",
    "teacher_step",
    "aux",
    "aux_ratio",
    "upstream_alignment",
    "cache_dtype",
    "cache_scale",
)
"""Options that are about teachers."""


@with_training_options(without=UNTAUGHT)
def train(**options: Any) -> int:
    """Train a network on where people looked, without a teacher.

    tinyhd train --model tinyhd-m-quarter --data dhf1k:DHF1K --out runs/labels
    """
    return run(options, teacher=())
