"""The model families, those of plugins included, and their networks by name. Imports no torch."""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from ..errors import NO_MEMORY, TinyhdError, UsageError, WeightsError, describe_unexpected, did_you_mean, one_line
from ..untrusted import printable
from . import spec as specs
from .family import Family
from .plugins import GROUP, Plugin, check_family, load_plugin, names
from .spec import ModelSpec

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from torch import Tensor, nn

log = logging.getLogger("tinyhd")

BUILT_IN = ("tinyhd", "hd2s", "uvanet", "stkd", "thtdnet", "vfm")
"""Families of this package: modules of :mod:`tinyhd_cli.models.families`, each with an instance ``FAMILY``."""

MISSING = "is not installed here; install the package that provides it (tinyhd doctor lists the installed families)"


_registered: dict[str, Family] = {}


@functools.cache
def built_in() -> dict[str, Family]:
    """Return the families of this package by name."""
    modules = (importlib.import_module(f".families.{name}", __package__) for name in BUILT_IN)
    return {module.FAMILY.name: module.FAMILY for module in modules}


def is_built_in(name: str) -> bool:
    """Return whether a family is one of this package, not of a plugin."""
    return name in built_in()


@contextlib.contextmanager
def named_errors(family: Family) -> Iterator[None]:
    """Raise unexpected errors of a plugin's code as ``WeightsError`` with the name of the family.

    Errors of tinyhd and a lack of memory stay as they are, and so do those of built-in families, which are bugs of
    tinyhd.
    """
    try:
        yield
    except TinyhdError:
        raise
    except (Exception, SystemExit) as error:
        no_memory = isinstance(error, Exception) and describe_unexpected(error) == NO_MEMORY
        if no_memory or is_built_in(family.name):
            raise
        message = f"the model family {family.name!r} failed with {type(error).__name__}: {one_line(error)}"
        raise WeightsError(message) from error


@functools.cache
def plugins() -> tuple[Plugin, ...]:
    """Import the plugins; each that cannot be used is logged as one warning line."""
    from importlib.metadata import entry_points  # imported here, because it would slow down tinyhd --help

    taken = {name for known in (*built_in().values(), *_registered.values()) for name in names(known)}
    found: list[Plugin] = []
    for entry in entry_points(group=GROUP):
        plugin = load_plugin(entry, package_of(entry), taken)
        if plugin.family:
            taken.update(names(plugin.family))
        else:
            log.warning("plugin %s (%s) is ignored: %s", plugin.name, plugin.package, plugin.problem)
        found.append(plugin)
    return tuple(found)


