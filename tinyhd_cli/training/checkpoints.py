"""Files of a run: checkpoints from which it can resume, weights files, and a model card."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import weights
from ..atomic_files import atomic_write, remove
from ..errors import InputError, OutputError, UsageError, WeightsError, one_line
from ..models import ModelSpec
from ..version import __version__
from ..weights import WeightsInfo
from ..weights.file import read_bytes
from ..weights.pytorch_file import unpickle
from . import generators
from .licenses import notices
from .option_values import as_text, flag
from .options import TrainConfig
from .settings import from_dict

FOLDER = "checkpoints"
"""Folder of the checkpoints, inside the folder of a run."""

MAX_CHECKPOINT_BYTES = 8 << 30
"""Size limit of a checkpoint."""


@dataclass
class State:
    """Everything that a run needs to resume exactly where it stopped."""

    step: int = 0
    """Number of completed steps."""
    model: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    ema: dict[str, Tensor] = field(default_factory=dict)
    """Running mean of the weights; empty if the run has none."""
    best: dict[str, Tensor] = field(default_factory=dict)
    """Best weights so far; empty before the first validation."""
    best_score: float = float("inf")
    best_step: int = 0
    hint: dict[str, Tensor] = field(default_factory=dict)
    """Projection of the features (see :mod:`.hint`); empty if the run has none."""
    rng: list[dict[str, Tensor]] = field(default_factory=list)
    """States of the random number generators of each process (see :mod:`.generators`)."""


def paths(out: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    return sorted((out / FOLDER).glob("step-*.pt"), key=step_of)


def step_of(path: Path) -> int:
    """Return the number of steps in a checkpoint's file name."""
    match = re.search(r"\d+", path.stem)
    return int(match[0]) if match else 0


def save(state: State, config: TrainConfig) -> Path:
    """Write a checkpoint, and remove the oldest ones beyond ``config.keep``.

    Raises:
        OutputError: The checkpoint cannot be written.
    """
    path = config.folder / FOLDER / f"step-{state.step:07d}.pt"
    with atomic_write(path) as temporary:
        try:
            torch.save({"config": config.to_dict(), **vars(state)}, temporary)
        except RuntimeError as error:  # PyTorch raises it if the disk is full
            raise OutputError(f"{path}: cannot be written: {one_line(error)}") from error
    for old in paths(config.folder)[: -config.keep]:
        remove(old)
    return path


def read(out: Path) -> tuple[State, TrainConfig]:
    """Return the newest checkpoint of a run and the configuration of that run.

    Raises:
        InputError: The run has no checkpoint, or it is damaged.
    """
    found = paths(out)
    if not found:
        raise InputError(f"--resume: no checkpoint in {out / FOLDER}")
    try:
        values = unpickle(read_bytes(found[-1], MAX_CHECKPOINT_BYTES))
        if not isinstance(values, dict):
            raise InputError("the content is not a dict")
        saved = from_dict(values.pop("config"), where=str(found[-1]))
        if "optimiser" in values:  # the key in checkpoints of earlier versions
            values["optimizer"] = values.pop("optimiser")
        if isinstance(values.get("rng"), Tensor):  # earlier versions stored only that of the CPU of the first process
            values["rng"] = [{generators.CPU: values["rng"]}]
        return State(**values), saved
    except WeightsError:  # a pretrained network that the configuration names cannot be found
        raise
    except Exception as error:  # a damaged file can raise anything
        raise InputError(f"{found[-1]}: damaged, or not a checkpoint ({one_line(error)}); remove it") from error


LENGTH_SETTINGS = ("steps", "epochs")
"""Settings that may change when a run is extended."""


def load(config: TrainConfig, extend: bool = False) -> State:
    """Return the newest checkpoint of a run that is to resume with ``config``.

    Args:
        config: Configuration of the run.
        extend: Whether the length of the run may change.

    Raises:
        InputError: The run has no checkpoint, or it is damaged.
        UsageError: The checkpoint belongs to another configuration.
    """
    state, saved = read(config.folder)
    different = [name for name in config.differences(saved) if not (extend and name in LENGTH_SETTINGS)]
    if different:
        name = different[0]
        old, new = saved.value(name), config.value(name)
        extend_hint = "; to make it longer, use --extend" if name in LENGTH_SETTINGS else ""
        init_hint = f"; to start a new run from its weights, use --init {config.folder / 'best.safetensors'} --out DIR"
        if saved.stage > 1:  # its network is not that of the first stage
            before = replace(saved, out=config.out).initial_weights
            init_hint = f"; to repeat stage {saved.stage}, use --stages {saved.stage} --init {before} --out DIR"
        raise UsageError(
            f"--resume: the run in {config.folder} has {flag(name)} {as_text(old)}, not {as_text(new)}"
            f"{extend_hint}{init_hint}"
        )
    return state


def refuse_old_run(out: Path) -> None:
    """Raise ``UsageError`` if the output folder of a new run already contains a run."""
    if paths(out):
        raise UsageError(f"--out {out}: already contains a run; continue it with --resume, or choose another folder")


def source_commit() -> str:
    """Return the git commit of the source checkout that contains this file; empty outside of one."""
    folder = Path(__file__).resolve().parent
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return result.stdout.strip()


def provenance(config: TrainConfig, step: int) -> dict[str, str]:
    """Return how weights were made, for the metadata of their file."""
    facts = {
        "command": shlex.join(["tinyhd", *sys.argv[1:]]) if Path(sys.argv[0]).stem in ("tinyhd", "__main__") else "",
        "version": __version__,
        "commit": os.environ.get("TINYHD_COMMIT") or source_commit(),
        "seed": str(config.seed),
        "steps": str(step),
        "teacher": ", ".join(config.teacher),
        "init": config.init or "",
    }
    with contextlib.suppress(WeightsError):  # a license that cannot be read now is no reason to lose the weights
        facts["pretrained"] = "; ".join(notices(config))
    return {name: value for name, value in facts.items() if value}


def save_weights(
    path: Path,
    state: Mapping[str, Tensor],
    spec: ModelSpec,
    config: TrainConfig,
    step: int,
    scores: Mapping[str, float],
    scores_on: str,
) -> WeightsInfo:
    """Write a weights file whose metadata records how it was made."""
    data = [f"labeled: {', '.join(config.data)}"] if config.data else []
    data += [f"auxiliary: {', '.join(config.aux)}"] if config.aux else []
    return weights.save(
        path,
        state,
        spec,
        name=f"{spec.name}.{config.folder.resolve().name}",
        training_data="; ".join(data),
        scores={name: round(value, 5) for name, value in scores.items() if value == value},
        scores_on=scores_on,
        provenance=provenance(config, step),
    )
