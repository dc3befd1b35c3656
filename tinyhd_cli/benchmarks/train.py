"""Speed of a training step: ours against PyTorch's own layers, the same network in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..models import create
from ..models.spec import CLIP_FRAMES, INPUT_HEIGHT, INPUT_WIDTH
from ..system import keep_freed_memory
from ..training import cpu_layers
from ..training.losses import Targets, loss_terms, total
from ..training.options import TERMS


@dataclass(frozen=True)
class TrainRun:
    """Training steps of one kind."""

    name: str
    device: str
    clips_per_s: float
    """Of the fastest step: machines are shared, and what others do only slows."""
    median_clips_per_s: float
    ratio: float
    """Clips per second through those of the plain eager step on the same device."""


def train_runs(model: str, batch: int, steps: int) -> list[TrainRun]:
    """Time training steps: forward, the loss of equation 2 without ground truth, backward, SGD.

    Args:
        model: name of the network.
        batch: clips in a step, of 16 frames at 192 x 256.
        steps: timed steps of each kind. The kinds take turns, so that what else the machine does hits all alike.
    """
    runs = []
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for device in devices:
        kinds = {"plain eager": (False, torch.float32)}
        if device == "cpu":
            kinds |= {"fast": (True, torch.float32), "fast, bf16": (True, torch.bfloat16)}
        else:
            kinds |= {"eager, bf16": (False, torch.bfloat16)}
        if device == "cpu":
            keep_freed_memory(cpu_layers.MALLOC_KEEP_BYTES)  # for all kinds: what is compared are the layers
        step = {name: stepper(model, batch, device, *kind) for name, kind in kinds.items()}
        times: dict[str, list[float]] = {name: [] for name in kinds}
        for number in range(steps + 1):
            for name, run in step.items():
                seconds = run()
                if number:  # the first one sets up
                    times[name].append(seconds)
        for name, found in times.items():
            ratio = min(times["plain eager"]) / min(found)
            runs.append(TrainRun(name, device, batch / min(found), batch / statistics.median(found), ratio))
    return runs


def stepper(model: str, batch: int, device: str, quick: bool, dtype: torch.dtype) -> Callable[[], float]:
    """A function that does a training step and returns how many seconds it took."""
    torch.manual_seed(0)
    network = create(model)
    frames = network.config.frames_out
    if quick:
        cpu_layers.accelerate(network)
    network.to(device).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9)
    clip = torch.randn(batch, 3, CLIP_FRAMES, INPUT_HEIGHT, INPUT_WIDTH, device=device)
    size = (INPUT_HEIGHT, INPUT_WIDTH)
    targets = Targets(torch.rand(batch, frames, *size, device=device), torch.rand(batch, 4, *size, device=device))

    def step() -> float:
        started = time.perf_counter()
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            saliency, maps = network(clip, intermediate=True)
        loss = total(loss_terms(saliency, maps, batch, targets, None, TERMS), TERMS)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss.item()  # waits for a GPU
        return time.perf_counter() - started

    return step