def package_of(entry: EntryPoint) -> str:
    """Return the distribution and version of an entry point."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown package"


def register(family: Family) -> None:
    """Add a family for this process, as an alternative to an entry point.

    Raises:
        UsageError: it is invalid, or its name, or that of one of its networks, is taken by another family.
    """
    check_family(family)
    others = [known for known in all_families().values() if known.name != family.name or known.name not in _registered]
    if clash := [name for name in names(family) if any(name in names(other) for other in others)]:
        raise UsageError(f"family {family.name}: the name {clash[0]!r} is taken")
    _registered[family.name] = family


def all_families() -> dict[str, Family]:
    """Return all families by name: built-in ones, registered ones, and plugins, which are imported."""
    return {**built_in(), **_registered, **{one.family.name: one.family for one in plugins() if one.family}}


def find_family(name: str) -> Family | None:
    """Return a family by its name; None if it is not installed. Plugins are imported only for unknown names."""
    return built_in().get(name) or _registered.get(name) or all_families().get(name)


def family(spec: ModelSpec | str) -> Family:
    """Return the family of a spec, or by its name.

    Raises:
        WeightsError: it is not installed.
    """
    name = spec if isinstance(spec, str) else spec.family
    if (found := find_family(name)) is None:
        raise WeightsError(f"the model family {printable(repr(name))[:60]} {MISSING}")
    return found


def model_names() -> list[str]:
    """Return the names of all networks, those of plugins included."""
    return [one.name for family in all_families().values() for one in family.specs]


def default_student() -> str:
    """Return the name of the default network for training: the first one that can be trained."""
    return next(one.specs[0].name for one in built_in().values() if one.trainable)


def named(name: str) -> ModelSpec | None:
    """Return the spec of the network with this name; None if the name is unknown."""
    for known in (built_in, all_families):  # plugins are imported only for unknown names
        for found in ({**known(), **_registered}).values():
            for one in found.specs:
                if one.name == name:
                    return one
    return None


def named_spec(name: str, **overrides: Any) -> ModelSpec:
    """Return the spec of a named network.

    Args:
        name: e.g. ``tinyhd-m``.
        overrides: fields of the spec (``input_size``, ...) or options of the family (``decoders``, ...).

    Raises:
        UsageError: the name or an override is unknown or invalid.
    """
    found = named(name)
    if found is None:
        raise UsageError(f"unknown model {name!r}: {did_you_mean(name, model_names())}")
    own = {item.name for item in fields(ModelSpec)} - {"name", "family", "options"}
    changes = {key: value for key, value in overrides.items() if key in own}
    options = {key: value for key, value in overrides.items() if key not in own}
    if not overrides:
        return found
    kind = family(found)
    result = replace(kind.resolve(kind.configure(found, options)), **changes)
    kind.validated(result)
    return result


def parse_options(spec: ModelSpec, items: Iterable[object]) -> dict[str, Any]:
    """Parse options such as ``decoders=d2,d3,d1``; a value has the type of the option's default.

    Raises:
        UsageError: an option is malformed or unknown.
    """
    options = {}
    for item in items:
        name, equals, text = item.partition("=") if isinstance(item, str) else ("", "", "")
        if not equals:
            raise UsageError(f"--set {item}: must be OPTION=VALUE")
        family(spec).configure(spec, {name.strip(): spec.options.get(name.strip())})  # raises an error if it is unknown
        options[name.strip()] = parse_option(spec.options[name.strip()], text.strip(), item)
    return options


def parse_option(default: object, text: str, item: object) -> Any:
    """Return the value of an option from its text, with the type of its default."""
    try:
        if isinstance(default, tuple):
            like = default[0] if default else ""
            return tuple(parse_option(like, part.strip(), item) for part in text.split(","))
        if isinstance(default, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(default, int | float):
            return type(default)(text)
    except (KeyError, ValueError):
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}[type(default)]
        raise UsageError(f"--set {item}: must be {wanted}") from None
    return text


def from_dict(values: object) -> ModelSpec:
    """Return the spec of plain values.

    Args:
        values: what :meth:`ModelSpec.to_dict` wrote; a configuration of version 0.1, with ``architecture``; or a
            table with the ``name`` of a known network and the fields and ``options`` that differ from it.

    Raises:
        UsageError: a field is missing or invalid; the message names it.
        WeightsError: the family is not installed.
    """
    if not isinstance(values, Mapping):
        raise UsageError("the network's configuration must be a table")
    if "architecture" in values:
        architecture = values["architecture"]
        return family(architecture if isinstance(architecture, str) else str(architecture)).from_config(values)
    if "family" in values:
        result = with_defaults(specs.from_dict(values))
    else:
        name = values.get("name")
        known = named(name) if isinstance(name, str) else None
        if known is None:
            raise UsageError(f"unknown model {specs.shown(name)}")
        options = values.get("options", {})
        if not isinstance(options, Mapping):
            raise UsageError(f"options must be a table, not {specs.shown(options)}")
        result = family(known).configure(known, options)
        result = specs.from_dict({**result.to_dict(), **{k: v for k, v in values.items() if k != "options"}})
    kind = family(result)
    with named_errors(kind):
        return kind.validated(result)


def with_defaults(spec: ModelSpec) -> ModelSpec:
    """Return a spec from a file with the default values of options that the file lacks, such as newer ones."""
    known = family(spec).specs
    like = next((one for one in known if one.name == spec.name), known[0])
    return replace(spec, options={**like.options, **spec.options})


def title(spec: ModelSpec) -> str:
    """Return the name of a network with the options that distinguish it: ``tinyhd-m (d2, d3, d1)``."""
    return family(spec).title(spec)


def build(spec: ModelSpec) -> nn.Module:
    """Return the network of a spec, with initial weights, in training mode."""
    from torch import nn

    kind = family(spec)
    with named_errors(kind):
        network = kind.build(spec)
        if not isinstance(network, nn.Module):
            raise TypeError(f"build must return a torch.nn.Module, not {type(network).__name__}")
    return network


def create(name: str, **overrides: Any) -> nn.Module:
    """Return the named network with initial weights, e.g. ``create("tinyhd-s", decoders=("d1", "d1"))``.

    Args:
        name: e.g. ``tinyhd-m-quarter`` or ``hd2s``; see :func:`model_names`.
        overrides: as for :func:`named_spec`.

    Raises:
        UsageError: the name or an override is unknown or invalid.
    """
    return build(named_spec(name, **overrides))


@functools.cache
def network_state(spec: ModelSpec) -> dict[str, Tensor]:
    """Return the tensors of a network without values, on the meta device."""
    import torch

    with torch.device("meta"):
        return build(spec).state_dict()
