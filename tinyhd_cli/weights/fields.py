"""Validate the metadata fields of weights files and of the registry, because files are not trusted.

Each function returns the converted value, or raises ``ValueError`` with a message that follows the name of the field:
``must be 3 numbers, not null``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from ..untrusted import printable

MAX_TEXT = 20_000
"""Maximum characters of a text field. The longest real ones list training data."""

MAX_ENTRIES = 100
"""Maximum entries of a table (scores, provenance)."""

MAX_SHOWN = 60
"""Maximum characters of a wrong value in a message."""

MEAN_RANGE = (-1.0, 2.0)
"""Range of the mean of RGB / 255. Real values are in 0..1."""

STD_RANGE = (1e-3, 10.0)
"""Range of the standard deviation of RGB / 255. Real values are in 1/255 (for input in 0..255) to 1."""


def wrong(wanted: str, value: object) -> ValueError:
    """Return the error for a wrong value."""
    shown = printable(repr(value))
    return ValueError(f"must be {wanted}, not {shown if len(shown) <= MAX_SHOWN else f'{shown[: MAX_SHOWN - 1]}…'}")


def text(value: object) -> str:
    """Return a text with control characters escaped."""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise wrong(f"a string of at most {MAX_TEXT:,} characters", value)
    return printable(value)


def title(value: object) -> str:
    """Return a short text that is not empty."""
    if not isinstance(value, str) or not 0 < len(value) <= 200:
        raise wrong("a string of 1 to 200 characters", value)
    return text(value)


def number(value: object, least: float = -math.inf, most: float = math.inf) -> float:
    """Return a finite number in a range."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            if math.isfinite(value) and least <= value <= most:
                return float(value)
        except OverflowError:
            pass
    limits = "" if math.isinf(least) else f" from {least:g} to {most:g}"
    raise wrong(f"a number{limits}", value)


def count(value: object) -> int:
    """Return a whole number, at least 0."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise wrong("a whole number", value)
    return value


def optional_count(value: object) -> int | None:
    """Return a whole number, at least 0, or None."""
    return None if value is None else count(value)


def pair(value: object) -> tuple[int, int]:
    """Return height and width."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise wrong("2 whole numbers", value)
    return count(value[0]), count(value[1])


def channels(limits: tuple[float, float]) -> Callable[[object], tuple[float, ...]]:
    """Return a reader of three numbers: red, green and blue."""

    def read(value: object) -> tuple[float, ...]:
        wanted = f"3 numbers from {limits[0]:g} to {limits[1]:g}"
        if not isinstance(value, list | tuple) or len(value) != 3:
            raise wrong(wanted, value)
        try:
            return tuple(number(one, *limits) for one in value)
        except ValueError:
            raise wrong(wanted, value) from None

    return read


def sha256(value: object) -> str:
    """Return a SHA-256 in hexadecimal, or an empty string."""
    if not isinstance(value, str) or not re.fullmatch(r"([0-9a-f]{64})?", value):
        raise wrong("64 hexadecimal digits", value)
    return value


def filename(value: object) -> str:
    """Return a file name without path separators, or an empty string."""
    if not isinstance(value, str) or (value and not re.fullmatch(r"[\w+-][\w.+-]{0,199}", value)):
        raise wrong("a plain file name", value)
    return value


def table(read: Callable[[object], Any]) -> Callable[[object], dict[str, Any]]:
    """Return a reader of a table from names to values."""

    def read_table(value: object) -> dict[str, Any]:
        if not isinstance(value, Mapping) or len(value) > MAX_ENTRIES:
            raise wrong(f"a table of at most {MAX_ENTRIES} entries", value)
        return {title(name): read(entry) for name, entry in value.items()}

    return read_table


def hub_repo(value: object) -> str:
    """Return a Hub repository: ``owner/name`` or ``name``."""
    if not isinstance(value, str) or not re.fullmatch(r"([\w.-]{1,96}/)?[\w.-]{1,96}", value):
        raise wrong("a Hub repository (owner/name)", value)
    return value


def hub_revision(value: object) -> str:
    """Return a branch, tag or commit on the Hub."""
    if not isinstance(value, str) or not re.fullmatch(r"[\w./-]{1,200}", value):
        raise wrong("a branch, tag or commit", value)
    return value
