"""Applications of saliency maps: crop, encode, report, compare, gaze, live, and the page of ``tinyhd app`` (``web``).

The public names are imported on first use, so that importing the package loads neither PyTorch nor OpenCV nor PyAV.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_imports

if TYPE_CHECKING:
    from .compare.plot import plot_comparison
    from .compare.results import Check, Comparison, Lead, Version
    from .crop import CropWindow, crop_file
    from .encode.quality import Quality
    from .encode.roi_file import RoiSummary, write_roi_file
    from .encode.run import Curves, EncodeSummary, encode_file
    from .gaze.options import GazeOptions, GazeOutputs, Sigma
    from .gaze.results import Ceiling, GazeResult, ModelScores, Observer, Second
    from .gaze.run import gaze_file
    from .live.run import LiveSummary, Source, find_source, show_live
    from .live.window import TkWindow
    from .options import CompareOptions, CropOptions, EncodeOptions, ReportOptions
    from .report.data import ReportData
    from .report.run import report_file
    from .report.summary import FileSummary, summarize, write_summary

__all__ = [
    "Ceiling",
    "Check",
    "CompareOptions",
    "Comparison",
    "CropOptions",
    "CropWindow",
    "Curves",
    "EncodeOptions",
    "EncodeSummary",
    "FileSummary",
    "GazeOptions",
    "GazeOutputs",
    "GazeResult",
    "Lead",
    "LiveSummary",
    "ModelScores",
    "Observer",
    "Quality",
    "ReportData",
    "ReportOptions",
    "RoiSummary",
    "Second",
    "Sigma",
    "Source",
    "TkWindow",
    "Version",
    "crop_file",
    "encode_file",
    "find_source",
    "gaze_file",
    "plot_comparison",
    "report_file",
    "show_live",
    "summarize",
    "write_roi_file",
    "write_summary",
]

# ``tinyhd_cli`` exports the function ``compare``, because ``compare`` is a module of this package.
__getattr__, __dir__ = lazy_imports(
    __name__,
    {
        "Ceiling": "gaze.results",
        "Check": "compare.results",
        "CompareOptions": "options",
        "Comparison": "compare.results",
        "CropOptions": "options",
        "CropWindow": "crop",
        "Curves": "encode.run",
        "EncodeOptions": "options",
        "EncodeSummary": "encode.run",
        "FileSummary": "report.summary",
        "GazeOptions": "gaze.options",
        "GazeOutputs": "gaze.options",
        "GazeResult": "gaze.results",
        "Lead": "compare.results",
        "LiveSummary": "live.run",
        "ModelScores": "gaze.results",
        "Observer": "gaze.results",
        "Quality": "encode.quality",
        "ReportData": "report.data",
        "ReportOptions": "options",
        "RoiSummary": "encode.roi_file",
        "Second": "gaze.results",
        "Sigma": "gaze.options",
        "Source": "live.run",
        "TkWindow": "live.window",
        "Version": "compare.results",
        "crop_file": "crop",
        "encode_file": "encode.run",
        "find_source": "live.run",
        "gaze_file": "gaze.run",
        "plot_comparison": "compare.plot",
        "report_file": "report.run",
        "show_live": "live.run",
        "summarize": "report.summary",
        "write_roi_file": "encode.roi_file",
        "write_summary": "report.summary",
    },
)
