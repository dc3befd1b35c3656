"""Check the density maps and fixations of a video: their sizes, their values, and whether they belong together."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from ..errors import InputError
from .findings import Size, describe_numbers, describe_sizes
from .fixation_lists import FixationFrame, Points, inside, read_fixation_points
from .images import Map, read_map
from .map_videos import MapFrame, read_density
from .video import Video

MAX_FIXATED = 0.5
"""Fraction of fixated pixels above which a fixation map must be wrong, for example inverted."""

MAX_AT_LOWEST = 0.5
"""Fraction of fixations at the lowest density above which the two maps cannot belong to the same frame."""

NEAR_LOWEST = 1 / 256
"""Fraction of a density map's range that counts as its lowest value; compression adds noise to map videos."""

EMPTY = "frames without fixations (AUCs, NSS, CC and IG are not defined)"
"""The only message that is not a fault."""

MIN_SWAPPED = 0.05
"""Fraction of fixations outside of the map above which rows and columns may be swapped."""

OUTSIDE = "fixations outside of the map"
"""End of the message about a list of fixations that does not fit the map."""


def check_maps(video: Video, size: Size | None) -> list[tuple[str, bool]]:
    """Return the findings about the density maps and fixations of a video: a message, and whether it is a fault.

    Args:
        video: a video with density maps or fixations.
        size: width and height of the frames, if known.
    """
    checker = MapChecker(video, size)
    for number in video.map_numbers:
        checker.check(number)
    return checker.findings + checker.findings_by_frame()


class MapChecker:
    """Checker of the density maps and fixations of one video.

    Args:
        video: the video.
        size: width and height of its frames, if known.

    Attributes:
        findings: a message, and whether it is a fault; without those about frames of a map video or a list, which
            :meth:`findings_by_frame` returns.
    """

    def __init__(self, video: Video, size: Size | None) -> None:
        self.findings: list[tuple[str, bool]] = []
        self._video, self._size = video, size
        self._numbers: dict[str, list[int]] = defaultdict(list)
        """Numbers of frames by the message about them."""
        self._points = np.zeros(3, np.int64)
        """Number of fixations in the list, of those outside, and of those outside if they are read as [column, row]."""

    def check(self, number: int) -> None:
        """Check the density map and the fixations of a frame."""
        density = self._read_density(number)
        points, shape = self._read_fixations(number)
        sizes = {(w, h) for h, w in (size for size in (None if density is None else density.shape, shape) if size)}
        if len(sizes) > 1:
            message = f"density and fixation map of frame {number} differ in size: {describe_sizes(sizes)}"
            self.findings.append((message, True))
        elif self._size and sizes and sizes != {self._size}:
            self._numbers["maps differ in size from the frames"].append(number)
        if density is not None and points is not None and density.shape == shape and mismatch(density, points):
            self._numbers["most fixations lie where the density is lowest"].append(number)

    def findings_by_frame(self) -> list[tuple[str, bool]]:
        """Return the findings that list frames."""
        return [
            (f"{message}{self._hint(message)}: {describe_numbers(numbers)}", message != EMPTY)
            for message, numbers in self._numbers.items()
        ]

    def _hint(self, message: str) -> str:
        """Return the likely reason of fixations outside of the map, in brackets."""
        points, outside, outside_swapped = self._points
        swapped = message.endswith(OUTSIDE) and outside > points * MIN_SWAPPED and not outside_swapped
        return " (they may be [column, row] instead of [row, column])" if swapped else ""

    def _add(self, number: int, path: object, message: str) -> None:
        """Add a fault of a frame's density map."""
        if self._video.density_video:
            self._numbers[f"{path}: {message}"].append(number)
        else:
            self.findings.append((f"{path}: {message}", True))

    def _read_density(self, number: int) -> Map | None:
        """Return the density map of a frame, after checking its values; None if it is missing or unreadable."""
        source = self._video.densities.get(number)
        if source is None:
            return None
        try:
            density = read_density(source)
        except InputError as error:
            if isinstance(source, MapFrame):
                self._add(number, source.path, "frames cannot be decoded")
            else:
                self.findings.append((str(error), True))
            return None
        path = source.path if isinstance(source, MapFrame) else source
        low, high = density.min(), density.max()
        black = isinstance(source, MapFrame) or not low  # black of a map video is often 16 of 255
        if low == high and (not black or self._has_fixations(number)):
            self._add(number, path, f"has the value {low} everywhere")
        elif low < high and ((density == low) | (density == high)).all():
            self._add(number, path, "has only two values, like a fixation map")
        return density

    def _has_fixations(self, number: int) -> bool:
        """Return whether the fixations of a frame are readable and not empty."""
        source = self._video.fixations.get(number)
        try:
            return source is not None and bool(len(read_fixation_points(source)))
        except InputError:
            return False

    def _read_fixations(self, number: int) -> tuple[Points | None, tuple[int, ...] | None]:
        """Return the fixations of a frame and the height and width of its map, after checking their values.

        None for both if they are missing or unreadable.
        """
        source = self._video.fixations.get(number)
        if source is None:
            return None, None
        if isinstance(source, FixationFrame):
            return self._read_listed(number, source)
        try:
            values = read_map(source)
        except InputError as error:
            self.findings.append((str(error), True))
            return None, None
        fixation = values > 0
        if len(levels := np.unique(values)) > 2:
            self.findings.append((f"{source}: has {len(levels)} values, not two, like a density map", True))
        elif (fraction := float(fixation.mean())) > MAX_FIXATED:
            self.findings.append((f"{source}: marks {fraction:.0%} of all pixels as fixated", True))
        if not fixation.any():
            self._numbers[EMPTY].append(number)
        return np.argwhere(fixation).astype(np.int32), values.shape

    def _read_listed(self, number: int, source: FixationFrame) -> tuple[Points | None, tuple[int, ...] | None]:
        """Return the fixations of a frame in a list, and the height and width of its map.

        None for the fixations if some of them are outside of the map.
        """
        points, size = read_fixation_points(source), self._video.map_size
        if not len(points):
            self._numbers[EMPTY].append(number)
        if size is None:
            return points, None
        kept = inside(points, size)
        swapped = inside(points[:, ::-1], size)
        self._points += (len(points), len(points) - len(kept), len(points) - len(swapped))
        if len(kept) < len(points):
            self._numbers[f"{source.path}: {OUTSIDE}"].append(number)
            return None, size
        return points, size


def mismatch(density: Map, points: Points) -> bool:
    """Return whether most fixations lie where the density is lowest, as in maps of different frames."""
    low, high = float(density.min()), float(density.max())
    if not len(points) or low == high:
        return False
    limit = low + (high - low) * NEAR_LOWEST
    return float((density[points[:, 0], points[:, 1]] < limit).mean()) > MAX_AT_LOWEST
