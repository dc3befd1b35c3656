"""Draw the clips of each training step, and of the validation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from ..errors import UsageError
from ..wording import plural
from .clip_cache import Stored
from .clips import MAX_GAP, TRAJECTORIES, WHOLE, Pick, maps_key
from .options import TrainConfig

PAIR_STREAM = 2
"""Number of the random stream of pairs; labeled and auxiliary clips have 0 and 1."""


@dataclass(frozen=True)
class Schedule:
    """Number of clips per step, and of steps."""

    target: int
    """Labeled clips in a step, over all processes."""
    aux: int
    """Auxiliary clips in a step."""
    steps_per_epoch: int
    steps: int
    pairs: int = 0
    """Pairs of frames in a step on pairs, which has no other clips."""


def schedule(config: TrainConfig, targets: int, aux: int, parts: int = 1) -> Schedule:
    """Return the number of clips per step, and of steps.

    Args:
        config: the run.
        targets: number of labeled videos; of their frames with a mask for object networks.
        aux: number of auxiliary videos.
        parts: number of parts that a batch is divided into: processes times accumulation.

    Raises:
        UsageError: a batch is larger than the data, or cannot be divided.
    """
    batch = config.batch_size
    option, available = ("--data", targets) if targets else ("--aux", aux)
    if batch > available:
        frames = targets and config.is_object
        found = plural(available, "frame with a mask", "frames with masks") if frames else plural(available, "video")
        raise UsageError(f"--batch-size {batch} is larger than {option}, which has {found} to train on")
    aux_clips = round(batch * config.aux_ratio) if targets else batch
    counts = (batch if targets else 0, aux_clips if aux else 0)
    if any(count % parts for count in counts):
        raise UsageError(
            f"--batch-size {batch}: {counts[0]} clips of --data and {counts[1]} of --aux cannot be divided into "
            f"{parts} equal parts (processes times --accumulate)"
        )
    pairs = config.pairs and (config.pair_batch_size or (batch if config.pairs == 1 else max(2, batch // 2)))
    if pairs % parts:
        raise UsageError(
            f"--pair-batch-size {pairs}: cannot be divided into {parts} equal parts (processes times --accumulate)"
        )
    per_epoch = available // batch
    return Schedule(*counts, per_epoch, config.steps or config.epochs * per_epoch, pairs)


@dataclass(frozen=True)
class Source:
    """A video that clips are drawn from, or one frame of it."""

    index: int
    """Index of the video in the list of all."""
    video: Stored
    frame: int | None = None
    """The frame; None for clips that start anywhere."""


def single_frames(videos: Sequence[tuple[int, Stored]]) -> list[Source]:
    """Return all frames that have a mask."""
    return [Source(index, video, frame) for index, video in videos for frame in video.masked]


@dataclass
class PickSampler(Sampler[list[Pick]]):
    """Picks of every step: each labeled video once per epoch, auxiliary ones in turn.

    For object networks, each frame with a mask once per epoch, and in some steps pairs of frames.
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

    @cached_property
    def sources(self) -> tuple[list[Source], list[Source]]:
        """Sources of labeled and of auxiliary clips."""
        whole = [[Source(index, video) for index, video in videos] for videos in (self.targets, self.aux)]
        return (single_frames(self.targets) if self.config.is_object else whole[0]), whole[1]

    @cached_property
    def pair_sources(self) -> list[Source]:
        """The frames that pairs are drawn from."""
        return [source for source in single_frames(self.targets) if source.video.frames > 1]

    def is_on_pairs(self, step: int) -> bool:
        """Return whether a step is on pairs of frames."""
        return self.config.pairs > 0 and step % self.config.pairs == 0

    def clips_in(self, step: int) -> int:
        """Return the number of clips in a step, over all processes."""
        return self.schedule.pairs if self.is_on_pairs(step) else self.schedule.target + self.schedule.aux

    def picks(self, step: int, part: int = 0) -> list[Pick]:
        """Return the picks of this process for one part of a step, labeled clips first."""
        every = self.config.pairs
        if self.is_on_pairs(step):
            count = self.schedule.pairs
            return [self.pair(step // every * count + place) for place in self.places(count, part)]
        step -= -(-step // every) if every else 0  # steps on pairs use no other clips
        chosen = []
        for kind, count in enumerate((self.schedule.target, self.schedule.aux)):
            chosen += [self.pick(kind, step * count + place) for place in self.places(count, part)]
        return chosen

    def places(self, count: int, part: int) -> range:
        """Return the numbers of this process's clips in one part of a step, of ``count`` clips in the step."""
        parts = self.processes * self.config.accumulate
        number = self.rank * self.config.accumulate + part
        return range(number * count // parts, (number + 1) * count // parts)

    def pick(self, kind: int, number: int) -> Pick:
        """Return the pick with a number, counted over the whole run for each kind of clips."""
        sources = self.sources[kind]
        epoch, place = divmod(number, len(sources))
        if (kind, epoch) not in self._orders:
            self._orders = {known: order for known, order in self._orders.items() if known[1] >= epoch - 1}
            rng = np.random.default_rng([self.config.seed, kind, epoch])
            self._orders[kind, epoch] = rng.permutation(len(sources))
        source = sources[self._orders[kind, epoch][place]]
        video, rng = source.video, np.random.default_rng([self.config.seed, kind, epoch, place])
        flip = bool(rng.random() < 0.5) and not self.config.no_flip
        start, path = 0, 0
        if video.still:
            path = int(rng.integers(1, TRAJECTORIES + 1)) if rng.random() < self.config.still_motion else 0
        elif source.frame is None:
            start = int(rng.choice(starts(video.frames, self.config.start_grid, self.config.clip_frames)))
        else:
            start = source.frame
        frames = (start,) if source.frame is not None and self.config.clip_frames > 1 else ()
        return self.augmented(Pick(source.index, start, flip, path, frames=frames), rng)

    def pair(self, number: int) -> Pick:
        """Return the pair of frames with a number: a frame and an earlier one, or the next one at a video's start."""
        rng = np.random.default_rng([self.config.seed, PAIR_STREAM, number])
        source = self.pair_sources[int(rng.integers(len(self.pair_sources)))]
        assert source.frame is not None
        frame, before = source.frame, source.frame - int(rng.integers(1, MAX_GAP + 1))
        after = frame + 1 if frame + 1 < source.video.frames else frame - 1
        frames = tuple(sorted((before if before >= 0 else after, frame)))
        flip = bool(rng.random() < 0.5) and not self.config.no_flip
        return self.augmented(Pick(source.index, frames[0], flip, frames=frames), rng)

    def augmented(self, pick: Pick, rng: np.random.Generator) -> Pick:
        """Return a pick with random colors, a random crop and a random rotation."""
        config = self.config
        brightness, contrast, saturation = 1 + config.jitter * rng.uniform(-1, 1, 3)
        color = (float(brightness), float(contrast), float(saturation))
        less, above, left = rng.random(3)
        crop = (1 - config.crop * float(less), float(above), float(left)) if rng.random() < 0.5 else WHOLE
        angle = float(rng.uniform(-config.rotate, config.rotate)) if config.rotate and not pick.frames[1:] else 0.0
        return replace(pick, color=color, crop=crop, angle=angle)


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


def masked_picks(videos: Sequence[tuple[int, Stored]], length: int, per_video: int = 4) -> list[Pick]:
    """Return clips for validation that end with frames that have a mask, evenly spaced over each video."""
    return [
        Pick(index, video.masked[place] - (0 if video.still else length - 1))
        for index, video in videos
        for place in sorted({round(x) for x in np.linspace(0, len(video.masked) - 1, per_video)})
        if video.masked
    ]


def camera_paths(config: TrainConfig) -> range:
    """Return the numbers of the camera paths over a photograph that a run can use."""
    return range(TRAJECTORIES + 1 if config.still_motion else 1)


def possible_picks(config: TrainConfig, groups: Sequence[Sequence[Stored]]) -> dict[str, Pick]:
    """Return all clips that a run may need the teachers' maps of, by the key of their maps.

    Args:
        config: the run.
        groups: its decoded videos, in the groups of :attr:`.sources.RunVideos.groups`. The picks number them all.
    """
    picks: list[Pick] = []
    videos = [video for group in groups for video in group]
    ends = np.cumsum([0, *map(len, groups)])
    targets, aux, val_targets, val_aux = (list(enumerate(videos))[a:b] for a, b in pairwise(ends))
    for index, video in (*targets, *aux):
        if video.still:
            picks += [Pick(index, 0, trajectory=path) for path in camera_paths(config)]
        elif config.is_object and index < len(targets):
            several = config.clip_frames > 1
            picks += [Pick(index, frame, frames=(frame,) if several else ()) for frame in video.masked]
        else:
            picks += [Pick(index, start) for start in starts(video.frames, config.start_grid, config.clip_frames)]
    picks += held_out_picks(config, val_targets, labeled=True) + held_out_picks(config, val_aux, labeled=False)
    return {maps_key(videos[pick.video], pick, config.clip_frames): pick for pick in picks}


def held_out_picks(config: TrainConfig, videos: Sequence[tuple[int, Stored]], *, labeled: bool) -> list[Pick]:
    """Return the clips of held-out videos, which are numbered, for the validation of a run."""
    select = masked_picks if labeled and config.is_object else validation_picks
    return select(videos, config.spec.clip_frames)
