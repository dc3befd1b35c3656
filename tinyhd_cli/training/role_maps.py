"""Maps of teachers with roles, computed once for each video in the engine that prediction uses.

A teacher with a role is not run on the student's clips: for a student that reads two frames, the teacher would have to
process a whole clip of its own to provide a single map. Instead, it is run on whole videos, as for prediction, and the
maps of the frames that training and validation can use are stored.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..atomic_files import atomic_write
from ..callbacks import StartPhase
from ..complete import is_complete
from ..errors import InputError
from ..inference.pipeline import Pipeline
from ..inference.preprocess import Pixels, normalized, reduction
from ..inference.windows import Map
from .clip_cache import Form, Stored, decode, form_of, is_still
from .clips import TRAJECTORY_FRAMES, Clips, Pick
from .options import TrainConfig
from .picks import camera_paths, starts, validation_picks
from .teacher_cache import packed, unpacked
from .teacher_errors import naming_teacher

if TYPE_CHECKING:
    from ..datasets import Video
    from ..inference.model import Model

log = logging.getLogger("tinyhd")

VERSION = 1
"""Version of the files; a new one makes the stored maps invalid."""

FILES_IN_MEMORY = 4096
"""Maximum number of files of maps that a process keeps in memory; each has about 100 kB."""

AHEAD = 32
"""Maximum number of frames that are decoded ahead of the teacher."""


class RoleTeacher:
    """A teacher with a role.

    Args:
        config: the run.
        role: ``spatial`` or ``temporal``, see :data:`tinyhd_cli.models.family.ROLES`.
        name: the network's name, or its weights file.

    Raises:
        WeightsError: the weights cannot be loaded.
    """

    def __init__(self, config: TrainConfig, role: str, name: str) -> None:
        from ..inference.model import load_model

        with naming_teacher(name, role):
            self.model: Model = load_model(name, config.device)
        self.role, self.config = role, config

    @property
    def form(self) -> Form:
        """Form in which the teacher reads frames."""
        return form_of(self.model.spec)

    @property
    def identity(self) -> str:
        """Digest of everything that the stored maps depend on, except the video."""
        config, model = self.config, self.model
        facts: tuple[object, ...] = (VERSION, self.role, model.sha256, model.spec.input_size, model.engine.precision)
        facts += (config.start_grid, config.clip_frames, config.map_frames, config.still_motion > 0)
        facts += (config.cache_dtype, config.cache_scale)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

    def maps(self, frames: Iterable[Pixels], wanted: Sequence[int]) -> Iterator[Map]:
        """Yield the maps ``(H, W)`` of the frames whose numbers are in ``wanted``, in order."""
        chosen = set(wanted)
        if self.role == "temporal":
            yield from (saliency for number, saliency in self.model.maps(enumerate(frames)) if number in chosen)
            return
        for number, frame in enumerate(frames):
            if number in chosen:
                yield self.of_still(frame)

    def of_still(self, frame: Pixels) -> Map:
        """Return the map of a frame ``(3, H, W)``: the mean over the maps of a static clip of it."""
        clip = np.repeat(frame[:, np.newaxis], self.model.spec.clip_frames, axis=1)
        return np.asarray(self.model.infer(clip).mean(0), np.float32)

    def of_video(self, video: Video, wanted: Sequence[int]) -> list[Map]:
        """Return the maps of some frames of a video; ``InputError`` if the video cannot be read."""
        read = video.read(lambda line: log.debug("%s", line), partial(reduction, self.model.spec.preprocess))
        with Pipeline() as stages:
            frames = stages.prefetch((self.model.prepare(image) for _, image in read), AHEAD)
            return list(self.maps(frames, wanted))

    def of_photograph(self, stored: Stored, trajectory: int) -> Map:
        """Return the map of one frame of a camera path over a photograph: the frame that the student's map belongs to.

        Args:
            stored: the photograph in the teacher's form.
            trajectory: number of the camera path; 0: a static view.
        """
        clips = Clips({self.form: [stored]}, self.form, {}, TRAJECTORY_FRAMES)
        views = clips.read(Pick(0, 0, trajectory=trajectory), self.form, (0, 0))
        frames = (normalized(view.astype(np.float32), self.model.spec.preprocess) for view in views)
        return next(self.maps(frames, [self.config.map_frames[0]]))


@dataclass(frozen=True)
class RoleMaps:
    """Reads the stored maps of the teachers with roles. Contains only paths, so that it can be sent to processes."""

    files: Mapping[str, Sequence[Sequence[Path]]]
    """Files by role: for each video of the run, one file per teacher."""
    size: tuple[int, int]
    """Height and width of the student's input."""

    def of(self, video: int, frames: Sequence[int]) -> dict[str, Tensor]:
        """Return the maps of some frames by role, ``(T, H, W)``: the mean over the teachers of the role.

        Each teacher's maps have the maximum 1.

        Args:
            video: index in the list of videos.
            frames: numbers of the frames; for a photograph, numbers of camera paths.
        """
        return {
            role: torch.stack([frames_of(path, tuple(frames), self.size) for path in paths[video]]).mean(0)
            for role, paths in self.files.items()
        }


def read_maps(path: Path) -> dict[str, Any]:
    """Return the arrays of a file of maps."""
    with path.open("rb") as file, np.load(file) as arrays:
        return dict(arrays)


