"""Read lengths of time such as ``5m`` from the command line."""

from __future__ import annotations

import re

from .errors import UsageError

UNITS = {"h": 3600, "m": 60, "s": 1}
"""Seconds in each unit."""

DURATION = re.compile(r"(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m)?(?:(?P<s>\d+(?:\.\d+)?)s?)?")
"""Hours, minutes and seconds, in this order; at least one of them."""


def parse_duration(text: str, option: str) -> float:
    """Return a length of time in seconds: ``300``, ``300s``, ``5m``, ``1h30m``.

    Args:
        text: the value of an option.
        option: the option, for messages.

    Raises:
        UsageError: it is not a length of time above 0.
    """
    match = DURATION.fullmatch(text.strip().lower())
    seconds = sum(float(match[unit] or 0) * size for unit, size in UNITS.items()) if match else 0.0
    if seconds <= 0:
        raise UsageError(f"{option} {text}: give a length of time, such as 5m, 300s or 1h")
    return seconds
