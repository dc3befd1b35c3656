"""Checks of the training options for object networks, and of the two kinds of distillation without a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import UsageError
from ..models import Family, ModelSpec
from .option_values import flag


def check_object_options(values: Mapping[str, Any], spec: ModelSpec, family: Family, pairs: int) -> None:
    """Raise ``UsageError`` for the first option that does not fit the network.

    Args:
        values: the options of the run.
        spec: the network.
        family: its family.
        pairs: number N such that every Nth step is on pairs of frames; 0: none.
    """
    is_object = spec.task == "object"
    if not is_object:
        for name in ("rotate", "pair_every", "pair_batch_size"):
            if values[name]:
                raise UsageError(f"{flag(name)} is for networks that find objects; {spec.name} predicts fixations")
    if values["pair_batch_size"] and not pairs:
        raise UsageError("--pair-batch-size: the run has no pairs of frames; add --pair-every 3")
    if is_object and spec.clip_frames > 1 and not pairs:
        raise UsageError(f"--pair-every 0: {spec.name} reads pairs of frames and cannot be trained without them")
    if is_object and values["teacher"] and spec.clip_frames > 1:
        raise UsageError(f"--teacher: {spec.name} reads pairs of frames and is trained without a teacher")
    if values["self_distill"]:
        check_self_distillation(spec, family)
    if values["temporal_distill"] and is_object and not pairs:
        raise UsageError("--temporal-distill: needs pairs of frames; add --pair-every 3")
    if values["temporal_distill"] and not is_object and (values["stills"] or spec.windowing == "sliding"):
        reason = "single frames" if values["stills"] else "one map per clip"
        raise UsageError(f"--temporal-distill: {spec.name} is trained on {reason}, without maps of neighboring frames")
    if values["original_slips"] and family.stages:
        raise UsageError(f"--original-slips: the loss of {spec.name} has no such variant")


def check_self_distillation(spec: ModelSpec, family: Family) -> None:
    """Raise ``UsageError`` if a network has no intermediate maps that learn at the same time as its final map."""
    if not family.intermediate:
        raise UsageError(f"--self-distill: {spec.name} has no intermediate maps")
    if family.stages:
        raise UsageError(f"--self-distill: {spec.name} trains its intermediate and its final maps in other stages")
