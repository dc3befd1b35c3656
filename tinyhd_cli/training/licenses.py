"""The licenses of the pretrained networks that a run's weights are made with, of the student and of its teachers."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path

from .. import weights
from ..errors import UsageError, WeightsError
from .options import TrainConfig
from .roles import split_role


def notices(config: TrainConfig) -> dict[str, str]:
    """Return lines about the pretrained networks that a run's weights depend on.

    Those of the teachers and of the initial weights are stated in their weights files.

    Returns:
        Lines such as ``backbone NAME: license TERMS``, each with the option that names the file which states it; with
        an empty text for the student's own.

    Raises:
        WeightsError: the student's pretrained part cannot be found.
    """
    found = dict.fromkeys(config.family.notices(config.spec), "")
    files = {f"--teacher {teacher}": split_role(teacher)[1] for teacher in config.teacher}
    if Path(config.initial_weights).is_file():
        files[f"--init {config.initial_weights}"] = config.initial_weights
    for option, name in files.items():
        if line := stated(name, Path(name).stat().st_mtime_ns if Path(name).is_file() else 0):
            found.setdefault(line, option)
    return found


@functools.cache
def stated(name: str, mtime_ns: int) -> str:
    """Return the line about pretrained networks in weights; empty without one.

    Args:
        name: of the weights, or their file.
        mtime_ns: time of the last change of the file, which only identifies its content.
    """
    with contextlib.suppress(WeightsError, UsageError):  # raised when the weights are loaded, with the option's name
        metadata = weights.open_file(name).metadata
        return metadata.provenance.get("pretrained", "") if metadata else ""
    return ""
