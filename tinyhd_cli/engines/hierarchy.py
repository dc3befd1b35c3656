"""Engines that output the hierarchical maps of a network (``Family.hierarchy``) beside its saliency, for teachers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..models.registry import family
from ..system import engine_threads
from . import generic
from .base import EngineUnavailable, HierarchyEngine
from .builders import cache_file, check_precision, fused_graph, openvino_graph
from .graph import Array, concat, sigmoid
from .kernels import available_isas
from .loaded import LOWERINGS, LoadedNetwork, clip_shape, lower_with_maps
from .selection import EngineOptions, first_usable, tested, verdict_file
from .self_test import LIMITS, NO_KERNELS, disagreement, self_test_clip

if TYPE_CHECKING:
    from .openvino import OpenVino


class FusedHierarchy:
    """The kernels, whose fusion reads the hierarchical maps anyway; see :class:`.fused.Fused`.

    Args:
        network: a network with a lowering.
        precision: ``float32`` or ``bf16``.
    """

    name = "fused"

    def __init__(self, network: LoadedNetwork, precision: str) -> None:
        if not available_isas():
            raise EngineUnavailable(NO_KERNELS)
        found = lower_with_maps(network.module, network.spec)
        if found is None:
            raise EngineUnavailable(f"its kernels do not support {network.spec.name}")
        result, maps = found
        self._nodes = maps.get(family(network.spec).hierarchy, [])
        self._engine = fused_graph(result, precision, engine_threads())
        self.precision, self.graph = precision, self._engine.graph

    def outputs(self, clip: Array) -> list[Array]:
        """Return the saliency ``(maps, H, W)`` and the hierarchical maps ``(K, T1, H, W)`` of a clip."""
        saliency, values = self._engine.infer_with(self._nodes, clip)
        deep = [torch.from_numpy(np.concatenate(values)).sigmoid_().numpy()] if values else []
        return [saliency, *deep]


class TorchHierarchy:
    """A network in PyTorch, in float32 on the CPU: the reference."""

    name, precision, graph = "torch", "float32", ""

    def __init__(self, network: LoadedNetwork) -> None:
        self._network = generic.WithHierarchy(network.module, family(network.spec).hierarchy)

    def outputs(self, clip: Array) -> list[Array]:
        """Return the saliency ``(maps, H, W)`` and the hierarchical maps ``(K, T1, H, W)`` of a clip."""
        with torch.inference_mode():
            return [values[0].numpy() for values in self._network(torch.from_numpy(clip).unsqueeze(0))]


def build_openvino(network: LoadedNetwork, precision: str) -> OpenVino:
    """Return OpenVINO with a network."""
    from .openvino import OpenVino

    key, threads = family(network.spec).hierarchy, engine_threads()
    if found := lower_with_maps(network.module, network.spec):
        result, maps = found
        return openvino_graph(result, precision, threads, [sigmoid(concat(*maps[key]))] if key in maps else [])
    wrapped = generic.WithHierarchy(network.module, key).eval()
    make = functools.partial(generic.to_openvino, wrapped, clip_shape(network.spec))
    digest = generic.digest_of(wrapped, network.spec)
    return OpenVino(make, precision, threads, cache_file(digest, "hierarchy", precision, threads))


BUILDERS: dict[str, Callable[[LoadedNetwork, str], HierarchyEngine]] = {
    "fused": FusedHierarchy,
    "openvino": build_openvino,
}


def choose(network: LoadedNetwork, *, exact: bool) -> HierarchyEngine | None:
    """Return the faster of the engines with hierarchical maps that agree with PyTorch; None if none does.

    Args:
        network: a network on the CPU, of a family with a hierarchy.
        exact: whether to use float32; else bf16, if the CPU supports it.
    """
    options = EngineOptions()
    attempts = [pair for pair in options.attempts(exact, network.spec.family in LOWERINGS) if pair[0] in BUILDERS]
    return first_usable(attempts, options, lambda name, precision: usable(name, precision, network))


def usable(name: str, precision: str, network: LoadedNetwork) -> HierarchyEngine:
    """Return an engine whose saliency and hierarchical maps agree with PyTorch's, or raise ``EngineUnavailable``."""
    verdicts = verdict_file(name, precision, network, "hierarchy")
    check_precision(precision, network.spec, can_quantize=False)
    engine: HierarchyEngine = tested(
        lambda: BUILDERS[name](network, precision), lambda made: mismatch(network, made), verdicts
    )
    return engine


def mismatch(network: LoadedNetwork, engine: HierarchyEngine) -> str:
    """Return how an engine's outputs differ from PyTorch's; empty if they are within the limits."""
    clip, limits = self_test_clip(clip_shape(network.spec)), LIMITS[engine.precision]
    for found, expected in zip(engine.outputs(clip), TorchHierarchy(network).outputs(clip), strict=True):
        maps, reference = (values.reshape(-1, *values.shape[-2:]) for values in (found, expected))
        if verdict := disagreement(maps, reference, network.spec, limits):
            return verdict
    return ""
