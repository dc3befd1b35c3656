"""Predict the saliency maps of videos and write them to files.

The public names are imported on first use, so that importing the package loads neither PyTorch nor OpenCV nor PyAV.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .area_parsing import parse_areas
    from .areas import Area, AreaStatistics, AreaSummary
    from .inputs import Input, Inputs, find_videos
    from .io_paths import Job, Plan, make_plan
    from .model import Model, load_model
    from .model_options import ModelOptions
    from .normalization import Normalize, make_scale
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
    "Normalize",
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

_MODULES = {
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
    "Normalize": "normalization",
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
}
"""Module of each public name. The function ``predict`` is exported by ``tinyhd_cli``: here the name is a module."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
