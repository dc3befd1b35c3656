"""Persistent settings: environment variables, ``tinyhd.toml`` in the current folder, then the user's own file.

A file named by ``tinyhd --config FILE`` or ``TINYHD_CONFIG`` is read instead of these two files.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import UsageError
from .untrusted import parse_toml, read_document

log = logging.getLogger("tinyhd")

FILE_NAME = "tinyhd.toml"

CONFIG_VARIABLE = "TINYHD_CONFIG"
"""Environment variable that names a settings file to read instead of the others."""

TEXTS = ("backbones", "hub_owner", "model")
"""Settings that belong to no command."""

DATASETS = "datasets"
"""Table of the folders of datasets: ``dhf1k = "/data/DHF1K"``."""

RENAMED = {"normalise": "normalize", "colourmap": "colormap"}
"""Present names of options, by former or British spelling. Files with the key on the left still work."""

DEFAULT_HUB_OWNER = "tinyhd"
"""Owner of Hub repositories that are named without an owner."""


def user_folder() -> Path:
    """Return the folder of the user's settings: ``tinyhd`` in ``$XDG_CONFIG_HOME``, ``~/.config`` or ``%APPDATA%``."""
    if sys.platform == "win32":
        base = os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming"
    else:
        base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "tinyhd"


def cache_folder() -> Path:
    """Return the folder for recreatable files: ``$TINYHD_CACHE``, else ``tinyhd`` in the user's cache folder."""
    if override := os.environ.get("TINYHD_CACHE"):
        return Path(override)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tinyhd"


def data_folders() -> list[Path]:
    """Return the folders that contain datasets by name: ``$TINYHD_DATA`` if set, then the user's own.

    Downloads go to the first. The user's own is ``tinyhd/datasets`` in ``$XDG_DATA_HOME``, ``~/.local/share`` or
    ``%LOCALAPPDATA%``.
    """
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    named = os.environ.get("TINYHD_DATA")
    return [*([expanded(named, "TINYHD_DATA")] if named else []), Path(base) / "tinyhd" / "datasets"]


def expanded(folder: str, named_by: str) -> Path:
    """Return a folder with ``~`` replaced by the home folder; ``UsageError`` if the user does not exist.

    Args:
        folder: the folder.
        named_by: the setting or variable, for messages.
    """
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{named_by} = {folder!r}: the home folder is not known; write it out") from error


def dataset_folders() -> dict[str, Path]:
    """Return the folders of datasets in the settings :func:`files`, by name; relative to the file that names them.

    Raises:
        UsageError: a settings file is malformed, or a folder is not a string.
    """
    found: dict[str, Path] = {}
    for path in reversed(files()):  # the first file takes precedence
        table = read(path).get(DATASETS, {})
        if not isinstance(table, Mapping):
            raise UsageError(
                f'{path}: {DATASETS} must be a table: [{DATASETS}], then lines such as dhf1k = "/data/DHF1K"'
            )
        for name, folder in table.items():
            if not isinstance(folder, str) or not folder:
                raise UsageError(f"{path}: [{DATASETS}] {name} must be a folder in quotation marks, not {folder!r}")
            found[name] = path.parent / expanded(folder, f"{path}: [{DATASETS}] {name}")
    return found


def files() -> list[Path]:
    """Return the existing settings files in order of precedence.

    Raises:
        UsageError: the file named by ``TINYHD_CONFIG`` does not exist.
    """
    if named := os.environ.get(CONFIG_VARIABLE):
        if not is_file(Path(named)):
            raise UsageError(f"--config {named}: no such file")
        return [Path(named)]
    return [path for path in (Path(FILE_NAME), user_folder() / FILE_NAME) if is_file(path)]


def is_file(path: Path) -> bool:
    """Return whether a file exists; False if its folder may not be read, such as the home folder of another user."""
    try:
        return path.is_file()
    except PermissionError:
        return False


def read(path: Path) -> dict[str, Any]:
    """Return the settings in a file, with renamed options under their present names.

    Raises:
        UsageError: the file cannot be read, is not TOML, or contains an option under both names.
    """
    try:
        tables = parse_toml(read_document(path))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # bad TOML or not UTF-8
        raise UsageError(f"{path} is not a TOML file: {error}") from error
    return {name: renamed(path, name, value) if isinstance(value, Mapping) else value for name, value in tables.items()}


def renamed(path: Path, table: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a table under their present names; a warning names each former name."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        name = RENAMED.get(option_key(key), key)
        if name in found or (name != key and name in options):
            raise UsageError(f"{path}: [{table}] has {name!r} twice, under two names; remove one of them")
        if name != key:
            warn_of_rename(path.absolute(), f"{path}: [{table}] {key!r} is now called {name!r}; please rename it")
        found[name] = value
    return found


@functools.cache
def warn_of_rename(path: Path, message: str) -> None:
    """Log a warning about a renamed option once per file: commands read the settings several times."""
    log.warning("%s", message)


def option_key(flag: str) -> str:
    """Return the key of an option: the flag without leading dashes, with dashes inside."""
    return flag.lstrip("-").replace("_", "-")


def setting(name: str, default: str) -> str:
    """Return the value of a text setting.

    The environment takes precedence (``TINYHD_HUB_OWNER`` for ``hub_owner``), then the settings :func:`files`.

    Args:
        name: one of :data:`TEXTS`.
        default: value if the setting is not set.

    Raises:
        UsageError: a settings file is malformed, or the value is not a string.
    """
    if value := os.environ.get(f"TINYHD_{name.upper()}"):
        return value
    for path in files():
        settings = read(path)
        if name in settings:
            if not isinstance(settings[name], str) or not settings[name]:
                raise UsageError(f"{path}: {name} must be a quoted string, not {settings[name]!r}")
            return str(settings[name])
    return default


def hub_owner() -> str:
    """Return the owner of Hub repositories that are named without an owner; ``UsageError`` if it is invalid."""
    owner = setting("hub_owner", DEFAULT_HUB_OWNER)
    if not re.fullmatch(r"[\w.-]+", owner):
        raise UsageError(f"hub_owner must be letters, digits, dots, dashes or underscores, not {owner!r}")
    return owner
