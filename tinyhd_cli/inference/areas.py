"""Areas of interest: which share of the attention a part of the picture gets, over time."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, UsageError, one_line
from ..untrusted import parse_json, printable, read_document
from ..video.reader import Frame
from .windows import Map

log = logging.getLogger("tinyhd")

Points = NDArray[np.float64]
"""Corners of a polygon, ``(n, 2)``: x and y from the top left corner of the frame, in shares of its width and height or
in pixels."""

ROWS_A_CELL = 4
"""Lines through each row of a map along which areas are measured. Along a line they are exact."""

CROSSINGS_AT_ONCE = 1 << 20
"""Limit on the crossings of lines and sides in memory at a time."""

MAX_AREAS = 256
MAX_CORNERS = 10_000
"""Limit for one polygon; the outline of a person, traced pixel by pixel, has a few thousand corners."""

MAX_ALL_CORNERS = 100_000
"""Limit for all areas together: each corner costs time in every frame."""

MAX_NAME = 100
"""Maximum characters of a name; longer names leave no space in plots."""

MAX_COORDINATE = 1e6
"""Limit on coordinates and times, in pixels, percent or seconds."""


@dataclass(frozen=True)
class Area:
    """A part of the picture with a name, which may move."""

    name: str
    times_s: tuple[float, ...]
    """Of the keyframes, ascending; between two of them the corners move evenly, outside they stand still."""
    corners: tuple[Points, ...]
    """Of each keyframe."""
    in_pixels: bool
    """Whether corners are pixels of the video, rather than shares of its sides."""

    def at(self, time_s: float, width: int, height: int) -> Points:
        """The corners at a time, in pixels of a video of this size."""
        after = bisect_right(self.times_s, time_s)
        if after == 0 or after == len(self.times_s):
            points = self.corners[max(after - 1, 0)]
        else:
            start, end = self.times_s[after - 1], self.times_s[after]
            share = (time_s - start) / (end - start)
            points = (1 - share) * self.corners[after - 1] + share * self.corners[after]
        return points if self.in_pixels else points * (width, height)

    def check(self, width: int, height: int) -> None:
        """Say if the area is hardly what is meant, in a video of this size.

        Raises:
            InputError: it lies outside the picture all the time.
        """
        every = np.vstack([self.at(time_s, width, height) for time_s in self.times_s])
        low, high = every.min(axis=0), every.max(axis=0)
        if (low >= (width, height)).any() or (high <= 0).any():
            raise InputError(f"--aoi {self.name}: lies outside the picture, which is {width} x {height} pixels")
        if (low < -0.5).any() or (high > np.array([width, height]) + 0.5).any():
            log.warning("--aoi %s: reaches over the edge of the picture; the part inside counts", self.name)
        if self.in_pixels and high.max() <= 100 and min(width, height) > 100:
            example = f"{self.name}=10%,10%,20%,20%"
            log.warning("--aoi %s: is in pixels, of %d x %d; percent are %s", self.name, width, height, example)


def box(values: Sequence[float]) -> Points:
    """The corners of a box x, y, width, height."""
    x, y, width, height = values
    return np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], np.float64)


def parse_areas(arguments: Sequence[str]) -> tuple[Area, ...]:
    """Return the areas of ``--aoi`` options: each is ``logo=x,y,w,h`` in pixels or percent, or a JSON file of areas.

    Raises:
        UsageError: one is malformed, two have the same name, or there are too many.
        InputError: the file cannot be read.
    """
    areas: list[Area] = []
    for argument in arguments:
        areas += [parse_box(argument)] if "=" in argument and not Path(argument).is_file() else read_areas(argument)
    for name, count in Counter(area.name for area in areas).items():
        if count > 1:
            raise UsageError(f"--aoi: two areas are called {name!r}")
    if len(areas) > MAX_AREAS:
        raise UsageError(f"--aoi: {len(areas):,} areas; the limit is {MAX_AREAS}")
    corners = sum(len(area.corners[0]) for area in areas)
    if corners > MAX_ALL_CORNERS:
        raise UsageError(f"--aoi: the areas have {corners:,} corners in total; the limit is {MAX_ALL_CORNERS:,}")
    return tuple(areas)


def parse_box(argument: str) -> Area:
    """Return the area of ``logo=10,20,100,50`` (pixels) or ``logo=10%,20%,25%,10%`` (of the frame's sides)."""
    text, _, rest = argument.partition("=")
    parts = [part.strip() for part in rest.split(",")]
    try:
        values = [float(part.removesuffix("%")) for part in parts]
    except ValueError:
        values = []
    if len(values) != 4 or not text.strip() or not all(abs(value) <= MAX_COORDINATE for value in values):
        raise UsageError(f"--aoi {argument!r}: must be NAME=X,Y,WIDTH,HEIGHT, in pixels or all with % signs")
    try:
        name = name_of(text)
    except ValueError as error:
        raise UsageError(f"--aoi: {error}") from error
    percent = [part.endswith("%") for part in parts]
    if any(percent) and not all(sign or value == 0 for sign, value in zip(percent, values, strict=True)):
        raise UsageError(f"--aoi {argument!r}: mixes pixels and percent: write % behind all four numbers, or none")
    if values[2] <= 0 or values[3] <= 0:
        raise UsageError(f"--aoi {argument!r}: width and height must be above 0")
    corners = box(values) / (100 if any(percent) else 1)
    return Area(name, (0.0,), (corners,), in_pixels=not any(percent))


def name_of(text: object) -> str:
    """Return an area's name, made printable; ``ValueError`` if it is not a valid name."""
    if not isinstance(text, str | int | float) or isinstance(text, bool):
        raise ValueError("area names must be text")
    name = printable(str(text).strip())
    if not name:
        raise ValueError("area names must not be empty")
    if len(name) > MAX_NAME:
        raise ValueError(f"area {name[:20]!r}...: the name has {len(name):,} characters; the limit is {MAX_NAME}")
    return name


def read_areas(argument: str) -> list[Area]:
    """Return the areas of a JSON file.

    ``{"units": "pixels", "areas": [{"name": "logo", "box": [x, y, w, h]}, {"name": "face", "polygon": [[x, y], ...]},
    {"name": "ball", "keyframes": [{"time_s": 0, "box": [...]}, {"time_s": 2.5, "box": [...]}]}]}``; units may also be
    ``percent``.
    """
    path = Path(argument)
    try:
        content = parse_json(read_document(path))
    except FileNotFoundError:
        raise UsageError(f"--aoi {argument!r}: no such file, and not NAME=X,Y,WIDTH,HEIGHT") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path}: is no JSON file ({one_line(error)})") from error
    try:
        if not isinstance(content, dict):
            raise ValueError('must be an object, {"areas": [...]}')
        units = content.get("units", "pixels")
        if units not in ("pixels", "percent"):
            raise ValueError(f"units must be pixels or percent, not {units!r}")
        areas = [area_of(entry, units == "pixels") for entry in entries(content, "areas")]
        if not areas:
            raise ValueError("holds no areas")
        return areas
    except KeyError as error:
        raise InputError(f"{path}: lacks {error}") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {one_line(error)}") from error


