"""Benchmark training steps: tinyhd's CPU layers against PyTorch's, with the same network in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..models import build
from ..system import keep_freed_memory
from ..training import cpu_layers
from ..training.augment import run_student
from ..training.losses import Targets, loss_terms, total
from ..training.options import TrainConfig

PLAIN = "plain eager"
"""Name of the reference: the network with PyTorch's layers."""


@dataclass(frozen=True)
class TrainRun:
    """The measurements of one kind of training step."""

    name: str
    device: str
    clips_per_s: float
    """Speed of the fastest step; other load on the machine only makes steps slower."""
    median_clips_per_s: float
    ratio: float
    """Speed relative to the plain eager step on the same device."""


def train_runs(model: str, batch: int, steps: int) -> list[TrainRun]:
    """Time training steps: forward pass, the loss of equation 2 without ground truth, backward pass, SGD.

    Args:
        model: name of the network.
        batch: number of clips in a step.
        steps: number of timed steps of each kind. The kinds take turns, so that other load affects all equally.
    """
    runs = []
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for device in devices:
        kinds = {PLAIN: (False, torch.float32)}
        if device == "cpu":
            kinds |= {"fast": (True, torch.float32), "fast, bf16": (True, torch.bfloat16)}
            keep_freed_memory(cpu_layers.MALLOC_KEEP_BYTES)  # for all kinds, so that only the layers differ
        else:
            kinds |= {"eager, bf16": (False, torch.bfloat16)}
        steppers = {name: make_step(model, batch, device, *kind) for name, kind in kinds.items()}
        times: dict[str, list[float]] = {name: [] for name in kinds}
        for number in range(steps + 1):
            for name, step in steppers.items():
                seconds = step()
                if number:  # the first step is a warm-up
                    times[name].append(seconds)
        for name, found in times.items():
            ratio = min(times[PLAIN]) / min(found)
            runs.append(TrainRun(name, device, batch / min(found), batch / statistics.median(found), ratio))
    return runs


def make_step(model: str, batch: int, device: str, fast: bool, dtype: torch.dtype) -> Callable[[], float]:
    """Return a function that runs one training step and returns its seconds.

    Args:
        model: name of the network.
        batch: number of clips.
        device: device of the network.
        fast: whether to use tinyhd's CPU layers.
        dtype: type of the forward pass.
    """
    torch.manual_seed(0)
    config = TrainConfig(model=model)
    network = build(config.spec)
    if fast:
        cpu_layers.accelerate(network)
    network.to(device).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9)
    clip = torch.randn(batch, 3, config.clip_frames, *config.input_size, device=device)
    targets = random_targets(config, batch, device)

    def step() -> float:
        started = time.perf_counter()
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            outputs = run_student(network, clip, config)
        loss = total(loss_terms(outputs, batch, targets, None, config.objectives), config.weights)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss.item()  # waits for a GPU
        return time.perf_counter() - started

    return step


def random_targets(config: TrainConfig, batch: int, device: str) -> Targets:
    """Return random maps in the place of a teacher's: the final maps and the four intermediate ones."""
    final, hierarchy = (torch.rand(batch, maps, *config.input_size, device=device) for maps in (config.num_maps, 4))
    return Targets(final, hierarchy)
