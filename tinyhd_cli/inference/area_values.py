"""Names and numbers of areas of interest, checked: they come from files and command lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..untrusted import printable
from .areas import Area
from .polygons import Points, joined

MAX_AREAS = 256
MAX_CORNERS = 10_000
"""Maximum corners of one polygon. The outline of a person, traced pixel by pixel, has a few thousand."""

MAX_ALL_CORNERS = 100_000
"""Maximum corners of all areas in total, because each corner takes time in every frame."""

MAX_NAME = 100
"""Maximum number of characters in a name; longer names leave no space in plots."""

MAX_COORDINATE = 1e6
"""Maximum absolute value of coordinates and times, in pixels, percent or seconds."""


@dataclass(frozen=True)
class Drawing:
    """The areas that a file contains for one picture."""

    areas: Sequence[Area]
    others: Sequence[Area] = ()
    """Areas that are used only if they are named, such as the groups of an SVG."""
    picture: str = ""
    """File name of the picture or name of the frame, if the file states it."""

    def __post_init__(self) -> None:
        named = numbered([*self.areas, *self.others])
        object.__setattr__(self, "areas", named[: len(self.areas)])
        object.__setattr__(self, "others", named[len(self.areas) :])


def numbered(areas: Sequence[Area]) -> list[Area]:
    """Return areas with different names: the second ``Button`` is called ``Button 2``."""
    taken = {area.name for area in areas}
    counts: dict[str, int] = {}
    found = []
    for area in areas:
        name, count = area.name, counts.get(area.name, 0) + 1
        while count > 1 and (name := f"{area.name[: MAX_NAME - 8]} {count}") in taken:
            count += 1
        counts[area.name] = count
        taken.add(name)
        found.append(replace(area, name=name))
    return found


def box(values: Sequence[float]) -> Points:
    """Return the corners of a box, given as x, y, width, height."""
    x, y, width, height = values
    return np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], np.float64)


def drawn_area(name: str, rings: Sequence[Points], size: tuple[float, float]) -> Area:
    """Return an area that was drawn on a picture; it scales with the frame.

    Args:
        name: name of the area.
        rings: corners ``(n, 2)`` of each part and hole, in units of the picture.
        size: width and height of the picture.

    Raises:
        ValueError: it has too many corners.
    """
    points = joined(rings)
    check_corners(name, points)
    return Area(name, (0.0,), (points / size,), in_pixels=False, drawn_on=size)


def check_corners(name: str, points: Points) -> None:
    """Raise ``ValueError`` if an area has too many corners."""
    if len(points) > MAX_CORNERS:
        raise ValueError(f"area {name!r}: has {len(points):,} corners; the limit is {MAX_CORNERS:,}")


def name_of(text: object, shorten: bool = False) -> str:
    """Return an area's name with escapes for unprintable characters; ``ValueError`` if it is not a valid name.

    Args:
        text: the name.
        shorten: whether to cut names that are too long, because another program made them.
    """
    if not isinstance(text, str | int | float) or isinstance(text, bool):
        raise ValueError("area names must be text")
    name = printable(str(text).strip())
    if shorten:
        name = name[:MAX_NAME]
    if not name:
        raise ValueError("area names must not be empty")
    if len(name) > MAX_NAME:
        raise ValueError(f"area {name[:20]!r}...: the name has {len(name):,} characters; the limit is {MAX_NAME}")
    return name


def numbers(values: Any, what: str, limit: float = MAX_COORDINATE) -> Points:
    """Return the numbers of a JSON list as an array.

    Args:
        values: the list.
        what: its name in messages.
        limit: maximum absolute value.

    Raises:
        ValueError: it contains NaN, numbers that are too large, or anything else than numbers.
    """
    try:
        found = np.asarray(values)
        if found.dtype.kind not in "iuf" and found.size:
            raise ValueError
    except (ValueError, OverflowError):
        raise ValueError(f"{what} must consist of numbers") from None
    if not (np.abs(found) <= limit).all():  # also False for NaN
        raise ValueError(f"{what} contains NaN or a number beyond {limit:,.0f}")
    return found.astype(np.float64)


def size_of(width: Any, height: Any, what: str) -> tuple[float, float]:
    """Return the size of a picture; ``ValueError`` unless both sides are positive numbers."""
    found = numbers([width, height], f"{what}: width and height")
    if found.shape != (2,) or (found <= 0).any():
        raise ValueError(f"{what}: width and height must be above 0")
    return float(found[0]), float(found[1])
