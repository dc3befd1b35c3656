"""Benchmark a teacher: the maps that a student learns, in PyTorch and in the engine that ``distill`` uses."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace

import torch

from ..training.options import TrainConfig
from ..training.teachers import Teacher


@dataclass(frozen=True)
class TeacherRun:
    """The measurements of a teacher in one engine."""

    engine: str
    clip_s: float
    """Seconds for the maps of one clip; the fastest round."""
    median_clip_s: float
    frames_per_s: float
    """Frames of the student's clips per second, if the clips do not overlap; the fastest round."""
    ratio: float
    """Speed relative to PyTorch."""
    difference: float
    """Largest difference from PyTorch's maps, relative to their largest value."""


def teacher_runs(name: str, student: str, step: int, rounds: int) -> list[TeacherRun]:
    """Time a teacher's maps of one clip of a student, on the CPU.

    Args:
        name: weights of the teacher, or their file.
        student: name of the student.
        step: distance of the frames for which a teacher with one map per clip is run.
        rounds: number of measurements. The engines take turns, so that other load affects all equally.

    Raises:
        UsageError: a name is unknown.
        WeightsError: the weights cannot be loaded.
    """
    config = TrainConfig(model=student, teacher=(name,), teacher_step=step)
    configs = {"torch": replace(config, eager=True), "fastest": config}
    teachers = {kind: Teacher(one, name, torch.device("cpu")) for kind, one in configs.items()}
    frames = teachers["torch"].before + config.clip_frames + teachers["torch"].after
    size = (frames, *teachers["torch"].spec.input_size, 3)
    read = torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    reference = teachers["torch"].targets(read).tensors  # the first call of each is a warm-up
    differences = {}
    for kind, teacher in teachers.items():
        found = zip(teacher.targets(read).tensors, reference, strict=True)
        differences[kind] = max(float((maps - other).abs().max() / other.abs().max()) for maps, other in found)
    times: dict[str, list[float]] = {kind: [] for kind in teachers}
    for _ in range(rounds):
        for kind, teacher in teachers.items():
            started = time.perf_counter()
            teacher.targets(read)
            times[kind].append(time.perf_counter() - started)
    engine = teachers["fastest"].engine
    names = {"torch": "torch", "fastest": f"{engine.name} {engine.precision}" if engine else "torch"}
    best = {kind: min(found) for kind, found in times.items()}
    return [
        TeacherRun(
            names[kind],
            best[kind],
            statistics.median(found),
            config.clip_frames / best[kind],
            best["torch"] / best[kind],
            differences[kind],
        )
        for kind, found in times.items()
    ]
