"""Cache of teachers' maps on disk, so that a teacher is run only once per clip."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..atomic_files import atomic_write, cannot_write
from ..complete import is_complete
from ..errors import InputError, OutputError, one_line
from .clip_cache import Form, form_of
from .losses import Targets
from .teachers import Teacher, mean, mirrored

log = logging.getLogger("tinyhd")


class CachedTeacher:
    """A teacher whose maps are cached on disk.

    Args:
        teacher: computes maps that are not cached.
        folder: of the cache; each teacher has a subfolder. None: no cache.
        dtype: ``float16``, or ``uint8`` of square roots, which keeps small values apart.
        scale: factor by which height and width are reduced.
    """

    def __init__(self, teacher: Teacher, folder: Path | None, dtype: str = "float16", scale: int = 1) -> None:
        self.teacher, self.dtype, self.scale = teacher, dtype, scale
        self.is_full = False
        """Whether the maps of all clips of the run are cached, so that the teacher is not needed."""
        self.folder = folder / f"{teacher.identity}-{dtype}-{scale}" if folder else None
        if self.folder:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise cannot_write(self.folder, error) from error

    def path(self, key: str) -> Path | None:
        """Return the file of a clip's maps, whether or not it exists."""
        return self.folder / f"{key}.npz" if self.folder else None

    def has(self, key: str) -> bool:
        """Return whether the maps of a clip are cached."""
        path = self.path(key)
        return path is not None and is_complete(path)

    def targets(self, keys: Sequence[str], reads: Tensor | None, flips: Sequence[bool]) -> Targets:
        """Return the teacher's maps of a batch, mirrored where the student's clips are.

        Args:
            keys: of the clips (``Sample``).
            reads: clips ``(N, R, H, W, 3)``, not mirrored; see :meth:`Teacher.targets`. None if :attr:`is_full`.
            flips: which clips are mirrored.

        Raises:
            InputError: a file of a full cache has been damaged or removed.
        """
        found = []
        for number, (key, flip) in enumerate(zip(keys, flips, strict=True)):
            maps = self.cached(key)
            if maps is None and reads is None:
                raise InputError(
                    f"{self.path(key)}: damaged or missing; remove it, and start again to compute it again"
                )
            if maps is None:
                assert reads is not None
                maps = self.compute(key, reads[number])
            found.append(mirrored(maps) if flip else maps)
        deep = [maps.intermediate for maps in found if maps.intermediate is not None]
        final = torch.cat([maps.final for maps in found if maps.final is not None])
        features = [maps.features for maps in found if maps.features is not None]
        return Targets(final, torch.cat(deep) if deep else None, features=torch.cat(features) if features else None)

    def cached(self, key: str) -> Targets | None:
        """Return the cached maps of a clip; None if there are none, or the file is damaged."""
        if not self.has(key):
            return None
        try:
            return self.load(key)
        except Exception as error:  # a damaged file can raise anything
            again = "" if self.is_full else ", computing it again"
            log.warning("%s: damaged%s (%s)", self.path(key), again, one_line(error))
            return None

    def compute(self, key: str, read: Tensor) -> Targets:
        """Run the teacher, and cache its maps."""
        if self.folder is None:
            return self.teacher.targets(read)
        self.write(key, read)
        return self.load(key)  # so that the first time gives the same maps as the next

    def write(self, key: str, read: Tensor) -> None:
        """Run the teacher, and write its maps to the cache."""
        maps, path = self.teacher.targets(read), self.path(key)
        assert path is not None
        arrays: dict[str, Any] = {}
        for name, value in (("final", maps.final), ("intermediate", maps.intermediate)):
            if value is not None:
                arrays |= packed(name, value[0], self.dtype, self.scale)
        if maps.features is not None:
            arrays["features"] = maps.features[0].half().cpu().numpy()
        if not all(np.isfinite(values).all() for values in arrays.values()):
            raise self.teacher.model.not_finite()
        with (
            contextlib.suppress(OutputError) if path.is_file() else contextlib.nullcontext(),
            atomic_write(path) as to,
        ):
            np.savez(to, **arrays)

    def load(self, key: str) -> Targets:
        """Load the maps of a clip."""
        path = self.path(key)
        assert path is not None
        size = self.teacher.config.input_size
        with path.open("rb") as file, np.load(file) as arrays:  # NumPy does not close a damaged file that it opened
            maps = [unpacked(name, dict(arrays), size) for name in ("final", "intermediate")]
            hinted = torch.from_numpy(arrays["features"]).float() if self.teacher.config.hint else None
        device = self.teacher.device
        final, deep, features = (None if m is None else m.unsqueeze(0).to(device) for m in (*maps, hinted))
        if final is None:
            raise ValueError("contains no maps")
        if final.dim() != 4 or final.shape[1] != self.teacher.config.num_maps:
            raise ValueError(f"contains maps of shape {tuple(final.shape[1:])}")
        found = Targets(final, deep, features=features)
        if not all(bool(torch.isfinite(maps.sum())) for maps in found.tensors):
            raise ValueError("contains NaN or infinity")
        return found


