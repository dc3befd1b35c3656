"""Files of a download that ``tinyhd datasets check`` found damaged; the next download fetches them again.

A file is named with its size and time. Once another one has taken its place, the record no longer applies to it, so
nothing has to be kept in step.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path

from ..atomic_files import atomic_write, remove
from ..errors import InputError, OutputError
from ..untrusted import parse_json, read_document
from .archive import check_path
from .manifest import MAX_MANIFEST_BYTES

DAMAGED = ".tinyhd-damaged.json"
"""Name of the record, in the folder of the dataset."""


def write_damaged(folder: Path, paths: Iterable[str]) -> None:
    """Record the damaged files of a folder instead of those of an earlier check; nothing if it cannot be written."""
    found = {path: state(folder / path) for path in paths}
    if not found:
        remove(folder / DAMAGED)
        return
    with contextlib.suppress(OutputError), atomic_write(folder / DAMAGED) as temporary:
        temporary.write_text(json.dumps(found), encoding="utf-8")


def read_damaged(folder: Path) -> frozenset[str]:
    """Return the relative paths of the files that were found damaged and are still the same."""
    record = folder / DAMAGED
    try:
        found = parse_json(read_document(record, MAX_MANIFEST_BYTES))
        return frozenset(path for path, old in found.items() if state(folder / check_path(path)) == old)
    except (OSError, ValueError, AttributeError, InputError):  # there is none, or it is damaged itself
        return frozenset()


def state(path: Path) -> list[int]:
    """Return the size and time of a file, which differ from those of a file that replaces it."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]
