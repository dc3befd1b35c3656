"""What a run would do, before it does it."""

from __future__ import annotations

import os
import time

import torch

from ..models import build
from ..models.families.tinyhd import TinyHD
from ..models.spec import CLIP_FRAMES
from ..models.static import make_still
from ..system import keep_freed_memory
from ..wording import plural
from . import checkpoints, cpu_layers, sources
from .loop import accelerator
from .options import TrainConfig
from .prepare import check_init, check_model, schedule
from .teachers import Teacher


def plan(config: TrainConfig) -> dict[str, str]:
    """Data, steps, parameters and expected time of a run, by name. Reads no data and writes nothing.

    Raises:
        UsageError, InputError, WeightsError: the run could not begin.
    """
    checkpoints.refuse_old_run(config.out)
    found = sources.find(config)
    device = accelerator(config).device
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    counts = schedule(config, len(found.targets), len(found.aux), processes * config.accumulate)
    teachers = [Teacher(config, name, device) for name in config.teacher]
    network = build(check_model(config))
    assert isinstance(network, TinyHD)
    if config.init != "none":
        check_init(config)
    clips = counts.target + counts.aux
    if config.stills:
        make_still(network)
    student_s = step_time(network, config, device) * clips
    teacher_s = sum(teacher_time(teacher, config) for teacher in teachers) * clips
    expected = {
        "labeled": f"{plural(len(found.targets), 'video')}, {len(found.val_targets)} to validate on",
        "auxiliary": f"{plural(len(found.aux), 'video')}, {len(found.val_aux)} to validate on",
        "network": f"{config.model}, {sum(p.numel() for p in network.parameters()):,} parameters",
        "teacher": ", ".join(f"{t.model.config.name} ({t.model.name})" for t in teachers) or "none",
        "step": f"{counts.target} labeled and {counts.aux} auxiliary clips",
        "steps": f"{counts.steps} ({counts.steps_per_epoch} an epoch)",
        "device": str(device),
        "expected time": f"{hours(counts.steps * (student_s + teacher_s))}: "
        f"{student_s:.2f} s a step, and {teacher_s:.2f} s for the teacher{CACHED if config.cache else ''}",
        "out": str(config.out),
    }
    return {name: value for name, value in expected.items() if not value.startswith("0 videos, 0")}


CACHED = ", which --cache spares for clips that come again"


def hours(seconds: float) -> str:
    """A time, roughly."""
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"


def step_time(network: TinyHD, config: TrainConfig, device: torch.device) -> float:
    """Seconds that one clip of a training step takes here."""
    network = network.to(device).train()
    if device.type == "cpu" and not config.eager:
        cpu_layers.accelerate(network)
        keep_freed_memory(cpu_layers.MALLOC_KEEP_BYTES)
    clip = torch.randn(1, 3, config.clip_frames, *config.size, device=device)
    best = float("inf")
    for _ in range(2):  # the first one is slower
        started = time.monotonic()
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            saliency = network(clip)
        saliency.float().log().mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.monotonic() - started)
    return best


def teacher_time(teacher: Teacher, config: TrainConfig) -> float:
    """Seconds that a teacher's maps of one clip take here."""
    frames = 1 if config.stills else teacher.context + CLIP_FRAMES
    read = torch.randint(0, 256, (frames, *config.size, 3), dtype=torch.uint8)
    started = time.monotonic()
    teacher.maps(read)
    return time.monotonic() - started
