"""Typer options made from the fields of configuration dataclasses; see ``tinyhd_cli.fields``."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer
from typer.models import ParameterInfo

from ..fields import UNCHANGED, UNSET, Adjust, Option
from ..storage import path_of
from .terminal import loading

KINDS = {"str": str, "int": int, "float": float, "bool": bool}
"""Types of fields that are also types of options."""


def with_options(command: Callable[..., int]) -> Callable[..., int]:
    """Replace each configuration among a command's parameters by one option per field.

    A parameter annotated with a dataclass receives an instance made from the options; one that is annotated with
    ``Annotated[dict[str, Any], SomeDataclass]`` receives the given values, by field name. An :class:`Adjust` in the
    annotation changes the options. Commands with ``--quiet`` also show that libraries are loading.
    """
    parameters = inspect.signature(command, eval_str=True).parameters.values()
    configs = {item.name: found for item in parameters if (found := configuration(item.annotation))}
    shown: list[inspect.Parameter] = []
    for item in parameters:
        if item.name in configs:
            config, adjust, _ = configs[item.name]
            shown += [as_parameter(option) for _, option in all_options(config, adjust)]
        else:
            annotation = with_urls(item.annotation)
            shown.append(item.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=annotation))

    @functools.wraps(command)
    def run(**values: Any) -> int:
        if "quiet" in values:
            loading.start(values["quiet"])
        built = {}
        for name, (config, adjust, as_dict) in configs.items():
            given = {option.flag: values.pop(parameter_name(option)) for _, option in all_options(config, adjust)}
            built[name] = given_values(config, adjust, given) if as_dict else build(config, adjust, given)
        return command(**values, **built)

    del run.__wrapped__  # Typer would read the annotations of the command
    run.__signature__ = inspect.Signature(shown, return_annotation=int)  # type: ignore[attr-defined]
    run.__annotations__ = {item.name: item.annotation for item in shown} | {"return": int}
    return run


def configuration(annotation: Any) -> tuple[type[Any], Adjust, bool] | None:
    """Return the dataclass in an annotation, its adjustments and whether a dict is wanted; None without a dataclass."""
    kind, *details = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    adjust = next((item for item in details if isinstance(item, Adjust)), UNCHANGED)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return kind, adjust, False
    config = next((item for item in details if isinstance(item, type) and dataclasses.is_dataclass(item)), None)
    return None if config is None else (config, adjust, True)


def own_options(config: type[Any], adjust: Adjust) -> Iterator[tuple[str, Option]]:
    """Yield the name and the adjusted option of each field, without those of nested configurations."""
    for item in dataclasses.fields(config):
        if "option" in item.metadata and adjust.includes(item.name):
            yield item.name, completed(item, adjust)


def all_options(config: type[Any], adjust: Adjust) -> Iterator[tuple[str, Option]]:
    """Yield the name and the adjusted option of each field, in order, including those of nested configurations."""
    own = dict(own_options(config, adjust))
    for item in dataclasses.fields(config):
        if item.name in own:
            yield item.name, own[item.name]
        elif "group" in item.metadata and adjust.includes(item.name):
            yield from all_options(item.metadata["group"], item.metadata["adjust"])


def completed(item: dataclasses.Field[Any], adjust: Adjust) -> Option:
    """Return the option of a field with its flag, type and default filled in."""
    option: Option = item.metadata["option"]
    name = item.name.replace("_", "-")
    default = item.default if option.default is UNSET else option.default
    default = adjust.defaults.get(item.name, default)
    changed = dataclasses.replace(
        option,
        panel=adjust.panel or option.panel,
        metavar=adjust.metavar.get(item.name, option.metavar),
        help=adjust.help.get(item.name, option.help),
        flag=option.flag or name,
        kind=option.kind or KINDS[str(item.type).partition(" | ")[0]],
        default=default,
    )
    if item.default is not True:
        return changed
    return dataclasses.replace(changed, flag=f"no-{name}", default=not default, parse=lambda value: not value)


def parameter_name(option: Option) -> str:
    """Return the name of an option's parameter."""
    return option.flag.replace("-", "_")


def as_parameter(option: Option) -> inspect.Parameter:
    """Return the parameter that makes Typer offer an option."""
    names = [f"--{option.flag}", *([option.short] if option.short else [])]
    described = typer.Option(*names, metavar=option.metavar or None, help=option.help, rich_help_panel=option.panel)
    kind = option.kind | None if option.default is None else option.kind
    return inspect.Parameter(
        parameter_name(option),
        inspect.Parameter.KEYWORD_ONLY,
        default=option.default,
        annotation=with_urls(Annotated[kind, described]),
    )


def with_urls(annotation: Any) -> Any:
    """Return the annotation of a parameter, such that its paths may be URLs; ``Path`` would merge their slashes."""
    kind, *details = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    if Path not in (kind, *get_args(kind)):
        return annotation
    for index, item in enumerate(details):
        if isinstance(item, ParameterInfo):
            details[index] = copy.copy(item)
            details[index].parser = to_path
    return Annotated[(kind, *details)]


def to_path(value: object) -> Path:
    """Return the path of a value of the command line or of a settings file; ``ValueError`` if it is not text."""
    if not isinstance(value, str | os.PathLike):
        raise ValueError("is not a path")
    return path_of(value)


def given_values(config: type[Any], adjust: Adjust, given: dict[str, Any]) -> dict[str, Any]:
    """Return the values that are not None, by field name and as written on the command line."""
    values = {name: given[option.flag] for name, option in own_options(config, adjust)}
    return {name: value for name, value in values.items() if value is not None}


def build(config: type[Any], adjust: Adjust, given: dict[str, Any]) -> Any:
    """Return a configuration with the values of a command line, given by flag."""
    fields = dict(adjust.defaults)
    for item in dataclasses.fields(config):
        if "group" in item.metadata and adjust.includes(item.name):
            fields[item.name] = build(item.metadata["group"], item.metadata["adjust"], given)
    for name, option in own_options(config, adjust):
        value = given[option.flag]
        if value is not None:  # None: the field keeps its default
            fields[name] = option.parse(value) if option.parse else value
    return config(**fields)
