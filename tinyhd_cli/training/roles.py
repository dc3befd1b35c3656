"""Roles of teachers, as given with ``--teacher``. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import UsageError, did_you_mean
from ..models.family import ROLES, Family


def split_role(teacher: str) -> tuple[str, str]:
    """Return the role (empty if none is given) and the network of ``[ROLE=]NAME|FILE``.

    Raises:
        UsageError: the role is unknown.
    """
    role, equals, name = teacher.partition("=")
    if not equals or not re.fullmatch(r"\w+", role) or Path(teacher).exists():
        return "", teacher
    if role not in ROLES:
        raise UsageError(f"--teacher {teacher}: unknown role {role!r}: {did_you_mean(role, ROLES)}")
    if not name:
        raise UsageError(f"--teacher {teacher}: must be {role}=NAME or {role}=FILE")
    return role, name


def by_role(teachers: Sequence[str], family: Family) -> dict[str, tuple[str, ...]]:
    """Return the networks of ``--teacher`` by role; a teacher without a role has all roles of the student's family.

    Args:
        teachers: as on the command line.
        family: the student's family.

    Returns:
        Only the roles that have a teacher; empty for a family without roles.

    Raises:
        UsageError: a role is unknown, or not one of the family's.
    """
    pairs = [split_role(teacher) for teacher in teachers]
    for role, name in pairs:
        if role and role not in family.roles:
            valid = f"the roles are {', '.join(family.roles)}" if family.roles else f"use --teacher {name}"
            raise UsageError(f"--teacher {role}={name}: {family.name} has no {role} teacher; {valid}")
    found = {role: tuple(name for own, name in pairs if own in ("", role)) for role in family.roles}
    return {role: names for role, names in found.items() if names}
