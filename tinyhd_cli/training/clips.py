"""Select, order and read the clips of a training run."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ..models.spec import Task
from .clip_cache import NO_MASK, STILL_MARGIN, Form, Stored
from .clip_files import Array

TRAJECTORIES = 4
"""Number of camera paths over one photograph; few, so that the teacher's maps of them can be reused."""

TRAJECTORY_FRAMES = 16
"""Duration of a camera path in frames. Shorter clips contain a part of it, so that the camera is equally slow."""

MAX_GAP = 5
"""Largest number of frames from the first to the second frame of a pair (Tang et al., arXiv 2010.10027)."""

WHOLE = (1.0, 0.0, 0.0)
"""The crop of the whole clip."""


@dataclass(frozen=True)
class Pick:
    """A clip to read, of a video or a photograph."""

    video: int
    """Index in the list of videos."""
    start: int
    """First frame; negative for a video shorter than a clip, which is padded at the front with its first frame."""
    flip: bool = False
    trajectory: int = 0
    """Number of the camera path over a photograph; 0: a static view."""
    color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Factors of brightness, contrast and saturation of the student's clip."""
    crop: tuple[float, float, float] = WHOLE
    """The student's crop: its side as a fraction of the clip's, and the fractions of the rest above and left of it."""
    frames: tuple[int, ...] = ()
    """Numbers of the frames, if they are not consecutive or not as many as the network's clips have."""
    angle: float = 0.0
    """Rotation of the student's clip and mask, in degrees counterclockwise."""


def maps_key(video: Stored, pick: Pick, frames: int) -> str:
    """Return the key of the teachers' maps of a clip of ``frames`` frames; equal on all machines."""
    return f"{video.content or video.key}-{pick.start}-{pick.trajectory}{'-still' if frames == 1 else ''}"


class RoleMapReader(Protocol):
    """Reads the stored maps of teachers with roles (:class:`.role_maps.RoleMaps`)."""

    def of(self, video: int, frames: Sequence[int]) -> dict[str, Tensor]:
        """Return the maps ``(T, H, W)`` of some frames of a video by role."""
        ...


class Sample(TypedDict):
    """A clip as read from the cache."""

    key: str
    """Key of the teacher's maps; equal for equal content."""
    name: str
    form: Form
    """Form in which the student reads frames."""
    before: int
    """Frames of ``reads[form]`` before the student's clip."""
    reads: dict[Form, Tensor]
    """uint8 ``(R, H, W, 3)``: the clip in the forms of the student and of the teachers, with the teachers' context."""
    density: Tensor
    """uint8 ``(T, H, W)``; zeros without ground truth. ``(T, 0, 0)`` for networks that find objects."""
    fixation: Tensor
    """uint8 ``(T, H, W)``, 0 or 1; zeros without ground truth. ``(T, 0, 0)`` for networks that find objects."""
    mask: Tensor
    """uint8 ``(T, H, W)``, 0 or 1; ``NO_MASK`` without a mask. ``(T, 0, 0)`` for networks that predict fixations."""
    roles: dict[str, Tensor]
    """Maps of the teachers with roles, float32 ``(maps, H, W)`` in 0..1."""
    flip: bool
    """Whether to mirror the clip; applied after the teacher is run."""
    color: tuple[float, float, float]
    """See ``Pick``; applied after the teacher is run."""
    crop: tuple[float, float, float]
    """See ``Pick``; applied after the teacher is run."""
    angle: float
    """See ``Pick``; applied after the teacher is run."""


