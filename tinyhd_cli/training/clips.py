"""Select, order and read the clips of a training run."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypedDict

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from .clip_cache import STILL_MARGIN, Array, Form, Stored
from .options import TrainConfig

TRAJECTORIES = 4
"""Number of camera paths over one photograph; few, so that the teacher's maps of them can be reused."""

TRAJECTORY_FRAMES = 16
"""Duration of a camera path in frames. Shorter clips contain a part of it, so that the camera is equally slow."""

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
    """uint8 ``(T, H, W)``; zeros without ground truth."""
    fixation: Tensor
    """uint8 ``(T, H, W)``, 0 or 1; zeros without ground truth."""
    roles: dict[str, Tensor]
    """Maps of the teachers with roles, float32 ``(maps, H, W)`` in 0..1."""
    flip: bool
    """Whether to mirror the clip; applied after the teacher is run."""
    color: tuple[float, float, float]
    """See ``Pick``; applied after the teacher is run."""
    crop: tuple[float, float, float]
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
    """

    def __init__(
        self,
        videos: Mapping[Form, Sequence[Stored]],
        form: Form,
        contexts: Mapping[Form, tuple[int, int]],
        frames: int,
        map_frames: Sequence[int] = (),
        role_maps: RoleMapReader | None = None,
    ) -> None:
        self.stored, self.form, self.frames = {key: list(value) for key, value in videos.items()}, form, frames
        self.videos = self.stored[form]
        self.contexts = {form: (0, 0), **contexts}
        self.map_frames, self.role_maps = tuple(map_frames), role_maps

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, pick: Pick) -> Sample:
        video = self.videos[pick.video]
        ground_truth = {}
        for kind in ("density", "fixation"):
            maps = (
                self.read(pick, self.form, (0, 0), kind)
                if video.labeled
                else np.zeros((self.frames, *self.form.size), "u1")
            )
            ground_truth[kind] = torch.from_numpy(maps)
        contexts = self.contexts.items()
        return {
            "key": f"{video.key}-{pick.start}-{pick.trajectory}{'-still' if self.frames == 1 else ''}",
            "name": f"{video.name} from frame {pick.start + 1}",
            "form": self.form,
            "before": self.contexts[self.form][0],
            "reads": {form: torch.from_numpy(self.read(pick, form, context)) for form, context in contexts},
            "density": ground_truth["density"],
            "fixation": ground_truth["fixation"],
            "roles": self.roles_of(pick),
            "flip": pick.flip,
            "color": pick.color,
            "crop": pick.crop,
        }

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
        indices = np.clip(range(pick.start - before, pick.start + self.frames + after), 0, video.frames - 1)
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
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
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


@dataclass(frozen=True)
class Schedule:
    """Number of clips per step, and of steps."""

    target: int
    """Labeled clips in a step, over all processes."""
    aux: int
    """Auxiliary clips in a step."""
    steps_per_epoch: int
    steps: int


@dataclass
class PickSampler(Sampler[list[Pick]]):
    """Picks of every step: each labeled video once per epoch, auxiliary ones in turn.

    All random choices depend only on the seed and the step, so that a run can resume at any step.
    """

    config: TrainConfig
    schedule: Schedule
    targets: Sequence[tuple[int, Stored]]
    """Labeled videos with their indices in the list of all."""
    aux: Sequence[tuple[int, Stored]]
    first_step: int = 0
    rank: int = 0
    """Rank of this process among the training processes."""
    processes: int = 1
    _orders: dict[tuple[int, int], NDArray[np.int64]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[list[Pick]]:
        for step in range(self.first_step, self.schedule.steps):
            for part in range(self.config.accumulate):
                yield self.picks(step, part)

    def __len__(self) -> int:
        return (self.schedule.steps - self.first_step) * self.config.accumulate

    def picks(self, step: int, part: int = 0) -> list[Pick]:
        """Return the picks of this process for one part of a step, labeled clips first."""
        chosen = []
        for kind, (videos, count) in enumerate(((self.targets, self.schedule.target), (self.aux, self.schedule.aux))):
            parts = self.processes * self.config.accumulate
            number = self.rank * self.config.accumulate + part
            places = range(number * count // parts, (number + 1) * count // parts)
            chosen += [self.pick(kind, videos, step * count + place) for place in places]
        return chosen

    def pick(self, kind: int, videos: Sequence[tuple[int, Stored]], number: int) -> Pick:
        """Return the pick with a number, counted over the whole run for each kind of clips."""
        epoch, place = divmod(number, len(videos))
        if (kind, epoch) not in self._orders:
            self._orders = {known: order for known, order in self._orders.items() if known[1] >= epoch - 1}
            rng = np.random.default_rng([self.config.seed, kind, epoch])
            self._orders[kind, epoch] = rng.permutation(len(videos))
        index, video = videos[self._orders[kind, epoch][place]]
        rng = np.random.default_rng([self.config.seed, kind, epoch, place])
        flip = bool(rng.random() < 0.5) and not self.config.no_flip
        start, path = 0, 0
        if not video.still:
            start = int(rng.choice(starts(video.frames, self.config.start_grid, self.config.clip_frames)))
        elif rng.random() < self.config.still_motion:
            path = int(rng.integers(1, TRAJECTORIES + 1))
        brightness, contrast, saturation = 1 + self.config.jitter * rng.uniform(-1, 1, 3)
        color = (float(brightness), float(contrast), float(saturation))
        less, above, left = rng.random(3)
        crop = (1 - self.config.crop * float(less), float(above), float(left)) if rng.random() < 0.5 else WHOLE
        return Pick(index, start, flip, path, color, crop)


def starts(frames: int, grid: int, length: int) -> list[int]:
    """Return the possible first frames of clips: those on the grid, and that of the last possible clip."""
    last = frames - length
    return [*range(0, last, grid), last]


def validation_picks(videos: Sequence[tuple[int, Stored]], length: int, per_video: int = 2) -> list[Pick]:
    """Return clips for validation: static views of photographs, and clips evenly spaced over each video."""
    picks = []
    for index, video in videos:
        last = max(0, video.frames - length) if not video.still else 0
        places = sorted({round(last * fraction) for fraction in np.linspace(0, 1, per_video)})
        picks += [Pick(index, min(place, video.frames - length) if not video.still else 0) for place in places]
    return picks
