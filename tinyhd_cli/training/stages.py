"""Train a network in the stages that its family defines. Each stage is a run of its own, with its own checkpoints."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..callbacks import StartPhase, no_phases
from ..errors import UsageError
from . import checkpoints, sources
from .loop import OnReport, Trainer
from .options import TrainConfig


def configs(config: TrainConfig) -> list[TrainConfig]:
    """Return the configuration of each stage of a run; for a network without stages, the configuration itself.

    Raises:
        UsageError: a stage has nothing to learn from.
    """
    several = [dataclasses.replace(config, stage=stage) for stage in config.stages] or [config]
    for stage in several:
        sources.check_targets(stage)
    return several


def has_run(config: TrainConfig) -> bool:
    """Return whether a stage has a checkpoint."""
    return bool(checkpoints.paths(config.folder))


def saved_config(out: Path) -> TrainConfig:
    """Return the configuration of the run in a folder, with all of its stages.

    Raises:
        InputError: the run has no checkpoint, or it is damaged.
        UsageError: the folder is that of a single stage, inside the run.
    """
    folders = [out, *sorted(out.glob("stage-*"), reverse=True)]
    folder = next((one for one in folders if checkpoints.paths(one)), out)
    saved = dataclasses.replace(checkpoints.read(folder)[1], out=out)
    if saved.folder != folder:
        raise UsageError(f"--out {out}: contains only stage {saved.stage} of a run; use --out {out.parent}")
    return dataclasses.replace(saved, stage=0)


def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    extend: bool = False,
    start_phase: StartPhase = no_phases,
    on_report: OnReport = lambda report: None,
) -> None:
    """Train a network in all stages of a configuration; see :class:`.loop.Trainer` for the arguments and errors.

    A resumed run continues in the stage in which it was stopped. Only the last stage can be extended.
    """
    several = configs(config)
    if extend or all(map(has_run, several)):
        first = len(several) - 1
    else:
        first = max((number for number, stage in enumerate(several) if has_run(stage)), default=0)
    if not (resume or extend):
        first = 0
        for stage in several:
            checkpoints.refuse_old_run(stage.folder)
    for number, stage in enumerate(several[first:]):
        continued = number == 0 and (has_run(stage) or len(several) == 1)
        Trainer(
            stage,
            resume=resume and continued,
            extend=extend and continued,
            start_phase=start_phase,
            on_report=on_report,
        ).run()
