"""Families from other packages: their code may be of any quality, so it is checked and its errors name it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import UsageError, one_line
from ..untrusted import printable
from .family import FINAL, ROLES, Family, LossTerm, Stage
from .spec import ModelSpec, shown

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "tinyhd.families"
"""Entry-point group of plugins; each entry point is a :class:`Family` subclass or instance."""


@dataclass(frozen=True)
class Plugin:
    """A family from another package."""

    name: str
    package: str
    """Distribution and version."""
    family: Family | None
    """None if the plugin cannot be used."""
    problem: str = ""


def load_plugin(entry: EntryPoint, package: str, taken: set[str]) -> Plugin:
    """Return the plugin of an entry point; with a problem if it cannot be imported, is invalid, or uses a taken name.

    Output of the plugin goes to stderr, because stdout is for data.
    """
    name, package = printable(entry.name), printable(package)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            value = entry.load()
            family = value() if isinstance(value, type) else value
            check_family(family)
    except UsageError as error:
        return Plugin(name, package, None, str(error))
    except (Exception, SystemExit) as error:  # the code of another package may raise anything
        return Plugin(name, package, None, f"{type(error).__name__}: {printable(one_line(error))}")
    if clash := [one for one in names(family) if one in taken]:
        return Plugin(family.name, package, None, f"the name {clash[0]!r} is taken")
    return Plugin(family.name, package, family)


def names(family: Family) -> list[str]:
    """Return the names that a family occupies: its own, then those of its networks."""
    return [family.name, *(one.name for one in family.specs)]


def check_family(family: object) -> None:
    """Raise ``UsageError`` if an attribute of a family is invalid; the message names it."""
    if not isinstance(family, Family) or not family.name or not family.specs:
        raise UsageError("it is not an instance of Family with a name and specs")
    if not isinstance(family.specs, tuple | list) or not all(isinstance(one, ModelSpec) for one in family.specs):
        raise UsageError(f"specs must be a tuple of ModelSpec, not {shown(family.specs)}")
    for one in family.specs:
        if one.family != family.name:
            raise UsageError(f"{one.name} names the family {one.family!r}, not {family.name!r}")
    own = [one.name for one in family.specs]
    if twice := [name for name in own if own.count(name) > 1]:
        raise UsageError(f"specs: two networks are named {twice[0]!r}")
    for attribute in ("paper", "hierarchy", "init"):
        if not isinstance(getattr(family, attribute), str):
            raise UsageError(f"{attribute} must be a string, not {shown(getattr(family, attribute))}")
    if family.init not in (("none",) if family.imagenet is None else ("none", "imagenet")):
        raise UsageError(f"init must be none, or imagenet if the attribute imagenet is set, not {shown(family.init)}")
    texts = {name: getattr(family, name) or () for name in ("anchors", "imagenet", "training_options")}
    for attribute, value in texts.items():
        if not isinstance(value, tuple | list) or not all(isinstance(one, str) and one for one in value):
            raise UsageError(f"{attribute} must be a tuple of texts, not {shown(value)}")
    for one in family.specs:
        if unknown := [name for name in family.training_options if name not in one.options]:
            raise UsageError(f"training_options: {one.name} has no option {unknown[0]!r}")
    if not isinstance(family.roles, tuple | list) or not all(
        isinstance(one, str) and one in ROLES for one in family.roles
    ):
        raise UsageError(f"roles must be a tuple of some of {', '.join(ROLES)}, not {shown(family.roles)}")
    check_terms(family, family.terms, "terms")
    check_terms(family, family.slips, "slips")
    check_stages(family)


def check_terms(family: Family, terms: object, where: str) -> None:
    """Raise ``UsageError`` if terms of the loss are invalid or do not fit the family; ``where`` starts the message."""
    if not isinstance(terms, tuple | list) or not all(isinstance(term, LossTerm) for term in terms):
        raise UsageError(f"{where} must be a tuple of LossTerm, not {shown(terms)}")
    for term in terms:
        if uses_intermediate(term) and not family.intermediate:
            raise UsageError(f"{where}: {term.name} uses an intermediate map, but the family sets intermediate = False")
        role = term.to.removeprefix("teacher.")
        if role in ROLES and role not in family.roles:
            raise UsageError(f"{where}: {term.name} names the role {role!r}, which the family's roles lack")
    called = [term.name for term in terms]
    if twice := [name for name in called if called.count(name) > 1]:
        raise UsageError(f"{where}: two terms are named {twice[0]!r}")


def check_stages(family: Family) -> None:
    """Raise ``UsageError`` if a training stage of a family is invalid."""
    if not isinstance(family.stages, tuple | list) or not all(isinstance(one, Stage) for one in family.stages):
        raise UsageError(f"stages must be a tuple of Stage, not {shown(family.stages)}")
    for number, stage in enumerate(family.stages, start=1):
        check_terms(family, stage.terms, f"stage {number}: terms")
        if not isinstance(stage.options, Mapping):
            raise UsageError(f"stage {number}: options must be a table, not {shown(stage.options)}")
        if not isinstance(stage.frozen, tuple | list) or not all(isinstance(one, str) for one in stage.frozen):
            raise UsageError(f"stage {number}: frozen must be a tuple of names of modules, not {shown(stage.frozen)}")
        for spec in family.specs:
            try:
                family.configure(spec, stage.options)
            except UsageError as error:
                raise UsageError(f"stage {number}: options: {error}") from None


def uses_intermediate(term: LossTerm) -> bool:
    """Return whether a term of the loss uses an intermediate map of the student."""
    return term.of != FINAL or term.own_output not in ("", FINAL)
