"""Fields of configuration dataclasses that are also options of the command line and of ``tinyhd.toml``.

A configuration is one frozen dataclass for Python, the command line and settings files. :func:`option` and
:func:`group` make its fields; ``commands.option_fields`` turns them into Typer options.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

OUTPUTS = "Outputs"
LOOK = "Look of videos"
MODEL = "Model"
RUN = "Run"
AREAS = "Areas of interest"
MOTION = "Motion of the window"

UNSET: Any = object()
"""Placeholder for a missing value where None is a valid value."""


@dataclass(frozen=True)
class Option:
    """A field on the command line."""

    panel: str | None
    """Group in ``--help``; None: the group without a name."""
    metavar: str
    """Placeholder of the value in ``--help``; empty for a switch."""
    help: str
    flag: str = ""
    """Name without dashes; empty: the field's name."""
    short: str = ""
    """Short form, such as ``-o``."""
    kind: Any = None
    """Type on the command line; None: the field's type."""
    default: Any = UNSET
    """Default on the command line; unset: the field's default."""
    parse: Callable[[Any], Any] | None = None
    """Converts a value of the command line to the field's value; raises ``UsageError`` if it is invalid."""


def option(
    default: Any,
    panel: str | None,
    metavar: str,
    help: str,
    *,
    flag: str = "",
    short: str = "",
    kind: Any = None,
    written: Any = UNSET,
    parse: Callable[[Any], Any] | None = None,
) -> Any:
    """Return a dataclass field that is also an option; see :class:`Option` for the arguments.

    A field that is True by default becomes a switch ``--no-NAME``.

    Args:
        default: default of the field.
        panel: group in ``--help``.
        metavar: placeholder of the value.
        help: help text.
        flag: name of the option if it differs from the field's.
        short: short form of the option.
        kind: type on the command line if it differs from the field's.
        written: the default as written on the command line if it differs from the field's.
        parse: converts a value of the command line.
    """
    described = Option(panel, metavar, help, flag, short, kind, written, parse)
    return dataclasses.field(default=default, metadata={"option": described})


@dataclass(frozen=True)
class Adjust:
    """Changes to a configuration's options for one command or one nesting configuration. Keys are names of fields."""

    only: tuple[str, ...] = ()
    """Fields that become options; empty: all."""
    without: tuple[str, ...] = ()
    """Fields that do not become options."""
    panel: str | None = None
    """Group in ``--help`` of all options; None: each option's own."""
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    help: Mapping[str, str] = dataclasses.field(default_factory=dict)
    metavar: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def includes(self, name: str) -> bool:
        """Return whether a field becomes an option."""
        return name not in self.without and (not self.only or name in self.only)


UNCHANGED = Adjust()


def group(config: type[Any], adjust: Adjust = UNCHANGED) -> Any:
    """Return a dataclass field for a nested configuration, whose fields become options too.

    The defaults in ``adjust`` also hold in Python.
    """
    return dataclasses.field(
        default_factory=lambda: config(**adjust.defaults), metadata={"group": config, "adjust": adjust}
    )
