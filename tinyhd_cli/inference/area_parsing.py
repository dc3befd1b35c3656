"""Parse areas of interest from ``--aoi`` options and JSON files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, UsageError, one_line
from ..untrusted import parse_json, printable, read_document
from .areas import Area
from .polygons import Points

MAX_AREAS = 256
MAX_CORNERS = 10_000
"""Maximum corners of one polygon. The outline of a person, traced pixel by pixel, has a few thousand."""

MAX_ALL_CORNERS = 100_000
"""Maximum corners of all areas in total, because each corner takes time in every frame."""

MAX_NAME = 100
"""Maximum number of characters in a name; longer names leave no space in plots."""

MAX_COORDINATE = 1e6
"""Maximum absolute value of coordinates and times, in pixels, percent or seconds."""


def box(values: Sequence[float]) -> Points:
    """Return the corners of a box, given as x, y, width, height."""
    x, y, width, height = values
    return np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], np.float64)


def parse_areas(arguments: Sequence[str]) -> tuple[Area, ...]:
    """Return the areas of ``--aoi`` options: each is ``logo=x,y,w,h``, in pixels or percent, or a JSON file's name.

    Raises:
        UsageError: an option is malformed, two areas have the same name, or there are too many areas.
        InputError: a file cannot be read.
    """
    areas: list[Area] = []
    for argument in arguments:
        areas += [parse_box(argument)] if "=" in argument and not Path(argument).is_file() else read_areas(argument)
    for name, count in Counter(area.name for area in areas).items():
        if count > 1:
            raise UsageError(f"--aoi: two areas are named {name!r}; use different names")
    if len(areas) > MAX_AREAS:
        raise UsageError(f"--aoi: {len(areas):,} areas; the limit is {MAX_AREAS}")
    corners = sum(len(area.corners[0]) for area in areas)
    if corners > MAX_ALL_CORNERS:
        raise UsageError(f"--aoi: the areas have {corners:,} corners in total; the limit is {MAX_ALL_CORNERS:,}")
    return tuple(areas)


def parse_box(argument: str) -> Area:
    """Return the area of ``logo=10,20,100,50`` (pixels) or ``logo=10%,20%,25%,10%`` (percent of the frame's sides)."""
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
        raise UsageError(f"--aoi {argument!r}: mixes pixels and percent; write % after all four numbers or after none")
    if values[2] <= 0 or values[3] <= 0:
        raise UsageError(f"--aoi {argument!r}: width and height must be above 0")
    if any(percent):
        return Area(name, (0.0,), (box(values) / 100,), in_pixels=False)
    advice = f"write {name}={','.join(f'{value:g}%' for value in values)}"
    return Area(name, (0.0,), (box(values),), in_pixels=True, percent_advice=advice)


def name_of(text: object) -> str:
    """Return an area's name with escapes for unprintable characters; ``ValueError`` if it is not a valid name."""
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

    The format is ``{"units": "pixels", "areas": [{"name": "logo", "box": [x, y, w, h]}, {"name": "face", "polygon":
    [[x, y], ...]}, {"name": "ball", "keyframes": [{"time_s": 0, "box": [...]}, {"time_s": 2.5, "box": [...]}]}]}``.
    ``units`` may also be ``percent``.
    """
    path = Path(argument)
    try:
        content = parse_json(read_document(path))
    except FileNotFoundError:
        raise UsageError(f"--aoi {argument!r}: no such file, and not NAME=X,Y,WIDTH,HEIGHT") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path}: is not a JSON file ({one_line(error)})") from error
    try:
        if not isinstance(content, dict):
            raise ValueError('must contain an object, {"areas": [...]}')
        units = content.get("units", "pixels")
        if units not in ("pixels", "percent"):
            raise ValueError(f"units must be pixels or percent, not {units!r}")
        areas = [area_of(entry, units == "pixels") for entry in entries(content, "areas")]
        if "units" not in content:
            areas = [replace(area, percent_advice=f'add "units": "percent" to {path}') for area in areas]
        if not areas:
            raise ValueError("contains no areas")
        return areas
    except KeyError as error:
        raise InputError(f"{path}: {error} is missing") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {one_line(error)}") from error


def entries(parent: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """Return the list of objects at a key of a JSON object; ``ValueError`` if the value is anything else."""
    found = parent[key]
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise ValueError(f"{key} must be a list of objects, [{{...}}, ...]")
    return found


def area_of(entry: Mapping[str, Any], in_pixels: bool) -> Area:
    """Return the area described by an entry of a JSON file."""
    name = name_of(entry["name"])
    keyframes = entries(entry, "keyframes") if "keyframes" in entry else [{**entry, "time_s": 0}]
    times = tuple(float(numbers([keyframe["time_s"]], f"area {name!r}: a time")[0]) for keyframe in keyframes)
    corners = tuple(corners_of(name, keyframe) / (1 if in_pixels else 100) for keyframe in keyframes)
    if not times or any(later <= earlier for earlier, later in pairwise(times)):
        raise ValueError(f"area {name!r}: the times of its keyframes must be ascending")
    if len({len(points) for points in corners}) > 1:
        raise ValueError(f"area {name!r}: its keyframes must all have the same number of corners")
    return Area(name, times, corners, in_pixels)


def corners_of(name: str, entry: Mapping[str, Any]) -> Points:
    """Return the corners of an entry, which has a box or a polygon."""
    if "box" in entry:
        values = numbers(entry["box"], f"area {name!r}: a box")
        if values.shape != (4,) or values[2] <= 0 or values[3] <= 0:
            raise ValueError(f"area {name!r}: a box must be [x, y, width, height], with width and height above 0")
        return box([float(value) for value in values])
    points = numbers(entry.get("polygon", []), f"area {name!r}: a polygon")
    if points.ndim != 2 or points.shape[0] < 3 or points.shape[1] != 2:
        raise ValueError(f"area {name!r}: needs a box [x, y, width, height] or a polygon of three or more [x, y]")
    if len(points) > MAX_CORNERS:
        raise ValueError(f"area {name!r}: has {len(points):,} corners; the limit is {MAX_CORNERS:,}")
    return points


def numbers(values: Any, what: str) -> Points:
    """Return the numbers of a JSON list as an array.

    Raises:
        ValueError: it contains NaN, numbers that are too large, or anything else than numbers. The message begins with
            ``what``, the name of the list.
    """
    try:
        found = np.asarray(values)
        if found.dtype.kind not in "iuf" and found.size:
            raise ValueError
    except (ValueError, OverflowError):
        raise ValueError(f"{what} must consist of numbers") from None
    if not (np.abs(found) <= MAX_COORDINATE).all():  # also False for NaN
        raise ValueError(f"{what} contains NaN or a number beyond {MAX_COORDINATE:,.0f}")
    return found.astype(np.float64)
