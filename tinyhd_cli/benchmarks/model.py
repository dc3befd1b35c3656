"""Benchmark each network in each engine against the unmodified PyTorch network, in one run."""

from __future__ import annotations

import math
import multiprocessing
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from .. import weights
from ..engines.base import Engine, EngineUnavailable
from ..engines.builders import BUILDERS, clip_shape
from ..engines.fuse_batchnorm import fold
from ..engines.graph import Array
from ..engines.self_test import compare, self_test_clip
from ..engines.torch import TorchEngine
from ..errors import one_line
from ..models import ModelSpec, build, named_spec
from ..models.registry import family
from ..system import peak_memory_mb
from .networks import MAPS

CPU = torch.device("cpu")

ORIGINAL = ("torch, original graph", "float32")
"""The reference: PyTorch without fused BatchNorm, in its default memory layout."""

KINDS = (
    ORIGINAL,
    ("torch", "float32"),
    ("onnx", "float32"),
    ("openvino", "float32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
    ("fused", "float32"),
    ("fused", "bf16"),
    ("fused", "int8"),
)
"""Engines and precisions."""


@dataclass(frozen=True)
class ModelRun:
    """The measurements of a network in an engine. Times are for 16 maps: 16 windows of a single-output network."""

    network: str
    engine: str
    precision: str
    best_ms: float
    median_ms: float
    ratio: float
    """Speed relative to the original graph, from the best times."""
    median_ratio: float
    """Speed relative to the original graph, from the median times."""
    difference: float | None
    """Largest difference from the maps of the original graph, both scaled to 0..1, for smooth noise. None for random
    weights, which amplify rounding errors."""
    correlation: float | None
    """Lowest CC of a map with that of the original graph; None for random weights."""
    peak_mb: float | None
    """Peak memory of a process with this network and engine, in 10^6 bytes; most of it is PyTorch."""


@dataclass(frozen=True)
class Cost:
    """The size of a network and its number of operations."""

    network: str
    parameters: int
    gmacs: float
    """Multiply-adds of all convolutions for 16 maps, in 10^9."""


def costs(name: str) -> Cost:
    """Return the number of parameters and multiply-adds of a network."""
    spec = named_spec(name)
    network = build(spec).eval()
    counts: list[int] = []

    def count(layer: nn.Module, args: object, output: torch.Tensor) -> None:
        assert isinstance(layer, nn.Conv2d | nn.Conv3d)
        counts.append(output.numel() * math.prod(layer.weight.shape[1:]))

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.zeros(1, *clip_shape(spec)))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Cost(name, parameters, sum(counts) * passes(spec) / 1e9)


def passes(spec: ModelSpec) -> float:
    """Return the number of forward passes for ``MAPS`` maps."""
    return MAPS / spec.maps


def make_network(name: str, file: Path | None = None) -> tuple[nn.Module, ModelSpec]:
    """Return a network in evaluation mode, with the weights of a file or random ones, which take the same time."""
    if file is None:
        spec = named_spec(name)
        return build(spec).eval(), spec
    loaded = weights.load(file)
    network = build(loaded.spec)
    network.load_state_dict(loaded.state_dict)
    return network.eval(), loaded.spec


def build_engine(network: nn.Module, spec: ModelSpec, engine: str, precision: str) -> Engine:
    """Return an engine that runs a network; changes the network.

    Args:
        network: a network from :func:`make_network`.
        spec: its spec.
        engine: name of the engine.
        precision: numeric precision.

    Raises:
        EngineUnavailable: the engine is not installed or cannot run the network.
    """
    if (engine, precision) == ORIGINAL:
        return TorchEngine(network, CPU, precision)
    fold(network, by_name=family(spec).named_norms)
    if engine == "torch":
        return TorchEngine(network, CPU, precision)
    try:
        return BUILDERS[engine](network, spec, precision)
    except ImportError as error:
        raise EngineUnavailable(one_line(error)) from None


def available_engines(name: str, file: Path | None) -> dict[tuple[str, str], Engine]:
    """Return all engines and precisions that can run a network on this machine."""
    engines: dict[tuple[str, str], Engine] = {}
    for kind in KINDS:
        try:
            engines[kind] = build_engine(*make_network(name, file), *kind)
        except EngineUnavailable:
            continue
    return engines


def model_runs(
    names: Sequence[str], rounds: int, file: Path | None = None, *, memory: bool = True
) -> Iterator[ModelRun]:
    """Time networks in every available engine.

    Args:
        names: names of the networks.
        rounds: number of measurements of each engine. Engines take turns, so that other load affects all equally.
        file: weights of the only network in ``names``.
        memory: whether to measure peak memory too, in a separate process for each engine.
    """
    for name in names:
        spec = make_network(name, file)[1]
        clip = self_test_clip(clip_shape(spec))
        engines = available_engines(name, file)
        maps = {kind: engine.infer(clip) for kind, engine in engines.items()}
        times: dict[tuple[str, str], list[float]] = {kind: [] for kind in engines}
        for _ in range(rounds):
            for kind, engine in engines.items():
                times[kind].append(time_forward(engine, clip))
        factor = passes(spec) * 1e3
        original = times[ORIGINAL]
        for kind, seconds in times.items():
            difference, correlation = compare(maps[kind], maps[ORIGINAL]) if file else (None, None)
            yield ModelRun(
                name,
                *kind,
                best_ms=min(seconds) * factor,
                median_ms=statistics.median(seconds) * factor,
                ratio=min(original) / min(seconds),
                median_ratio=statistics.median(original) / statistics.median(seconds),
                difference=difference,
                correlation=correlation,
                peak_mb=peak_of(name, *kind) if memory else None,
            )


def time_forward(engine: Engine, clip: Array) -> float:
    """Return the seconds of one forward pass."""
    started = time.perf_counter()
    engine.infer(clip)
    return time.perf_counter() - started


def peak_of(name: str, engine: str, precision: str) -> float | None:
    """Return the peak memory of a process with this network and engine, in 10^6 bytes; None if it is not known."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(own_peak, (name, engine, precision))


def own_peak(name: str, engine: str, precision: str) -> float | None:
    """Run a network twice in an engine and return the peak memory of this process, in 10^6 bytes."""
    network, spec = make_network(name)
    made = build_engine(network, spec, engine, precision)
    clip = self_test_clip(clip_shape(spec))
    for _ in range(2):
        made.infer(clip)
    return peak_memory_mb()
