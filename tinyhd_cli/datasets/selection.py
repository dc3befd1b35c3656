"""Choose a part of a dataset to download: a split, and numbers of videos."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from ..errors import UsageError, did_you_mean
from .catalog import HubSource
from .images import last_number
from .map_video_layouts import FIXATIONS_FILE

Lists = Mapping[str, Collection[str]]
"""Names of videos by the keys of the file of lists."""

OF_VIDEOS = frozenset([".mp4", ".json"])
"""Suffixes of files that belong to one video, if they are in a folder: the clip, its map video, its fixations."""


@dataclass(frozen=True)
class Selection:
    """A part of a dataset; the default is all of it."""

    split: str | None = None
    ranges: tuple[tuple[int, int], ...] = ()
    """First and last numbers of videos; empty: all videos."""

    @classmethod
    def parse(cls, split: str | None, videos: str | None) -> Selection:
        """Return the selection of ``--split`` and ``--videos``, such as ``1-50,60``.

        Raises:
            UsageError: the numbers are malformed.
        """
        ranges = []
        for part in (videos or "").split(",") if videos is not None else ():
            match = re.fullmatch(r"\s*(\d{1,9})(?:\s*-\s*(\d{1,9}))?\s*", part)
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if first > last:
                raise UsageError(f"--videos must be numbers such as 1-50 or 3,7,20-30, not {videos!r}")
            ranges.append((first, last))
        return cls(split, tuple(ranges))

    def check(self, source: HubSource) -> None:
        """Raise ``UsageError`` if the dataset does not have the split."""
        if self.split is not None and self.split not in source.splits:
            raise UsageError(f"--split {self.split!r} is unknown: {did_you_mean(self.split, source.splits)}")

    def has_video(self, name: str) -> bool:
        """Return whether the number of a video is selected."""
        number = last_number(name)
        return not self.ranges or (number is not None and any(first <= number <= last for first, last in self.ranges))

    def has_file(self, path: str, source: HubSource) -> bool:
        """Return whether a file of the repository is needed."""
        splits = [self.split] if self.split else list(source.splits)
        patterns = [*source.common, *(pattern for split in splits for pattern in source.splits[split])]
        return any(fnmatchcase(path, pattern) for pattern in patterns) and self._matches(path)

    def members(self, paths: Iterable[str], source: HubSource, lists: Lists | None) -> list[str]:
        """Return the files of an archive that are needed.

        Args:
            paths: paths of its files below the folder of the dataset.
            source: the repository.
            lists: names of the videos of each split; None: all videos are needed.
        """
        return [
            path
            for path in paths
            if not source.skips(path)
            and self._matches(path)
            and (lists is None or self.split is None or not is_of_video(path) or self._listed(path, source, lists))
        ]

    def _listed(self, path: str, source: HubSource, lists: Lists) -> bool:
        """Return whether the video of a file is in the split; a split without a list has the videos of no other one."""
        keys, name = source.keys[self.split or ""], video_name(path)
        if any(key in lists for key in keys):
            return any(name in lists.get(key, ()) for key in keys)
        return not any(name in lists.get(key, ()) for others in source.keys.values() for key in others)

    def _matches(self, path: str) -> bool:
        return not is_of_video(path) or self.has_video(video_name(path))

    def __str__(self) -> str:
        """Return the selection as text, such as ``train, videos 1-50``."""
        numbers = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in self.ranges)
        return ", ".join([self.split or "all splits", *([f"videos {numbers}"] if numbers else [])])


def is_of_video(path: str) -> bool:
    """Return whether a file belongs to one video, unlike the lists and descriptions of the whole dataset."""
    found = PurePosixPath(path)
    return len(found.parts) > 1 and found.suffix.lower() in OF_VIDEOS


def video_name(path: str) -> str:
    """Return the name of the video that a file belongs to."""
    found = PurePosixPath(path)
    return found.parent.name if found.name == FIXATIONS_FILE else found.stem
