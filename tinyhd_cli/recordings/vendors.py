"""Exports of Tobii Pro Lab and Studio, Pupil Core, Neon and Gazepoint: tables whose columns have fixed names."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import InputError, one_line
from ..untrusted import parse_json, read_document
from .collect import Contents, Key, Parts, collect, join
from .columns import Eye, Layout, check_eye, key, unit_of
from .options import RecordingOptions
from .tables import Table, describe, find_separator, open_table, split
from .text import FAULTS, Head, read_head

CONFIDENCE = 0.6
"""Minimum confidence of gaze that Pupil Labs recommends."""


PIXELS = re.compile(r"[1-9][0-9]{0,5}")
"""A side of a screen in pixels."""


def header_keys(head: Head) -> set[str]:
    """Return the names in the first line of a file, without units, case and punctuation."""
    line = next((line for line in head.lines if line.strip()), "")
    return {key(name) for name in split(line, find_separator(line))}


def by_key(columns: Sequence[str]) -> dict[str, str]:
    """Return columns by their names without units, case and punctuation; the first of several wins."""
    names: dict[str, str] = {}
    for column in columns:
        names.setdefault(key(column), column)
    return names


def eyes_of(names: dict[str, str], eye: str, pattern: str, valid: str) -> tuple[Eye, ...]:
    """Return the gaze of both eyes combined, or of single eyes.

    Args:
        names: columns by key.
        eye: ``both``, ``left`` or ``right``.
        pattern: key of a column of gaze, with ``{side}`` and ``{axis}``.
        valid: key of a column of validity, with ``{side}``; combined gaze is valid with one valid eye.

    Raises:
        InputError: there is only the other eye.
    """

    def find(side: str) -> Eye | None:
        x, y = (names.get(pattern.format(side=side, axis=axis)) for axis in "xy")
        stated = (names.get(valid.format(side=one)) for one in ([side] if side else ["left", "right"]))
        return Eye(x, y, tuple(name for name in stated if name)) if x and y else None

    single = {side: found for side in ("left", "right") if (found := find(side))}
    check_eye(single, eye)
    if eye in single:
        return (single[eye],)
    combined = find("")
    return (combined,) if combined else tuple(single.values())


def is_tobii(head: Head) -> bool:
    """Return whether a file is an export of Tobii Pro Lab or Tobii Studio."""
    keys = header_keys(head)
    return "recordingtimestamp" in keys and any(name.startswith(("gazepoint", "fixationpoint")) for name in keys)


def read_tobii(head: Head, options: RecordingOptions) -> Contents:
    """Read an export of Tobii Pro Lab, or of Tobii Studio."""
    table = open_table(head)
    usable = [name for name in table.columns if not any(unit in name.lower() for unit in ("norm", "mm]", "mm)"))]
    usable = [name for name in usable if "MCS" not in name]  # pixels of the media, whose size is not stated
    names = by_key(usable)
    eyes = eyes_of(names, options.eye, "gazepoint{side}{axis}", "validity{side}")
    eyes = eyes or eyes_of(names, "both", "fixationpoint{side}{axis}", "{side}")
    time = names.get("recordingtimestamp")
    if not eyes and any("MCS" in name and "px" in name for name in table.columns):
        raise InputError(f"{head.path}: has gaze in pixels of the media (MCS) alone; export that of the screen (DACS)")
    if not eyes or time is None:
        raise InputError(f"{head.path}: has no columns Recording timestamp, Gaze point X and Y; {describe(table)}")
    sensor = names.get("sensor")
    validity = [names[name] for name in ("validityleft", "validityright") if name in names]
    layout = Layout(
        eyes,
        time=time,
        observer=tuple(names[name] for name in ("participantname", "recordingname") if name in names),
        kind=names.get("eyemovementtype", names.get("gazeeventtype")),
        kinds=frozenset({"fixation"}),
        fixation=names.get("eyemovementtypeindex", names.get("fixationindex")),
        only=((sensor, frozenset({"eye tracker"})),) if sensor else (),
        filled=tuple(validity),
        stimulus=names.get("presentedstimulusname", names.get("presentedmedianame", names.get("medianame"))),
        events=tuple(
            names[name] for name in ("event", "eventvalue", "studioevent", "studioeventdata") if name in names
        ),
        accepted=frozenset({"valid", "0", "1"}),  # Tobii Studio has 0 (certain) to 4 (not found)
        seconds=unit_of(time),
        coordinates="pixels",
        screen=tobii_screen(table, names),
    )
    return layout, collect(table, layout, options)


def tobii_screen(table: Table, names: dict[str, str]) -> tuple[int, int] | None:
    """Return the size of the screen by the first row that states it."""
    columns = [names.get(name) for name in ("recordingresolutionwidth", "recordingresolutionheight")]
    both = names.get("recordingresolution")
    for line in table.head.lines[table.skip : table.skip + 1000]:
        row = dict(zip(table.columns, split(line, table.separator), strict=False))
        cells = [row.get(name, "") for name in columns if name] or row.get(both or "", "").lower().split("x")
        if len(cells) == 2 and all(PIXELS.fullmatch(cell.strip()) for cell in cells):
            return int(cells[0]), int(cells[1])
    return None


def is_pupil(head: Head) -> bool:
    """Return whether a file is an export of Pupil Player: gaze, gaze on a surface, or fixations."""
    keys = header_keys(head)
    gaze = "gazetimestamp" in keys and ({"normposx", "normposy"} <= keys or {"xnorm", "ynorm"} <= keys)
    return gaze or {"starttimestamp", "duration", "normposx", "normposy"} <= keys


def read_pupil(head: Head, options: RecordingOptions) -> Contents:
    """Read gaze or fixations of Pupil Core; fixations in the same folder as ``gaze_positions.csv`` are read, too."""
    table = open_table(head)
    names = by_key(table.columns)
    surface = "xnorm" in names or "onsurf" in names
    x, y = (names["xnorm"], names["ynorm"]) if "xnorm" in names else (names["normposx"], names["normposy"])
    layout = Layout(
        (Eye(x, y, (names["confidence"],) if "confidence" in names else ()),),
        time=names.get("gazetimestamp"),
        seen=((names["onsurf"], frozenset({"true", "1"})),) if "onsurf" in names else (),
        confidence=CONFIDENCE,
        seconds=1.0,
        duration_seconds=1e-3,
        coordinates="normalized-up",
    )
    if layout.time is None:
        layout = replace(layout, start=names["starttimestamp"], duration=names["duration"])
    found = collect(table, layout, options)
    if layout.time is None:
        for parts in found.values():
            keep_first_rows(parts)
    contents = layout, found
    return contents if surface or layout.time is None else with_fixations(contents, head, is_pupil, read_pupil, options)


def keep_first_rows(parts: Parts) -> None:
    """Keep the first row of each fixation; surfaces have one for each frame of the scene."""
    columns = join(parts.fixations)
    if columns:
        _, first = np.unique(columns["start"], return_index=True)
        parts.add("fixations", {name: values[first] for name, values in columns.items()})


def with_fixations(
    contents: Contents,
    head: Head,
    accepts: Callable[[Head], bool],
    read: Callable[[Head, RecordingOptions], Contents],
    options: RecordingOptions,
) -> Contents:
    """Add the fixations of ``fixations.csv`` in the folder of a recording's gaze, if any."""
    path = head.path.with_name("fixations.csv")
    layout, found = contents
    if path == head.path or not path.is_file():
        return contents
    try:
        other = read_head(path)
        fixations = read(other, options)[1] if accepts(other) else {}
    except (InputError, *FAULTS) as error:
        line = f"the fixations beside it are not used: {one_line(error).removeprefix(f'{path}: ')}"
        return replace(layout, warnings=(*layout.warnings, line)), found
    for name, parts in fixations.items():
        target = found.get(name, next(iter(found.values())) if len(found) == 1 else None)
        if target is not None:
            target.fixations.update(parts.fixations)
    return layout, found


