"""What the networks cost in each engine, beside the network as it is written down, in the same run."""

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
from ..engines.fuse_batchnorm import fold
from ..engines.graph import Array
from ..engines.selection import BUILDERS, Engine, EngineUnavailable, compare, self_test_clip
from ..engines.torch import TorchEngine
from ..errors import one_line
from ..models import create
from ..models.families.tinyhd import TinyHD
from ..models.spec import CLIP_FRAMES, INPUT_HEIGHT, INPUT_WIDTH
from ..system import peak_memory_mb

CPU = torch.device("cpu")
SHAPE = (3, CLIP_FRAMES, INPUT_HEIGHT, INPUT_WIDTH)

ORIGINAL = ("torch, original graph", "float32")
"""What all others are compared with: no folding, PyTorch's own layout."""

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


@dataclass(frozen=True)
class ModelRun:
    """A network in an engine. Times are for 16 maps, which takes 16 windows of a single-output network."""

    network: str
    engine: str
    precision: str
    best_ms: float
    median_ms: float
    ratio: float
    """How many times sooner than the original graph, best against best."""
    median_ratio: float
    """Median against median."""
    difference: float | None
    """From the original graph's maps, both scaled to 0..1, for smooth noise; None for random weights, which multiply
    rounding errors."""
    correlation: float | None
    """Lowest CC of a map with that of the original graph; likewise."""
    peak_mb: float | None
    """Most memory that a process with this network and engine held, in 10^6 bytes; PyTorch alone is most of it."""


@dataclass(frozen=True)
class Cost:
    """What a network costs on paper."""

    network: str
    parameters: int
    gmacs: float
    """Of the convolutions for 16 maps, in 10^9 multiply-adds."""


def costs(name: str) -> Cost:
    """Parameters and multiply-adds of a network."""
    network = create(name).eval()
    counts: list[int] = []

    def count(layer: nn.Module, args: object, output: torch.Tensor) -> None:
        assert isinstance(layer, nn.Conv3d)
        counts.append(output.numel() * math.prod(layer.weight.shape[1:]))

    for layer in network.modules():
        if isinstance(layer, nn.Conv3d):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.zeros(1, *SHAPE))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Cost(name, parameters, sum(counts) * windows(network) / 1e9)


def windows(network: nn.Module) -> int:
    """Windows that 16 maps take."""
    assert isinstance(network, TinyHD)
    return CLIP_FRAMES // network.config.frames_out


def fresh(name: str, file: Path | None = None) -> TinyHD:
    """A network with the weights of a file, or random ones: these cost the same time."""
    network = create(name)
    assert isinstance(network, TinyHD)
    if file is not None:
        network = TinyHD(network.config)
        network.load_state_dict(weights.load(file).state_dict)
    return network.eval()


def build(network: TinyHD, engine: str, precision: str) -> Engine:
    """An engine with a network, which is changed; ``EngineUnavailable`` where it is not to be had."""
    if (engine, precision) == ORIGINAL:
        return TorchEngine(network, CPU, precision)
    fold(network)
    if engine == "torch":
        return TorchEngine(network, CPU, precision)
    try:
        return BUILDERS[engine](network, SHAPE, precision)
    except ImportError as error:
        raise EngineUnavailable(one_line(error)) from None


def model_runs(
    names: Sequence[str], rounds: int, file: Path | None = None, *, memory: bool = True
) -> Iterator[ModelRun]:
    """Time networks in every engine that is here.

    Args:
        names: of the networks.
        rounds: how often everything is timed. Engines take turns, so that what else the machine does hits all alike.
        file: weights, of the one network that is named.
        memory: whether peak memory is measured, too, in a process for each engine.
    """
    clip = self_test_clip(SHAPE)
    for name in names:
        engines: dict[tuple[str, str], Engine] = {}
        for kind in KINDS:
            try:
                engines[kind] = build(fresh(name, file), *kind)
            except EngineUnavailable:
                continue
        answers = {kind: engine.infer(clip) for kind, engine in engines.items()}
        times: dict[tuple[str, str], list[float]] = {kind: [] for kind in engines}
        for _ in range(rounds):
            for kind, engine in engines.items():
                times[kind].append(timed(engine, clip))
        factor = windows(fresh(name)) * 1e3
        original = times[ORIGINAL]
        for kind, found in times.items():
            agreement = compare(answers[kind], answers[ORIGINAL]) if file else (None, None)
            yield ModelRun(
                name,
                *kind,
                best_ms=min(found) * factor,
                median_ms=statistics.median(found) * factor,
                ratio=min(original) / min(found),
                median_ratio=statistics.median(original) / statistics.median(found),
                difference=agreement[0],
                correlation=agreement[1],
                peak_mb=peak_of(name, *kind) if memory else None,
            )


def timed(engine: Engine, clip: Array) -> float:
    """Seconds of one answer."""
    started = time.perf_counter()
    engine.infer(clip)
    return time.perf_counter() - started


def peak_of(name: str, engine: str, precision: str) -> float | None:
    """Peak memory of a process of its own, in 10^6 bytes; None where a system does not tell."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(peak, (name, engine, precision))


def peak(name: str, engine: str, precision: str) -> float | None:
    """Build an engine, ask it twice, and tell this process's peak memory."""
    made = build(fresh(name), engine, precision)
    clip = self_test_clip(SHAPE)
    for _ in range(2):
        made.infer(clip)
    return peak_memory_mb()
