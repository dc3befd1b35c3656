"""Report outputs and commands that do not suit the task of a network."""

from __future__ import annotations

from .. import weights
from ..errors import UsageError
from ..models import ModelSpec
from ..models.registry import all_families

SUBJECTS = {"fixation": "where people look", "object": "objects"}
"""What the networks of each task predict, in words."""


def require_objects(spec: ModelSpec, subject: str) -> None:
    """Raise ``UsageError`` unless a network finds objects; the message begins with ``subject``."""
    require_task(spec, "object", subject)


def require_task(spec: ModelSpec, task: str, subject: str) -> None:
    """Raise ``UsageError`` unless a network has a task.

    Args:
        spec: the network.
        task: the required task.
        subject: the option or command that needs it, with which the message begins.
    """
    if spec.task != task:
        names = [one.name for family in all_families().values() for one in family.specs if one.task == task]
        other = weights.default_name() if task == "fixation" else names[0]
        raise UsageError(
            f"{subject} needs a model that predicts {SUBJECTS[task]}, but {spec.name} predicts {SUBJECTS[spec.task]};"
            f" use another --model, such as {other}"
        )
