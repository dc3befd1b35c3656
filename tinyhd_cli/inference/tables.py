"""Write the statistics of a video as text: one row per frame, or a summary."""

from __future__ import annotations

import contextlib
import csv
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TextIO

from ..atomic_files import cannot_write, make_parent, publish, remove, temporary_path
from ..untrusted import csv_cell, json_text
from ..video.reader import Frame, VideoInfo
from .areas import AreaStatistics
from .objects import ObjectStatistics
from .statistics import MapStatistics
from .windows import Map

Describe = Callable[[Map, int, int], MapStatistics | ObjectStatistics]
"""Returns the statistics of a map for a video of a width and height in pixels."""


class TextSink:
    """Base class of the CSV and JSON outputs: a text file that has a temporary name until it is complete."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = temporary_path(path)
        make_parent(path)
        try:
            # File names that are not valid Unicode are written as backslash escapes, which are also valid JSON.
            self._file: TextIO = self._partial.open("w", encoding="utf-8", newline="", errors="backslashreplace")
        except OSError as error:
            raise cannot_write(path, error) from error

    def close(self) -> None:
        try:
            self._file.close()
            publish(self._partial, self.path)
        except OSError as error:
            self.abort()
            raise cannot_write(self.path, error) from error

    def abort(self) -> None:
        with contextlib.suppress(OSError):  # on a full disk, closing tries to write the buffer again and fails again
            self._file.close()
        remove(self._partial)


class CsvSink(TextSink):
    """One row per frame: number from 1, time in seconds, the statistics, the fraction in each area of interest.

    For a folder of images, also ``image``: the file name of each frame.

    Args:
        path: the output.
        info: the source.
        columns: the dataclass of the statistics.
        describe: returns the statistics of a frame.
        areas: the areas of interest.
    """

    def __init__(
        self,
        path: Path,
        info: VideoInfo,
        columns: type[MapStatistics | ObjectStatistics],
        describe: Describe,
        areas: AreaStatistics,
    ) -> None:
        super().__init__(path)
        self._describe = describe
        self._areas = areas
        self._image = ["image"] if info.path.is_dir() else []
        self._writer = csv.writer(self._file, lineterminator="\n")
        names = [field.name for field in fields(columns)]
        self._writer.writerow(
            ["frame", "time_s", *self._image, *names, *(csv_cell(f"aoi_{area.name}") for area in areas.areas)]
        )

    def write(self, frame: Frame, saliency: Map) -> None:
        statistics = vars(self._describe(saliency, frame.info.width, frame.info.height))
        shares = self._areas.shares(frame, saliency)
        row = [*statistics.values(), *shares.values()]  # not a dict: an area may have the name of a statistic
        try:
            image = [csv_cell(frame.path.name if frame.path else "") for _ in self._image]
            self._writer.writerow([frame.index + 1, f"{frame.time_s:.6f}", *image, *map(cell, row)])
        except OSError as error:
            raise cannot_write(self.path, error) from error


def cell(value: float | None) -> str:
    """Return a number as it appears in the CSV file; empty for None."""
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.4f}"


class JsonSink(TextSink):
    """A summary of the run: its metadata, the statistics averaged over all frames, the areas of interest.

    Statistics that some frames do not have, because they contain no object, are averaged over the others.

    Args:
        path: the output.
        metadata: the other content; read when the output is closed.
        describe: returns the statistics of a frame.
        areas: the areas of interest.
    """

    def __init__(self, path: Path, metadata: Mapping[str, Any], describe: Describe, areas: AreaStatistics) -> None:
        super().__init__(path)
        self._metadata = metadata
        self._describe = describe
        self._areas = areas
        self._sums: dict[str, float] = {}
        self._counts: Counter[str] = Counter()
        self._frames = self._with_object = 0
        self._objects = False

    def write(self, frame: Frame, saliency: Map) -> None:
        self._areas.shares(frame, saliency)
        found = self._describe(saliency, frame.info.width, frame.info.height)
        self._frames += 1
        if isinstance(found, ObjectStatistics):
            self._objects = True
            self._with_object += found.parts > 0
        for name, value in vars(found).items():
            self._sums[name] = self._sums.get(name, 0.0) + (value or 0.0)
            self._counts[name] += value is not None

    def close(self) -> None:
        means = {
            name: round(total / count, 4) if (count := self._counts[name]) else None
            for name, total in self._sums.items()
        }
        found = {"frames_with_object": round(self._with_object / self._frames, 4)} if self._objects else {}
        areas = {"areas": self._areas.results()} if self._areas.areas else {}
        try:
            self._file.write(json_text({**self._metadata, "mean": means, **found, **areas}))
        except OSError as error:
            self.abort()
            raise cannot_write(self.path, error) from error
        super().close()
