"""Dry run: describe a run and estimate its duration without training."""

from __future__ import annotations

import os
import time

import torch
from torch import nn

from ..models import build
from ..system import keep_freed_memory
from ..wording import plural
from . import checkpoints, cpu_layers, role_maps, sources, stages
from .augment import run_student
from .initial_weights import check_init
from .launch import accelerator
from .object_data import labeled_count
from .options import TrainConfig
from .picks import schedule
from .teachers import Teacher

CACHED = "; with --cache, only the first time a clip is used"


def plan(config: TrainConfig) -> dict[str, str]:
    """Return the data, steps, parameters and expected duration of a run, by name, without decoding its data.

    Raises:
        UsageError, InputError, WeightsError: the run cannot start.
    """
    several = stages.configs(config)
    for stage in several:
        checkpoints.refuse_old_run(stage.folder)
    config = several[0]
    found = sources.find(config)
    device = accelerator(config).device
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    counts = schedule(config, labeled_count(config, found.targets), len(found.aux), processes * config.accumulate)
    teachers = [Teacher(config, name, device) for name in config.clip_teachers]
    with_roles = role_maps.load_teachers(config)
    network = build(config.spec)
    check_init(config)
    clips = counts.target + counts.aux
    if config.stills:
        config.family.make_static(network)
    student_s = step_time(network, config, device) * clips
    teacher_s = sum(teacher_time(teacher, config) for teacher in teachers) * clips
    of_teachers = f"and {teacher_s:.2f} s for the teacher{CACHED if config.cache else ''}"
    if with_roles:
        of_teachers = "once the maps of the teachers are computed"
    names = [f"{t.spec.name} ({t.model.name})" for t in teachers]
    names += [f"{t.role}: {t.model.spec.name} ({t.model.name})" for t in with_roles]
    expected = {
        "labeled": f"{plural(len(found.targets), 'video')}, {len(found.val_targets)} to validate on",
        "auxiliary": f"{plural(len(found.aux), 'video')}, {len(found.val_aux)} to validate on",
        "network": f"{config.model}, {sum(p.numel() for p in network.parameters()):,} parameters",
        "teacher": ", ".join(names) or "none",
        "step": f"{counts.target} labeled and {counts.aux} auxiliary clips",
        "steps": f"{counts.steps} ({counts.steps_per_epoch} per epoch)",
        "stages": f"{', '.join(map(str, config.stages))}; this number of steps each" if config.stages else "",
        "device": str(device),
        "expected time": f"{hours(counts.steps * (student_s + teacher_s))}"
        f"{f' for stage {config.stage}' if config.stage else ''}: {student_s:.2f} s per step, {of_teachers}",
        "out": str(config.out),
    }
    return {name: value for name, value in expected.items() if value and not value.startswith("0 videos, 0")}


def hours(seconds: float) -> str:
    """Return a duration as text, rounded."""
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"


def step_time(network: nn.Module, config: TrainConfig, device: torch.device) -> float:
    """Return the seconds that one clip of a training step takes on this machine."""
    network = network.to(device).train()
    if device.type == "cpu" and not config.eager:
        cpu_layers.accelerate(network)
        keep_freed_memory(cpu_layers.MALLOC_KEEP_BYTES)
    clip = torch.randn(2, 3, config.clip_frames, *config.input_size, device=device)
    best = float("inf")
    for _ in range(2):  # the first one is slower
        started = time.monotonic()
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            saliency = run_student(network, clip, config).saliency
        saliency.float().clamp_min(1e-6).log().mean().backward()  # type: ignore[no-untyped-call]
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, (time.monotonic() - started) / len(clip))
    return best


def teacher_time(teacher: Teacher, config: TrainConfig) -> float:
    """Return the seconds that a teacher's maps of one clip take on this machine."""
    frames = 1 if config.stills else teacher.before + config.clip_frames + teacher.after
    read = torch.randint(0, 256, (frames, *teacher.spec.input_size, 3), dtype=torch.uint8)
    _ = teacher.engine  # built first, so that the time of a clip does not include it
    started = time.monotonic()
    teacher.targets(read)
    return time.monotonic() - started