def entries(parent: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """Return the list of objects at a key of a JSON object; ``ValueError`` if it is not one."""
    found = parent[key]
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise ValueError(f"{key} must be a list of objects, [{{...}}, ...]")
    return found


def area_of(entry: Mapping[str, Any], in_pixels: bool) -> Area:
    """Return the area of an entry of a JSON file."""
    name = name_of(entry["name"])
    keyframes = entries(entry, "keyframes") if "keyframes" in entry else [{**entry, "time_s": 0}]
    times = tuple(float(numbers([keyframe["time_s"]], f"area {name!r}: a time")[0]) for keyframe in keyframes)
    corners = tuple(corners_of(name, keyframe) / (1 if in_pixels else 100) for keyframe in keyframes)
    if not times or any(later <= earlier for earlier, later in pairwise(times)):
        raise ValueError(f"area {name!r}: the times of its keyframes must ascend")
    if len({len(points) for points in corners}) > 1:
        raise ValueError(f"area {name!r}: its keyframes differ in their number of corners")
    return Area(name, times, corners, in_pixels)


def corners_of(name: str, entry: Mapping[str, Any]) -> Points:
    """Return the corners of a box or polygon."""
    if "box" in entry:
        values = numbers(entry["box"], f"area {name!r}: a box")
        if values.shape != (4,) or values[2] <= 0 or values[3] <= 0:
            raise ValueError(f"area {name!r}: a box is [x, y, width, height] with sides above 0")
        return box([float(value) for value in values])
    points = numbers(entry.get("polygon", []), f"area {name!r}: a polygon")
    if points.ndim != 2 or points.shape[0] < 3 or points.shape[1] != 2:
        raise ValueError(f"area {name!r}: needs a box [x, y, width, height] or a polygon of three or more [x, y]")
    if len(points) > MAX_CORNERS:
        raise ValueError(f"area {name!r}: has {len(points):,} corners; the limit is {MAX_CORNERS:,}")
    return points


def numbers(values: Any, what: str) -> Points:
    """Return the numbers of a JSON list; ``ValueError`` if it contains anything else, NaN or too large numbers."""
    try:
        found = np.asarray(values)
        if found.dtype.kind not in "iuf" and found.size:
            raise ValueError
    except (ValueError, OverflowError):
        raise ValueError(f"{what} must consist of numbers") from None
    if not (np.abs(found) <= MAX_COORDINATE).all():  # false for NaN, too
        raise ValueError(f"{what} contains NaN or a number beyond {MAX_COORDINATE:,.0f}")
    return found.astype(np.float64)


class Attention:
    """The attention of one frame, to be measured in any area.

    Args:
        saliency: map ``(H, W)``, not negative.
        width: of the video, in pixels.
        height: likewise.
    """

    def __init__(self, saliency: Map, width: int, height: int) -> None:
        self._rows, self._columns = saliency.shape
        self._scale = (self._columns / width, self._rows / height)
        self._cells = saliency.astype(np.float64)
        along = np.cumsum(self._cells, axis=1)
        self._before = np.hstack([np.zeros((self._rows, 1)), along])
        self._total = float(along[:, -1].sum())
        row, column = divmod(int(np.argmax(saliency)), self._columns)
        self.peak = ((column + 0.5) / self._scale[0], (row + 0.5) / self._scale[1])
        """The most salient point, x and y in pixels."""

    def share(self, corners: Points) -> float:
        """The share of the frame's attention inside a polygon, 0..1.

        Polygons that tile the frame have shares that sum to 1. Where a polygon crosses itself, what it encloses an even
        number of times is outside.
        """
        if self._total <= 0:
            return 0.0
        corners = corners * self._scale
        lines = (np.arange(self._rows * ROWS_A_CELL) + 0.5) / ROWS_A_CELL
        at_once = max(1, CROSSINGS_AT_ONCE // len(corners))
        inside = sum(self._inside(corners, lines[at : at + at_once]) for at in range(0, len(lines), at_once))
        return inside / ROWS_A_CELL / self._total

    def _inside(self, corners: Points, lines: NDArray[np.float64]) -> float:
        """Return the sum of the map along the parts of ``lines`` inside a polygon, in units of cells."""
        line, x = crossings_of(corners, lines)
        x = np.clip(x, 0, self._columns)
        row, column = lines[line].astype(np.int64), np.minimum(x.astype(np.int64), self._columns - 1)
        before = self._before[row, column] + (x - column) * self._cells[row, column]
        return float((before[1::2] - before[::2]).sum())  # each line crosses a closed polygon an even number of times

    def has_peak(self, corners: Points) -> bool:
        """Whether the most salient point is inside a polygon."""
        x, y = self.peak
        _, crossings = crossings_of(corners, np.array([y]))
        return int((crossings > x).sum()) % 2 == 1


def covered(corners: Points, width: int, height: int) -> float:
    """The share of a picture that a polygon covers, 0..1."""
    return EVEN.share(corners * (EVEN_SIDE / width, EVEN_SIDE / height))


def crossings_of(corners: Points, lines: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the crossings of a polygon's sides with horizontal lines.

    A side belongs to the lines from its upper end on, without its lower end, and is followed downwards: so both
    polygons beside a common side find the very same crossings.

    Args:
        corners: ``(n, 2)``.
        lines: y of each line, ascending.

    Returns:
        Index of the line and x of each crossing, sorted by line, then by x.
    """
    ends = np.stack([corners, np.roll(corners, -1, axis=0)])  # (2, n, 2)
    downwards = np.argsort(ends[..., 1], axis=0, kind="stable")
    (x_top, x_end), (y_top, y_end) = np.moveaxis(np.take_along_axis(ends, downwards[..., np.newaxis], axis=0), 2, 0)
    slope = (x_end - x_top) / np.where(y_end > y_top, y_end - y_top, 1)
    first = np.searchsorted(lines, y_top)
    counts = np.searchsorted(lines, y_end) - first
    side = np.repeat(np.arange(len(corners)), counts)
    line = np.arange(len(side)) + np.repeat(first - (np.cumsum(counts) - counts), counts)
    x = x_top[side] + (lines[line] - y_top[side]) * slope[side]
    order = np.lexsort((x, line))
    return line[order], x[order]


EVEN_SIDE = 64
EVEN = Attention(np.ones((EVEN_SIDE, EVEN_SIDE), np.float32), EVEN_SIDE, EVEN_SIDE)
"""The same attention everywhere."""


@dataclass
class AreaSummary:
    """An area over a whole video."""

    share: float = 0.0
    """Mean share of the attention, weighted by how long frames are shown."""
    size: float = 0.0
    """Mean share of the picture that it covers: what its share would be if attention were even."""
    most: float = 0.0
    """The greatest share."""
    most_at_s: float = 0.0
    first_s: float | None = None
    """When its share first reaches the threshold; None if it never does."""
    time_s: float = 0.0
    """How long its share is at or above the threshold."""
    peak_s: float = 0.0
    """How long the most salient point is in it."""


class AreaStatistics:
    """Areas over a video, frame by frame.

    Args:
        areas: what to measure.
        threshold: the share from which on an area counts as attended.
    """

    def __init__(self, areas: tuple[Area, ...], threshold: float) -> None:
        self.areas = areas
        self._threshold = threshold
        self._summaries = {area.name: AreaSummary() for area in areas}
        self._duration_s = 0.0
        self._latest: tuple[int, dict[str, float]] = (-1, {})

    def shares(self, frame: Frame, saliency: Map) -> dict[str, float]:
        """Each area's share of a frame's attention. Several outputs may ask, the frame counts once."""
        if self._latest[0] != frame.index:
            self._latest = (frame.index, self._add(frame, saliency))
        return self._latest[1]

    def _add(self, frame: Frame, saliency: Map) -> dict[str, float]:
        info = frame.info
        attention = Attention(saliency, info.width, info.height)
        duration_s = float(frame.duration * info.time_base)
        self._duration_s += duration_s
        shares = {}
        for area in self.areas:
            corners = area.at(frame.time_s, info.width, info.height)
            share = shares[area.name] = attention.share(corners)
            summary = self._summaries[area.name]
            summary.share += share * duration_s
            summary.size += covered(corners, info.width, info.height) * duration_s
            if share > summary.most:
                summary.most, summary.most_at_s = share, frame.time_s
            if share >= self._threshold:
                summary.time_s += duration_s
                summary.first_s = frame.time_s if summary.first_s is None else summary.first_s
            if attention.has_peak(corners):
                summary.peak_s += duration_s
        return shares

    def results(self) -> dict[str, dict[str, float | None]]:
        """Name to the summary's values, rounded for JSON."""
        found = {}
        for name, summary in self._summaries.items():
            duration_s = self._duration_s or 1.0
            values = {**vars(summary), "share": summary.share / duration_s, "size": summary.size / duration_s}
            found[name] = {key: None if value is None else round(value, 4) for key, value in values.items()}
        return found
