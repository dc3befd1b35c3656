"""Options of commands in a settings file: each table is named after a command, its keys after the options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import settings
from ..errors import UsageError, did_you_mean

TRAINING = ("train", "distill")
"""Commands that take their options from presets and YAML files instead."""


def option_defaults(commands: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the options of a command in the settings files, by parameter name.

    Args:
        commands: all of Typer's commands, by name.
        name: name of the command.

    Raises:
        UsageError: a settings file is malformed, or contains an unknown name.
    """
    found: dict[str, Any] = {}
    for path in reversed(settings.files()):  # the first file takes precedence
        tables = settings.read(path)
        check(path, tables, commands)
        if name == settings.DATASETS:  # the table of this name has folders, not options of the command
            continue
        parameters = parameter_names(commands[name])
        for key, value in tables.get(name, {}).items():
            found[parameters[settings.option_key(key)]] = value
    return found


def check(path: Path, tables: Mapping[str, Any], commands: Mapping[str, Any]) -> None:
    """Raise ``UsageError`` if a settings file contains an unknown name."""
    groups = [name for name, command in commands.items() if hasattr(command, "commands")]
    with_table = [name for name in commands if name not in (*groups, *TRAINING)]
    for name, value in tables.items():
        if name in settings.TEXTS and not isinstance(value, Mapping):
            continue
        if name == settings.DATASETS and isinstance(value, Mapping):
            check_folders(path, value)
            continue
        if name in TRAINING:
            raise UsageError(
                f"{path}: [{name}] is not allowed; training has its own files (tinyhd {name} --config run.yaml)"
            )
        if name not in with_table or not isinstance(value, Mapping):
            known = [*settings.TEXTS, settings.DATASETS, *with_table]
            raise UsageError(f"{path}: unknown setting {name!r}: {did_you_mean(name, known)}")
        options = parameter_names(commands[name])
        for key in value:
            if settings.option_key(key) not in options:
                raise UsageError(f"{path}: [{name}] has no option {key!r}: {did_you_mean(key, options)}")


def check_folders(path: Path, folders: Mapping[str, Any]) -> None:
    """Raise ``UsageError`` if the table of folders names an unknown dataset."""
    from ..datasets.catalog import catalog

    for name in folders:
        if name not in catalog():
            raise UsageError(f"{path}: [{settings.DATASETS}] has no dataset {name!r}: {did_you_mean(name, catalog())}")


def parameter_names(command: Any) -> dict[str, str]:
    """Return the names of a command's parameters, by their keys in a settings file."""
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    return {
        settings.option_key(flag): parameter.name
        for parameter in options
        for flag in parameter.opts
        if flag not in ("--help", "-h")
    }
