"""Maps in gray videos: written as the organizers of CrowdSAL distribute density maps, and read with all their bits."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import cv2
import numpy as np
from av.video.stream import VideoStream

from ..atomic_files import make_parent, publish, remove, temporary_path
from ..datasets.images import Map
from ..datasets.map_videos import luma
from ..errors import OutputError
from ..metrics.crowdsal import stretch
from ..video.reader import Frame
from ..video.source import ffmpeg_name, ffmpeg_reason

BITS = 10
"""Bits per pixel of a written video."""

X264_OPTIONS = {"crf": "0", "preset": "veryfast"}
"""Almost without loss: values differ by up to 4 of 1023."""

LIMITED_RANGE, FULL_RANGE = 1, 2
"""FFmpeg's numbers of the range from 16 to 235, in 8 bits, and of the range from 0."""


class GrayVideoWriter:
    """Writes maps as the frames of a video, H.264 of 10 bits. It appears complete or not at all.

    Args:
        path: the video, ``.mp4``.
        size: height and width of the frames.
        rate: frames per second.

    Raises:
        OutputError: the file cannot be written, here and in the methods.
    """

    def __init__(self, path: Path, size: tuple[int, int], rate: Fraction) -> None:
        self.path, self.size = path, size
        make_parent(path)
        self._partial = temporary_path(path)
        try:
            self._container = av.open(ffmpeg_name(self._partial), "w", format="mp4", options={"movflags": "+faststart"})
            self._stream: VideoStream = self._container.add_stream("libx264", rate=rate, options=X264_OPTIONS)
        except (av.FFmpegError, OSError, ValueError) as error:
            remove(self._partial)
            raise self._failure(error) from error
        self._stream.height, self._stream.width = size
        self._stream.pix_fmt = "gray10le"
        self._stream.codec_context.color_range = FULL_RANGE

    def __enter__(self) -> GrayVideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._encode(None)
            self._container.close()
            if kind is None:
                publish(self._partial, self.path)
        except (av.FFmpegError, OSError) as failure:
            if kind is None:
                raise self._failure(failure) from failure
        finally:
            remove(self._partial)

    def write(self, saliency: Map) -> None:
        """Write a finite map ``(h, w)``: its range is stretched, then it is resized bilinearly."""
        height, width = self.size
        resized = cv2.resize(stretch(saliency), (width, height), interpolation=cv2.INTER_LINEAR)
        frame = av.VideoFrame.from_ndarray(np.round(resized * ((1 << BITS) - 1)).astype(np.uint16), "gray10le")
        frame.color_range = FULL_RANGE
        try:
            self._encode(frame)
        except (av.FFmpegError, OSError) as error:
            raise self._failure(error) from error

    def _encode(self, frame: av.VideoFrame | None) -> None:
        """Encode a frame, or the rest at the end."""
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def _failure(self, error: BaseException) -> OutputError:
        return OutputError(f"{self.path}: cannot be written: {ffmpeg_reason(error)}")


def gray_of(frame: Frame) -> Map:
    """Return the map in a frame of a gray video.

    Args:
        frame: the frame; all its color channels are equal.

    Returns:
        uint8, or uint16 for more than 8 bits, which are kept; its scale is that of the file, and black is 0.
    """
    if not frame.is_unmodified:
        return np.ascontiguousarray(frame.rgb()[..., 1])
    values = luma(frame.av_frame)
    if not is_limited(frame.av_frame):
        return values
    black = min(16 << (frame.info.depth - 8), int(values.min()))
    above_black: Map = values - values.dtype.type(black)  # KLDiv depends on where 0 is
    return above_black


def is_limited(av_frame: av.VideoFrame) -> bool:
    """Return whether black is above 0, as it is in YUV of unspecified range."""
    form = av_frame.format
    is_yuv = len(form.components) > 1 and not form.is_rgb and not form.has_palette
    return av_frame.color_range == LIMITED_RANGE or (is_yuv and av_frame.color_range != FULL_RANGE)