class Clips(Dataset[Sample]):
    """The clips of a run; an index is a :class:`Pick`.

    Args:
        videos: decoded videos by form, in the same order for each; one of the forms is the student's.
        form: form in which the student reads frames.
        contexts: frames to read before and after the clip, by form; default: none.
        frames: number of frames in a clip.
        map_frames: frames of the clip that the student's maps belong to.
        role_maps: maps of the teachers with roles, if any.
        task: task of the student, which decides on the kinds of ground truth.
    """

    def __init__(
        self,
        videos: Mapping[Form, Sequence[Stored]],
        form: Form,
        contexts: Mapping[Form, tuple[int, int]],
        frames: int,
        map_frames: Sequence[int] = (),
        role_maps: RoleMapReader | None = None,
        task: Task = "fixation",
    ) -> None:
        self.stored, self.form, self.frames = {key: list(value) for key, value in videos.items()}, form, frames
        self.videos = self.stored[form]
        self.contexts = {form: (0, 0), **contexts}
        self.map_frames, self.role_maps = tuple(map_frames), role_maps
        self.kinds = ("mask",) if task == "object" else ("density", "fixation")

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, pick: Pick) -> Sample:
        video = self.videos[pick.video]
        # No teacher is run on the frames of pairs.
        contexts = {self.form: (0, 0)} if len(pick.frames) > 1 else self.contexts
        ground_truth = {
            kind: torch.from_numpy(self.ground_truth(pick, kind)) for kind in ("density", "fixation", "mask")
        }
        return {
            "key": maps_key(video, pick, self.frames),
            "name": f"{video.name} from frame {pick.start + 1}",
            "form": self.form,
            "before": contexts[self.form][0],
            "reads": {form: torch.from_numpy(self.read(pick, form, context)) for form, context in contexts.items()},
            "density": ground_truth["density"],
            "fixation": ground_truth["fixation"],
            "mask": ground_truth["mask"],
            "roles": self.roles_of(pick),
            "flip": pick.flip,
            "color": pick.color,
            "crop": pick.crop,
            "angle": pick.angle,
        }

    def ground_truth(self, pick: Pick, kind: str) -> Array:
        """Return the maps of a kind for a clip ``(T, H, W)``; ``(T, 0, 0)`` for a kind of the other task."""
        video, frames = self.videos[pick.video], len(pick.frames) or self.frames
        if kind not in self.kinds:
            return np.zeros((frames, 0, 0), np.uint8)
        if video.masked if kind == "mask" else video.labeled:
            return self.read(pick, self.form, (0, 0), kind)
        return np.full((frames, *self.form.size), NO_MASK if kind == "mask" else 0, np.uint8)

    def roles_of(self, pick: Pick) -> dict[str, Tensor]:
        """Return the maps of the teachers with roles, at the student's map frames."""
        if self.role_maps is None:
            return {}
        video = self.videos[pick.video]
        if video.still:
            return self.role_maps.of(pick.video, [pick.trajectory] * len(self.map_frames))
        frames = np.clip([pick.start + place for place in self.map_frames], 0, video.frames - 1)
        return self.role_maps.of(pick.video, frames.tolist())

    def read(self, pick: Pick, form: Form, context: tuple[int, int], kind: str = "frames") -> Array:
        """Return the frames, or one kind of maps, of a clip with its context, in a form."""
        video = self.stored[form][pick.video]
        before, after = context
        frames = pick.frames or range(pick.start - before, pick.start + self.frames + after)
        indices = np.clip(frames, 0, video.frames - 1)
        source = video.pixels() if kind == "frames" else video.ground_truth(kind)
        if not video.still:
            return np.ascontiguousarray(source[indices])
        views = [self.view(video, pick, place - before) for place in range(len(indices))]
        return np.stack([warped(source[i], view, form.size, kind) for i, view in zip(indices, views, strict=True)])

    def view(self, video: Stored, pick: Pick, place: int) -> NDArray[np.float64]:
        """Return the affine map from output to stored pixels of a photograph, at one frame of the clip."""
        height, width = video.size
        scale, (x, y) = 1.0, (0.5, 0.5)
        if pick.trajectory:
            scale, (x, y) = trajectory(video.name, pick.trajectory, place / (max(TRAJECTORY_FRAMES, self.frames) - 1))
        zoom = scale * STILL_MARGIN
        # Pixel centers are at halves.
        left = x * width - scale * width / 2 + (zoom - 1) / 2
        top = y * height - scale * height / 2 + (zoom - 1) / 2
        return np.array([[zoom, 0, left], [0, zoom, top]])


def warped(image: Array, view: NDArray[np.float64], size: tuple[int, int], kind: str) -> Array:
    """Return an image or a map as seen through an affine view."""
    if kind == "fixation":  # each fixation remains one pixel
        y, x = np.nonzero(image)
        column = np.rint((x - view[0, 2]) / view[0, 0]).astype(int)
        row = np.rint((y - view[1, 2]) / view[1, 1]).astype(int)
        inside = (column >= 0) & (column < size[1]) & (row >= 0) & (row < size[0])
        points = np.zeros(size, np.uint8)
        points[row[inside], column[inside]] = 1
        return points
    flags = (cv2.INTER_NEAREST if kind == "mask" else cv2.INTER_LINEAR) | cv2.WARP_INVERSE_MAP
    result = cv2.warpAffine(image, view, size[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(result, dtype=np.uint8)


def trajectory(name: str, number: int, time: float) -> tuple[float, tuple[float, float]]:
    """Return a slow pan and zoom at a time from 0 to 1: the side of the view and its center, as fractions of the image.

    It depends only on the photograph's name and the number. Only teachers read frames at times below 0.
    """
    rng = np.random.default_rng([zlib.crc32(name.encode()), number])
    ends = []
    for _ in range(2):
        scale = rng.uniform(0.7, 1)
        ends.append((scale, *rng.uniform(scale / 2, 1 - scale / 2, 2)))
    # The view moves a third of the distance between two random views, so it moves slowly.
    first, last = np.array(ends)
    scale, x, y = first + (last - first) * np.clip(time, -1, 1) / 3
    half = scale / 2
    return float(scale), (float(np.clip(x, half, 1 - half)), float(np.clip(y, half, 1 - half)))
