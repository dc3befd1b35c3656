"""Metrics of saliency maps, as defined by the MATLAB code that the DHF1K benchmark uses.

    from tinyhd_cli.metrics import score_frame

    scores = score_frame(prediction, density, fixation)  # {"AUC-J": ..., "CC": ..., ...}

The public names are imported on first use, so that importing the package does not load OpenCV.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_imports

if TYPE_CHECKING:
    from .frame import METRICS, FrameScorer, score_frame
    from .imresize import resize

__all__ = ["METRICS", "FrameScorer", "resize", "score_frame"]

__getattr__, __dir__ = lazy_imports(
    __name__, {"METRICS": "frame", "FrameScorer": "frame", "resize": "imresize", "score_frame": "frame"}
)
