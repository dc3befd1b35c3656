"""The formats of recordings: recognize a file by its content, and find its reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import InputError
from .collect import Key, Parts, collect
from .columns import Layout, table_layout
from .options import RecordingOptions
from .tables import open_table
from .text import Head

Contents = tuple[Layout, dict[Key, Parts]]
"""Units of a file, and its rows by recording."""

Reader = Callable[[Head, RecordingOptions], Contents]


def read_table(head: Head, options: RecordingOptions) -> Contents:
    """Read a table with a header and named columns."""
    table = open_table(head)
    layout = table_layout(table, options)
    return layout, collect(table, layout, options)


def never(head: Head) -> bool:
    """Return False: the format is not recognized by content."""
    return False


def always(head: Head) -> bool:
    """Return whether a file is text."""
    return bool(head.lines)


FORMATS: dict[str, tuple[Callable[[Head], bool], Reader]] = {
    "table": (always, read_table),
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
    return FORMATS[options.format or recognize(head)][1](head, options)


def files_of(paths: list[Path]) -> Iterator[Path]:
    """Yield files, and those in folders that may be recordings."""
    yield from paths
