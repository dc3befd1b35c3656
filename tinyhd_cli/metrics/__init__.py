"""The field's metrics of saliency maps, by the definitions of the MATLAB code that the DHF1K benchmark runs."""

from .frame import METRICS, FrameScorer, score_frame
from .resize import resize

__all__ = ["METRICS", "FrameScorer", "resize", "score_frame"]
