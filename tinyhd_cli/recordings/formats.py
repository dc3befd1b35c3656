"""The formats of recordings: recognize a file by its content, and find its reader."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import InputError
from .bids import is_bids, read_bids
from .classic import is_coord, is_diem, read_coord, read_diem
from .collect import Contents, collect
from .columns import table_layout
from .eyelink import is_eyelink, read_eyelink
from .mat import is_mat, read_mat
from .options import RecordingOptions
from .smi import is_dhf1k, is_smi, read_dhf1k, read_smi
from .tables import open_table
from .text import Head
from .vendors import (
    is_gazepoint,
    is_neon,
    is_pupil,
    is_tobii,
    read_gazepoint,
    read_neon,
    read_pupil,
    read_tobii,
)

Reader = Callable[[Head, RecordingOptions], Contents]


def read_table(head: Head, options: RecordingOptions) -> Contents:
    """Read a table with a header and named columns."""
    table = open_table(head)
    layout = table_layout(table, options)
    return layout, collect(table, layout, options)


def is_text(head: Head) -> bool:
    """Return whether a file is text."""
    return bool(head.lines)


FORMATS: dict[str, tuple[Callable[[Head], bool], Reader]] = {
    "mat": (is_mat, read_mat),
    "eyelink": (is_eyelink, read_eyelink),
    "dhf1k": (is_dhf1k, read_dhf1k),
    "smi": (is_smi, read_smi),
    "coord": (is_coord, read_coord),
    "bids": (is_bids, read_bids),
    "tobii": (is_tobii, read_tobii),
    "pupil": (is_pupil, read_pupil),
    "neon": (is_neon, read_neon),
    "gazepoint": (is_gazepoint, read_gazepoint),
    "diem": (is_diem, read_diem),
    "table": (is_text, read_table),
}
"""Test of the content and reader of each format; the first that accepts a file reads it."""


def recognize(head: Head) -> str:
    """Return the name of a file's format; ``InputError`` if it is not known."""
    for name, (accepts, _) in FORMATS.items():
        if accepts(head):
            return name
    raise InputError(f"{head.path}: is not a known format of recordings; export it as text (CSV, TSV or ASC)")


def read_contents(head: Head, options: RecordingOptions) -> Contents:
    """Read a file in the format that the options state, or that is recognized."""
    name = options.format or ("table" if options.columns and head.lines else recognize(head))
    if not head.lines and name != "mat":
        raise InputError(f"{head.path}: is not text; --format {name} is a text format")
    try:
        contents = FORMATS[name][1](head, options)
    except (KeyError, StopIteration) as error:  # a column that the test of the content would have found
        raise InputError(f"{head.path}: is not in the format {name}; leave out --format") from error
    if options.stimulus is not None and contents[0].stimulus is None:
        raise InputError(
            f"{head.path}: has no column of stimuli for --stimulus; leave it out, or name the column: --columns"
            " stimulus=NAME"
        )
    return contents
