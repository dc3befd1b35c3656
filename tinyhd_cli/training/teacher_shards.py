"""Compute the teachers' maps of a run in shards, on several machines or in several processes, without training.

A shard is every Nth video of the run. The maps are files of the cache, by keys that are equal on all machines: shards
can be written to the same folder at the same time, or to several folders that are copied together. See
:mod:`.teacher_cache`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..callbacks import StartPhase, no_phases
from ..datasets import Video
from ..errors import UsageError
from . import sources
from .filling import Count, Filler
from .options import TrainConfig
from .prepare import maps_folder


@dataclass(frozen=True)
class Shard:
    """A part of the videos of a run: those with the numbers ``index``, ``index + count``, ..., from 1."""

    index: int
    """From 1."""
    count: int
    """Number of shards."""

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def part(self, groups: Sequence[Sequence[Video]]) -> list[list[Video]]:
        """Return the videos of the shard, in their groups."""
        chosen, number = [], 0
        for group in groups:
            chosen.append([video for place, video in enumerate(group, number) if place % self.count == self.index - 1])
            number += len(group)
        return chosen


def parse_shard(text: str) -> Shard:
    """Return the shard of a text such as ``1/4``; ``UsageError`` if it is malformed."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--teacher-shard {text}: must be I/N with I from 1 to N, such as 1/4")
    return Shard(int(match[1]), int(match[2]))


@dataclass(frozen=True)
class Filled:
    """The result of computing a shard."""

    shard: Shard
    folder: Path
    """Folder of the maps, which can be copied into the cache of another machine."""
    count: Count

    def __str__(self) -> str:
        if not self.count.videos:
            return f"shard {self.shard} has no videos"
        return f"shard {self.shard}: {self.count}"


def fill_shard(config: TrainConfig, shard: Shard, start_phase: StartPhase = no_phases) -> Filled:
    """Compute the teachers' maps of one shard that are not cached; train nothing.

    Args:
        config: the run that will use the maps.
        shard: the part of its videos.
        start_phase: starts a phase and returns the callback for its progress.

    Raises:
        UsageError: the run has no cache, or no teacher without a role.
        InputError: data is missing or unreadable.
        WeightsError: a teacher cannot be loaded.
        OutputError: the maps cannot be written.
    """
    if config.cache is None:
        raise UsageError("--teacher-shard: name the folder of the maps with --cache")
    if config.family.roles or not config.teacher:
        reason = f"not for {config.model}, whose teachers have roles" if config.family.roles else "needs --teacher"
        raise UsageError(f"--teacher-shard: {reason}")
    count = Filler(config).fill(shard.part(sources.find(config).groups), start_phase, f"maps of shard {shard}")
    return Filled(shard, maps_folder(config), count)
