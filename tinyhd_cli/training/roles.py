"""Teachers with roles: which teacher each part of a student learns from. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import UsageError, did_you_mean
from ..models.family import ROLES, Family


def split_role(teacher: str) -> tuple[str, str]:
    """Return the role (empty if there is none) and the network of ``[ROLE=]NAME|FILE``.

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
        family: that of the student.

    Returns:
        Only roles that have a teacher; empty for a family without roles.

    Raises:
        UsageError: a role is unknown, or one that the student does not learn from.
    """
    pairs = [split_role(teacher) for teacher in teachers]
    for role, name in pairs:
        if role and role not in family.roles:
            has = f"the roles of its teachers are {', '.join(family.roles)}" if family.roles else "give it no role"
            raise UsageError(f"--teacher {role}={name}: {family.name} has no {role} teacher; {has}")
    found = {role: tuple(name for own, name in pairs if own in ("", role)) for role in family.roles}
    return {role: names for role, names in found.items() if names}
