"""The training stages that ``--stages`` selects. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UsageError
from ..models import Family
from .option_values import as_text


def chosen_stages(stages: Sequence[int], family: Family, model: str) -> tuple[int, ...]:
    """Return the numbers of the stages to run, counted from 1; empty for a network that is trained in one stage.

    Args:
        stages: as on the command line; empty for all.
        family: the network's family.
        model: the network's name, for messages.

    Raises:
        UsageError: the family has no such stages, or they are not consecutive and in order.
    """
    runs = runs_of(range(1, len(family.stages) + 1))
    chosen = tuple(stages) or tuple(range(1, len(family.stages) + 1))
    if chosen and not runs:
        raise UsageError(f"--stages: {model} is trained in one stage")
    if runs and chosen not in runs:
        given, known = as_text(chosen), " or ".join(map(as_text, runs))
        raise UsageError(f"--stages {given}: must be {known}")
    return chosen


def runs_of(numbers: Sequence[int]) -> list[tuple[int, ...]]:
    """Return all sequences of consecutive numbers: (1,), (1, 2) and (2,) for (1, 2)."""
    ends = range(len(numbers) + 1)
    return [tuple(numbers[first:last]) for first in ends for last in ends if first < last]
