"""Applications of saliency maps: one module for each of the commands crop, encode, report, compare and live.

The public names are imported on first use, so that importing the package loads neither PyTorch nor OpenCV nor PyAV.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_imports

if TYPE_CHECKING:
    from .compare_plot import plot_comparison
    from .compare_results import Check, Comparison, Lead, Version
    from .crop import CropWindow, crop_file
    from .encode import Curves, EncodeSummary, encode_file
    from .encode_quality import Quality
    from .encode_roi import RoiSummary, write_roi_file
    from .live import LiveSummary, Source, find_source, show_live
    from .live_window import TkWindow
    from .options import CompareOptions, CropOptions, EncodeOptions, ReportOptions
    from .report import report_file
    from .report_data import ReportData
    from .report_summary import FileSummary, summarize, write_summary

__all__ = [
    "Check",
    "CompareOptions",
    "Comparison",
    "CropOptions",
    "CropWindow",
    "Curves",
    "EncodeOptions",
    "EncodeSummary",
    "FileSummary",
    "Lead",
    "LiveSummary",
    "Quality",
    "ReportData",
    "ReportOptions",
    "RoiSummary",
    "Source",
    "TkWindow",
    "Version",
    "crop_file",
    "encode_file",
    "find_source",
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
        "Check": "compare_results",
        "CompareOptions": "options",
        "Comparison": "compare_results",
        "CropOptions": "options",
        "CropWindow": "crop",
        "Curves": "encode",
        "EncodeOptions": "options",
        "EncodeSummary": "encode",
        "FileSummary": "report_summary",
        "Lead": "compare_results",
        "LiveSummary": "live",
        "Quality": "encode_quality",
        "ReportData": "report_data",
        "ReportOptions": "options",
        "RoiSummary": "encode_roi",
        "Source": "live",
        "TkWindow": "live_window",
        "Version": "compare_results",
        "crop_file": "crop",
        "encode_file": "encode",
        "find_source": "live",
        "plot_comparison": "compare_plot",
        "report_file": "report",
        "show_live": "live",
        "summarize": "report_summary",
        "write_roi_file": "encode_roi",
        "write_summary": "report_summary",
    },
)
