"""Train, distill and reduce networks. Nothing in this package prints; :class:`Report` describes the progress of a run.

The public names are imported on first use, so that importing the package does not load PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_imports

if TYPE_CHECKING:
    from .dry_run import plan
    from .loop import Report, Trainer
    from .losses import GroundTruth, Targets, loss_terms
    from .options import TrainConfig
    from .settings import build_config, presets
    from .stages import train
    from .teacher_cache import CachedTeacher, Teachers
    from .teachers import Teacher
    from .validation import Validation, Validator

__all__ = [
    "CachedTeacher",
    "GroundTruth",
    "Report",
    "Targets",
    "Teacher",
    "Teachers",
    "TrainConfig",
    "Trainer",
    "Validation",
    "Validator",
    "build_config",
    "loss_terms",
    "plan",
    "presets",
    "train",
]

__getattr__, __dir__ = lazy_imports(
    __name__,
    {
        "CachedTeacher": "teacher_cache",
        "GroundTruth": "losses",
        "Report": "loop",
        "Targets": "losses",
        "Teacher": "teachers",
        "Teachers": "teacher_cache",
        "TrainConfig": "options",
        "Trainer": "loop",
        "Validation": "validation",
        "Validator": "validation",
        "build_config": "settings",
        "loss_terms": "losses",
        "plan": "dry_run",
        "presets": "settings",
        "train": "stages",
    },
)