class Teachers:
    """Averages the maps of several teachers."""

    def __init__(self, teachers: Sequence[CachedTeacher]) -> None:
        self.teachers = teachers

    def look_up(self, keys: Collection[str]) -> None:
        """Find out which teachers are needed, if a run needs the maps of all clips with the given keys."""
        for cached in self.teachers:
            cached.is_full = cached.folder is not None and all(map(cached.has, keys))

    def load(self) -> None:
        """Load the teachers that are needed; ``WeightsError`` if one cannot be loaded."""
        for cached in self.teachers:
            if not cached.is_full:
                cached.teacher.model  # noqa: B018  # loaded on first use

    @property
    def contexts(self) -> dict[Form, tuple[int, int]]:
        """Number of frames before and after the student's clip to read, by form in which the teachers read frames.

        Only forms of teachers that are needed.
        """
        found: dict[Form, tuple[int, int]] = {}
        for cached in self.teachers:
            if cached.is_full:
                continue
            teacher = cached.teacher
            own = (0, 0) if teacher.config.stills else (teacher.before, teacher.after)
            before, after = found.get(form := form_of(teacher.spec), (0, 0))
            found[form] = max(before, own[0]), max(after, own[1])
        return found

    def targets(self, keys: Sequence[str], reads: Mapping[Form, Tensor], flips: Sequence[bool]) -> Targets:
        """Return the mean of the teachers' maps of a batch.

        Args:
            keys: of the clips.
            reads: clips by form, with the context of :attr:`contexts`; see :meth:`CachedTeacher.targets`.
            flips: which clips are mirrored.
        """
        found = []
        for cached in self.teachers:
            read = None if cached.is_full else self.with_context(cached.teacher, reads)
            found.append(cached.targets(keys, read, flips))
        return mean(found)

    def fill(self, key: str, reads: Mapping[Form, Tensor]) -> None:
        """Run the teachers whose maps of a clip are not cached, and write these maps.

        Args:
            key: of the clip.
            reads: the clip by form, as for :meth:`targets`.
        """
        for cached in self.teachers:
            if not cached.has(key):
                cached.write(key, self.with_context(cached.teacher, reads)[0])

    def with_context(self, teacher: Teacher, reads: Mapping[Form, Tensor]) -> Tensor:
        """Return clips with the context of one teacher; another teacher of its form may need more."""
        form = form_of(teacher.spec)
        (before, after), read = self.contexts[form], reads[form]
        if read.shape[1] == 1:
            return read
        return read[:, before - teacher.before : read.shape[1] - (after - teacher.after)]


def packed(name: str, maps: Tensor, dtype: str, scale: int) -> dict[str, NDArray[Any]]:
    """Return maps ``(T, H, W)`` as small arrays, by names that start with ``name``. Equal maps are stored once."""
    if bool((maps == maps[:1]).all()) and len(maps) > 1:
        return {**packed(name, maps[:1], dtype, scale), f"{name}_repeats": np.array(len(maps))}
    small = F.avg_pool2d(maps.unsqueeze(0), scale)[0] if scale > 1 else maps
    peak = small.amax((-2, -1), keepdim=True).clamp_min(1e-12)
    values = small / peak  # the smallest value of float16 is 6e-8
    stored = (values.sqrt() * 255).round().to(torch.uint8) if dtype == "uint8" else values.half()
    return {name: stored.cpu().numpy(), f"{name}_peak": peak.cpu().numpy()}


def unpacked(name: str, arrays: dict[str, NDArray[Any]], size: tuple[int, int]) -> Tensor | None:
    """Return the maps that :func:`packed` packed, float32 ``(T, H, W)``; None if there is no such array."""
    if name not in arrays:
        return None
    stored = torch.from_numpy(arrays[name])
    values = (stored.float() / 255).square() if stored.dtype == torch.uint8 else stored.float()
    values = values * torch.from_numpy(arrays[f"{name}_peak"])
    if tuple(values.shape[-2:]) != size:
        values = F.interpolate(values.unsqueeze(0), size=size, mode="bilinear", align_corners=False)[0]
    repeats = arrays.get(f"{name}_repeats")
    return values if repeats is None else values.expand(int(repeats), -1, -1)
