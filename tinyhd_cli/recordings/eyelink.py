"""ASC files of SR Research EyeLink, as edf2asc writes them: samples, fixations and messages in one text."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .collect import Contents, Parts, add_rows, plausible, sample_arrays
from .columns import Eye, Layout, check_eye
from .options import RecordingOptions
from .tables import parse
from .text import Head, blocks

COLUMNS = {
    1: ("time", "x", "y"),
    2: ("time", "left_x", "left_y", "left_pupil", "right_x", "right_y"),
}
"""First columns of samples by the number of recorded eyes."""

SCREEN = re.compile(r"^MSG\s+[\d.]+\s+(?:DISPLAY|GAZE)_COORDS\s*=?\s*(.+)$", re.MULTILINE)
SAMPLES = re.compile(rb"^SAMPLES\s+(\S+)\s+(.*)$", re.MULTILINE)
EVENTS = re.compile(rb"^[^\d\n][^\n]*\n", re.MULTILINE)
NUMBER = rb"(-?\d+(?:\.\d*)?)"
FIXATION = re.compile(
    rb"^EFIX\s+([LR])\s+%b\s+%b\s+[\d.]+\s+%b\s+%b(?=\s)" % (NUMBER, NUMBER, NUMBER, NUMBER), re.MULTILINE
)
START = re.compile(rb"^START\s+%b\s" % NUMBER, re.MULTILINE)
MESSAGE = re.compile(rb"^MSG\s+%b\s+(?:(-?\d{1,9})\s+)?(.*)$" % NUMBER, re.MULTILINE)
"""Time, offset and text: the event was at the time minus the offset."""


def is_eyelink(head: Head) -> bool:
    """Return whether a file is an ASC file."""
    start = "\n".join(head.lines[:200])
    return bool(re.search(r"^\*\* (CONVERTED FROM|TYPE: EDF)", start, re.MULTILINE)) or bool(
        re.search(r"^(START\s+\d+\s+(LEFT|RIGHT)|SAMPLES\s+GAZE|EFIX\s+[LR]\s)", start, re.MULTILINE)
    )


def read_eyelink(head: Head, options: RecordingOptions) -> Contents:
    """Read the samples and fixations of an ASC file.

    Of binocular recordings, samples are the mean of both eyes unless the options choose one; fixations are those of
    the right eye, or of the chosen one.

    Raises:
        InputError: the samples are no gaze on the screen, the number of eyes changes, or the chosen eye is missing.
    """
    eyes = recorded_eyes(head)
    check_eye(eyes, options.eye)
    parts = Parts()
    layout = layout_of(head, eyes, options)
    rows = Rows(head.path, layout, eyes, parts, options)
    for block in blocks(head):
        rows.add(block)
    rows.finish()
    if rows.starts > 1 and options.start_event is None:
        line = f"was started {rows.starts:,} times; the video is taken to start with the first; --start-event states it"
        layout = replace(layout, warnings=(line,))
    return layout, {(): parts}


def recorded_eyes(head: Head) -> tuple[str, ...]:
    """Return the recorded eyes, by the first line that states them."""
    match = re.search(r"^(?:SAMPLES\s+\S+|START\s+[\d.]+|EVENTS\s+\S+)\s+(.*)$", "\n".join(head.lines), re.MULTILINE)
    words = (match[1] if match else "").upper().split()
    both = "LR" in words or {"LEFT", "RIGHT"} <= set(words)
    return ("left", "right") if both else ("left",) if "LEFT" in words else ("right",)


def layout_of(head: Head, eyes: tuple[str, ...], options: RecordingOptions) -> Layout:
    """Return the layout of the samples."""
    if len(eyes) == 1:
        columns: tuple[Eye, ...] = (Eye("x", "y"),)
    else:
        columns = tuple(Eye(f"{eye}_x", f"{eye}_y") for eye in eyes if options.eye in ("both", eye))
    return Layout(columns, time="time", seconds=1e-3, coordinates="pixels", screen=screen_of(head))


def screen_of(head: Head) -> tuple[int, int] | None:
    """Return the size of the screen by its last pixels, which ``DISPLAY_COORDS`` states; None if it does not."""
    match = SCREEN.search("\n".join(head.lines))
    numbers = [float(text) for text in re.findall(r"-?\d+(?:\.\d+)?", match[1])] if match else []
    if len(numbers) < 4:
        return None
    width, height = (round(numbers[end] - numbers[end - 2]) for end in (2, 3))
    # Sizes are even: 1919 is the last pixel of 1920; some experiments state 1920.
    width, height = width + width % 2, height + height % 2
    return (width, height) if width > 0 and height > 0 else None


def find_messages(events: bytes, text: bytes) -> list[tuple[float, bool]]:
    """Return the times of messages that contain a text, as ``Parts.events``."""
    found = []
    for match in MESSAGE.finditer(events):
        if text in match[3]:
            found.append((float(match[1]) - float(match[2] or 0), False))
        elif text in match[0]:  # a number that belongs to the text
            found.append((float(match[1]), False))
    return found


class Rows:
    """Collects the lines of an ASC file, block by block."""

    def __init__(
        self, path: Path, layout: Layout, eyes: tuple[str, ...], parts: Parts, options: RecordingOptions
    ) -> None:
        self.path, self.layout, self.eyes, self.parts, self.options = path, layout, eyes, parts, options
        self.fixations: dict[bytes, list[tuple[float, ...]]] = {b"L": [], b"R": []}
        self.last = -1.0
        self.count = 0
        self.starts = 0

    def add(self, block: bytes) -> None:
        """Add a block of lines."""
        events = b"".join(EVENTS.findall(block))
        for kind, words in SAMPLES.findall(events):
            both = b"LEFT" in words and b"RIGHT" in words
            if both != (len(self.eyes) == 2):
                raise InputError(f"{self.path}: the number of recorded eyes changes; convert one eye with edf2asc -l")
            if kind != b"GAZE":
                raise InputError(
                    f"{self.path}: has {kind.decode(errors='replace')} samples; convert it to gaze with edf2asc -sg"
                )
        for eye, *values in FIXATION.findall(events):
            self.fixations[eye].append(tuple(float(value) for value in values))
        starts = START.findall(events)
        self.starts += len(starts)
        if self.parts.start is None and starts:
            self.parts.start = float(starts[0])
        text = self.options.start_event
        if text is not None and not self.parts.events:
            self.parts.events += find_messages(events, text.encode())[:1]
        samples = EVENTS.sub(b"", block).lstrip(b"\r\n")
        if samples:
            self.parts.add("samples", self.arrays(samples))

    def arrays(self, samples: bytes) -> dict[str, NDArray[Any]]:
        """Return the values of lines of samples."""
        # Tabs separate the columns, padded with spaces; older versions have spaces alone.
        first = samples[: samples.find(b"\n")]
        samples = samples.replace(b" ", b"") if b"\t" in first else re.sub(rb"[ ]+", b"\t", samples)
        columns = COLUMNS[len(self.eyes)]
        frame = parse(self.path, samples, columns, ([name for name in columns if "pupil" not in name], []), "\t")
        arrays = sample_arrays(frame, self.layout)
        time = arrays["time"]
        self.count = add_rows(self.count, len(time))
        again = np.diff(time, prepend=self.last) == 0  # at 2,000 Hz, two samples have the same millisecond
        if len(time):
            self.last = float(time[-1])
        arrays["time"] = time + 0.5 * again
        return arrays

    def finish(self) -> None:
        """Add the fixations of one eye."""
        wanted = {"left": b"L", "right": b"R"}.get(self.options.eye, b"R")
        rows = self.fixations[wanted] or ([] if self.options.eye != "both" else self.fixations[b"L"])
        if rows:
            start, end, x, y = np.array(rows, np.float64).T
            self.parts.add("fixations", {"start": start, "end": end, "x": plausible(x), "y": plausible(y)})
        if self.parts.samples:
            self.parts.start = None  # the first sample
