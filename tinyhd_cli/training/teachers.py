"""Teachers: networks whose maps a student is to match, asked for the very frames that the student's maps are for."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..atomic_files import atomic_write, cannot_write
from ..complete import is_complete
from ..errors import OutputError, WeightsError, one_line
from ..models.spec import CLIP_FRAMES, HD2SConfig
from .losses import Targets, distribution
from .options import TrainConfig

if TYPE_CHECKING:
    from ..inference.model import Model

log = logging.getLogger("tinyhd")

DAMAGED = (OSError, ValueError, KeyError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""Exceptions that NumPy and PyTorch raise for damaged files."""

WINDOWS = 4
"""Windows of 16 frames that a single-output teacher sees at once: more do not fit a processor's cache."""


class Teacher:
    """A frozen network with the windows that it needs.

    A multi-output teacher sees the student's 16 frames. A single-output one (HD2S, TinyHD-S) gives the map of the last
    frame of its window; for a multi-output student it sees 16 windows, each ending at the frame that the student's map
    is for, for which 15 frames before the clip are read. The original reads 16 and stops one frame short:
    ``upstream_alignment`` does the same.

    Args:
        config: the run.
        name: of the network, or its weight file.
        device: where it runs.

    Raises:
        WeightsError: the weights cannot be loaded, or the network's input has another size than the student's.
    """

    def __init__(self, config: TrainConfig, name: str, device: torch.device) -> None:
        from ..inference.model import load_model

        try:
            self.model: Model = load_model(name, str(device), engine="torch")
        except WeightsError as error:  # its message names the option of other commands
            raise WeightsError(str(error).replace("add --weights ", "use --teacher ")) from error
        self.config = config
        self.bf16 = config.precision == "bf16"
        self.lag = 1 if config.upstream_alignment and self.windows > 1 else 0
        if self.model.input_size != config.size:
            theirs, ours = ("x".join(map(str, size)) for size in (self.model.input_size, config.size))
            raise WeightsError(f"--teacher {name}: reads {theirs} pixels, the student {ours}")

    @property
    def windows(self) -> int:
        """Windows that the teacher sees for one clip."""
        return self.config.maps if self.model.config.frames_out == 1 else 1

    @property
    def context(self) -> int:
        """Frames before the student's clip that must be read."""
        return self.windows - 1 + self.lag

    @property
    def identity(self) -> str:
        """What tells this teacher's maps from those of another."""
        facts: tuple[object, ...] = (self.model.sha256, self.config.maps, self.lag, self.bf16)
        facts += (self.config.teacher_flip, self.config.teacher_step if self.windows > 1 else 1)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

    @torch.no_grad()
    def maps(self, read: Tensor) -> Targets:
        """The teacher's maps of a clip.

        Args:
            read: uint8 RGB ``(context + 16, H, W, 3)``, or a single frame of a clip that stands still.

        Returns:
            Maps of one clip, float32 on the teacher's device: final ``(1, T, H, W)``, intermediate ``(1, 4, H, W)``,
            the mean over the windows.
        """
        if len(read) == 1:
            read = read.expand(self.context + CLIP_FRAMES, -1, -1, -1)
        read = read[-self.context - CLIP_FRAMES :]  # another teacher may need more
        if not self.config.teacher_flip:
            return self.see(read)
        return mean([self.see(read), mirrored(self.see(read.flip(2)))])

    def see(self, read: Tensor) -> Targets:
        """The teacher's maps of a clip as it is."""
        frames = self.config.maps
        if self.windows == 1 or bool((read == read[:1]).all()):  # a still clip: all windows are the same
            final, deep = self.ask(read[None, -CLIP_FRAMES:])
            if self.windows > 1:
                final = final.expand(-1, frames, -1, -1)
            final = final.mean(1, keepdim=True) if self.config.stills else final[:, -frames:]
            return Targets(final, None if deep is None else deep.mean(2))
        asked = sorted({*range(0, self.windows, self.config.teacher_step), self.windows - 1})
        parts = []
        for first in range(0, len(asked), WINDOWS):
            places = asked[first : first + WINDOWS]
            parts.append(self.ask(torch.stack([read[place : place + CLIP_FRAMES] for place in places])))
        final = between(torch.cat([part[0] for part in parts]), asked)  # (asked, 1, H, W) to (windows, 1, H, W)
        maps = [part[1] for part in parts if part[1] is not None]
        deep = between(torch.cat(maps), asked).mean((0, 2)).unsqueeze(0) if maps else None
        return Targets(final.transpose(0, 1), deep)

    def ask(self, clips: Tensor) -> tuple[Tensor, Tensor | None]:
        """Final ``(N, T, H, W)`` and intermediate maps ``(N, 4, T1, H, W)`` of clips ``(N, 16, H, W, 3)``."""
        device = self.model.device
        x = clips.to(device).permute(0, 4, 1, 2, 3).float() / 255
        x = (x - self.model.mean.to(device).unsqueeze(1)) / self.model.std.to(device).unsqueeze(1)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            final, maps = self.model.network(x, intermediate=True)
        if not bool(torch.isfinite(final.sum(dtype=torch.float32))):  # kept in 8 bits, NaN would become a sound 0
            raise self.model.not_finite()
        deep = maps["maps"] if isinstance(self.model.config, HD2SConfig) else maps.get("d1")
        return final.float(), None if deep is None else deep.float()


