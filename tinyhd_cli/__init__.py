"""tinyhd predicts where people look in a video.

    from tinyhd_cli import load_model, predict

    model = load_model("tinyhd-m-quarter")
    for time_s, saliency in predict("clip.mp4", model=model):
        ...

Every name is imported on first use: importing the package loads neither PyTorch nor NumPy, OpenCV or FFmpeg.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import lazy_imports

if TYPE_CHECKING:
    from . import weights
    from .apps.compare.run import compare
    from .apps.crop import crop_file
    from .apps.encode.run import encode_file
    from .apps.gaze.options import GazeOptions, GazeOutputs
    from .apps.gaze.run import gaze_file
    from .apps.options import CompareOptions, CropOptions, EncodeOptions, ReportOptions
    from .apps.report.run import report_file
    from .datasets import open_dataset
    from .engines.export import export
    from .errors import InputError, OutputError, TinyhdError, UsageError, WeightsError
    from .evaluation.options import EvaluateOptions, PredictionSpec
    from .evaluation.run import evaluate
    from .inference.area_parsing import parse_areas
    from .inference.model import Model, load_model
    from .inference.model_options import ModelOptions
    from .inference.options import Outputs, PredictOptions
    from .inference.photographs import photograph_maps
    from .inference.predict import predict_file, saliency_of
    from .inference.prediction import Prediction, predict
    from .inference.statistics import describe
    from .metrics import score_frame
    from .models import build, create
    from .training.options import TrainConfig
    from .training.stages import train
    from .version import __version__
    from .video.options import EncoderOptions, InputOptions, OverlayStyle
    from .video.reader import VideoReader

__all__ = [
    "CompareOptions",
    "CropOptions",
    "EncodeOptions",
    "EncoderOptions",
    "EvaluateOptions",
    "GazeOptions",
    "GazeOutputs",
    "InputError",
    "InputOptions",
    "Model",
    "ModelOptions",
    "OutputError",
    "Outputs",
    "OverlayStyle",
    "PredictOptions",
    "Prediction",
    "PredictionSpec",
    "ReportOptions",
    "TinyhdError",
    "TrainConfig",
    "UsageError",
    "VideoReader",
    "WeightsError",
    "__version__",
    "build",
    "compare",
    "create",
    "crop_file",
    "describe",
    "encode_file",
    "evaluate",
    "export",
    "gaze_file",
    "load_model",
    "open_dataset",
    "parse_areas",
    "photograph_maps",
    "predict",
    "predict_file",
    "report_file",
    "saliency_of",
    "score_frame",
    "train",
    "weights",
]

MODULES = {
    "CompareOptions": "apps.options",
    "CropOptions": "apps.options",
    "EncodeOptions": "apps.options",
    "EncoderOptions": "video.options",
    "EvaluateOptions": "evaluation.options",
    "GazeOptions": "apps.gaze.options",
    "GazeOutputs": "apps.gaze.options",
    "InputError": "errors",
    "InputOptions": "video.options",
    "Model": "inference.model",
    "ModelOptions": "inference.model_options",
    "OutputError": "errors",
    "Outputs": "inference.options",
    "OverlayStyle": "video.options",
    "PredictOptions": "inference.options",
    "Prediction": "inference.prediction",
    "PredictionSpec": "evaluation.options",
    "ReportOptions": "apps.options",
    "TinyhdError": "errors",
    "TrainConfig": "training.options",
    "UsageError": "errors",
    "VideoReader": "video.reader",
    "WeightsError": "errors",
    "__version__": "version",
    "build": "models",
    "compare": "apps.compare.run",
    "create": "models",
    "crop_file": "apps.crop",
    "describe": "inference.statistics",
    "encode_file": "apps.encode.run",
    "evaluate": "evaluation.run",
    "export": "engines.export",
    "gaze_file": "apps.gaze.run",
    "load_model": "inference.model",
    "open_dataset": "datasets",
    "parse_areas": "inference.area_parsing",
    "photograph_maps": "inference.photographs",
    "predict": "inference.prediction",
    "predict_file": "inference.predict",
    "report_file": "apps.report.run",
    "saliency_of": "inference.predict",
    "score_frame": "metrics",
    "train": "training.stages",
    "weights": "weights",
}
"""Module of each public name."""


__getattr__, __dir__ = lazy_imports(__name__, MODULES)
