"""Defaults of a training run that depend on this machine: the known datasets that are here, and a new folder."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from typing import Any

from ..datasets.catalog import folder_of, on_this_machine
from ..datasets.layouts import LAYOUTS, has_videos
from . import checkpoints
from .options import TrainConfig
from .sources import TRAINING_SPLIT

RUNS = Path("runs")
"""Folder of the runs that are not named."""


def run_defaults(config: TrainConfig) -> dict[str, Any]:
    """Return the settings to use unless the command line, a preset or a file sets them.

    Args:
        config: the configuration without these defaults.
    """
    found: dict[str, Any] = {}
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:  # several processes would count each other's folder
        found["out"] = new_folder(config.model)
    if not config.data and not config.aux:
        known = list(on_this_machine())
        task = "object" if config.is_object else "fixation"
        found["data"] = tuple(
            info.name
            for info, folder in known
            if info.task == task and has_videos(LAYOUTS[info.layout], folder, TRAINING_SPLIT)
        )
        if config.teacher and not config.is_object:
            found["aux"] = tuple(info.name for info, _ in known if not info.layout)
    return {name: value for name, value in found.items() if value}


def new_folder(model: str) -> Path:
    """Return the first folder ``runs/MODEL-N`` that does not exist."""
    return next(folder for number in count(1) if not (folder := RUNS / f"{model}-{number}").exists())


def latest_run() -> Path:
    """Return the folder of the run to resume if none is named: the one with the newest checkpoint, in ``runs``.

    ``run``, the folder of earlier versions and of several processes, counts, too; it is the default if there is none.
    """
    default = TrainConfig().out

    def newest(folder: Path) -> float:
        stages = (folder, *folder.glob("stage-*"))
        return max((path.stat().st_mtime for stage in stages for path in checkpoints.paths(stage)), default=0.0)

    return max((default, *sorted(RUNS.glob("*"))), key=newest)


def describe(values: dict[str, Any]) -> str:
    """Return settings as options of a command line."""
    parts = []
    for name, value in values.items():
        for item in value if isinstance(value, tuple) else (value,):
            place = f" ({folder_of(item)})" if isinstance(value, tuple) else ""
            parts.append(f"--{name} {item}{place}")
    return " ".join(parts)
