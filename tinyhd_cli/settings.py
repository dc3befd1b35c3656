"""Settings that outlive a command line: the environment, then ``tinyhd.toml`` here, then the user's own.

A file that ``tinyhd --config FILE`` or ``TINYHD_CONFIG`` names is read in place of these two.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from .errors import UsageError
from .untrusted import parse_toml, read_document

FILE_NAME = "tinyhd.toml"

CONFIG_VARIABLE = "TINYHD_CONFIG"
"""Names a settings file to read in place of the others."""

TEXTS = ("hub_owner", "model")
"""Settings that are no command's."""

DEFAULT_HUB_OWNER = "tinyhd"
"""Owner of Hub repositories that are named without one."""


def user_folder() -> Path:
    """Where the user's settings are: ``$XDG_CONFIG_HOME/tinyhd``, ``~/.config/tinyhd`` or ``%APPDATA%/tinyhd``."""
    if sys.platform == "win32":
        base = os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming"
    else:
        base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "tinyhd"


def cache_folder() -> Path:
    """Where what can be made again is kept: ``$TINYHD_CACHE``, else the ``tinyhd`` folder of the user's caches."""
    if override := os.environ.get("TINYHD_CACHE"):
        return Path(override)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tinyhd"


def files() -> list[Path]:
    """The settings files that there are, the one that counts most first.

    Raises:
        UsageError: the file that ``TINYHD_CONFIG`` names is not there.
    """
    if named := os.environ.get(CONFIG_VARIABLE):
        if not is_file(Path(named)):
            raise UsageError(f"--config {named}: no such file")
        return [Path(named)]
    return [path for path in (Path(FILE_NAME), user_folder() / FILE_NAME) if is_file(path)]


def is_file(path: Path) -> bool:
    """Whether there is such a file; not so in a folder that may not be looked into: a home that is somebody else's."""
    try:
        return path.is_file()
    except PermissionError:
        return False


def read(path: Path) -> dict[str, Any]:
    """The settings in a file.

    Raises:
        UsageError: the file cannot be read or is not TOML.
    """
    try:
        return parse_toml(read_document(path))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # bad TOML or not UTF-8
        raise UsageError(f"{path} is not a TOML file: {error}") from error


def setting(name: str, default: str) -> str:
    """The value of a text setting.

    Looked for in the environment (``hub_owner`` is ``TINYHD_HUB_OWNER``), then in the settings :func:`files`;
    ``default`` if it is nowhere.

    Raises:
        UsageError: a settings file is malformed, or the setting in it is no text.
    """
    if value := os.environ.get(f"TINYHD_{name.upper()}"):
        return value
    for path in files():
        settings = read(path)
        if name in settings:
            if not isinstance(settings[name], str) or not settings[name]:
                raise UsageError(f"{path}: {name} must be a text in quotes, not {settings[name]!r}")
            return str(settings[name])
    return default


def hub_owner() -> str:
    """The owner put in front of Hub repositories that are named without one; ``UsageError`` if it can be none."""
    owner = setting("hub_owner", DEFAULT_HUB_OWNER)
    if not re.fullmatch(r"[\w.-]+", owner):
        raise UsageError(f"hub_owner must be letters, digits, dots, dashes or underscores, not {owner!r}")
    return owner