def is_neon(head: Head) -> bool:
    """Return whether a file is an export of Neon or Pupil Invisible: gaze or fixations, on a surface or not."""
    line = head.lines[0] if head.lines else ""
    return "timestamp [ns]" in line and any(
        f"{kind} {place}" in line for kind in ("gaze", "fixation") for place in ("x [px]", "position ", "on surface x")
    )


def read_neon(head: Head, options: RecordingOptions) -> Contents:
    """Read gaze or fixations of Neon, of a whole recording or mapped to a surface or a reference image."""
    table = open_table(head)
    names = {name.lower(): name for name in table.columns}
    kind = "gaze" if "timestamp [ns]" in names else "fixation"
    places = ("on surface x [normalized]", "position on surface x [normalized]", "position in reference image x [px]")
    x = next((names[f"{kind} {place}"] for place in (*places, "x [px]") if f"{kind} {place}" in names), None)
    y = names.get(x.lower().replace(" x [", " y [")) if x else None
    if x is None or y is None:
        raise InputError(f"{head.path}: has no columns of {kind} x and y; {describe(table)}")
    detected = [names[name] for name in names if name.startswith(f"{kind} detected ")]
    valid = detected[:1] or [names[name] for name in ("worn",) if name in names]
    layout = Layout(
        (Eye(x, y, tuple(valid)),),
        time=names.get("timestamp [ns]"),
        fixation=names.get("fixation id") if kind == "gaze" else None,
        observer=(names["recording id"],) if "recording id" in names else (),
        seconds=1e-9,
        coordinates="normalized" if "normalized" in x else "pixels",
        shared_names=True,  # the wearer's name is often that of the app
    )
    if kind == "fixation":
        layout = replace(layout, start=names["start timestamp [ns]"], end=names["end timestamp [ns]"])
    contents = layout, neon_names(head.path.parent, collect(table, layout, options))
    if kind == "gaze" and layout.fixation is None:
        return with_fixations(contents, head, is_neon, read_neon, options)
    return contents


