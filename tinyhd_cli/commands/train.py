"""``tinyhd train``: train a network on ground truth, without a teacher."""

from __future__ import annotations

from typing import Any

from .train_options import run, with_training_options

TEACHER_OPTIONS = (
    "teacher",
    "teacher_flip",
    "teacher_step",
    "aux",
    "aux_ratio",
    "upstream_alignment",
    "cache_dtype",
    "cache_scale",
    "teacher_shard",
)
"""Options that apply to teachers only."""


@with_training_options(without=TEACHER_OPTIONS)
def train(**options: Any) -> int:
    """Train a network on recorded fixations, without a teacher.

    tinyhd train --model tinyhd-m-quarter --data dhf1k:DHF1K --out runs/labels
    """
    return run(options, teacher=())
