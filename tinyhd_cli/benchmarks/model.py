"""Benchmark each network in each engine against the unmodified PyTorch network, in one run."""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path

import numpy as np
from torch import nn

from .. import weights
from ..engines.base import EngineUnavailable
from ..engines.builders import BUILDERS, FRAMES_BUILDERS, MAX_BATCH, over_frames
from ..engines.fuse_batchnorm import fold
from ..engines.graph import Array
from ..engines.loaded import LoadedNetwork, clip_shape
from ..engines.self_test import compare, self_test_clip
from ..errors import one_line
from ..models import ModelSpec, build, named_spec
from ..models.registry import family
from ..system import peak_memory_mb
from .networks import MAPS

Pass = Callable[[], Array]
"""A forward pass, or several of them, that returns maps ``(T, H, W)``."""

BATCHES = 8
"""Number of batches of the largest size in a timed pass of an engine that processes several batches in parallel."""

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
    """The measurements of a network in an engine. Times are for 16 maps.

    A network with a sliding window computes them from 16 clips, or from many frames at once if the engine supports it.
    """

    network: str
    engine: str
    precision: str
    best_ms: float
    median_ms: float
    maps_per_s: float
    """Maps per second, from the median time."""
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


def make_network(name: str, file: Path | None = None) -> tuple[nn.Module, ModelSpec]:
    """Return a network in evaluation mode, with the weights of a file or random ones, which take the same time."""
    if file is None:
        spec = named_spec(name)
        return build(spec).eval(), spec
    loaded = weights.load(file)
    network = build(loaded.spec)
    network.load_state_dict(loaded.state_dict)
    return network.eval(), loaded.spec


def make_pass(network: nn.Module, spec: ModelSpec, engine: str, precision: str) -> Pass:
    """Return a function that runs a network on smooth noise; changes the network.

    It returns the maps of one clip. In an engine that is run on many frames at once, it returns those of one or several
    batches; the first map is that of the same clip.

    Args:
        network: a network from :func:`make_network`.
        spec: its spec.
        engine: name of the engine.
        precision: numeric precision.

    Raises:
        EngineUnavailable: the engine is not installed or cannot run the network.
    """
    if original := (engine, precision) == ORIGINAL:
        engine = "torch"
    else:
        fold(network, by_name=family(spec).named_norms)
    form = over_frames(network, spec)
    noise = self_test_clip(clip_shape(spec, 0 if form is None else MAX_BATCH - 1))
    try:
        if form is not None and engine in FRAMES_BUILDERS and not original:
            many = FRAMES_BUILDERS[engine](form, spec, "cpu", precision)
            frames = noise.swapaxes(0, 1)[: many.batch + spec.clip_frames - 1]
            count = (1 if engine == "torch" else BATCHES) * MAX_BATCH // many.batch
            return lambda: np.concatenate(list(many.stream(repeat(frames, count))))
        loaded = LoadedNetwork(spec, lambda: network)
        single = loaded.in_torch(precision) if engine == "torch" else BUILDERS[engine](loaded, precision)
    except ImportError as error:
        raise EngineUnavailable(one_line(error)) from None
    return partial(single.infer, np.ascontiguousarray(noise[:, : spec.clip_frames]))


def available_passes(name: str, file: Path | None) -> dict[tuple[str, str], Pass]:
    """Return a pass for each engine and precision that can run a network on this machine."""
    passes: dict[tuple[str, str], Pass] = {}
    for kind in KINDS:
        with contextlib.suppress(EngineUnavailable):
            passes[kind] = make_pass(*make_network(name, file), *kind)
    return passes


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
        passes = available_passes(name, file)
        maps = {kind: run() for kind, run in passes.items()}
        times: dict[tuple[str, str], list[float]] = {kind: [] for kind in passes}
        for _ in range(rounds):
            for kind, run in passes.items():
                times[kind].append(time_per_map(run))
        original, expected = times[ORIGINAL], maps[ORIGINAL]
        for kind, seconds in times.items():
            # Of many frames, only the first maps belong to the clip.
            difference, correlation = compare(maps[kind][: len(expected)], expected) if file else (None, None)
            yield ModelRun(
                name,
                *kind,
                best_ms=min(seconds) * MAPS * 1e3,
                median_ms=statistics.median(seconds) * MAPS * 1e3,
                maps_per_s=1 / statistics.median(seconds),
                ratio=min(original) / min(seconds),
                median_ratio=statistics.median(original) / statistics.median(seconds),
                difference=difference,
                correlation=correlation,
                peak_mb=peak_of(name, *kind) if memory else None,
            )


def time_per_map(run: Pass) -> float:
    """Return the seconds per map of a pass."""
    started = time.perf_counter()
    maps = run()
    return (time.perf_counter() - started) / len(maps)


def peak_of(name: str, engine: str, precision: str) -> float | None:
    """Return the peak memory of a process with this network and engine, in 10^6 bytes; None if it is not known."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(own_peak, (name, engine, precision))


def own_peak(name: str, engine: str, precision: str) -> float | None:
    """Run a network twice in an engine and return the peak memory of this process, in 10^6 bytes."""
    run = make_pass(*make_network(name), engine, precision)
    for _ in range(2):
        run()
    return peak_memory_mb()