def neon_names(folder: Path, found: dict[Key, Parts]) -> dict[Key, Parts]:
    """Replace the identifiers of recordings by names: of the wearer, or of the recordings in ``sections.csv``."""
    if len(found) == 1:
        return {(wearer(folder),): next(iter(found.values()))}
    try:
        with (folder / "sections.csv").open(encoding="utf-8", newline="") as file:
            known = {row["recording id"]: row["recording name"] for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, csv.Error):
        return found
    return {(known.get(name[0], name[0]), name[0]): parts for name, parts in found.items()}


def wearer(folder: Path) -> str:
    """Return the name of the wearer in ``info.json``; empty if it is not stated."""
    try:
        info = parse_json(read_document(folder / "info.json"))
    except (OSError, ValueError):  # the name is optional
        return ""
    name = info.get("wearer_name") if isinstance(info, dict) else None
    return name if isinstance(name, str) else ""


def is_gazepoint(head: Head) -> bool:
    """Return whether a file is an export of Gazepoint Analysis, or a log of its API."""
    return {"fpogx", "fpogy"} <= header_keys(head) or {"bpogx", "bpogy"} <= header_keys(head)


def read_gazepoint(head: Head, options: RecordingOptions) -> Contents:
    """Read all gaze, or the fixations, of a Gazepoint export."""
    table = open_table(head)
    names = by_key(table.columns)
    time = next((names[name] for name in names if name.startswith("time") and not name.startswith("timetick")), None)
    sides = {"left": "lpog", "right": "rpog"}
    prefix = next(p for p in (sides.get(options.eye, "bpog"), "bpog", "fpog") if {f"{p}x", f"{p}y"} <= names.keys())
    layout = Layout(
        (gazepoint_eye(names, prefix),),
        events=(names["user"],) if "user" in names else (),  # marks that other programs set
        stimulus=names.get("medianame"),
        seconds=1.0,
        coordinates="normalized",
    )
    if is_fixation_list(table, names):
        layout = replace(
            layout, eyes=(gazepoint_eye(names, "fpog"),), start=names["fpogs"], duration=names["fpogd"], zero="file"
        )
    elif time is None:
        raise InputError(f"{head.path}: has no column TIME; {describe(table)}")
    else:
        fixation = names.get("fpogid") if "fpogv" in names else None
        kind = names.get("fpogv") if fixation else None
        layout = replace(layout, time=time, fixation=fixation, kind=kind, kinds=frozenset({"1", "1.0"}))
    return layout, collect(table, layout, options)


def gazepoint_eye(names: dict[str, str], prefix: str) -> Eye:
    """Return the columns of a point of gaze, such as ``BPOGX``, ``BPOGY`` and ``BPOGV``."""
    return Eye(names[f"{prefix}x"], names[f"{prefix}y"], (names[f"{prefix}v"],) if f"{prefix}v" in names else ())


def is_fixation_list(table: Table, names: dict[str, str]) -> bool:
    """Return whether each row is a fixation: their numbers do not repeat."""
    if not {"fpogx", "fpogid", "fpogs", "fpogd"} <= names.keys():
        return False
    column = table.columns.index(names["fpogid"])
    rows = [split(line, table.separator) for line in table.head.lines[table.skip : table.skip + 200]]
    numbers = [row[column] for row in rows if len(row) > column]
    return len(numbers) > 1 and len(set(numbers)) == len(numbers)