def between(maps: Tensor, places: Sequence[int]) -> Tensor:
    """Maps of some places in time, ``(P, ...)``, blended for all places from the first to the last."""
    if len(places) == places[-1] - places[0] + 1:
        return maps
    wanted = np.arange(places[0], places[-1] + 1)
    left = np.clip(np.searchsorted(places, wanted, side="right") - 1, 0, len(places) - 2)
    ends = np.asarray(places)
    share = torch.from_numpy((wanted - ends[left]) / (ends[left + 1] - ends[left])).to(maps)
    share = share.view(-1, *[1] * (maps.dim() - 1))
    return maps[left] * (1 - share) + maps[left + 1] * share


def mean(several: Sequence[Targets]) -> Targets:
    """The mean of several maps of the same clips, each as a distribution, as their scales say nothing."""
    if len(several) == 1:
        return several[0]
    deep = [distribution(maps.intermediate) for maps in several if maps.intermediate is not None]
    final = torch.stack([distribution(maps.final) for maps in several]).mean(0)
    return Targets(final, torch.stack(deep).mean(0) if deep else None)


class CachedTeacher:
    """A teacher whose maps are kept on disk, so that it sees every clip once.

    Args:
        teacher: who is asked for what is not there.
        folder: where maps are kept; a folder inside for each teacher. None: nothing is kept.
        dtype: ``float16``, or ``uint8`` of square roots, which spares the small values.
        scale: what height and width are divided by.
    """

    def __init__(self, teacher: Teacher, folder: Path | None, dtype: str = "float16", scale: int = 1) -> None:
        self.teacher, self.dtype, self.scale = teacher, dtype, scale
        self.folder = folder / f"{teacher.identity}-{dtype}-{scale}" if folder else None
        if self.folder:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise cannot_write(self.folder, error) from error

    def path(self, key: str) -> Path | None:
        """Where the maps of a clip are, or will be."""
        return self.folder / f"{key}.npz" if self.folder else None

    def has(self, key: str) -> bool:
        """Whether the maps of a clip are on disk."""
        path = self.path(key)
        return path is not None and is_complete(path)

    def targets(self, keys: Sequence[str], reads: Tensor, flips: Sequence[bool]) -> Targets:
        """The teacher's maps of a batch: of the clips as they are, then mirrored where the student's clips are.

        Args:
            keys: of the clips (``Sample``).
            reads: ``(N, R, H, W, 3)``.
            flips: which of them are mirrored.
        """
        size = (int(reads.shape[2]), int(reads.shape[3]))
        found = []
        for key, read, flip in zip(keys, reads, flips, strict=True):
            maps = self.kept(key, size) or self.make(key, read)
            found.append(mirrored(maps) if flip else maps)
        deep = [maps.intermediate for maps in found if maps.intermediate is not None]
        return Targets(torch.cat([maps.final for maps in found]), torch.cat(deep) if deep else None)

    def kept(self, key: str, size: tuple[int, int]) -> Targets | None:
        """Return the maps on disk; None if there are none, or the file is damaged."""
        if not self.has(key):
            return None
        try:
            return self.load(key, size)
        except (
            OSError,
            ValueError,
            KeyError,
            EOFError,
            MemoryError,
            RuntimeError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            log.warning("%s: damaged, computing it again (%s)", self.path(key), one_line(error))
            return None

    def make(self, key: str, read: Tensor) -> Targets:
        """Ask the teacher, and keep what it says."""
        maps = self.teacher.maps(read)
        path = self.path(key)
        if path is None:
            return maps
        arrays: dict[str, Any] = {}
        for name, value in (("final", maps.final), ("intermediate", maps.intermediate)):
            if value is not None:
                arrays |= packed(name, value[0], self.dtype, self.scale)
        with (
            contextlib.suppress(OutputError) if path.is_file() else contextlib.nullcontext(),
            atomic_write(path) as to,
        ):
            np.savez(to, **arrays)
        return self.load(key, (int(read.shape[1]), int(read.shape[2])))  # the same now as next time

    def load(self, key: str, size: tuple[int, int]) -> Targets:
        """The maps on disk."""
        path = self.path(key)
        assert path is not None
        with path.open("rb") as file, np.load(file) as arrays:  # NumPy would not close a damaged file that it opened
            maps = [unpacked(name, dict(arrays), size) for name in ("final", "intermediate")]
        device = self.teacher.model.device
        final, deep = (None if m is None else m.unsqueeze(0).to(device) for m in maps)
        if final is None:
            raise ValueError("contains no maps")
        return Targets(final, deep)


class Teachers:
    """All teachers of a run, which speak as one."""

    def __init__(self, teachers: Sequence[CachedTeacher]) -> None:
        self.teachers = teachers

    @property
    def context(self) -> int:
        """Frames before the student's clip that must be read."""
        return max(teacher.teacher.context for teacher in self.teachers)

    def targets(self, keys: Sequence[str], reads: Tensor, flips: Sequence[bool]) -> Targets:
        """The mean of what they say of a batch; see :meth:`CachedTeacher.targets`."""
        return mean([teacher.targets(keys, reads, flips) for teacher in self.teachers])


def mirrored(maps: Targets) -> Targets:
    """Left and right exchanged."""
    return Targets(maps.final.flip(-1), None if maps.intermediate is None else maps.intermediate.flip(-1))


def packed(name: str, maps: Tensor, dtype: str, scale: int) -> dict[str, NDArray[Any]]:
    """Maps ``(T, H, W)`` as small arrays. Maps that are all the same are stored once."""
    if bool((maps == maps[:1]).all()) and len(maps) > 1:
        return {**packed(name, maps[:1], dtype, scale), f"{name}_repeats": np.array(len(maps))}
    small = F.avg_pool2d(maps.unsqueeze(0), scale)[0] if scale > 1 else maps
    peak = small.amax((-2, -1), keepdim=True).clamp_min(1e-12)
    values = small / peak  # the scale of a map says nothing, and float16 ends at 6e-8
    stored = (values.sqrt() * 255).round().to(torch.uint8) if dtype == "uint8" else values.half()
    return {name: stored.cpu().numpy(), f"{name}_peak": peak.cpu().numpy()}


def unpacked(name: str, arrays: dict[str, NDArray[Any]], size: tuple[int, int]) -> Tensor | None:
    """What :func:`packed` packed, float32 ``(T, H, W)``; None if there is no such array."""
    if name not in arrays:
        return None
    stored = torch.from_numpy(arrays[name])
    values = (stored.float() / 255).square() if stored.dtype == torch.uint8 else stored.float()
    values = values * torch.from_numpy(arrays[f"{name}_peak"])
    if tuple(values.shape[-2:]) != size:
        values = F.interpolate(values.unsqueeze(0), size=size, mode="bilinear", align_corners=False)[0]
    repeats = arrays.get(f"{name}_repeats")
    return values if repeats is None else values.expand(int(repeats), -1, -1)
