"""The cache: folders for files that can be made again. They belong to the user alone.

What is in them is trusted (a compiled graph is run), so a folder that another user can write to is not used.
"""

from __future__ import annotations

import functools
import logging
import os
import stat
from pathlib import Path

from . import settings
from .errors import UsageError
from .files import cannot_write

log = logging.getLogger("tinyhd")


def folder(*names: str) -> Path | None:
    """A folder inside the cache, made where needed; None, and one warning, where the cache cannot be used."""
    return usable(settings.cache_folder(), *names)


def usable(root: Path, *names: str) -> Path | None:
    """The folder ``names`` inside ``root``, made where needed; None where there can be none.

    A ``root`` that cannot be made is done without silently (a read-only home, a container), an unsafe one is reported
    once.
    """
    try:
        make_private(root)
        problem = unsafe(root)
        path = root.joinpath(*names)
        if not problem:
            path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.debug("%s: %s", root, error)
        return None
    if problem:
        advice = f"run chmod 700 {root}" if problem == WRITABLE else "set TINYHD_CACHE to a folder of your own"
        warn_once(f"{root}: {problem}, so the cache is not used; {advice}")
        return None
    return path


def make_private(path: Path) -> None:
    """Make a folder that only this user can read or write, if there is none yet."""
    if not path.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)


def check(path: Path, flag: str) -> None:
    """Make a folder for what a run cannot do without, which a flag names.

    Raises:
        UsageError: another user can change what is in it.
        OutputError: it cannot be made.
    """
    try:
        make_private(path)
        problem = unsafe(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    if problem:
        raise UsageError(f"{flag} {path}: {problem}; choose a folder of your own, or run chmod 700 on it")


FOREIGN = "belongs to another user"
WRITABLE = "is writable by other users"


def unsafe(path: Path) -> str:
    """Why a folder, or the link to it, cannot be trusted; empty if it can be.

    Raises:
        OSError: there is no such folder.
    """
    if not hasattr(os, "geteuid"):
        return ""  # Windows: folders of a user's profile are private by inheritance
    followed = path.stat()
    if {path.lstat().st_uid, followed.st_uid} != {os.geteuid()}:
        return FOREIGN
    return WRITABLE if followed.st_mode & (stat.S_IWGRP | stat.S_IWOTH) else ""


@functools.cache
def warn_once(message: str) -> None:
    """Log a warning the first time that it comes up."""
    log.warning("%s", message)
