"""Eye-tracking datasets as they are on disk: videos with a density map and a fixation map for each frame."""

from .images import read_density, read_fixation, read_image
from .layouts import LAYOUTS, Dataset, describe_left_out, open_dataset
from .video import FrameFiles, Video

__all__ = [
    "LAYOUTS",
    "Dataset",
    "FrameFiles",
    "Video",
    "describe_left_out",
    "open_dataset",
    "read_density",
    "read_fixation",
    "read_image",
]
