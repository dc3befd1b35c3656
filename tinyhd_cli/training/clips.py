"""Which clips a run sees, in which order, and how one is read."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from ..models.spec import CLIP_FRAMES
from .clip_cache import STILL_MARGIN, Array, Stored
from .options import TrainConfig

TRAJECTORIES = 4
"""Ways of panning over one photograph; few, so that the teacher's maps of them can be used again."""

WHOLE = (1.0, 0.0, 0.0)
"""The crop that leaves nothing out."""


@dataclass(frozen=True)
class Pick:
    """A clip to read: 16 frames of a video, or of a photograph."""

    video: int
    """Index in the list of videos."""
    start: int
    """First of the 16 frames; below 0 for a video of fewer, whose first frame then fills the front."""
    flip: bool = False
    trajectory: int = 0
    """How the view moves over a photograph; 0: not at all."""
    color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Factors of brightness, contrast and saturation, for the student alone."""
    crop: tuple[float, float, float] = WHOLE
    """What the student sees of the clip: share of its sides, and of what is left out, how much above and left."""


class Sample(TypedDict):
    """A clip as it is read."""

    key: str
    """What the teacher's maps of it are stored under: the same content, the same key."""
    name: str
    read: Tensor
    """uint8 ``(R, H, W, 3)``: frames before the clip that the teacher sees, then the clip's 16."""
    density: Tensor
    """uint8 ``(16, H, W)``; zeros without ground truth."""
    fixation: Tensor
    """Likewise."""
    flip: bool
    """Whether it is to be mirrored, which is done after the teacher has seen it."""
    color: tuple[float, float, float]
    """See ``Pick``; likewise."""
    crop: tuple[float, float, float]
    """Likewise."""


class Clips(Dataset[Sample]):
    """Reads picks.

    Args:
        videos: where to read from.
        size: height and width of what is given.
        context: frames before the clip that are read too.
        frames: of a clip.
    """

    def __init__(
        self, videos: Sequence[Stored], size: tuple[int, int], context: int, frames: int = CLIP_FRAMES
    ) -> None:
        self.videos, self.size, self.context, self.frames = list(videos), size, context, frames

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, pick: Pick) -> Sample:
        video = self.videos[pick.video]
        wanted = range(pick.start - self.context, pick.start + self.frames)
        indices = np.clip(wanted, 0, video.frames - 1)
        views = [self.view(video, pick, place - self.context) for place in range(len(indices))]
        read = self.gather(video.pixels(), indices, views)
        truth = {}
        for kind in ("density", "fixation"):
            if video.labeled:
                maps = self.gather(video.truth(kind), indices[self.context :], views[self.context :], kind)
            else:
                maps = np.zeros((self.frames, *self.size), np.uint8)
            truth[kind] = torch.from_numpy(maps)
        return {
            "key": f"{video.key}-{pick.start}-{pick.trajectory}{'-still' if self.frames == 1 else ''}",
            "name": f"{video.name} from frame {pick.start + 1}",
            "read": torch.from_numpy(read),
            "density": truth["density"],
            "fixation": truth["fixation"],
            "flip": pick.flip,
            "color": pick.color,
            "crop": pick.crop,
        }

    def view(self, video: Stored, pick: Pick, place: int) -> NDArray[np.float64] | None:
        """The affine map from the output to a photograph's stored pixels at a place in the clip; None for a video."""
        if not video.still:
            return None
        height, width = video.size
        scale, (x, y) = 1.0, (0.5, 0.5)
        if pick.trajectory:
            scale, (x, y) = trajectory(video.name, pick.trajectory, place / (CLIP_FRAMES - 1))
        zoom = scale * STILL_MARGIN
        # Pixel centers are at halves.
        left = x * width - scale * width / 2 + (zoom - 1) / 2
        top = y * height - scale * height / 2 + (zoom - 1) / 2
        return np.array([[zoom, 0, left], [0, zoom, top]])

    def gather(
        self, source: Array, indices: NDArray[np.int64], views: list[NDArray[np.float64] | None], kind: str = "frames"
    ) -> Array:
        """Frames or maps of a video by their indices, as the views see them."""
        if views[0] is None:
            return np.ascontiguousarray(source[indices])
        return np.stack([through(source[i], view, self.size, kind) for i, view in zip(indices, views, strict=True)])


