"""Errors about the weights of a teacher name the option ``--teacher``, not ``--weights`` of other commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UsageError, WeightsError


@contextmanager
def naming_teacher(name: str, role: str = "") -> Iterator[None]:
    """Name ``--teacher FILE`` in the errors of the block, which loads a teacher.

    Args:
        name: the teacher: a name, or a weights file.
        role: its role, if it has one.
    """
    option = f"--teacher {role}=" if role else "--teacher "
    try:
        yield
    except (WeightsError, UsageError) as error:
        text = re.sub(r"--weights$", f"{option}FILE", str(error)).replace("--weights ", option)
        if option not in text and not Path(name).exists():
            text += f"; or name a weights file with {option}FILE"
        raise type(error)(text) from error
