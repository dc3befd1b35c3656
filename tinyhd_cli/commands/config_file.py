"""Options that a settings file gives commands: a table named as the command, keys named as its options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import settings
from ..errors import UsageError, did_you_mean

TRAINING = ("train", "distill")
"""Commands whose options come from presets and files of their own."""


def option_defaults(commands: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What settings files say of the options of a command, by the names of its parameters.

    Args:
        commands: all, by name, as Typer has them.
        name: of the one that is to run.

    Raises:
        UsageError: a settings file is malformed, or names what there is not.
    """
    found: dict[str, Any] = {}
    for path in reversed(settings.files()):  # the first counts most
        tables = settings.read(path)
        check(path, tables, commands)
        options = names(commands[name])
        for key, value in tables.get(name, {}).items():
            found[options[plain(key)]] = value
    return found


def check(path: Path, tables: Mapping[str, Any], commands: Mapping[str, Any]) -> None:
    """Raise ``UsageError`` if a settings file names what there is not."""
    known = [name for name, command in commands.items() if name not in TRAINING and not hasattr(command, "commands")]
    for name, value in tables.items():
        if name in settings.TEXTS and not isinstance(value, Mapping):
            continue
        if name in TRAINING:
            raise UsageError(f"{path}: [{name}]: training has files of its own (tinyhd {name} --config run.yaml)")
        if name not in known or not isinstance(value, Mapping):
            raise UsageError(f"{path}: unknown setting {name!r}: {did_you_mean(name, [*settings.TEXTS, *known])}")
        options = names(commands[name])
        for key in value:
            if plain(key) not in options:
                raise UsageError(f"{path}: [{name}] has no option {key!r}: {did_you_mean(key, options)}")


def names(command: Any) -> dict[str, str]:
    """The options of a command as a settings file calls them, and the names of their parameters."""
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    return {
        plain(flag): parameter.name for parameter in options for flag in parameter.opts if flag not in ("--help", "-h")
    }


def plain(flag: str) -> str:
    """An option without its dashes, and with those inside it."""
    return flag.lstrip("-").replace("_", "-")
