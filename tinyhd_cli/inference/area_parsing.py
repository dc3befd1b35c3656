"""Parse areas of interest from ``--aoi`` options: boxes, and files of several formats."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from .. import storage
from ..errors import InputError, UsageError, did_you_mean, one_line
from ..untrusted import parse_json, read_document
from ..video.source import is_read_once
from .area_json import json_drawings
from .area_mask import is_image, mask_drawing
from .area_svg import svg_drawing
from .area_values import MAX_ALL_CORNERS, MAX_AREAS, MAX_COORDINATE, Drawing, box, name_of
from .areas import Area


def parse_areas(arguments: Sequence[str], picture: str = "") -> tuple[Area, ...]:
    """Return the areas of ``--aoi`` options.

    Each is ``logo=x,y,w,h``, in pixels or percent, or a file: tinyhd's JSON, SVG, COCO JSON, Figma's JSON, or a mask
    image. ``FILE#logo,face`` uses only these areas of a file, and ``FILE#logo=brand`` renames one.

    Args:
        arguments: the options.
        picture: name of the picture, which selects its areas in a file that has areas of several pictures.

    Raises:
        UsageError: an option is malformed, two areas have the same name, or there are too many areas.
        InputError: a file cannot be read.
    """
    areas: list[Area] = []
    for argument in arguments:
        if (found := find_file(argument)) is not None:
            areas += chosen(argument, read_drawings(found[0]), found[1], picture)
        elif "=" in argument:
            areas.append(parse_box(argument))
        else:
            raise UsageError(f"--aoi {argument!r}: no such file, and not NAME=X,Y,WIDTH,HEIGHT")
    for name, count in Counter(area.name for area in areas).items():
        if count > 1:
            raise UsageError(f"--aoi: two areas are named {name!r}; use different names")
    if len(areas) > MAX_AREAS:
        raise UsageError(f"--aoi: {len(areas):,} areas; the limit is {MAX_AREAS}; choose some with FILE#NAME,NAME")
    corners = sum(len(area.corners[0]) for area in areas)
    if corners > MAX_ALL_CORNERS:
        raise UsageError(f"--aoi: the areas have {corners:,} corners in total; the limit is {MAX_ALL_CORNERS:,}")
    return tuple(areas)


def find_file(argument: str) -> tuple[Path, list[str]] | None:
    """Return the file of an argument and the names after its ``#``; None if there is no such file.

    A file in a store is copied.
    """
    if is_file(argument):
        return storage.fetched(storage.path_of(argument)), []
    for mark in re.finditer("#", argument):  # a color, such as #ff0000, may be a name
        if is_file(argument[: mark.start()]):
            names = argument[mark.end() :].split(",")
            file = storage.path_of(argument[: mark.start()])
            return storage.fetched(file), [name.strip() for name in names if name.strip()]
    return None


def is_file(name: str) -> bool:
    """Return whether a path exists and is not a folder."""
    if storage.is_url(name):
        return storage.is_file(storage.path_of(name))
    try:
        return Path(name).exists() and not Path(name).is_dir()
    except (OSError, ValueError):
        return False


def is_box(text: str) -> bool:
    """Return whether a text consists of four parts separated by commas, as in ``logo=10,20,100,50``."""
    return text.count(",") == 3 and all(re.fullmatch(r"\s*[-+.\d\w]+\s*%?\s*", part) for part in text.split(","))


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


def read_drawings(path: Path) -> list[Drawing]:
    """Return the areas of a file, for each picture that it describes.

    Raises:
        InputError: the file cannot be read, or has invalid content.
    """
    try:
        if not is_read_once(path) and is_image(path):
            return [mask_drawing(path)]
        text = read_document(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not a file of areas, which is JSON, SVG, or an image") from error
    except ValueError as error:
        raise InputError(f"{path}: {one_line(error)}") from error
    try:
        if text.lstrip("\ufeff \t\r\n").startswith("<"):
            return [svg_drawing(text)]
        try:
            content = parse_json(text)
        except ValueError as error:
            raise ValueError(f"is not a JSON file ({one_line(error)})") from error
        return json_drawings(content, str(path))
    except KeyError as error:
        raise InputError(f"{path}: {error} is missing") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {one_line(error)}") from error


def chosen(argument: str, drawings: Sequence[Drawing], names: Sequence[str], picture: str) -> list[Area]:
    """Return the areas of a file that are used for a picture.

    Args:
        argument: the ``--aoi`` option, for messages.
        drawings: content of the file.
        names: areas, each optionally followed by ``=`` and a new name, and names of pictures; empty: all areas.
        picture: name of the picture.

    Raises:
        UsageError: a name is unknown, or the file describes several pictures and none of them is selected.
    """
    pictures = [name for name in names if len(drawings) > 1 and any(is_picture(drawing, name) for drawing in drawings)]
    for name in [*pictures, picture]:
        exact = [drawing for drawing in drawings if name and drawing.picture.lower() == name.lower()]
        if matching := exact[:1] or [drawing for drawing in drawings if name and is_picture(drawing, name)]:
            drawings = matching
    if len(drawings) > 1:
        known = ", ".join(drawing.picture for drawing in drawings[:6]) + (", ..." if len(drawings) > 6 else "")
        advice = f"choose one, as in FILE#{drawings[0].picture}"
        raise UsageError(f"--aoi {argument}: has areas of {len(drawings)} pictures ({known}); {advice}")
    (drawing,) = drawings
    wanted = [name for name in names if name not in pictures]
    if not wanted:
        return list(drawing.areas)
    known_areas = {area.name: area for area in [*drawing.others, *drawing.areas]}
    found = []
    for entry in wanted:
        name, _, new = (entry, "", "") if entry in known_areas else map(str.strip, entry.rpartition("="))
        name, new = (name, new) if name else (new, "")
        if name not in known_areas:
            raise UsageError(f"--aoi {argument}: has no area {name!r}; {did_you_mean(name, known_areas)}")
        found.append(replace(known_areas[name], name=new_name(new)) if new else known_areas[name])
    return found


def is_picture(drawing: Drawing, name: str) -> bool:
    """Return whether a drawing's picture has this name; case and folders are ignored, and one may lack its suffix."""
    one, other = PurePath(drawing.picture.lower()), PurePath(name.lower())
    return bool(drawing.picture) and (one.name in (other.name, other.stem) or one.stem == other.name)


def new_name(text: str) -> str:
    """Return the new name of an area; ``UsageError`` if it is too long."""
    try:
        return name_of(text)
    except ValueError as error:
        raise UsageError(f"--aoi: {error}") from error
