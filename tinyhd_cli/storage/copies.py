"""Temporary copies of files in stores, for readers that need a local file. ``--scratch`` limits their size."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError, TinyhdError, UsageError
from .addresses import root, url_of
from .stores import store_errors, store_of

SCRATCH_VARIABLE = "TINYHD_SCRATCH"
"""Environment variable with the limit, as :func:`parse_size` reads it."""

FREE_FRACTION = 0.5
"""Fraction of the free disk space that copies may take by default."""

TRANSFERS = 8
"""Number of files that are fetched at the same time."""

VERSIONS = ("ETag", "etag", "oid", "blob_id", "LastModified", "created")
"""Keys of fsspec's information by which stores mark a content."""

_processes = 1

_limit: str | None = None
"""A limit from the process that gave the work; None: that of the environment."""


@dataclass
class Copy:
    """A copy of a file or folder, for one or more users."""

    users: int = 0
    files: list[Path] | None = None
    """The files that were copied; None before."""
    fetching: threading.Lock = field(default_factory=threading.Lock)


_copies: dict[Path, Copy] = {}
"""The copies that are held."""

_sizes: dict[Path, int] = {}
"""Bytes of each copy of a file."""

_complete: set[Path] = set()
"""Copies that are on the disk; the size of others is only reserved."""

_used: set[Path] = set()
"""Complete copies that readers use instead of the store."""

_lock = threading.Lock()
"""Protects the tables; not held during a transfer."""


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


def limit_scratch(size: str | None) -> str | None:
    """Set the limit for copies in this process and in those that it starts; None keeps it. Returns the argument."""
    if size is not None:
        parse_size(size)
        os.environ[SCRATCH_VARIABLE] = size
    return size


def clean() -> None:
    """Remove all copies, at the end of a command."""
    with _lock:
        files, folders = list(_sizes), list(_copies)
        _copies.clear()
    for file in files:
        discard(file)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def given_scratch() -> str | None:
    """Return the limit that the user has set, for other machines; None if there is none."""
    return _limit or os.environ.get(SCRATCH_VARIABLE)


def share_scratch(processes: int, limit: str | None) -> None:
    """Set the limit in a process that works for another one.

    Args:
        processes: number of processes of this machine that make copies at the same time and share the limit.
        limit: the limit that was given to the other process; None: that of this machine.
    """
    global _processes, _limit
    _processes, _limit = processes, limit


def scratch_limit() -> int:
    """Return the number of bytes that the copies of this process may take."""
    if given := given_scratch():
        return parse_size(given) // _processes
    free = int(FREE_FRACTION * shutil.disk_usage(Path(root()).parent).free)
    return sum(_sizes.get(path, 0) for path in _complete) + free // _processes


def is_held(path: Path) -> bool:
    """Return whether a stand-in has a copy."""
    return path in _copies


def hold(path: Path, files: Iterable[Path] | None = None) -> None:
    """Make a copy of a file in a store, or of the given files of a folder there; :func:`release` removes it.

    Raises:
        InputError: it cannot be read, or it does not fit into ``--scratch``.
    """
    with _lock:
        copy = _copies.setdefault(path, Copy())
        copy.users += 1
    try:
        with copy.fetching:
            if copy.files is None:
                wanted = [path] if files is None else list(files)
                if files is not None:
                    path.mkdir(parents=True, exist_ok=True)
                fetch_all(wanted)
                copy.files = wanted
    except BaseException:
        release(path)
        raise


def release(path: Path) -> None:
    """Undo one :func:`hold`: remove the copy if nobody else needs it."""
    with _lock:
        copy = _copies[path]
        copy.users -= 1
        if copy.users:
            return
        del _copies[path]
    for file in copy.files or ():
        discard(file)
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)


def discard(path: Path) -> None:
    """Remove the copy of a file, whether or not it is complete."""
    _used.discard(path)
    with _lock:
        _sizes.pop(path, None)
        _complete.discard(path)
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


def cached_copy(path: Path, folder: Path | None, kind: type[TinyhdError]) -> Path:
    """Return a copy of a file in a store, which a later run finds in ``folder`` as long as the file has not changed.

    Its name contains the file's size and its mark in the store, such as an ETag.

    Args:
        path: the stand-in.
        folder: folder of the cache; None: the copy stays until this process ends.
        kind: class of errors.
    """
    with store_errors(path, kind):
        info = store_of(path).info(url_of(path))
    mark = next((info[name] for name in VERSIONS if info.get(name)), "")
    if folder is None or not mark:
        return fetched(path, kind)
    from hashlib import sha256  # takes 20 ms to import

    key = sha256(f"{url_of(path)} {info.get('size')} {mark}".encode()).hexdigest()[:32]
    copy = folder / key / path.name
    if not copy.is_file():
        fetched(path, kind)
        try:
            copy.parent.mkdir(exist_ok=True)
            partial = copy.with_name(f".{os.getpid()}.partial")  # the cache may be on another disk
            shutil.copyfile(path, partial)
            partial.replace(copy)
        except OSError:
            return path  # the cache is full
        discard(path)
    return copy


def fetch_all(files: list[Path]) -> None:
    """Copy files, several at the same time."""
    if len(files) == 1:
        fetch(files[0])
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(TRANSFERS) as pool:
        try:
            for _ in pool.map(fetch, files):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            for file in files:
                discard(file)
            raise


def fetch(path: Path, kind: type[TinyhdError] = InputError) -> None:
    """Copy one file from its store; it has its name when it is complete."""
    with store_errors(path, kind):
        from fsspec import Callback

        store, url = store_of(path), url_of(path)
        size = store.info(url).get("size") or 0  # a web server need not say it
        reserve(path, size, kind)

        def count(_: int | None, copied: int) -> None:
            if copied > size:
                reserve(path, copied, kind)

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as target:
                partial = Path(target.name)
            try:
                store.get_file(url, str(partial), callback=Callback(hooks={"count": count}))
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
        except BaseException as error:
            discard(path)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                full = f"the disk of temporary files ({tempfile.gettempdir()}) is full"
                raise kind(f"{path}: {full}; set TMPDIR to a larger disk") from error
            raise
        with _lock:
            _sizes[path] = path.stat().st_size
            _complete.add(path)


def reserve(path: Path, size: int, kind: type[TinyhdError]) -> None:
    """Count a copy, which may have been counted with a smaller size; raise an error of a class if it does not fit."""
    with _lock:
        used, limit = sum(_sizes.values()) - _sizes.get(path, 0), scratch_limit()
        if used + size > limit:
            room = f"a copy needs {size:,} bytes, but --scratch allows {limit:,}"
            other = f", {used:,} of which are in use" if used else ""
            ways = "give a larger --scratch, or set TMPDIR to a larger disk"
            if _processes > 1:
                ways = f"{ways}, or use --jobs 1 (each of {_processes} processes has its part)"
            raise kind(f"{path}: {room}{other}; {ways}")
        _sizes[path] = size


def use(paths: Iterable[Path]) -> None:
    """Let readers use copies from :func:`fetch_all` instead of the store, until :func:`discard`."""
    _used.update(paths)


def is_used(path: Path) -> bool:
    """Return whether readers use a copy of a file."""
    return path in _used
