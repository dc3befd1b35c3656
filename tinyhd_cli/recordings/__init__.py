"""Eye-tracking recordings of several observers: read exports, detect fixations, and place gaze on a video.

The public names are imported on first use, so that importing the package loads neither NumPy nor polars.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_imports

if TYPE_CHECKING:
    from .options import FixationOptions, RecordingOptions
    from .read import iterate_recordings, read_recordings
    from .recording import FixationTable, OnProblem, Problem, Recording, Samples

__all__ = [
    "FixationOptions",
    "FixationTable",
    "OnProblem",
    "Problem",
    "Recording",
    "RecordingOptions",
    "Samples",
    "iterate_recordings",
    "read_recordings",
]

__getattr__, __dir__ = lazy_imports(
    __name__,
    {
        "FixationOptions": "options",
        "FixationTable": "recording",
        "OnProblem": "recording",
        "Problem": "recording",
        "Recording": "recording",
        "RecordingOptions": "options",
        "Samples": "recording",
        "iterate_recordings": "read",
        "read_recordings": "read",
    },
)
