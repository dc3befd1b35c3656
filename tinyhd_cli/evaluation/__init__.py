"""Score saliency maps against a dataset: run the evaluation, compute means, draw plots. Nothing here prints.

The public names are imported on first use, so that importing the package loads neither OpenCV nor PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_imports

if TYPE_CHECKING:
    from .center_bias import CenterBias
    from .fixations import Fixations, read_fixations
    from .options import DatasetOptions, EvaluateOptions, EvaluationOutputs, PredictionSpec
    from .results import Results
    from .run import evaluate
    from .scoring import VideoScores
    from .similarity import Similarity, compare
    from .submission import write_submission

__all__ = [
    "CenterBias",
    "DatasetOptions",
    "EvaluateOptions",
    "EvaluationOutputs",
    "Fixations",
    "PredictionSpec",
    "Results",
    "Similarity",
    "VideoScores",
    "compare",
    "evaluate",
    "read_fixations",
    "write_submission",
]

__getattr__, __dir__ = lazy_imports(
    __name__,
    {
        "CenterBias": "center_bias",
        "DatasetOptions": "options",
        "EvaluateOptions": "options",
        "EvaluationOutputs": "options",
        "Fixations": "fixations",
        "PredictionSpec": "options",
        "Results": "results",
        "Similarity": "similarity",
        "VideoScores": "scoring",
        "compare": "similarity",
        "evaluate": "run",
        "read_fixations": "fixations",
        "write_submission": "submission",
    },
)
