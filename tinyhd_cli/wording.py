"""Format numbers and names in messages. Imports no other module of the package, so that all modules can use it."""

from __future__ import annotations

from collections.abc import Sequence


def plural(count: int, one: str, several: str | None = None) -> str:
    """Return a number with its noun, as in ``1 map`` or ``1,200 maps``; ``several`` is an irregular plural."""
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def damage(count: int) -> str:
    """Return the number of damaged packets or frames as text."""
    return plural(count, "damaged packet or frame", "damaged packets or frames")


def list_names(names: Sequence[object], limit: int = 5) -> str:
    """Return at most ``limit`` names, as in ``a, b`` or ``a, b, c, d, e and 3 more``."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(str, names[:limit])) + more
