"""Text files of classic sets of videos: DIEM, and GazeCom with Vig and Dorr's Hollywood-2 recordings."""

from __future__ import annotations

import re

from ..errors import InputError
from .collect import Contents, collect
from .columns import Eye, Layout
from .options import RecordingOptions
from .tables import numbered_table
from .text import Head

DIEM_SCREEN = (1280, 960)
"""Size of the screen in pixels on which the videos of DIEM were shown, centered and not scaled."""

DIEM_RATE = 30.0
"""Rows per second in files of DIEM."""

COORD_HEADER = re.compile(r"^gaze\s+([0-9]{1,6})\s+([0-9]{1,6})\s*$")


def is_diem(head: Head) -> bool:
    """Return whether a file has the nine columns of DIEM: frame, then x, y, pupil and event of both eyes."""
    rows = [line.split() for line in head.lines[:20] if line.strip()]
    flags = {"-1", "0", "1", "2"}
    return len(rows) > 1 and all(len(row) == 9 and row[0].isdigit() and {row[4], row[8]} <= flags for row in rows)


def read_diem(head: Head, options: RecordingOptions) -> Contents:
    """Read a file of DIEM; frames are counted from 1. Samples are valid in fixations and saccades."""
    sides = {"left": Eye("2", "3", ("5",)), "right": Eye("6", "7", ("9",))}
    rate = options.frame_rate or DIEM_RATE
    layout = Layout(
        tuple(eye for side, eye in sides.items() if options.eye in ("both", side)),
        time="1",
        kind="9" if options.eye == "right" else "5",
        kinds=frozenset({"1"}),
        accepted=frozenset({"1", "2"}),
        seconds=1 / rate,
        coordinates="pixels",
        zero="file",
        start_s=-1 / rate,
        screen=DIEM_SCREEN,
    )
    return layout, collect(numbered_table(head), layout, options)


def coord_header(head: Head) -> tuple[int, re.Match[str]] | None:
    """Return number and content of the line ``gaze WIDTH HEIGHT`` of a coord file; None if it has none."""
    for number, line in enumerate(head.lines[:100]):
        if match := COORD_HEADER.match(line):
            return number, match
        if line.strip() and not line.startswith(("#", "geometry")):
            return None
    return None


def is_coord(head: Head) -> bool:
    """Return whether a file is a coord file: comments, ``gaze WIDTH HEIGHT``, ``geometry ...``, samples."""
    return coord_header(head) is not None


def read_coord(head: Head, options: RecordingOptions) -> Contents:
    """Read a coord file: microseconds since the start of the video, x, y, and confidence of each sample."""
    found = coord_header(head)
    if found is None:
        raise InputError(f"{head.path}: has no line such as 'gaze 1280 720' before the samples")
    lines = head.lines
    first = next((n for n, line in enumerate(lines) if line[:1].isdigit() or line[:1] == "-"), len(lines))
    layout = Layout(
        (Eye("2", "3", ("4",)),),
        time="1",
        confidence=0.5,
        seconds=1e-6,
        coordinates="pixels",
        zero="file",
        screen=(int(found[1][1]), int(found[1][2])),
    )
    return layout, collect(numbered_table(head, first), layout, options)
