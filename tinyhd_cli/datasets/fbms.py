"""Ground truth of a sequence of FBMS-59: masks of some frames, in the colors that a definition file lists.

The lines of the definition file ``NAMEDef.dat`` are titles and values. It lists a number for each region, background
first: its gray level in .pgm masks, or 65536 red + 256 green + blue in .ppm masks. Then it lists, for each mask, its
file and the file of the frame. Pixels of other colors are background.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from .. import storage
from ..errors import InputError
from .images import by_number, last_number, sorted_files
from .masks import MASK_SUFFIXES, Color, MaskFiles

REGION = "Scale of region"
MASK = "File name"
FRAME = "Input file name"
"""Beginnings of the titles of values in a definition file."""

PROBABILITY = "PROB"
"""Part of the names of files that are not masks."""

MAX_BYTES = 1 << 20
"""Size limit of a definition file."""

MAX_LINE = 255
"""Limit on the characters of a line: a title, a number or a file name."""


def labeled_frames(folder: Path) -> tuple[tuple[int, MaskFiles], ...]:
    """Return the numbers and masks of the frames that have a mask, in order.

    Without a definition file, all masks in the folder are used, by the numbers in their names.

    Args:
        folder: the folder ``GroundTruth`` of a sequence.

    Raises:
        InputError: the definition file cannot be read or is damaged.
    """
    definitions = sorted(folder.glob("*Def.dat"))
    if definitions:
        return tuple(sorted(defined(definitions[0]), key=lambda frame: frame[0]))
    masks = [path for path in sorted_files(folder, MASK_SUFFIXES) if PROBABILITY not in path.name]
    return tuple((number, MaskFiles((path,))) for number, path in by_number(masks).items())


def defined(path: Path) -> Iterator[tuple[int, MaskFiles]]:
    """Yield the numbers and masks of the frames that a definition file lists."""
    values = list(titled_values(path))
    colors = [value for title, value in values if title.startswith(REGION)]
    if not colors or not all(value.isdecimal() and int(value) < 1 << 24 for value in colors):
        raise InputError(f"{path}: does not list the colors of the regions; copy or download it again")
    masks = [value for title, value in values if title.startswith(MASK)]
    frames = [value for title, value in values if title.startswith(FRAME)]
    if not masks or len(masks) != len(frames):
        raise InputError(f"{path}: lists {len(masks)} masks for {len(frames)} frames; copy or download it again")
    for mask, frame in zip(masks, frames, strict=True):
        number = last_number(Path(frame).stem)
        if number is None:
            raise InputError(f"{path}: no number in the name of the frame {frame!r}")
        file = path.parent / Path(mask).name  # without folders, so that no path escapes
        colored = file.suffix.lower() == ".ppm"
        yield number, MaskFiles((file,), tuple(color(int(value), colored) for value in colors[1:]))


def titled_values(path: Path) -> Iterator[tuple[str, str]]:
    """Yield each line that ends with a colon, with the line after it."""
    try:
        with storage.open_file(path) as file:
            text = file.read(MAX_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "\0" in text or any(len(line) > MAX_LINE for line in lines):
        raise InputError(f"{path}: is not a definition file; copy or download it again")
    for title, value in pairwise(lines):
        if title.endswith(":"):
            yield title, value


def color(scale: int, colored: bool) -> Color:
    """Return the color of a region from its number in a definition file."""
    return (scale >> 16, scale >> 8 & 255, scale & 255) if colored else (scale & 255,) * 3
