"""Fill the cache of a run, video by video: decoded clips, and the maps of its teachers.

The cache is a folder that several processes may fill at the same time, on several machines with a shared file system:
a file or folder of it appears complete or not at all, and what is there is not computed again.
"""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import torch

from .. import parallel
from ..callbacks import StartPhase, no_phases
from ..datasets import Video
from ..errors import InputError, OutputError, TinyhdError, UsageError, describe_unexpected
from ..inference.devices import pick_device
from ..parallel import ClusterOptions
from ..wording import plural
from . import role_maps, sources
from .augment import collate
from .clip_cache import form_of
from .clips import Clips
from .options import TrainConfig
from .picks import possible_picks
from .prepare import cache_root, decode_for, decoded_from, load_teachers
from .role_maps import RoleTeacher
from .stages import configs
from .teacher_cache import Teachers

log = logging.getLogger("tinyhd")

MARKER = ".shared-"
"""Start of the name of the file in the cache by which workers recognize it."""

MARKER_AGE_S = 30 * 86400
"""Age from which such a file surely belongs to a run that has ended."""

Groups = Sequence[Sequence[Video]]
"""Videos in the groups of :attr:`.sources.RunVideos.groups`."""


@dataclass(frozen=True)
class Count:
    """What a part of the cache contains."""

    videos: int = 0
    """Videos, without damaged ones."""
    clips: int = 0
    """Clips of these videos that the run may need maps of."""
    computed: int = 0
    """Clips whose maps were not cached before."""

    def __add__(self, other: Count) -> Count:
        return Count(self.videos + other.videos, self.clips + other.clips, self.computed + other.computed)

    def __str__(self) -> str:
        if not self.clips:
            return plural(self.videos, "video")
        clips = f"{plural(self.clips, 'clip')} of {plural(self.videos, 'video')}"
        return f"{clips}; the maps of {self.computed:,} computed, the others were cached"


class Filler:
    """Decodes videos, and computes the maps of teachers, for the cache of a run. Teachers are loaded when needed.

    Args:
        config: the run; it names a cache.

    Raises:
        WeightsError: a teacher cannot be loaded.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config

    @cached_property
    def teachers(self) -> Teachers | None:
        """The teachers of clips."""
        return load_teachers(self.config, torch.device(pick_device(self.config.device)))

    @cached_property
    def role_teachers(self) -> list[RoleTeacher]:
        """The teachers with roles, which are run on whole videos."""
        return role_maps.load_teachers(self.config)

    def load(self) -> None:
        """Find all teachers; ``WeightsError`` if one cannot be found or loaded."""
        _ = self.teachers, self.role_teachers

    def fill(self, groups: Groups, start_phase: StartPhase = no_phases, phase: str = "maps") -> Count:
        """Add videos to the cache.

        Args:
            groups: the videos.
            start_phase: starts a phase and returns the callback for its progress.
            phase: name of the phase in which clips are computed.

        Raises:
            InputError: data is missing or unreadable.
            WeightsError: a teacher cannot be loaded.
            OutputError: the cache cannot be written.
        """
        config, teachers = self.config, self.teachers
        stored = decode_for(config, groups, teachers, start_phase)
        form = form_of(config.spec)
        videos = {one: [video for group in several for video in group] for one, several in stored.items()}
        found = Count(len(videos[form]))
        if self.role_teachers:
            originals = decoded_from([video for group in groups for video in group], videos[form], form)
            root = cache_root(config)
            role_maps.compute(config, self.role_teachers, originals, videos[form], root, start_phase)
        if teachers is None:
            return found
        clips = Clips(videos, form, teachers.contexts, config.clip_frames, config.map_frames, task=config.spec.task)
        picks = possible_picks(config, stored[form])
        progress, computed = start_phase(phase), 0
        for done, (key, pick) in enumerate(picks.items(), start=1):
            if not all(one.has(key) for one in teachers.teachers):
                teachers.fill(key, collate([clips[pick]]).reads)
                computed += 1
            progress(done, len(picks))
        return replace(found, clips=len(picks), computed=computed)


@dataclass(frozen=True)
class InProcess:
    """Prepares a worker. Picklable."""

    config: TrainConfig

    def __call__(self) -> parallel.Work:
        """Return the work on one video, given as groups; its result is a count or an error."""
        fillers = [Filler(stage) for stage in configs(self.config)]
        for filler in fillers:  # without the weights of a teacher, no video could be done
            filler.load()

        def work(groups: Groups, report: parallel.Report) -> Count | TinyhdError:
            try:
                counts = [filler.fill(groups, lambda name: partial(report, name)) for filler in fillers]
            except TinyhdError as error:
                return error
            except Exception as error:
                return TinyhdError(describe_unexpected(error))
            return replace(sum(counts, Count()), videos=counts[0].videos)

        return work


@dataclass(frozen=True)
class SharedFolder:
    """Checks on a worker that a folder is the client's folder, not one of the same name. Picklable."""

    folder: Path
    marker: str
    """Name of a file that the client has put there."""

    def __call__(self) -> None:
        if not (self.folder / self.marker).is_file():
            raise InputError(f"--cache {self.folder}: is not the same folder there; it must be on a shared file system")


