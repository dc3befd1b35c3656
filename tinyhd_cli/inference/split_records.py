"""Keep the numbers of each frame of a part in a file, and write tables of the whole video from those of all parts.

The tables do not depend on the parts: statistics are averaged over the frames in their order, because sums of floating
point numbers depend on it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ..video.decoded import Decoded, read_orientation
from ..video.reader import Frame, VideoInfo
from .areas import Area, AreaShare, AreaStatistics
from .objects import ObjectStatistics
from .outputs import RunContext
from .raw_file import RawFile
from .statistics import MapStatistics
from .windows import Map

Statistics = MapStatistics | ObjectStatistics

CHUNK = 4096
"""Number of frames that are read at once."""


def row_type(columns: type[Statistics], areas: Sequence[Area]) -> np.dtype[Any]:
    """Return the type of a row: one frame. Missing statistics are NaN."""
    return np.dtype(
        [
            *((name, "<i8") for name in ("index", "pts", "duration")),
            ("statistics", "<f8", (len(fields(columns)),)),
            ("areas", "<f8", (len(areas), len(AreaShare._fields))),
        ]
    )


class RecordSink(RawFile):
    """Writes the numbers of each frame: its time, its statistics, and the attention on each area.

    Args:
        path: the file.
        run: the run.
        with_statistics: whether any table needs the statistics of the maps.
    """

    def __init__(self, path: Path, run: RunContext, *, with_statistics: bool) -> None:
        super().__init__(path)
        self._run, self._with_statistics = run, with_statistics
        self._columns = columns_of(run)
        self._row = np.zeros(1, row_type(self._columns, run.areas.areas))

    def write(self, frame: Frame, saliency: Map) -> None:
        """Write the numbers of a frame."""
        row, info = self._row[0], frame.info
        self._run.areas.shares(frame, saliency)
        row["index"], row["pts"], row["duration"] = frame.index, frame.pts, frame.duration
        if self._with_statistics:
            found = vars(self._run.describe(saliency, info.width, info.height)).values()
            row["statistics"] = [np.nan if value is None else value for value in found]
        row["areas"] = np.array(self._run.areas.measured, np.float64).reshape(row["areas"].shape)
        self.append(self._row.view(np.uint8))


def columns_of(run: RunContext) -> type[Statistics]:
    """Return the class of the statistics of a run's maps."""
    return ObjectStatistics if run.objects else MapStatistics


class RecordedAreas(AreaStatistics):
    """Statistics of areas from the records of frames.

    Attributes:
        row: the record of the frame that is added next.
    """

    row: np.void

    def _measure(self, frame: Frame, saliency: Map) -> list[AreaShare]:
        return [AreaShare(share, size, bool(has_peak)) for share, size, has_peak in self.row["areas"].tolist()]


class RecordedRun(RunContext):
    """A run whose statistics come from records; its areas are :class:`RecordedAreas`."""

    def describe(self, saliency: Map, width: int, height: int) -> Statistics:
        """Return the recorded statistics of the frame that is added next."""
        assert isinstance(self.areas, RecordedAreas)
        columns = columns_of(self)
        values = zip(fields(columns), self.areas.row["statistics"].tolist(), strict=True)
        known: dict[str, Any] = {field.name: recorded(field, value) for field, value in values}
        return columns(**known)


def recorded(field: Field[Any], value: float) -> float | None:
    """Return the value of a statistic from a record."""
    if np.isnan(value):
        return None
    return int(value) if str(field.type).startswith("int") else value


def read_rows(path: Path, columns: type[Statistics], areas: Sequence[Area]) -> Iterator[NDArray[Any]]:
    """Yield the records in a file, some frames at a time; ``OSError`` if it cannot be read."""
    kind = row_type(columns, areas)
    with path.open("rb") as file:
        while data := file.read(CHUNK * kind.itemsize):
            yield np.frombuffer(data, kind)


class RecordedFrames:
    """Makes frames without images from records.

    Args:
        info: the video.
    """

    def __init__(self, info: VideoInfo) -> None:
        blank = av.VideoFrame(2, 2, "gray")
        self._info, self._decoded = info, Decoded(blank, read_orientation(blank, info.sample_aspect_ratio), None)

    def frame(self, row: np.void) -> Frame:
        """Return the frame of a record."""
        frame = Frame(self._info, int(row["index"]), int(row["pts"]), self._decoded, defaultdict())
        frame.duration = int(row["duration"])
        return frame
