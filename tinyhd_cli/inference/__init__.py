"""Predict the saliency maps of videos and write them to files.

The public names are imported on first use, so that importing the package loads neither PyTorch nor OpenCV nor PyAV.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_imports

if TYPE_CHECKING:
    from .area_parsing import parse_areas
    from .areas import Area, AreaStatistics, AreaSummary
    from .inputs import Input, Inputs, find_videos
    from .io_paths import Job, Plan, make_plan
    from .model import Model, load_model
    from .model_options import ModelOptions
    from .normalization import make_scale
    from .options import Outputs, PredictOptions
    from .polygons import Attention
    from .predict import Summary, predict_file, saliency_of
    from .statistics import MapStatistics, describe

__all__ = [
    "Area",
    "AreaStatistics",
    "AreaSummary",
    "Attention",
    "Input",
    "Inputs",
    "Job",
    "MapStatistics",
    "Model",
    "ModelOptions",
    "Outputs",
    "Plan",
    "PredictOptions",
    "Summary",
    "describe",
    "find_videos",
    "load_model",
    "make_plan",
    "make_scale",
    "parse_areas",
    "predict_file",
    "saliency_of",
]

# ``tinyhd_cli`` exports the function ``predict``, because ``predict`` is a module of this package.
__getattr__, __dir__ = lazy_imports(
    __name__,
    {
        "Area": "areas",
        "AreaStatistics": "areas",
        "AreaSummary": "areas",
        "Attention": "polygons",
        "Input": "inputs",
        "Inputs": "inputs",
        "Job": "io_paths",
        "MapStatistics": "statistics",
        "Model": "model",
        "ModelOptions": "model_options",
        "Outputs": "options",
        "Plan": "io_paths",
        "PredictOptions": "options",
        "Summary": "predict",
        "describe": "statistics",
        "find_videos": "inputs",
        "load_model": "model",
        "make_plan": "io_paths",
        "make_scale": "normalization",
        "parse_areas": "area_parsing",
        "predict_file": "predict",
        "saliency_of": "predict",
    },
)