kept_maps = lru_cache(FILES_IN_MEMORY)(read_maps)
""":func:`read_maps` with a cache in memory."""


def frames_of(path: Path, frames: Sequence[int], size: tuple[int, int]) -> Tensor:
    """Return the maps of some frames in a file, resized to ``size`` and scaled to a maximum of 1: ``(T, H, W)``."""
    arrays = kept_maps(path)
    rows = np.searchsorted(arrays["frames"], frames)
    chosen = {"final": arrays["final"][rows], "final_peak": np.ones((len(rows), 1, 1), np.float32)}
    maps = unpacked("final", chosen, arrays["final"].shape[-2:])
    assert maps is not None
    maps = F.interpolate(maps.unsqueeze(0), size, mode="bilinear", align_corners=False, antialias=True)[0]
    return maps / maps.amax((-2, -1), keepdim=True).clamp_min(1e-6)


def wanted_frames(config: TrainConfig, frames: int) -> list[int]:
    """Return the frames of a video that the student's maps can belong to, in training and validation."""
    length = config.clip_frames
    first = {*starts(frames, config.start_grid, length)}
    stand_in = Stored("", "", Path(), frames, config.input_size, still=False, labeled=False)
    first |= {pick.start for pick in validation_picks([(0, stand_in)], length)}
    return sorted({min(max(0, start + place), frames - 1) for start in first for place in config.map_frames})


def load_teachers(config: TrainConfig) -> list[RoleTeacher]:
    """Load the teachers with roles of a run, and log which roles have none.

    Raises:
        UsageError: a teacher is unknown.
        WeightsError: a teacher cannot be loaded.
    """
    for role in config.family.roles:
        if config.role_teachers and role not in config.role_teachers:
            learns = "learns from ground truth only" if config.data else "is not trained in a stage of its own"
            log.warning("no %s teacher (--teacher %s=NAME): the %s path %s", role, role, role, learns)
    return [RoleTeacher(config, role, name) for role, names in config.role_teachers.items() for name in names]


def compute(
    config: TrainConfig,
    teachers: Sequence[RoleTeacher],
    videos: Sequence[Video],
    stored: Sequence[Stored],
    root: Path,
    start_phase: StartPhase,
) -> RoleMaps | None:
    """Compute the maps of all teachers with roles for the videos of a run, unless they are stored.

    Args:
        config: the run.
        teachers: those of :func:`load_teachers`.
        videos: the run's videos.
        stored: the same videos, decoded in the student's form.
        root: folder of the caches.
        start_phase: starts a phase and returns the callback for its progress.

    Returns:
        The maps; None if no teacher has a role.

    Raises:
        OutputError: the maps cannot be written.
    """
    files: dict[str, list[list[Path]]] = {teacher.role: [[] for _ in videos] for teacher in teachers}
    for teacher in teachers:
        progress = start_phase(f"maps of the {teacher.role} teacher {teacher.model.name}")
        for done, (video, decoded) in enumerate(zip(videos, stored, strict=True)):
            files[teacher.role][done].append(store_maps(teacher, video, decoded, root))
            progress(done + 1, len(videos))
    return RoleMaps(files, config.input_size) if files else None


def is_usable(path: Path, wanted: Sequence[int]) -> bool:
    """Return whether a file contains the maps of the wanted frames, and is not damaged."""
    if not is_complete(path):
        return False
    try:
        arrays = read_maps(path)
        frames, maps = arrays["frames"], arrays["final"]
        return np.array_equal(frames, wanted) and maps.ndim == 3 and len(maps) == len(wanted) and is_finite(maps)
    except Exception:  # a damaged file can raise anything
        return False


def is_finite(maps: NDArray[Any]) -> bool:
    """Return whether stored maps are of a type that :func:`.teacher_cache.packed` writes, without NaN and infinity."""
    return maps.size > 0 and maps.dtype in (np.float16, np.uint8) and bool(np.isfinite(maps).all())


def store_maps(teacher: RoleTeacher, video: Video, stored: Stored, root: Path) -> Path:
    """Return the file with a teacher's maps of a video; it is written if it is missing or damaged.

    Raises:
        InputError: the video cannot be read, or has changed.
        OutputError: the file cannot be written.
    """
    config, form = teacher.config, teacher.form
    path = root / "teacher" / f"{teacher.role}-{teacher.identity}" / f"{stored.content}.npz"
    wanted = list(camera_paths(config)) if stored.still else wanted_frames(config, stored.frames)
    if is_usable(path, wanted):
        return path
    if is_still(video):
        photograph = decode(video, root / "clips", form.size, form.preprocess)
        maps = [teacher.of_photograph(photograph, trajectory) for trajectory in wanted]
    else:
        maps = teacher.of_video(video, wanted)
    if len(maps) != len(wanted):
        raise InputError(f"{stored.name}: the number of frames has changed; start again once the file is complete")
    tensor = torch.from_numpy(np.stack(maps))
    arrays = packed("final", torch.clamp_min(tensor, 0), config.cache_dtype, config.cache_scale)
    repeats = arrays.pop("final_repeats", None)
    if repeats is not None:  # equal maps are stored once
        arrays["final"] = np.repeat(arrays["final"], int(repeats), axis=0)
    with atomic_write(path) as to:
        np.savez(to, frames=np.array(wanted), final=arrays["final"])
    return path
