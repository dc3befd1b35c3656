"""Write frames as an animated image: GIF, WebP or APNG."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import OutputContainer
from av.filter import Graph
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ..atomic_files import cannot_write, make_parent, publish, remove, temporary_path
from ..errors import OutputError, one_line
from .reader import Frame
from .source import ffmpeg_name

FORMATS = {
    ".gif": ("gif", "gif", "pal8", {"loop": "0"}, {}),
    ".webp": ("webp", "libwebp_anim", "yuv420p", {"loop": "0"}, {"quality": "80", "compression_level": "2"}),
    ".apng": ("apng", "apng", "rgb24", {"plays": "0"}, {}),
}
"""FFmpeg's muxer, encoder, pixel format and their options by suffix; all animations repeat forever."""

TICKS_PER_S = 100
"""Resolution of the timestamps: that of GIF."""


class AnimationWriter:
    """Writes an animated image frame by frame. It has a temporary name until :meth:`close`.

    Args:
        path: the output; its suffix is one of ``FORMATS``.
        size: width and height of the images in pixels.

    Raises:
        OutputError: the file cannot be written, or FFmpeg was built without the encoder.
    """

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        self.path = path
        muxer, encoder, self._pixels, muxer_options, options = FORMATS[path.suffix.lower()]
        self._palettes = palette_graph(size) if self._pixels == "pal8" else None
        self._last = -1
        make_parent(path)
        self._partial = temporary_path(path)
        self._container: OutputContainer | None = None
        try:
            self._container = av.open(ffmpeg_name(self._partial), "w", format=muxer, options=muxer_options)
            stream = self._container.add_stream(encoder, TICKS_PER_S // 4, options=options)
            assert isinstance(stream, VideoStream)
            stream.width, stream.height, stream.pix_fmt = *size, self._pixels
            stream.time_base = stream.codec_context.time_base = Fraction(1, TICKS_PER_S)
            self._stream = stream
        except (av.FFmpegError, OSError, ValueError) as error:
            self.abort()
            raise self._failure(error) from error

    def write(self, image: NDArray[Any], frame: Frame) -> None:
        """Write the image of a frame: gray ``(h, w)`` or RGB, uint8. Frames closer than 0.01 s are left out."""
        at = round(frame.time_s * TICKS_PER_S)
        if at <= self._last:
            return
        self._last = at
        rgb = np.repeat(image[..., np.newaxis], 3, axis=2) if image.ndim == 2 else image
        av_frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")
        if self._palettes is not None:
            self._palettes.vpush(av_frame)
            av_frame = self._palettes.vpull()
        elif self._pixels != "rgb24":
            av_frame = av_frame.reformat(format=self._pixels)
        av_frame.pts, av_frame.time_base = at, Fraction(1, TICKS_PER_S)
        self._encode(av_frame)

    def _encode(self, av_frame: av.VideoFrame | None) -> None:
        assert self._container is not None
        try:
            self._container.mux(self._stream.encode(av_frame))
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """Complete the file and give it its final name."""
        self._encode(None)
        assert self._container is not None
        try:
            self._container.close()
            publish(self._partial, self.path)
        except (av.FFmpegError, OSError) as error:
            raise self._failure(error) from error
        finally:
            self.abort()

    def abort(self) -> None:
        """Remove the temporary file."""
        if self._container is not None:
            self._container.close()
            self._container = None
        remove(self._partial)

    def _failure(self, error: Exception) -> OutputError:
        if isinstance(error, OSError) and not isinstance(error, av.FFmpegError):
            return cannot_write(self.path, error)
        return OutputError(f"{self.path}: cannot be written ({one_line(error)})")


def palette_graph(size: tuple[int, int]) -> Graph:
    """Return the filters that turn RGB frames into frames of 256 colors."""
    graph = Graph()
    rgb = av.VideoFormat("rgb24", *size)
    source = graph.add_buffer(width=size[0], height=size[1], format=rgb, time_base=Fraction(1, TICKS_PER_S))
    split, sink = graph.add("split"), graph.add("buffersink")
    generate = graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
    use = graph.add("paletteuse", "new=1:dither=bayer")
    source.link_to(split)
    split.link_to(generate, 0, 0)
    split.link_to(use, 1, 0)
    generate.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph
