"""Eye-tracking recordings of the Brain Imaging Data Structure (BIDS): tables described by JSON files beside them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..untrusted import parse_json, read_document
from .collect import Contents, collect
from .columns import ROW, UNITS, Layout, build, check_eye, choose_eyes, usual_roles
from .options import RecordingOptions
from .tables import Table, has_decimal_commas
from .text import Head

NAME = re.compile(r"(?P<stem>.+_(?P<suffix>physio|eyetrack))\.tsv(\.gz)?")
ENTITY = re.compile(r"[a-zA-Z0-9]+-[a-zA-Z0-9+]+")

LEVELS = 4
"""Folders above a file in which JSON files may describe it: session, subject, dataset, and one more."""

LENGTHS = {"mm": 1e-3, "cm": 1e-2, "m": 1.0}
"""Units of positions on the screen in meters."""


def is_bids(head: Head) -> bool:
    """Return whether a file is a table of eye tracking that a JSON file describes."""
    return NAME.fullmatch(head.path.name) is not None and "Columns" in sidecar(head.path)


def sidecar(path: Path) -> dict[str, Any]:
    """Return the metadata of a file: from the JSON of its name, and from general ones in the folders above.

    Raises:
        InputError: a JSON file is malformed.
    """
    match = NAME.fullmatch(path.name)
    if match is None:
        return {}
    entities = set(ENTITY.findall(match["stem"]))
    merged: dict[str, Any] = {}
    for folder in reversed(list(path.absolute().parents)[: LEVELS + 1]):
        for suffix in ("events", match["suffix"]):
            files = [*folder.glob(f"*_{suffix}.json"), *folder.glob(f"{suffix}.json")]
            for file in sorted(files, key=lambda file: len(file.name)):
                # The screen is described with the events, whose names have no recording.
                if set(ENTITY.findall(file.stem)) <= entities:
                    content = read_json(file)
                    kept = (
                        content
                        if suffix != "events"
                        else {
                            "StimulusPresentation": content.get(
                                "StimulusPresentation", merged.get("StimulusPresentation")
                            )
                        }
                    )
                    merged |= {name: value for name, value in kept.items() if value is not None}
    return merged


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; ``InputError`` if it is malformed."""
    try:
        value = parse_json(read_document(path))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is not valid JSON: {error}") from error
    return value if isinstance(value, dict) else {}


def read_bids(head: Head, options: RecordingOptions) -> Contents:
    """Read a recording with its metadata.

    Raises:
        InputError: there is no description, the columns or their units are not known, or it is no gaze on a screen.
    """
    facts = sidecar(head.path)
    columns = facts.get("Columns")
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns) or len(columns) < 2:
        raise InputError(f"{head.path}: has no JSON file of the same name with Columns; put it into the same folder")
    eye = facts.get("RecordedEye")
    check_eye([eye] if isinstance(eye, str) else [], options.eye)
    system = facts.get("SampleCoordinateSystem", "gaze-on-screen")
    if system != "gaze-on-screen":
        raise InputError(f"{head.path}: its gaze is {system}, not gaze-on-screen")
    header = head.lines[0].split("\t") == columns if head.lines else False
    table = Table(head, tuple(columns), "\t", int(header), has_decimal_commas(head.lines, "\t"))
    roles = usual_roles(table)
    if "x" not in roles:
        raise InputError(f"{head.path}: has no x_coordinate and y_coordinate; Columns are {', '.join(columns)}")
    layout = build(roles, choose_eyes(roles, options.eye))
    layout = replace(timing(layout, facts, head), observer=(), screen=screen_of(facts))
    layout, scale = positions(layout, facts, head)
    found = collect(table, layout, options)
    for parts in found.values():
        for axis, factor in zip("xy", scale, strict=True):
            parts.samples[axis] = [values * factor for values in parts.samples.get(axis, [])]
    return layout, {(subject(head.path),): parts for parts in found.values()}


def subject(path: Path) -> str:
    """Return the observer's name, such as ``sub-01``; empty if the file has none."""
    match = re.match(r"sub-[a-zA-Z0-9+]+", path.name)
    return match[0] if match else ""


def timing(layout: Layout, facts: dict[str, Any], head: Head) -> Layout:
    """Return a layout with the unit of its time, or with the number of the row as time."""
    start_s = facts.get("StartTime", 0.0)
    if not isinstance(start_s, int | float) or not abs(start_s) < 1e9:  # NaN, too
        raise InputError(f"{head.path}: StartTime in its JSON file is not a number of seconds")
    if layout.time is not None:
        column = facts.get(layout.time)
        unit = UNITS.get(str(column.get("Units", "")).lower()) if isinstance(column, dict) else None
        return replace(layout, seconds=unit, zero="first", start_s=start_s)
    rate = facts.get("SamplingFrequency")
    if not isinstance(rate, int | float) or not 0 < rate < 1e6:
        raise InputError(f"{head.path}: has neither a column timestamp nor a SamplingFrequency in its JSON file")
    return replace(layout, time=ROW, seconds=1 / rate, zero="first", start_s=start_s)


def pair(facts: dict[str, Any], name: str) -> tuple[float, float] | None:
    """Return two positive numbers of the metadata, from ``StimulusPresentation`` or the top; None if not stated."""
    stimulus = facts.get("StimulusPresentation")
    value = (stimulus if isinstance(stimulus, dict) else {}).get(name, facts.get(name))
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(side, int | float) for side in value):
        return None
    return (float(value[0]), float(value[1])) if all(0 < side < 1e6 for side in value) else None


def screen_of(facts: dict[str, Any]) -> tuple[int, int] | None:
    """Return the size of the screen in pixels; None if the metadata do not state it."""
    size = pair(facts, "ScreenResolution")
    return (round(size[0]), round(size[1])) if size else None


def upward(facts: dict[str, Any], head: Head) -> str:
    """Return the end of the name of coordinates from the screen's origin: ``-up`` from the lower left corner."""
    stimulus = facts.get("StimulusPresentation")
    origin = (stimulus if isinstance(stimulus, dict) else {}).get("ScreenOrigin", facts.get("ScreenOrigin"))
    ends = {("top", "left"): "", ("bottom", "left"): "-up"}
    corner = ("top", "left") if origin is None else tuple(map(str, origin)) if isinstance(origin, list) else ()
    if corner not in ends:
        raise InputError(f"{head.path}: its ScreenOrigin is neither ['top', 'left'] nor ['bottom', 'left']")
    return ends[corner]


def positions(layout: Layout, facts: dict[str, Any], head: Head) -> tuple[Layout, tuple[float, float]]:
    """Return a layout with the unit of the gaze, and the factors by which it is scaled to that unit."""
    column = facts.get(layout.eyes[0].x)
    unit = str(column.get("Units", "pixel") if isinstance(column, dict) else "pixel").lower().rstrip("s")
    up = upward(facts, head)
    if unit in ("pixel", "px"):
        return replace(layout, coordinates=f"pixels{up}"), (1.0, 1.0)
    if unit in LENGTHS:
        size, length = pair(facts, "ScreenSize"), LENGTHS[unit]
        if size is None:
            raise InputError(f"{head.path}: its gaze is in {unit}, which needs ScreenSize in its JSON file")
        if size[0] > 10:  # the first proposals had centimeters
            size = (size[0] / 100, size[1] / 100)
        return replace(layout, coordinates=f"normalized{up}"), (length / size[0], length / size[1])
    if unit in ("normalized", "fraction", "ratio", "arbitrary"):
        return replace(layout, coordinates=f"normalized{up}"), (1.0, 1.0)
    raise InputError(f"{head.path}: its gaze is in {unit}; pixels, m, cm, mm and normalized are supported")
