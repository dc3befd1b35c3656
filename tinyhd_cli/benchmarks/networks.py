"""Networks of the benchmarks, by name. Imports torch only to count parameters."""

from __future__ import annotations

from ..models import ModelSpec, all_families
from ..models.registry import network_state
from ..training.options import TrainConfig
from ..weights import default_name, find

MAPS = 16
"""Number of maps that reported times refer to."""

MAX_PARAMETERS = 40_000_000
"""Networks with more parameters are compared only if they are named: they take gigabytes of memory, and minutes."""


def engine_networks() -> list[str]:
    """Return the names of the networks that the engines are compared on by default.

    These are all that can be trained, without those that would be downloaded or are large.
    """
    families = [family for family in all_families().values() if family.trainable and not family.pretrained]
    return [spec.name for family in families for spec in family.specs if parameters(spec) <= MAX_PARAMETERS]


def parameters(spec: ModelSpec) -> int:
    """Return the number of parameters of a network, with the running statistics of its layers."""
    return sum(tensor.numel() for tensor in network_state(spec).values() if tensor.is_floating_point())


def trainable_network(name: str | None) -> ModelSpec:
    """Return the spec of a network; ``UsageError`` if it is unknown or cannot be trained.

    Args:
        name: name of the network; None for that of the default weights.
    """
    return TrainConfig(model=find(default_name()).spec.name if name is None else name).spec
