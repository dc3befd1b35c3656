"""A network with its weights, in the forms that engines are built from. Imports no torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, cast

from ..models import ModelSpec
from .graph import Node, Shape
from .self_test import Expected, self_test_clip

if TYPE_CHECKING:
    from torch import nn

    from .torch import TorchEngine

LOWERINGS = {"tinyhd": "lower_tinyhd"}
"""Modules of this package that lower the networks of a family to a graph, each with the functions ``lower`` and
``lower_with_maps``."""


def clip_shape(spec: ModelSpec, more: int = 0) -> Shape:
    """Return the shape of a clip without its batch dimension, with ``more`` additional frames."""
    return (3, spec.clip_frames + more, *spec.input_size)


def lower(network: nn.Module, spec: ModelSpec) -> Node | None:
    """Return the graph of a network, with BatchNorm folded; None if its family has no hand-written lowering."""
    found = lower_with_maps(network, spec)
    return found[0] if found else None


def lower_with_maps(network: nn.Module, spec: ModelSpec) -> tuple[Node, dict[str, list[Node]]] | None:
    """Return the graph of a network, see :func:`lower`, and its intermediate maps before the sigmoid, by name."""
    if spec.family not in LOWERINGS:
        return None
    module = importlib.import_module(f".{LOWERINGS[spec.family]}", __package__)
    return cast(tuple[Node, dict[str, list[Node]]], module.lower_with_maps(network, clip_shape(spec)))


@dataclass(frozen=True)
class LoadedNetwork:
    """A network in evaluation mode. Its module is made on first use, so that a saved graph runs without PyTorch."""

    spec: ModelSpec
    make: Callable[[], nn.Module] = field(repr=False)
    """Makes the module: in evaluation mode, with BatchNorm folded, on its device."""
    sha256: str = ""
    """Digest of the weights file; results of self-tests are cached under it."""
    device: str = "cpu"
    saved: tuple[Node, Expected] | None = field(default=None, repr=False)
    """The graph, and the maps that PyTorch computed with these weights; see :mod:`.lowered`."""

    @cached_property
    def module(self) -> nn.Module:
        """The network in PyTorch."""
        return self.make()

    @cached_property
    def graph(self) -> Node | None:
        """The lowered graph; None if the family has no hand-written lowering."""
        return self.saved[0] if self.saved else lower(self.module, self.spec)

    @cached_property
    def expected(self) -> Expected:
        """PyTorch's maps of the clip of the self-test."""
        return self.saved[1] if self.saved else Expected(self.in_torch().infer(self_test_clip(clip_shape(self.spec))))

    def in_torch(self, precision: str = "float32") -> TorchEngine:
        """Return the network in PyTorch, the reference for all other engines."""
        from .torch import TorchEngine

        return TorchEngine(self.module, self.device, precision)
