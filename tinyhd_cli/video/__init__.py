"""Read, write and draw on videos.

    from tinyhd_cli.video import VideoReader

    with VideoReader("clip.mp4") as reader:
        for frame in reader:
            image = frame.rgb()  # uint8 (height, width, 3)

The public names are imported on first use, so that importing the package does not load PyAV or OpenCV.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_imports

if TYPE_CHECKING:
    from .frame_painter import FramePainter
    from .object_overlay import ObjectPainter, cut_out
    from .options import EncoderOptions, InputOptions, OverlayStyle
    from .overlay import Painter
    from .reader import Frame, VideoInfo, VideoReader
    from .scenes import SceneDetector
    from .writer import PipeWriter, VideoWriter
    from .yuv import Color

__all__ = [
    "Color",
    "EncoderOptions",
    "Frame",
    "FramePainter",
    "InputOptions",
    "ObjectPainter",
    "OverlayStyle",
    "Painter",
    "PipeWriter",
    "SceneDetector",
    "VideoInfo",
    "VideoReader",
    "VideoWriter",
    "cut_out",
]

__getattr__, __dir__ = lazy_imports(
    __name__,
    {
        "Color": "yuv",
        "EncoderOptions": "options",
        "Frame": "reader",
        "FramePainter": "frame_painter",
        "InputOptions": "options",
        "ObjectPainter": "object_overlay",
        "OverlayStyle": "options",
        "Painter": "overlay",
        "PipeWriter": "writer",
        "SceneDetector": "scenes",
        "VideoInfo": "reader",
        "VideoReader": "reader",
        "VideoWriter": "writer",
        "cut_out": "object_overlay",
    },
)
