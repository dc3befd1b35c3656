"""Values of training options: their limits, and their text on the command line. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..errors import UsageError
from ..models import ModelSpec, named_spec

COMPRESSED = "jpeg"
"""Value of ``--cache-format`` for compressed clips."""

CHOICES: dict[str, tuple[Any, ...]] = {
    "cache_format": ("raw", COMPRESSED),
    "cache_dtype": ("float16", "uint8"),
    "cache_scale": (1, 2, 4),
    "optimizer": ("sgd", "adam", "adamw"),
    "schedule": ("steps", "cosine", "poly"),
    "precision": ("fp32", "bf16"),
}

FRACTIONS = ("hold_out", "still_motion", "jitter", "crop", "momentum", "warmup", "ema")

POSITIVE = (
    *("batch_size", "accumulate", "epochs", "steps", "keep", "validate_every", "checkpoint_every"),
    *("window_step", "teacher_step", "pair_batch_size"),
)
"""Options that are at least 1, or None."""

NOT_NEGATIVE = (
    *("aux_ratio", "weight_decay", "clip", "workers", "bias_lr", "encoder_lr", "rotate"),
    *("pair_every", "self_distill", "temporal_distill", "hint"),
)
"""Options that are at least 0, or None."""


def check_values(values: Mapping[str, Any]) -> None:
    """Raise ``UsageError`` for the first option whose value is not allowed."""
    for name, choices in CHOICES.items():
        if (value := values[name]) not in choices:
            raise UsageError(f"{flag(name)} must be one of {', '.join(map(str, choices))}, not {value}")
    for name in FRACTIONS:
        if not 0 <= (value := values[name]) <= 1:
            raise UsageError(f"{flag(name)} must be from 0 to 1, not {value}")
    for names, limit in ((POSITIVE, 1), (NOT_NEGATIVE, 0)):
        for name in names:
            if (value := values[name]) is not None and value < limit:
                raise UsageError(f"{flag(name)} must be at least {limit}, not {value}")
    if not (values["lr"] > 0 and math.isfinite(values["lr"])):
        raise UsageError(f"--lr must be above 0, not {values['lr']}")
    if not all(0 < fraction < 1 for fraction in values["milestones"]):
        raise UsageError("--milestones are fractions of the run, between 0 and 1, such as 0.5,0.75,0.9")


def flag(name: str) -> str:
    """Return the option of a field on the command line."""
    return f"--{name.replace('_', '-')}"


def as_text(value: Any) -> str:
    """Return the value of an option as text."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_options(spec: ModelSpec) -> tuple[str, ...]:
    """Return the options of a spec that differ from its named network's, in the format of ``--set``."""
    defaults = named_spec(spec.name).options
    return tuple(f"{name}={as_text(value)}" for name, value in spec.options.items() if value != defaults[name])
