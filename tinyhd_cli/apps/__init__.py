"""Applications of saliency maps: one module for each of the commands crop, encode, report and live.

The public names are imported on first use, so that importing the package loads neither PyTorch nor OpenCV nor PyAV.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .crop import CropWindow, crop_file
    from .encode import EncodeSummary, Quality, encode_file
    from .live import LiveSummary, Source, find_source, show_live
    from .live_window import TkWindow
    from .options import CropOptions, EncodeOptions, ReportOptions
    from .report import report_file
    from .report_data import ReportData

__all__ = [
    "CropOptions",
    "CropWindow",
    "EncodeOptions",
    "EncodeSummary",
    "LiveSummary",
    "Quality",
    "ReportData",
    "ReportOptions",
    "Source",
    "TkWindow",
    "crop_file",
    "encode_file",
    "find_source",
    "report_file",
    "show_live",
]

_MODULES = {
    "CropOptions": "options",
    "CropWindow": "crop",
    "EncodeOptions": "options",
    "EncodeSummary": "encode",
    "LiveSummary": "live",
    "Quality": "encode",
    "ReportData": "report_data",
    "ReportOptions": "options",
    "Source": "live",
    "TkWindow": "live_window",
    "crop_file": "crop",
    "encode_file": "encode",
    "find_source": "live",
    "report_file": "report",
    "show_live": "live",
}
"""Module of each public name."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
