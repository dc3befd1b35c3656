"""Temporary copies of files in stores, for readers that need a local file. ``--scratch`` limits their size."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ..errors import InputError, TinyhdError, UsageError
from .addresses import root, url_of
from .stores import store_errors, store_of

SCRATCH_VARIABLE = "TINYHD_SCRATCH"
"""Environment variable with the limit in bytes, or as :func:`parse_size` reads it."""

FREE_FRACTION = 0.5
"""Fraction of the free disk space that copies may take by default."""

TRANSFERS = 8
"""Number of files that are fetched at the same time."""

_holders: Counter[Path] = Counter()
_sizes: dict[Path, int] = {}
_lock = threading.RLock()


def parse_size(text: str) -> int:
    """Parse a size such as ``500M`` or ``20G`` (powers of 1000) to bytes; ``UsageError`` if it is malformed."""
    units = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
    number = text.strip().upper().removesuffix("B").rstrip()
    unit = number[-1:] if number[-1:] in units else ""
    try:
        size = float(number.removesuffix(unit))
    except ValueError:
        size = 0.0
    if not 0 < size * units[unit] < 1e18:
        raise UsageError(f"--scratch {text!r}: give a size such as 500M or 20G")
    return int(size * units[unit])


def scratch_limit() -> int:
    """Return the number of bytes that copies may take."""
    if given := os.environ.get(SCRATCH_VARIABLE):
        return parse_size(given)
    return sum(_sizes.values()) + int(FREE_FRACTION * shutil.disk_usage(root()).free)


def is_held(path: Path) -> bool:
    """Return whether a stand-in has a copy."""
    return path in _holders


def hold(path: Path, files: Iterable[Path] | None = None) -> None:
    """Make a copy of a file in a store, or of the given files of a folder there; :func:`release` removes it.

    Raises:
        InputError: it cannot be read, or it does not fit into ``--scratch``.
    """
    with _lock:
        if _holders[path] == 0:
            try:
                if files is not None:
                    path.mkdir(parents=True, exist_ok=True)
                fetch_all([path] if files is None else list(files))
            except BaseException:
                del _holders[path]
                discard(path)
                raise
        _holders[path] += 1


def release(path: Path) -> None:
    """Undo one :func:`hold`: remove the copy if nobody else needs it."""
    with _lock:
        _holders[path] -= 1
        if _holders[path] <= 0:
            del _holders[path]
            discard(path)


def discard(path: Path) -> None:
    """Remove the copy of a file or folder."""
    for file in [file for file in _sizes if file == path or path in file.parents]:
        del _sizes[file]
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def fetched(path: Path, kind: type[TinyhdError] = InputError) -> Path:
    """Return a file that can be opened: the path itself, after a copy is made if it is in a store.

    The copy stays until this process ends.

    Raises:
        InputError: it cannot be read, or it does not fit into ``--scratch``.
    """
    if url_of(path) is not None and path not in _sizes:
        fetch(path, kind)
    return path


def fetch_all(files: list[Path]) -> None:
    """Copy files, several at the same time."""
    if len(files) == 1:
        fetch(files[0])
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(TRANSFERS) as pool:
        for _ in pool.map(fetch, files):
            pass


def fetch(path: Path, kind: type[TinyhdError] = InputError) -> None:
    """Copy one file from its store; it has its name when it is complete."""
    with store_errors(path, kind):
        store, url = store_of(path), url_of(path)
        reserve(path, store.info(url).get("size") or 0)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as target:
                partial = Path(target.name)
            try:
                store.get_file(url, str(partial))
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
        except BaseException:
            _sizes.pop(path, None)
            raise
        _sizes[path] = path.stat().st_size


def reserve(path: Path, size: int) -> None:
    """Count a copy; ``InputError`` if it does not fit."""
    with _lock:
        used, limit = sum(_sizes.values()), scratch_limit()
        if used + size > limit:
            room = f"a copy needs {size / 1e6:.1f} MB, but --scratch allows {limit / 1e6:.1f} MB"
            other = f", {used / 1e6:.1f} MB of which are in use" if used else ""
            raise InputError(f"{path}: {room}{other}; free disk space, give a larger --scratch, or set TMPDIR")
        _sizes[path] = size
