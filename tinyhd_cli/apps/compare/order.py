"""The order in which viewers of an image are expected to reach its areas of interest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...inference.areas import Area
from ...inference.polygons import contains, covered_fraction
from ...inference.windows import Map

MAX_FIXATIONS = 20
"""Length of the path: viewers make about three fixations per second, so this is the first six or seven seconds."""

RADIUS = 1 / 12
"""Standard deviation of the inhibition of return, as a fraction of the image's shorter side. Twice this is the radius
of the focus of attention of Itti, Koch and Niebur (PAMI 1998), a sixth of the shorter side."""

FAINT = 0.05
"""The path ends where the highest remaining value is below this fraction of the map's maximum."""


@dataclass(frozen=True)
class Fixation:
    """One stop of the predicted path. The fields are also the keys of the JSON output."""

    x: float
    """Column in pixels of the image."""
    y: float
    """Row in pixels of the image."""
    area: str | None
    """The smallest area of interest around the point; None if it is in none."""


def gaze_path(saliency: Map, areas: Sequence[Area], width: int, height: int) -> list[Fixation]:
    """Predict the path of the gaze over an image.

    The most salient point wins (winner take all). Then the map is reduced around it by a Gaussian (inhibition of
    return), the next point wins, and so on. A map predicts where people look, not when; the path assumes that they
    look at salient points first.

    Args:
        saliency: map ``(H, W)`` without negative values.
        areas: the areas of interest.
        width: width of the image in pixels.
        height: height of the image in pixels.
    """
    rows, columns = saliency.shape
    x = (np.arange(columns) + 0.5) * width / columns
    y = (np.arange(rows) + 0.5) * height / rows
    left = saliency.astype(np.float64)
    faint = FAINT * left.max()
    spread = 2 * (RADIUS * min(width, height)) ** 2
    placed = [(area.name, area.at(0.0, width, height)) for area in areas]
    by_size = sorted(placed, key=lambda item: covered_fraction(item[1], width, height))
    path: list[Fixation] = []
    while len(path) < MAX_FIXATIONS and left.max() > faint:
        row, column = divmod(int(np.argmax(left)), columns)
        at = float(x[column]), float(y[row])
        inside = next((name for name, corners in by_size if contains(corners, *at)), None)
        path.append(Fixation(round(at[0], 1), round(at[1], 1), inside))
        left *= 1 - np.exp(-((x - at[0]) ** 2 + (y[:, np.newaxis] - at[1]) ** 2) / spread)
    return path


def order_of_path(path: Sequence[Fixation]) -> dict[str, int]:
    """Return the number of each area, from 1, in the order in which the path reaches them; others are missing."""
    reached = dict.fromkeys(fixation.area for fixation in path if fixation.area is not None)
    return {name: number for number, name in enumerate(reached, start=1)}


def order_of_times(first_s: dict[str, float | None], shares: dict[str, float]) -> dict[str, int]:
    """Return the number of each area of a video, from 1, by the time at which it is first attended.

    Of areas with the same time, the one with the larger fraction of the attention is first. Areas that are never
    attended are missing.
    """
    attended = {name: time_s for name, time_s in first_s.items() if time_s is not None}
    ordered = sorted(attended, key=lambda name: (attended[name], -shares[name]))
    return {name: number for number, name in enumerate(ordered, start=1)}
