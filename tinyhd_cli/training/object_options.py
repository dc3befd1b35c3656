"""Checks of the training options for object networks, and of the two kinds of distillation without a teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UsageError
from .option_values import flag

if TYPE_CHECKING:
    from .options import TrainConfig


def check_object_options(config: TrainConfig) -> None:
    """Raise ``UsageError`` for the first option that does not fit the network."""
    if not config.is_object:
        for name in ("rotate", "pair_every", "pair_batch_size"):
            if getattr(config, name):
                raise UsageError(f"{flag(name)} is for networks that find objects; {config.model} predicts fixations")
    if config.pair_batch_size and not config.pairs:
        raise UsageError("--pair-batch-size: the run has no pairs of frames; add --pair-every 3")
    if config.is_object and config.teacher and config.pairs == 1:
        raise UsageError(f"--teacher: {config.model} is trained on pairs of frames, without a teacher")
    if config.self_distill:
        check_self_distillation(config)
    if config.temporal_distill:
        check_temporal_distillation(config)
    if config.original_slips and config.family.stages:
        raise UsageError(f"--original-slips: none are known for {config.model}")


def check_self_distillation(config: TrainConfig) -> None:
    """Raise ``UsageError`` if a network has no intermediate maps that learn at the same time as its final map."""
    if not config.family.intermediate:
        raise UsageError(f"--self-distill: {config.model} has no intermediate maps")
    if config.family.stages:
        raise UsageError(f"--self-distill: {config.model} trains its intermediate and its final maps in other stages")


def check_temporal_distillation(config: TrainConfig) -> None:
    """Raise ``UsageError`` if a network has no maps of neighboring frames to compare."""
    if config.is_object:
        if not config.pairs:
            raise UsageError("--temporal-distill: needs pairs of frames; add --pair-every 3")
    elif config.num_maps == 1:
        what = "single frames" if config.stills else "one map per clip"
        raise UsageError(f"--temporal-distill: {config.model} is trained on {what}, which has no neighbor")