def fill_on_cluster(
    config: TrainConfig,
    options: ClusterOptions,
    start_phase: StartPhase = no_phases,
    on_failure: Callable[[str], None] = lambda line: None,
    notify: Callable[[str], None] = lambda text: None,
) -> Count:
    """Fill the cache of a run by the workers of a cluster, one video after the other each; train nothing.

    Args:
        config: the run that will use the cache.
        options: names the cluster.
        start_phase: starts a phase and returns the callback for its progress.
        on_failure: called with a message about each video that failed.
        notify: called with remarks, such as the address of the dashboard.

    Raises:
        UsageError: the run has no cache.
        InputError: data is missing, or a worker does not see the cache.
        WeightsError: a worker cannot load a teacher.
    """
    if config.cache is None:
        raise UsageError("--cluster: name a folder on a shared file system with --cache")
    root, marker = cache_root(config), f"{MARKER}{uuid.uuid4().hex}"
    groups = sources.find(config).groups
    items = [alone(groups, place, video) for place, group in enumerate(groups) for video in group]
    names = [video.name for group in groups for video in group]
    progress, done, found = start_phase("filling the cache"), 0, Count()
    try:
        for old in root.glob(f"{MARKER}*"):  # of runs that were killed
            if time.time() - old.stat().st_mtime > MARKER_AGE_S:
                old.unlink(missing_ok=True)
        (root / marker).touch()
    except OSError as error:
        raise OutputError(f"--cache {root}: {error.strerror}; choose another folder") from error
    try:
        where = options.where(SharedFolder(root, marker))
        assert where is not None
        with contextlib.closing(parallel.run(InProcess(config), items, where)) as events:
            for event in events:
                if isinstance(event, parallel.Message):
                    tell(event, notify)
                elif isinstance(event, parallel.Finished):
                    for message in event.messages:
                        tell(message, notify)
                    result = event.error or event.result
                    if isinstance(result, TinyhdError):
                        name = names[event.number]
                        on_failure(str(result) if name in str(result) else f"{name}: {result}")
                    else:
                        found += result
                    done += 1
                    progress(done, len(items))
    finally:
        with contextlib.suppress(OSError):  # an error of the work is more important
            (root / marker).unlink(missing_ok=True)
    return found


def alone(groups: Groups, place: int, video: Video) -> Groups:
    """Return groups that contain only one video, in the group with the number ``place``."""
    return [[video] if number == place else [] for number in range(len(groups))]


def tell(message: parallel.Message, notify: Callable[[str], None]) -> None:
    """Log a warning of a worker; pass on a remark."""
    if message.level == logging.INFO:
        notify(message.text)
    else:
        log.log(message.level, "%s", message.text)
