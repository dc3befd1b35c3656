"""Datasets on disk: videos with a density map and a fixation map for each frame, or with masks of objects.

The public names are imported on first use, so that importing the package does not load OpenCV or PyAV.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_imports

if TYPE_CHECKING:
    from .catalog import folder_of
    from .check import Report, check_dataset
    from .fixation_lists import FixationFrame, read_fixation, read_fixation_points
    from .images import read_image
    from .layouts import LAYOUTS, Dataset, describe_ignored, open_dataset
    from .map_videos import MapFrame, read_density
    from .masks import read_mask
    from .video import FrameFiles, Video

__all__ = [
    "LAYOUTS",
    "Dataset",
    "FixationFrame",
    "FrameFiles",
    "MapFrame",
    "Report",
    "Video",
    "check_dataset",
    "describe_ignored",
    "folder_of",
    "open_dataset",
    "read_density",
    "read_fixation",
    "read_fixation_points",
    "read_image",
    "read_mask",
]

__getattr__, __dir__ = lazy_imports(
    __name__,
    {
        "LAYOUTS": "layouts",
        "Dataset": "layouts",
        "FixationFrame": "fixation_lists",
        "FrameFiles": "video",
        "MapFrame": "map_videos",
        "Report": "check",
        "Video": "video",
        "check_dataset": "check",
        "describe_ignored": "layouts",
        "folder_of": "catalog",
        "open_dataset": "layouts",
        "read_density": "map_videos",
        "read_fixation": "fixation_lists",
        "read_fixation_points": "fixation_lists",
        "read_image": "images",
        "read_mask": "masks",
    },
)
