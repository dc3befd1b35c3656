"""Eye-tracking recordings of several observers: read exports, detect fixations, and place gaze on a video.

The public names are imported on first use, so that importing the package loads neither NumPy nor polars.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_imports

if TYPE_CHECKING:
    from .data_quality import Quality, quality
    from .fixations import detect_fixations
    from .options import FixationOptions, RecordingOptions
    from .placement import Placement, place, placement_of
    from .read import iter_recordings, read_recordings
    from .recording import FixationTable, OnProblem, Problem, Recording, Samples

__all__ = [
    "FixationOptions",
    "FixationTable",
    "OnProblem",
    "Placement",
    "Problem",
    "Quality",
    "Recording",
    "RecordingOptions",
    "Samples",
    "detect_fixations",
    "iter_recordings",
    "place",
    "placement_of",
    "quality",
    "read_recordings",
]

__getattr__, __dir__ = lazy_imports(
    __name__,
    {
        "FixationOptions": "options",
        "FixationTable": "recording",
        "OnProblem": "recording",
        "Placement": "placement",
        "Problem": "recording",
        "Quality": "data_quality",
        "Recording": "recording",
        "RecordingOptions": "options",
        "Samples": "recording",
        "detect_fixations": "fixations",
        "iter_recordings": "read",
        "place": "placement",
        "placement_of": "placement",
        "quality": "data_quality",
        "read_recordings": "read",
    },
)
