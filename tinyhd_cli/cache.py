"""Provide private cache folders for files that can be recreated.

Cached files are trusted (a compiled graph is executed), so a folder that another user can write to is not used.
"""

from __future__ import annotations

import functools
import logging
import os
import stat
from pathlib import Path

from . import settings
from .atomic_files import cannot_write
from .errors import UsageError

log = logging.getLogger("tinyhd")


def folder(*names: str) -> Path | None:
    """Return a folder inside the cache, created if needed; None, with one warning, if the cache cannot be used."""
    return usable_folder(settings.cache_folder(), *names)


def usable_folder(root: Path, *names: str) -> Path | None:
    """Return the folder ``names`` inside ``root``, created if needed; None if that is not possible.

    A ``root`` that cannot be created (a read-only home, a container) is not reported. One that cannot be trusted is
    reported once.
    """
    try:
        make_private(root)
        problem = trust_problem(root)
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
    """Create a folder that only this user can read or write, if it does not exist."""
    if not path.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)


def require_private(path: Path, flag: str) -> None:
    """Create a folder that a run needs, given with ``flag``.

    Raises:
        UsageError: another user can change its contents.
        OutputError: it cannot be created.
    """
    try:
        make_private(path)
        problem = trust_problem(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    if problem:
        raise UsageError(f"{flag} {path}: {problem}; choose a folder of your own, or run chmod 700 on it")


FOREIGN = "belongs to another user"
WRITABLE = "is writable by other users"
"""Reasons not to trust a folder, for messages."""


def trust_problem(path: Path) -> str:
    """Return why a folder, or a link to it, cannot be trusted; an empty string if it can be trusted.

    Raises:
        OSError: the folder does not exist.
    """
    if not hasattr(os, "geteuid"):
        return ""  # on Windows, the folders of a user's profile are private
    followed = path.stat()
    if {path.lstat().st_uid, followed.st_uid} != {os.geteuid()}:
        return FOREIGN
    return WRITABLE if followed.st_mode & (stat.S_IWGRP | stat.S_IWOTH) else ""


@functools.cache
def warn_once(message: str) -> None:
    """Log a warning once per process."""
    log.warning("%s", message)
