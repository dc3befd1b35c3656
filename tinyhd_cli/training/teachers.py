"""Teachers: networks whose maps a student learns. Clip length and input size may differ from the student's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import weights
from ..engines import hierarchy
from ..engines.base import Engine, HierarchyEngine
from ..engines.graph import Array
from ..engines.selection import EngineOptions, choose
from ..errors import UsageError
from ..models import ModelSpec
from ..models.registry import family
from .features import Tap, during
from .losses import Targets, distribution
from .options import TrainConfig
from .teacher_errors import naming_teacher

if TYPE_CHECKING:
    from ..inference.model import Model

TEACHER_BATCH = 4
"""Clips per forward pass of a teacher with one map per clip: more do not fit a CPU's cache."""

MIN_STEPS = 8
"""Number of steps from which a faster engine is built for a teacher. Building it for the first time takes as long as
PyTorch takes for a few clips."""


class Alignment:
    """The clips that a teacher must read so that it outputs a map for each of the student's maps.

    Frames are numbered from the first frame of the student's clip, so that earlier ones are negative.

    Args:
        student: frames of the student's clip that its maps belong to.
        length: frames of the student's clip.
        teacher: the teacher.
        lag: number of frames by which a sliding teacher is shifted back.
    """

    def __init__(self, student: Sequence[int], length: int, teacher: ModelSpec, lag: int = 0) -> None:
        self.student, self.length, self.teacher = tuple(student), length, teacher
        size = teacher.clip_frames
        if teacher.windowing == "sliding":
            self.starts = tuple(frame - teacher.frames_before - lag for frame in self.student)
        else:  # of the blocks that end with the student's clip, those with its maps
            count = -(-(length - self.student[0]) // size)
            starts = (length - size * number for number in range(count, 0, -1))
            self.starts = tuple(start for start in starts if start <= self.student[-1])

    @property
    def before(self) -> int:
        """Frames before the student's clip that must be read."""
        return max(0, -min(self.starts))

    @property
    def after(self) -> int:
        """Frames after the student's clip that must be read."""
        return max(0, max(self.starts) + self.teacher.clip_frames - self.length)

    def select(self, maps: Tensor) -> Tensor:
        """Return the maps of the student's frames from the maps of all clips, ``(clips, T, H, W)`` to ``(F, H, W)``."""
        if self.teacher.windowing == "sliding":
            return maps[:, 0]
        flat = maps.flatten(0, 1)
        return flat[[frame - self.starts[0] for frame in self.student]]


class Teacher:
    """A trained network with fixed weights. It is loaded on first use, which cached maps may make unnecessary.

    A teacher with one map per clip is run on one clip for each of the student's maps. TinyHD's authors read one frame
    less before the clip; ``upstream_alignment`` reproduces that.

    Args:
        config: the run.
        name: name of the network, or its weights file.
        device: device that runs it.

    Raises:
        WeightsError: the weights cannot be loaded.
    """

    def __init__(self, config: TrainConfig, name: str, device: torch.device) -> None:
        with naming_teacher(name):
            self.spec, self.sha256 = spec_and_digest(name)
        self.config, self.name, self.device = config, name, device
        self.bf16 = config.precision == "bf16"
        sliding = self.spec.windowing == "sliding"
        self.lag = 1 if config.upstream_alignment and sliding and config.num_maps > 1 else 0
        self.alignment = Alignment(config.map_frames, config.clip_frames, self.spec, self.lag)
        if config.hint and not family(self.spec).features:
            raise UsageError(f"--hint: {self.spec.name} has no features to learn; use another --teacher, or --hint 0")

    @cached_property
    def model(self) -> Model:
        """The network with its weights; ``WeightsError`` if it cannot be loaded."""
        from ..inference.model import load_model

        # The random numbers of the run must not depend on whether the teacher is needed.
        with naming_teacher(self.name), torch.random.fork_rng(devices=[]):
            return load_model(self.name, str(self.device), engine="torch")

    @cached_property
    def engine(self) -> HierarchyEngine | Engine | None:
        """Runs the network on single clips faster than PyTorch; None where PyTorch is used.

        PyTorch is used on GPUs, for features, with ``--eager``, for a run of a few steps, and if the maps of no engine
        agree with its own. A resumed run uses the same engine, so that its result is the same.
        """
        config, loaded = self.config, self.model.loaded
        few = config.steps is not None and config.steps < MIN_STEPS
        if self.device.type != "cpu" or config.hint or config.eager or few:
            return None
        if self.has_hierarchy:
            return hierarchy.choose(loaded, exact=not self.bf16)
        engine = choose(loaded, EngineOptions(), exact=not self.bf16)
        return None if engine.name == "torch" else engine

    @property
    def has_hierarchy(self) -> bool:
        """Whether the networks of its family output hierarchical maps."""
        kind = family(self.spec)
        return kind.intermediate and bool(kind.hierarchy)

    @cached_property
    def tap(self) -> Tap | None:
        """Records the network's features, if the student learns them."""
        return Tap(self.model.network, family(self.spec).features) if self.config.hint else None

    @property
    def before(self) -> int:
        """Frames before the student's clip that must be read."""
        return self.alignment.before

    @property
    def after(self) -> int:
        """Frames after the student's clip that must be read."""
        return self.alignment.after

    @property
    def hint_frames(self) -> tuple[int, int]:
        """Frames of the student's clip that the teacher's last clip contains: the first, and the one after the last."""
        start = self.alignment.starts[-1]
        return max(0, start), min(self.config.clip_frames, start + self.spec.clip_frames)

    @property
    def identity(self) -> str:
        """Digest that distinguishes this teacher's maps from those of another."""
        config, alignment = self.config, self.alignment
        facts: tuple[object, ...] = (self.sha256, self.spec.input_size, config.input_size, alignment.starts)
        facts += (alignment.student, alignment.length, config.stills, self.bf16, config.teacher_flip)
        facts += (config.teacher_step if len(alignment.starts) > 1 else 1, bool(config.hint))
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

    @torch.no_grad()
    def targets(self, read: Tensor) -> Targets:
        """Return the teacher's maps of a clip, on the student's grid.

        Args:
            read: uint8 RGB ``(before + clip_frames + after, H, W, 3)``, of the teacher's input size; or one frame of a
                static clip.

        Returns:
            Maps of one clip, float32 on the teacher's device: final ``(1, maps, H, W)``, intermediate ``(1, K, H, W)``,
            the mean over the teacher's clips; with ``--hint`` also features, those of the last of these clips.
        """
        if len(read) == 1:
            read = read.expand(self.before + self.config.clip_frames + self.after, -1, -1, -1)
        if not self.config.teacher_flip:
            return self.predict(read)
        return mean([self.predict(read), mirrored(self.predict(read.flip(2)))])

    def predict(self, read: Tensor) -> Targets:
        """Return the teacher's maps of a clip, not averaged with those of its mirror image."""
        starts, length = self.alignment.starts, self.spec.clip_frames
        static = bool((read == read[:1]).all())
        step = self.config.teacher_step if self.spec.windowing == "sliding" else 1
        chosen = [0] if static else sorted({*range(0, len(starts), step), len(starts) - 1})
        parts, tap = [], self.tap
        frames = self.normalized(read[: starts[0] + self.before + length] if static else read)
        for first in range(0, len(chosen), TEACHER_BATCH):
            offsets = [starts[index] + self.before for index in chosen[first : first + TEACHER_BATCH]]
            parts.append(self.forward([frames[:, offset : offset + length] for offset in offsets]))
        features = None if tap is None else self.of_student(tap.take()[-1:].float())
        final = torch.cat([part[0] for part in parts])
        deep = torch.cat([part[1] for part in parts if part[1] is not None]) if parts[0][1] is not None else None
        weights = torch.ones(len(starts), 1) if static else interpolation(chosen)
        weights = weights.to(final)
        final = torch.tensordot(weights, final, 1) if len(chosen) < len(starts) else final
        maps = self.alignment.select(final).unsqueeze(0)
        if self.config.stills:
            maps = final.mean((0, 1))[None, None]
        deep = None if deep is None else torch.tensordot(weights.mean(0), deep.mean(2), 1).unsqueeze(0)
        return Targets(self.on_grid(maps), None if deep is None else self.on_grid(deep), features=features)

    def of_student(self, features: Tensor) -> Tensor:
        """Return the features of the teacher's last clip at the frames that the student's clip contains, too."""
        start, (first, last) = self.alignment.starts[-1], self.hint_frames
        return during(features, (first - start, last - start), self.spec.clip_frames)

    def normalized(self, read: Tensor) -> Tensor:
        """Return frames as the network reads them: ``(3, T, H, W)`` on its device, from uint8 ``(T, H, W, 3)``."""
        steps = self.spec.preprocess
        mean, std = (torch.tensor(values, device=self.device).view(3, 1, 1, 1) for values in (steps.mean, steps.std))
        planes = read.to(self.device).permute(3, 0, 1, 2).contiguous()
        return planes.float().div_(255).sub_(mean).div_(std)

    def forward(self, clips: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Run the network on clips ``(3, T, H, W)``: final ``(N, T, H, W)``, hierarchical maps ``(N, K, T1, H, W)``."""
        final, deep = self.in_engine(clips) if self.engine else self.in_pytorch(torch.stack(list(clips)))
        if not bool(torch.isfinite(final.sum(dtype=torch.float32))):  # stored in 8 bits, NaN would become 0
            raise self.model.not_finite()
        return final.float(), None if deep is None else deep.float()

    def in_pytorch(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Run the network in PyTorch on normalized clips ``(N, 3, T, H, W)``."""
        network, kind = self.model.network, family(self.spec)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            final, maps = network(x, intermediate=True) if kind.intermediate else (network(x), {})
        return final, maps.get(kind.hierarchy)

    def in_engine(self, clips: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Run the network in the engine on normalized clips ``(3, T, H, W)``."""
        arrays: Iterator[Array] = (clip.contiguous().numpy() for clip in clips)
        if not self.has_hierarchy:
            engine = cast(Engine, self.engine)
            return torch.stack([torch.from_numpy(engine.infer(clip)) for clip in arrays]), None
        outputs = zip(*map(cast(HierarchyEngine, self.engine).outputs, arrays), strict=True)
        final, *deep = (torch.stack([torch.from_numpy(values) for values in several]) for several in outputs)
        return final, deep[0] if deep else None

    def on_grid(self, maps: Tensor) -> Tensor:
        """Return maps ``(N, C, H, W)`` resized to the student's input size."""
        size = self.config.input_size
        if tuple(maps.shape[-2:]) == size:
            return maps
        return F.interpolate(maps, size, mode="bilinear", align_corners=False, antialias=True)


def spec_and_digest(name: str) -> tuple[ModelSpec, str]:
    """Return the network of a weights file and the digest of the file, without building the network.

    Raises:
        WeightsError: the file cannot be found or read.
        UsageError: the name is unknown.
    """
    file = weights.open_file(name)
    return (file.metadata or file.load().info).spec, file.sha256


def interpolation(positions: Sequence[int]) -> Tensor:
    """Return the weights ``(M, P)`` that interpolate P values to all M positions in time from the first to the last."""
    every = np.arange(positions[0], positions[-1] + 1)
    return torch.from_numpy(np.stack([np.interp(every, positions, row) for row in np.eye(len(positions))], 1)).float()


def mean(several: Sequence[Targets]) -> Targets:
    """Return the mean of several maps of the same clips; each becomes a distribution, because their scales differ."""
    if len(several) == 1:
        return several[0]
    deep = [distribution(maps.intermediate) for maps in several if maps.intermediate is not None]
    final = torch.stack([distribution(maps.final) for maps in several if maps.final is not None]).mean(0)
    features = [maps.features for maps in several if maps.features is not None]
    means = [torch.stack(values).mean(0) if values else None for values in (deep, features)]
    return Targets(final, means[0], features=means[1])


def mirrored(maps: Targets) -> Targets:
    """Return maps mirrored horizontally."""
    return maps.map(lambda values: values.flip(-1))
