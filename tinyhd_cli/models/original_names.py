"""Convert state dicts of the authors' files to tinyhd's tensor names, which each family defines."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..errors import TinyhdError, WeightsError, one_line
from ..untrusted import printable
from .registry import all_families, family, named_errors, named_spec, network_state
from .spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("tinyhd")

CHECKPOINT_KEYS = (
    *("student_model", "state_dict", "model_state_dict", "model", "net", "network", "student", "weights", "params"),
    *("ema", "model_ema", "ema_model"),
)
"""Keys of state dicts in checkpoints, in order of preference."""

COUNTER = "num_batches_tracked"
"""Last part of the names of BatchNorm's step counters."""

INTEGERS = (COUNTER, "relative_position_index")
"""Last parts of the names of all integer tensors: counters, and the indices of a Swin transformer, which are fixed."""


def anchors() -> tuple[str, ...]:
    """Return the anchors of all families (see :attr:`Family.anchors`)."""
    return tuple(anchor for known in all_families().values() for anchor in known.anchors)


def recognize(state_dict: Mapping[str, Tensor], stem: str = "") -> ModelSpec:
    """Return the spec that a state dict belongs to, by original tensor names or tinyhd's.

    Args:
        state_dict: tensors without prefixes.
        stem: name of the file without its suffix.

    Raises:
        WeightsError: the tensors do not belong to a network of an installed family.
    """
    for known in all_families().values():
        try:
            spec = known.recognize(state_dict, stem)
        except TinyhdError:
            raise
        except Exception as error:  # the code of another package may raise anything
            log.warning("model family %s cannot read a weights file: %s", known.name, one_line(error))
            continue
        if spec is not None:
            return spec
    raise WeightsError("its tensors do not belong to an installed model family")


def is_original(state_dict: Mapping[str, Tensor], spec: ModelSpec) -> bool:
    """Return whether the tensors have the names of the authors' code."""
    kind = family(spec)
    with named_errors(kind):
        return kind.is_original(state_dict)


def renamed(state_dict: Mapping[str, Tensor], spec: ModelSpec) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of an original state dict with tinyhd's names; ``WeightsError`` for an unknown one."""
    kind = family(spec)
    for name, tensor in state_dict.items():
        try:
            own = kind.rename(name)
        except (KeyError, IndexError, ValueError):  # an index that no network has
            own = None
        if own is None:
            raise WeightsError(f"the original {spec.name} has no tensor '{printable(name)[:80]}'")
        with named_errors(kind):
            converted = kind.convert_tensor(own, tensor)
        yield own, converted


def convert(state_dict: Mapping[str, Tensor], name: str | ModelSpec, **overrides: object) -> dict[str, Tensor]:
    """Return an original state dict under tinyhd's tensor names.

    Args:
        state_dict: tensors by original name, as saved by the original networks.
        name: the network's name (``tinyhd-m-quarter``, ``hd2s``, ...) or its spec.
        overrides: of a named network: as for :func:`tinyhd_cli.models.create`.

    Returns:
        The same tensors by tinyhd's names: exactly those of the network. BatchNorm's step counters, which no program
        but PyTorch has, are 0 if they are missing.

    Raises:
        WeightsError: a tensor is unknown, missing, or of another shape.
    """
    import torch

    spec = named_spec(name, **overrides) if isinstance(name, str) else name
    converted = dict(renamed(state_dict, spec))
    for name in network_state(spec).keys() - converted.keys():
        if name.endswith(COUNTER):
            converted[name] = torch.tensor(0)
    check_state_dict(converted, spec)
    return converted


def check_state_dict(given: Mapping[str, Tensor], spec: ModelSpec) -> None:
    """Raise ``WeightsError`` with the first difference if tensors are not those of a network."""
    expected = network_state(spec)
    for problem, names in (
        ("lack", expected.keys() - given.keys()),
        ("have an unknown", given.keys() - expected.keys()),
    ):
        if names:
            raise WeightsError(
                f"not weights of {spec.name}: they {problem} '{printable(min(names))[:80]}' (and {len(names) - 1} more)"
            )
    for name, tensor in expected.items():
        if given[name].shape != tensor.shape:
            shapes = f"shape {tuple(given[name].shape)}, not {tuple(tensor.shape)}"
            raise WeightsError(f"not weights of {spec.name}: {name!r} has {shapes}")
