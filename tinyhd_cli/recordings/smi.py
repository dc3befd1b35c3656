"""Text exports of SMI (IDF Converter, BeGaze), and the raw records of DHF1K, which are such exports."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import islice

from ..errors import InputError
from .collect import MAX_NAMES, Contents, collect
from .columns import Eye, Layout, check_eye, unit_of
from .options import RecordingOptions
from .tables import Table, describe, numbered_table, open_table, split
from .text import Head, blocks

AREA = re.compile(r"^## Calibration Area:\s*([0-9]{1,6})\s+([0-9]{1,6})")
SUBJECT = re.compile(r"^## Subject:\s*(\S.*?)\s*$")
FIXATION = re.compile(r"^Fixation [LRB][\t,]")

EVENT_COLUMNS = ("type", "trial", "number", "start", "end", "duration", "x", "y")
"""First columns of fixations in exports of events."""

DHF1K_SCREEN = (1440, 900)
"""Size of the screen on which the videos of DHF1K were shown; they filled its width."""

DHF1K_ROW = re.compile(r"^\d+\tSMP\t\d+(\t-?[\d.]+){4}\t[A-Z-]\s*$")


def is_smi(head: Head) -> bool:
    """Return whether a file is a text export of SMI."""
    if any(line.startswith("## ") for line in head.lines[:3]):
        return True
    return any(" POR X [px]" in line or "Point of Regard" in line for line in head.lines[:1])


def read_smi(head: Head, options: RecordingOptions) -> Contents:
    """Read samples of an export with the columns ``L POR X [px]``, or an export of events."""
    lines = head.lines
    comments = next((index for index, line in enumerate(lines) if not line.startswith("##") and line.strip()), 0)
    stated = [match for line in lines[:comments] if (match := AREA.match(line))]
    screen = (int(stated[0][1]), int(stated[0][2])) if stated else None
    subject = next((match[1] for line in lines[:comments] if (match := SUBJECT.match(line))), "")
    if any(FIXATION.match(line) for line in lines[comments : comments + 500]):
        layout, found = read_events(head, options, screen)
    else:
        table = open_table(head, comments)
        layout = replace(sample_layout(table, options), screen=screen)
        found = collect(table, layout, replace(options, start_event=None))
        if options.start_event:
            events = find_messages(head, options.start_event)
            for parts in found.values():
                parts.events = events
    return layout, {(subject,) if subject and name == () else name: parts for name, parts in found.items()}


def sample_layout(table: Table, options: RecordingOptions) -> Layout:
    """Return the layout of samples; ``InputError`` if there are no columns of gaze."""
    names = {name.lower(): name for name in table.columns}
    patterns = {"left": ("l por {} [px]", "point of regard left {} [px]"), "right": ("r por {} [px]",)}
    patterns["right"] += ("point of regard right {} [px]",)
    patterns["both"] = ("b por {} [px]", "point of regard binocular {} [px]")
    found = {
        side: Eye(names[pattern.format("x")], names[pattern.format("y")])
        for side, options_of_side in patterns.items()
        for pattern in options_of_side
        if {pattern.format("x"), pattern.format("y")} <= names.keys()
    }
    check_eye(found, options.eye)
    if options.eye in found:
        eyes: tuple[Eye, ...] = (found[options.eye],)
    else:
        eyes = tuple(found.values())
    time = names.get("time", names.get("recordingtime [ms]"))
    if not eyes or time is None:
        raise InputError(f"{table.head.path}: has no columns Time and L POR X [px] or the like; {describe(table)}")
    side = "l" if eyes[0] == found.get("left") else "r"
    kinds = (f"{side} event info", "b event info", f"category {'left' if side == 'l' else 'right'}")
    kind = next((names[name] for name in kinds if name in names), None)
    return Layout(
        eyes,
        time=time,
        observer=(names["participant"],) if "participant" in names else (),
        kind=kind,
        kinds=frozenset({"fixation", "visual intake"}),
        only=((names["type"], frozenset({"smp"})),) if "type" in names else (),
        stimulus=names.get("stimulus", names.get("trial")),
        seconds=unit_of(time) or 1e-6,
        coordinates="pixels",
        lost=(0.0, 0.0),
    )


def find_messages(head: Head, text: str) -> list[tuple[float, bool]]:
    """Return the times of the messages that contain a text, in the unit of the file, as ``Parts.events``."""
    pattern = re.compile(rb"^(\d+)\tMSG\t[^\n]*" + re.escape(text.encode()), re.MULTILINE)
    found = ((float(match[1]), False) for block in blocks(head) for match in pattern.finditer(block))
    return list(islice(found, MAX_NAMES))


def read_events(head: Head, options: RecordingOptions, screen: tuple[int, int] | None) -> Contents:
    """Read the fixations of an export of events, of one eye."""
    first = next(index for index, line in enumerate(head.lines) if FIXATION.match(line))
    separator = "\t" if "\t" in head.lines[first] else ","
    count = len(split(head.lines[first], separator))
    names = (*EVENT_COLUMNS, *(f"column {index}" for index in range(len(EVENT_COLUMNS), count)))[:count]
    kinds = {split(line, separator)[0].lower() for line in head.lines[first:] if FIXATION.match(line)}
    wanted = [f"fixation {options.eye[0]}"] if options.eye != "both" else ["fixation b", "fixation r", "fixation l"]
    kind = next((kind for kind in wanted if kind in kinds), wanted[0])
    layout = Layout(
        (Eye("x", "y"),),
        start="start",
        end="end",
        only=(("type", frozenset({kind})),),
        stimulus="trial",
        seconds=1e-6,
        coordinates="pixels",
        screen=screen,
    )
    table = Table(head, names, separator, first)
    return layout, collect(table, layout, options)


def is_dhf1k(head: Head) -> bool:
    """Return whether a file is a raw record of DHF1K, such as ``P01_Trail001.txt``."""
    return len(head.lines) > 1 and DHF1K_ROW.match(head.lines[1]) is not None


def read_dhf1k(head: Head, options: RecordingOptions) -> Contents:
    """Read a raw record of DHF1K: time, type, trial, pupil (2), gaze (2), and F for samples of fixations."""
    table = numbered_table(head, 1)
    layout = Layout(
        (Eye("6", "7"),),
        time="1",
        kind="8",
        kinds=frozenset({"f"}),
        only=(("2", frozenset({"smp"})),),
        seconds=1e-6,
        coordinates="pixels",
        lost=(0.0, 0.0),
        screen=DHF1K_SCREEN,
    )
    return layout, collect(table, layout, options)
