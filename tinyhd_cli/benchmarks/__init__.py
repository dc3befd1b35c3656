"""Benchmarks of prediction, engines, metrics and training. They are printed, never asserted: machines differ.

The public names are imported on first use, so that importing the package loads neither OpenCV nor PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_imports

if TYPE_CHECKING:
    from .cost import costs
    from .metrics import metric_timings
    from .model import model_runs
    from .predict import predict_runs
    from .stages import stage_times
    from .teacher import teacher_runs
    from .train import train_runs

__all__ = ["costs", "metric_timings", "model_runs", "predict_runs", "stage_times", "teacher_runs", "train_runs"]

__getattr__, __dir__ = lazy_imports(
    __name__,
    {
        "costs": "cost",
        "metric_timings": "metrics",
        "model_runs": "model",
        "predict_runs": "predict",
        "stage_times": "stages",
        "teacher_runs": "teacher",
        "train_runs": "train",
    },
)
