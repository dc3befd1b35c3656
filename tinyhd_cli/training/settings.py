"""Training configurations from presets, YAML files, the command line, and checkpoints. Imports no torch."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import UsageError, did_you_mean, one_line
from ..untrusted import parse_yaml, read_document
from .option_values import flag
from .options import TrainConfig

log = logging.getLogger("tinyhd")

RENAMED = {"optimiser": "optimizer", "dark_start": "sparse_init"}
"""Settings by their former names."""

FORMER_OPTIONS = frozenset(["decoders"])
"""Former settings that are options of the network now."""


def from_dict(values: Mapping[str, Any], where: str = "configuration") -> TrainConfig:
    """Return the configuration of plain values; ``UsageError`` names the setting that is unknown or invalid."""
    known = {item.name: item for item in fields(TrainConfig)}
    values = renamed(values)
    for name in values:
        if name not in known:
            raise UsageError(f"{where}: unknown setting {name!r}: {did_you_mean(name, known)}")
    try:
        for name, value in values.items():
            if isinstance(value, str) and str(known[name].type) == "float":
                with contextlib.suppress(ValueError):  # reported below
                    values[name] = value = float(value)  # YAML reads 1e-4, without a point, as a string
            if not fits(value, known[name]):
                shown = repr(value) if len(repr(value)) < 80 else type(value).__name__
                raise ValueError(
                    f"{flag(name)} must be {known[name].metadata['metavar'] or 'true or false'}, not {shown}"
                )
        return TrainConfig(**values)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: {error}") from error


def renamed(values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Return the settings of one source under their present names, with underscores.

    Args:
        values: settings by present or former names.
        where: the file that contains them, for a warning about each former name; empty: no warnings.

    Raises:
        UsageError: a setting is given under both names.
    """
    prefix = f"{where}: " if where else ""
    values = {str(name).replace("-", "_"): value for name, value in values.items()}
    result = {name: value for name, value in values.items() if name not in RENAMED and name not in FORMER_OPTIONS}
    for name in RENAMED.keys() & values.keys():
        if RENAMED[name] in values:
            raise UsageError(f"{prefix}{name!r} is now called {RENAMED[name]!r}; remove one of them")
        if where:
            log.warning("%s: the setting %r is now called %r", where, name, RENAMED[name])
        result[RENAMED[name]] = values[name]
    for name in FORMER_OPTIONS & values.keys():
        value, others = values[name], values.get("set") or []
        if not isinstance(others, list | tuple):
            continue  # reported as a wrong value of set
        if any(str(item).partition("=")[0].strip() == name for item in others):
            raise UsageError(f"{prefix}{name!r} is now part of 'set', which also contains it; remove one of them")
        if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
            value = ",".join(value)
        result["set"] = [*others, f"{name}={value}"]
    return result


def fits(value: Any, item: dataclasses.Field[Any]) -> bool:
    """Return whether a plain value has the type of a field."""
    kind, _, optional = str(item.type).partition(" | ")
    if value is None:
        return bool(optional) or item.name == "teacher"
    if kind.startswith("tuple"):
        if item.name == "teacher" and isinstance(value, str):  # the format of older configurations
            return True
        of, count = kind.removeprefix("tuple[").split(", ")[0], 2 if kind == "tuple[int, int]" else None
        several = isinstance(value, list | tuple) and len(value) == (count or len(value))
        return several and all(is_a(of, one) for one in value)
    return is_a(kind, value)


MAX_NUMBER = 1e15
"""Limit on the numbers of a configuration: larger ones overflow somewhere."""


def is_a(kind: str, value: Any) -> bool:
    """Return whether a plain value has the type named ``kind``."""
    if isinstance(value, bool) or kind == "bool":
        return isinstance(value, bool) and kind == "bool"
    if kind == "float":
        return isinstance(value, int | float) and abs(value) < MAX_NUMBER
    if kind == "int":
        return isinstance(value, int) and abs(value) < MAX_NUMBER
    return isinstance(value, {"str": str, "Path": str | Path}[kind])


def presets() -> list[str]:
    """Return the names of the presets in the package."""
    folder = resources.files(__package__) / "presets"
    return sorted(Path(item.name).stem for item in folder.iterdir() if item.name.endswith(".yaml"))


def read_yaml(text: str, where: str) -> dict[str, Any]:
    """Return the settings in a YAML document, under their present names; ``UsageError`` if it is malformed."""
    try:
        values = parse_yaml(text) or {}
    except ValueError as error:
        raise UsageError(f"{where}: is not valid YAML: {one_line(error)}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{where}: must contain settings, one per line, such as lr: 0.01")
    values = renamed(values, where)
    public = [item.name for item in fields(TrainConfig) if "internal" not in item.metadata]
    for item in fields(TrainConfig):
        if item.name not in public and values.get(item.name, item.default) != item.default:
            raise UsageError(f"{where}: unknown setting {item.name!r}: {did_you_mean(item.name, public)}")
    return values


def build_config(
    given: Mapping[str, Any],
    preset: str | None = None,
    file: Path | None = None,
    saved: TrainConfig | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> TrainConfig:
    """Return the configuration for a command line.

    Args:
        given: settings from the command line, which take precedence; None for those that are not given.
        preset: name of a preset with lower precedence than ``file``.
        file: a YAML file with lower precedence than the command line.
        saved: configuration of the run to resume, used instead of the defaults.
        defaults: settings with lower precedence than a preset.

    Raises:
        UsageError: a preset, setting or value is unknown or invalid.
    """
    values = merged(saved.to_dict() if saved else dict(defaults or {}), chosen(given, preset, file))
    return from_dict(values, where=str(file or preset or "command line"))


def chosen(given: Mapping[str, Any], preset: str | None, file: Path | None) -> dict[str, Any]:
    """Return the settings that are chosen for a run, without defaults; see :func:`build_config` for the arguments."""
    values: dict[str, Any] = {}
    if preset is not None:
        if preset not in presets():
            raise UsageError(f"--preset {preset!r} is unknown: {did_you_mean(preset, presets())}")
        text = (resources.files(__package__) / "presets" / f"{preset}.yaml").read_text(encoding="utf-8")
        values = read_yaml(text, f"preset {preset}")
    if file is not None:
        try:
            text = read_document(file)
        except (OSError, ValueError) as error:
            raise UsageError(f"--config {file}: cannot be read: {getattr(error, 'strerror', error)}") from error
        values = merged(values, read_yaml(text, str(file)))
    return merged(values, {name: value for name, value in given.items() if value is not None})


def merged(values: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings, overridden by those of ``later``; options of the network (``set``) are overridden one by one."""
    result = {**values, **later}
    if isinstance(values.get("set"), list | tuple) and isinstance(later.get("set"), list | tuple):
        result["set"] = [*values["set"], *later["set"]]
    return result