def through(picture: Array, view: NDArray[np.float64] | None, size: tuple[int, int], kind: str) -> Array:
    """A picture, or a map of a kind, through an affine view."""
    assert view is not None
    if kind == "fixation":  # points stay points
        y, x = np.nonzero(picture)
        column = np.rint((x - view[0, 2]) / view[0, 0]).astype(int)
        row = np.rint((y - view[1, 2]) / view[1, 1]).astype(int)
        inside = (column >= 0) & (column < size[1]) & (row >= 0) & (row < size[0])
        points = np.zeros(size, np.uint8)
        points[row[inside], column[inside]] = 1
        return points
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    seen = cv2.warpAffine(picture, view, size[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(seen, dtype=np.uint8)


def trajectory(name: str, number: int, time: float) -> tuple[float, tuple[float, float]]:
    """A slow pan and zoom: the side of the view and its center, as shares of the picture, at a time from 0 to 1.

    Always the same for the same photograph and number. Times below 0 are those of the frames that only a teacher sees.
    """
    rng = np.random.default_rng([zlib.crc32(name.encode()), number])
    ends = []
    for _ in range(2):
        scale = rng.uniform(0.7, 1)
        ends.append((scale, *rng.uniform(scale / 2, 1 - scale / 2, 2)))
    # The view moves by no more than a third of the way between two random ones: slowly.
    first, last = np.array(ends)
    scale, x, y = first + (last - first) * np.clip(time, -1, 1) / 3
    half = scale / 2
    return float(scale), (float(np.clip(x, half, 1 - half)), float(np.clip(y, half, 1 - half)))


@dataclass(frozen=True)
class Schedule:
    """How many clips a step takes and how many steps there are."""

    target: int
    """Labeled clips in a step, over all processes."""
    aux: int
    """Auxiliary clips in a step."""
    steps_per_epoch: int
    steps: int


@dataclass
class PickSampler(Sampler[list[Pick]]):
    """The picks of every step: each labeled video once an epoch, auxiliary ones in turn.

    All that is random follows from the seed and the number of the step, so that a run can go on anywhere.
    """

    config: TrainConfig
    schedule: Schedule
    targets: Sequence[tuple[int, Stored]]
    """Labeled videos with their indices in the list of all."""
    aux: Sequence[tuple[int, Stored]]
    first_step: int = 0
    rank: int = 0
    """Which of the processes that train together this is."""
    processes: int = 1
    _orders: dict[tuple[int, int], NDArray[np.int64]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[list[Pick]]:
        for step in range(self.first_step, self.schedule.steps):
            for part in range(self.config.accumulate):
                yield self.picks(step, part)

    def __len__(self) -> int:
        return (self.schedule.steps - self.first_step) * self.config.accumulate

    def picks(self, step: int, part: int = 0) -> list[Pick]:
        """One part of this process's share of a step: labeled clips first."""
        chosen = []
        for kind, (videos, count) in enumerate(((self.targets, self.schedule.target), (self.aux, self.schedule.aux))):
            parts = self.processes * self.config.accumulate
            number = self.rank * self.config.accumulate + part
            share = range(number * count // parts, (number + 1) * count // parts)
            chosen += [self.pick(kind, videos, step * count + place) for place in share]
        return chosen

    def pick(self, kind: int, videos: Sequence[tuple[int, Stored]], number: int) -> Pick:
        """The ``number``-th clip of a kind since the beginning of the run."""
        epoch, place = divmod(number, len(videos))
        if (kind, epoch) not in self._orders:
            self._orders = {known: order for known, order in self._orders.items() if known[1] >= epoch - 1}
            rng = np.random.default_rng([self.config.seed, kind, epoch])
            self._orders[kind, epoch] = rng.permutation(len(videos))
        index, video = videos[self._orders[kind, epoch][place]]
        rng = np.random.default_rng([self.config.seed, kind, epoch, place])
        flip = bool(rng.random() < 0.5) and not self.config.no_flip
        start, way = 0, 0
        if not video.still:
            start = int(rng.choice(starts(video.frames, self.config.start_grid, self.config.clip_frames)))
        elif rng.random() < self.config.still_motion:
            way = int(rng.integers(1, TRAJECTORIES + 1))
        brightness, contrast, saturation = 1 + self.config.jitter * rng.uniform(-1, 1, 3)
        color = (float(brightness), float(contrast), float(saturation))
        less, above, left = rng.random(3)
        crop = (1 - self.config.crop * float(less), float(above), float(left)) if rng.random() < 0.5 else WHOLE
        return Pick(index, start, flip, way, color, crop)


def starts(frames: int, grid: int, length: int = CLIP_FRAMES) -> list[int]:
    """Where clips of a length may begin in a video: on the grid, and with its last frame at the end."""
    last = frames - length
    return [*range(0, last, grid), last]


def validation_picks(videos: Sequence[tuple[int, Stored]], per_video: int = 2) -> list[Pick]:
    """Clips to validate on: photographs standing still, of a video clips that are spread evenly over it."""
    picks = []
    for index, video in videos:
        last = max(0, video.frames - CLIP_FRAMES) if not video.still else 0
        places = sorted({round(last * share) for share in np.linspace(0, 1, per_video)})
        picks += [Pick(index, min(place, video.frames - CLIP_FRAMES) if not video.still else 0) for place in places]
    return picks
