"""Areas of interest of several versions: common ones, and those of single versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...errors import InputError, UsageError, did_you_mean
from ...inference.area_parsing import find_file, is_box, parse_areas
from ...inference.areas import Area, same_shape
from .results import Version

MAX_VERSIONS = 26
"""Maximum number of versions, because each has a letter."""


def names_of(versions: Sequence[Version]) -> dict[str, str]:
    """Return the identifier of the version that each name stands for: letters, and file names that occur once."""
    stems = [version.name for version in versions]
    named = {version.name: version.id for version in versions if stems.count(version.name) == 1}
    return named | {version.id: version.id for version in versions}


def parse_version_areas(
    arguments: Sequence[str], versions: Sequence[Version]
) -> tuple[tuple[Area, ...], dict[str, tuple[Area, ...]]]:
    """Return the areas of ``--aoi`` options: those of all versions, and those of single versions by identifier.

    ``VERSION=AREA`` is an area of one version, where ``AREA`` has any form that :func:`parse_areas` reads:
    ``B=areas.json``, ``B=cta=10%,20%,30%,10%``. A file that has areas of several pictures gives each version its own.

    Raises:
        UsageError: an option is malformed, or names an unknown version.
        InputError: a file cannot be read.
    """
    names = names_of(versions)
    common: list[str] = []
    own: dict[str, list[str]] = {}
    for argument in arguments:
        owner, area = split_version(argument, names)
        if owner:
            own.setdefault(owner, []).append(area)
        elif all_equal([parse_areas([area], version.name) for version in versions]):
            common.append(area)
        else:
            for version in versions:
                own.setdefault(version.id, []).append(area)
    by_id = {version.id: version.name for version in versions}
    return parse_areas(common, versions[0].name), {key: parse_areas(found, by_id[key]) for key, found in own.items()}


def split_version(argument: str, names: Mapping[str, str]) -> tuple[str, str]:
    """Return the version at the start of an ``--aoi`` option, empty if it is for all versions, and the rest.

    Args:
        argument: the option.
        names: identifier of each name of a version.
    """
    head, _, rest = argument.partition("=")
    if not rest or find_file(argument) is not None or is_box(rest):
        return "", argument
    if head in names:
        return names[head], rest
    if find_file(rest) is not None or "=" in rest:
        raise UsageError(f"--aoi {argument}: no version is named {head!r}; {did_you_mean(head, names)}")
    return "", argument


def all_equal(found: Sequence[tuple[Area, ...]]) -> bool:
    """Return whether several versions have the same areas."""
    first, *others = found
    return all(len(first) == len(other) and all(map(equal, first, other)) for other in others)


def equal(one: Area, other: Area) -> bool:
    """Return whether two areas are the same."""
    places = zip(one.corners, other.corners, strict=False)
    described = [(area.name, area.times_s, area.in_pixels, area.drawn_on) for area in (one, other)]
    return described[0] == described[1] and all(np.array_equal(*pair) for pair in places)


def assign_areas(versions: Sequence[Version], common: Sequence[Area], own: Mapping[str, Sequence[Area]]) -> None:
    """Give each version its areas; an area of its own replaces a common one of the same name.

    Args:
        versions: the versions, whose sizes are known.
        common: areas of all versions.
        own: areas of single versions, by identifier.

    Raises:
        UsageError: a version has no areas, or the common areas do not fit all versions.
        InputError: an area is outside the frame.
    """
    users: list[tuple[Version, tuple[Area, ...]]] = []
    for version in versions:
        mine = tuple(own.get(version.id, ()))
        names = {area.name for area in mine}
        kept = tuple(area for area in common if area.name not in names)
        version.areas = (*kept, *mine)
        if kept:
            users.append((version, kept))
        if not version.areas:
            raise UsageError(f"version {version.label} has no areas; add --aoi {version.id}=FILE")
    check_common(users)
    for version in versions:
        for area in version.areas:
            try:
                area.check(version.width, version.height)
            except InputError as error:
                raise InputError(f"{version.path}: {error}") from None


def check_common(users: Sequence[tuple[Version, tuple[Area, ...]]]) -> None:
    """Raise ``UsageError`` if common areas cannot fit all versions that use them."""
    for version, areas in users[1:]:
        first = users[0][0]
        sizes = [(item.width, item.height) for item in (first, version)]
        described = " and ".join(f"{item.label} is {item.width} x {item.height}" for item in (first, version))
        advice = f"give {version.id} areas of its own: --aoi {version.id}=FILE"
        if not same_shape(*sizes):
            raise UsageError(f"{described}: the same areas do not fit different shapes; {advice}")
        in_pixels = [area.name for area in areas if area.in_pixels]
        if in_pixels and sizes[0] != sizes[1]:
            raise UsageError(f"--aoi {in_pixels[0]}: is in pixels, but {described}; use percent, or {advice}")
