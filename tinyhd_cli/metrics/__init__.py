"""Metrics of saliency maps, as the MATLAB code that the DHF1K benchmark uses, and of masks of salient objects.

    from tinyhd_cli.metrics import score_frame, score_object_frame

    scores = score_frame(prediction, density, fixation)  # {"AUC-J": ..., "CC": ..., ...}
    scores = score_object_frame(prediction, mask)  # {"MAE": ..., "maxF": ..., ...}

The public names are imported on first use, so that importing the package does not load OpenCV.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_imports

if TYPE_CHECKING:
    from .frame import METRICS, FrameScorer, score_frame
    from .imresize import resize
    from .object import OBJECT_METRICS, ObjectScorer, score_object_frame
    from .object_scores import ObjectScores

__all__ = [
    "METRICS",
    "OBJECT_METRICS",
    "FrameScorer",
    "ObjectScorer",
    "ObjectScores",
    "resize",
    "score_frame",
    "score_object_frame",
]

__getattr__, __dir__ = lazy_imports(
    __name__,
    {
        "METRICS": "frame",
        "OBJECT_METRICS": "object",
        "FrameScorer": "frame",
        "ObjectScorer": "object",
        "ObjectScores": "object_scores",
        "resize": "imresize",
        "score_frame": "frame",
        "score_object_frame": "object",
    },
)
