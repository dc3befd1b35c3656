"""The images of a report: JPEGs, with areas of interest and contours as vectors on them, sharp on any screen."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ... import figures
from ...inference.areas import Area
from ...inference.normalization import HIGH, LOW, stretch
from ...inference.windows import Map
from ...video.overlay import area_color, sides_of
from ...video.reader import Image, VideoInfo

LEVELS = {0.25: (0, 1), 0.5: (1, 0), 0.75: (0, -1)}
"""Fractions of the attention inside the contours of an image, with the direction in which each one's label is: down,
right, up. Labels on one side would cover each other."""

LABEL_HEIGHT = 8.0
"""Approximate height of a label in percent of an image's height; nearer to the top, a label is below its point."""

MIN_POINTS = 6
"""Contours with fewer points are omitted: they are smaller than the resolution of a map."""


@dataclass(frozen=True)
class Outline:
    """An area of interest on an image. Positions are percentages of the image's width and height."""

    name: str
    """Text of the label; empty for none."""
    path: str
    """Sides, as SVG writes them."""
    side: str
    """Side of the image from which the label's position is measured: ``left`` or ``right``."""
    inset: float
    """Distance of the label from that side."""
    y: float
    """Position of the label."""
    above: bool
    """Whether the label is above y, otherwise below it."""
    color: str
    dark_text: bool
    """Whether black text is more legible on the color than white text."""


@dataclass(frozen=True)
class Contour:
    """The border of the region that receives a fraction of the attention. Positions are percentages."""

    text: str
    path: str
    """The lines, as SVG writes them."""
    x: float
    """Position of the label."""
    y: float
    """Position of the label."""


@dataclass(frozen=True)
class Shot:
    """An image of a report."""

    image: str
    """A data URL that contains a JPEG."""
    ratio: float
    """Width divided by height."""
    outlines: Sequence[Outline] = ()
    contours: Sequence[Contour] = ()


def make_shot(image: Image, outlines: Sequence[Outline] = (), contours: Sequence[Contour] = ()) -> Shot:
    """Return an image for a report, with its outlines and contours."""
    return Shot(as_jpeg(image), round(image.shape[1] / image.shape[0], 4), outlines, contours)


def as_jpeg(image: Image) -> str:
    """Return an image as a data URL that contains a JPEG."""
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 82])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def hex_color(number: int) -> str:
    """Return the color of the area of interest with this number, as CSS writes it."""
    return "#{:02x}{:02x}{:02x}".format(*area_color(number))


def outline_areas(areas: Sequence[Area], info: VideoInfo, time_s: float, named: bool = True) -> list[Outline]:
    """Return the outlines of areas at a time; without ``named``, they have no labels."""
    outlines = []
    for number, area in enumerate(areas):
        corners = area.at(time_s, info.width, info.height) * (100 / info.width, 100 / info.height)
        left, top = np.clip(corners.min(axis=0), 0, 95)
        right = np.clip(corners[:, 0].max(), 5, 100)
        at_left = left <= 100 - right
        outlines.append(
            Outline(
                name=area.name if named else "",
                path=path_of(sides_of(np.clip(corners, -1e4, 1e4))),
                side="left" if at_left else "right",
                inset=round(float(left if at_left else 100 - right), 2),
                y=round(float(top), 2),
                above=bool(top > LABEL_HEIGHT),
                color=hex_color(number),
                dark_text=sum(area_color(number)) > 380,
            )
        )
    return outlines


def path_of(sides: NDArray[np.float64]) -> str:
    """Return sides ``(n, 2, 2)`` as the path of an SVG; a part begins where a side does not continue the previous."""
    texts = [tuple(f"{round(x, 2):g},{round(y, 2):g}" for x, y in side) for side in sides.tolist()]
    before = ["", *(end for _, end in texts)]
    pairs = zip(texts, before, strict=False)
    return " ".join(f"L{end}" if start == last else f"M{start} L{end}" for (start, end), last in pairs)


def contours_of(attention: NDArray[np.float64]) -> list[Contour]:
    """Return the contours of a map ``(h, w)``, slightly smoothed; none if it is uniform."""
    rows, columns = attention.shape
    attention = np.asarray(cv2.GaussianBlur(attention, (0, 0), columns / 150), np.float64)
    x = (np.arange(columns) + 0.5) * 100 / columns
    y = (np.arange(rows) + 0.5) * 100 / rows
    contours = []
    for fraction, direction in LEVELS.items():
        level = region(attention, fraction)[0]
        if not attention.min() < level < attention.max():
            continue
        lines = figures.new_figure(1, 1).add_subplot().contour(x, y, attention, [level]).allsegs[0]
        lines = [np.asarray(line) for line in lines if len(line) >= MIN_POINTS]
        if lines:
            contours.append(Contour(f"{fraction:.0%}", as_path(lines), *outermost(max(lines, key=len), direction)))
    return contours


def region(attention: NDArray[np.float64], fraction: float) -> tuple[float, float]:
    """Return the lowest value of the smallest region with a fraction of the attention, and its part of the map."""
    values = np.sort(attention, axis=None)[::-1]
    total = np.cumsum(values)
    index = min(int(np.searchsorted(total, fraction * total[-1])), values.size - 1)
    return float(values[index]), (index + 1) / values.size


def outermost(line: NDArray[np.float64], direction: tuple[int, int]) -> tuple[float, float]:
    """Return the outermost point of a line in a direction."""
    x, y = line[int(np.argmax(line @ direction))]
    return round(float(x), 2), round(float(y), 2)


def as_path(lines: Sequence[NDArray[np.float64]]) -> str:
    """Return lines as the path of an SVG element."""
    return "".join("M" + "L".join(f"{round(x, 2):g} {round(y, 2):g}" for x, y in line) for line in lines)


def scaled_robustly(values: NDArray[np.float64]) -> Map:
    """Scale a map to 0 to 1 by its robust limits."""
    low, high = np.quantile(values, (LOW, HIGH))
    return stretch(values.astype(np.float32), float(low), float(high))
