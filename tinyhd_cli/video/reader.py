"""Read the frames of a video with their timestamps, one at a time, in constant memory."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, Self

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from .. import storage
from ..errors import InputError
from . import hardware, hdr, pixels
from .container import KNOWN_MATRICES, UNSPECIFIED
from .decoded import Decoded, Decoder
from .deinterlace import deinterlace
from .images import image_decoder, local_images
from .options import InputOptions
from .source import is_read_once
from .yuv import FULL_RANGE, SDR, Color, to_rgb

Image = NDArray[np.uint8]
"""An RGB image ``(height, width, 3)`` or a grayscale image ``(height, width)`` of 8 bits."""

DeepImage = NDArray[np.uint8] | NDArray[np.uint16]
"""An RGB image ``(height, width, 3)`` of 8 bits, or of 16 bits with values in 0..65535."""

CLOSE_S = 1.0
"""Seconds that ``close`` waits for a decoding thread; the container must not be freed while it is in use."""


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video that are known before all frames are read. Sizes are those of the upright image."""

    path: Path
    width: int
    """Pixels, after rotation."""
    height: int
    """Pixels, after rotation."""
    rotation: int
    """Counter-clockwise rotation that turns the stored frame upright, in degrees: 0, 90, 180 or 270."""
    mirrored: bool
    """Whether the stored frame is flipped vertically before that rotation, as by some front cameras."""
    time_base: Fraction
    """Seconds in one unit of a frame's ``pts``."""
    rate: Fraction
    """Average frames per second."""
    frame_count: int | None
    """Claimed number of frames, which may be wrong; None if it is unknown."""
    sample_aspect_ratio: Fraction
    """Width of a pixel divided by its height, after rotation."""
    color: Color
    depth: int
    """Bits per component, at least 8."""
    hdr_metadata: hdr.HdrMetadata | None
    """HDR metadata of the first frame; None if it has none."""
    conversion: hdr.Conversion | None
    """Conversion of the frames to SDR in BT.709; None if they need none."""
    codec: str
    """FFmpeg's name of the decoder."""
    pixel_format: str
    """FFmpeg's name of the stored pixel format."""
    has_audio: bool
    """Whether the video has audio that can be copied."""
    lost_audio: bool = False
    """Whether its audio cannot be copied, because a pipe can be read only once."""
    options: InputOptions = field(default_factory=InputOptions)
    """Options with which the video was opened."""

    @property
    def as_sdr(self) -> VideoInfo:
        """The same video as output by :meth:`Frame.rgb`: 8 bits, and SDR in BT.709 if it needs a conversion."""
        return replace(self, depth=8, color=SDR if self.conversion else self.color, hdr_metadata=None, conversion=None)


Scalers = defaultdict[tuple[float, str, int], VideoReformatter]
"""FFmpeg's scaler by reduction factor, pixel format and thread. A scaler is slow to set up, fast to reuse, and must not
be shared between threads."""


FACTORS = range(2, 257)
"""Factors by which frames with plain planes are reduced in compiled code, instead of by FFmpeg's scaler."""


class Frame:
    """One decoded frame.

    Attributes:
        info: properties of the video.
        index: number of the frame, from 0.
        pts: presentation timestamp in units of ``info.time_base``.
        duration: time until the next frame, in the same units.
        time_s: presentation time in seconds.
        av_frame: PyAV's frame as stored (not rotated), deinterlaced.
        path: the image file, if each frame has its own; else None.
    """

    __slots__ = ("_kept", "_orientation", "_scalers", "av_frame", "duration", "index", "info", "path", "pts", "time_s")

    def __init__(self, info: VideoInfo, index: int, pts: int, decoded: Decoded, scalers: Scalers) -> None:
        self.info = info
        self.index = index
        self.pts = pts
        self.duration = 0
        self.time_s = float(pts * info.time_base)
        self.av_frame = decoded.av_frame
        self.path = decoded.path
        self._orientation = decoded.orientation
        self._scalers = scalers
        self._kept: Image | None = None

    @property
    def is_unmodified(self) -> bool:
        """Whether the stored frame needs no rotation, flip or fitting: only its format differs from :meth:`rgb`."""
        size = (self.info.width, self.info.height)
        upright = not self._orientation.rotation and not self._orientation.mirrored
        return upright and (self.av_frame.width, self.av_frame.height) == size == self._fitted_size(*size)

    @property
    def has_plain_planes(self) -> bool:
        """Whether it has 8 bits in 4:2:0, is upright, and has even sides and the colors of its video, in SDR."""
        av_frame, info = self.av_frame, self.info
        full = av_frame.format.name == "yuvj420p" and info.color.range == FULL_RANGE
        return (
            (av_frame.format.name == "yuv420p" or full)
            and info.conversion is None
            and self.is_unmodified
            and not (info.width % 2 or info.height % 2)
            and (matrix(av_frame), av_frame.color_range) == (info.color.space, info.color.range)
        )

    def rgb(self) -> Image:
        """Return the upright image in SDR, uint8 RGB ``(info.height, info.width, 3)``."""
        kept, self._kept = self._kept, None
        return self.reduced_rgb(1) if kept is None else kept

    def keep(self, image: Image) -> None:
        """Let the next call of :meth:`rgb` return the output of :meth:`reduced_rgb`, if it is not reduced."""
        if image.shape[:2] == (self.info.height, self.info.width):
            self._kept = image

    def reduced_rgb(self, factor: float) -> Image:
        """Return the upright frame with both sides divided by ``factor``, with area averaging if it is above 1.

        A frame whose size differs from that of the first frame is fitted into it with black bars. Transparent
        frames are shown on white. HDR and wide gamut are converted to SDR in BT.709 after the reduction.
        """
        conversion = self.info.conversion
        if factor in FACTORS and not (self.info.width % factor or self.info.height % factor) and self.has_plain_planes:
            reduced = pixels.reduce_planes(plane_pixels(self.av_frame), int(factor), to_rgb(self.info.color))
            if reduced is not None:
                return reduced
        if conversion is None:
            rgb = self._to_rgb(factor, "rgba" if has_alpha(self.av_frame.format.name) else "rgb24")
        else:
            av_frame = hdr.to_sdr(self._to_rgb(factor, hdr.WORKING_FORMAT), conversion)
            rgb = self._scalers[factor, "rgb24", threading.get_ident()].reformat(av_frame, format="rgb24")
        return self._to_upright(rgb, factor).astype(np.uint8, copy=False)

    def stored_rgb(self) -> DeepImage:
        """Return the upright frame in its original colors: uint8, or uint16 in 0..65535 for more than 8 bits."""
        if self.info.depth > 8:
            return self._to_upright(self._to_rgb(1, "rgb48le"), 1)
        return self._to_upright(self._to_rgb(1, "rgba" if has_alpha(self.av_frame.format.name) else "rgb24"), 1)

    def _to_rgb(self, factor: float, pixel_format: str) -> av.VideoFrame:
        """Return the stored frame in RGB, with both sides divided by ``factor`` and fitted into the video's size."""
        av_frame = self.av_frame
        width, height = self._fitted_size(*self._reduced_size(factor))
        if self._orientation.turned:
            width, height = height, width
        return self._scalers[factor, pixel_format, threading.get_ident()].reformat(
            av_frame,
            width,
            height,
            pixel_format,
            src_colorspace=matrix(av_frame),
            # FFmpeg's scaler takes the range from its argument, not from the frame.
            src_color_range=av_frame.color_range,
            interpolation=Interpolation.AREA if width < av_frame.width else Interpolation.BILINEAR,
        )

    def _to_upright(self, av_frame: av.VideoFrame, factor: float) -> NDArray[Any]:
        """Return the output of :meth:`_to_rgb` upright, with bars if it does not fill the video's size."""
        rgb = av_frame.to_ndarray()
        if rgb.shape[-1] == 4:
            rgb = blend_on_white(rgb)
        if self._orientation.mirrored:
            rgb = rgb[::-1]
        upright = np.ascontiguousarray(np.rot90(rgb, self._orientation.rotation // 90))
        width, height = self._reduced_size(factor)
        return upright if upright.shape[:2] == (height, width) else letterbox(upright, width, height)

    def _reduced_size(self, factor: float) -> tuple[int, int]:
        """Return the video's width and height divided by ``factor``."""
        return max(1, round(self.info.width / factor)), max(1, round(self.info.height / factor))

    def _fitted_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the size of the upright frame fitted into the video, itself scaled to ``width`` x ``height``."""
        info = self.info
        own = self._orientation.upright(self.av_frame.width, self.av_frame.height)
        if own == (info.width, info.height, info.sample_aspect_ratio):
            return width, height
        wider = (own[0] * own[2] / own[1]) / (info.width * info.sample_aspect_ratio / info.height)
        if wider >= 1:
            return width, max(1, round(height / wider))
        return max(1, round(width * wider)), height


def plane_pixels(av_frame: av.VideoFrame) -> list[Image]:
    """Return views of the planes of an 8-bit frame, each uint8 ``(h, w)``."""
    return [
        np.asarray(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in av_frame.planes
    ]


def scale_rgb(image: Image, factor: float) -> Image:
    """Return an RGB image with both sides divided by ``factor``, scaled as :meth:`Frame.reduced_rgb` scales frames."""
    if factor == 1:
        return image
    height, width = (max(1, round(side / factor)) for side in image.shape[:2])
    av_frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
    scaled = av_frame.reformat(width, height, "rgb24", interpolation=Interpolation.AREA)
    return scaled.to_ndarray().astype(np.uint8, copy=False)


@cache
def has_alpha(pixel_format: str) -> bool:
    """Return whether frames of a pixel format can be transparent."""
    return pixel_format == "pal8" or any(part.is_alpha for part in av.VideoFormat(pixel_format).components)


def blend_on_white(rgba: NDArray[Any]) -> Image:
    """Blend an RGBA image ``(h, w, 4)``, uint8, with a white background."""
    opacity = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)


def letterbox(image: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """Center an image ``(h, w, 3)`` in a larger black image."""
    canvas = np.zeros((height, width, 3), image.dtype)
    top, left = (height - image.shape[0]) // 2, (width - image.shape[1]) // 2
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas


class VideoReader:
    """An open video. Iterate once over its frames; use it as a context manager.

    Args:
        path: a file that PyAV's FFmpeg can read, a folder of images, or ``-`` for standard input.
        options: properties of an input that it does not contain, such as the frame rate of a folder of images.

    Attributes:
        info: properties of the video.

    Raises:
        InputError: the file does not exist, is not a video, or no frame can be decoded.
    """

    def __init__(self, path: str | os.PathLike[str], options: InputOptions | None = None) -> None:
        self.path = storage.path_of(path)
        self._options = options or InputOptions()
        self._busy = threading.Lock()
        self._copies = contextlib.ExitStack()
        if not self._options.address:
            self._copies.enter_context(local_images(self.path))
        try:
            self._decoder = open_decoder(self.path, self._options)
        except BaseException:
            self._copies.close()
            raise
        try:
            self._decoded = deinterlace(self._decoder.decode())
            first = next(self._decoded, None)
            if first is None:
                raise InputError(f"{self.path}: no frame could be decoded; the file is damaged or not supported")
            self._first_decoded, self._first_number = first, 0
            self._durations: tuple[int, ...] = ()  # of frames before the first one
            self.info = self._describe(first)
        except BaseException:
            self._decoder.close()
            self._copies.close()
            raise

    @property
    def damaged(self) -> int:
        """Number of packets and frames that could not be decoded so far; they are skipped."""
        return self._decoder.damaged

    @property
    def frame_count(self) -> int | None:
        """Claimed number of frames; None if it is unknown or has turned out to be wrong."""
        return self._decoder.frame_count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, unless another thread blocks in it for more than ``CLOSE_S`` seconds."""
        if self._busy.acquire(timeout=CLOSE_S):
            self._decoder.close()
            self._copies.close()
            self._busy.release()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames in presentation order. Timestamps strictly increase."""
        step = max(1, round(1 / (self.info.rate * self.info.time_base)))
        durations = self._durations
        scalers: Scalers = defaultdict(VideoReformatter)
        waiting: Frame | None = None
        for index, decoded in enumerate(self._all_decoded(), self._first_number):
            pts = decoded.pts
            if pts is None:
                pts = 0 if waiting is None else waiting.pts + step
            if waiting is not None:
                # Some files repeat timestamps or step back; encoders reject both.
                pts = max(pts, waiting.pts + 1)
                waiting.duration = pts - waiting.pts
                durations = min((*durations, waiting.duration)), max((*durations, waiting.duration))
                yield waiting
            waiting = Frame(self.info, index, pts, decoded, scalers)
        if waiting is not None:
            waiting.duration = self._last_duration(waiting, step, durations or (step, step))
            yield waiting

    def _all_decoded(self) -> Iterator[Decoded]:
        decoded: Decoded | None = self._first_decoded
        while decoded is not None:
            yield decoded
            with self._busy:
                decoded = next(self._decoded, None)

    def _last_duration(self, last: Frame, step: int, others: tuple[int, ...]) -> int:
        """Return the duration of the last frame, which ends with the stream if that is plausible.

        Args:
            last: the frame.
            step: the duration at the claimed rate.
            others: the shortest and the longest duration of the other frames, which are more reliable.
        """
        shortest, longest = min(others), max(10 * step, *others)
        end = self._decoder.end()
        if end is not None and 0 < end - last.pts <= longest:
            return end - last.pts
        return max(shortest, last.av_frame.duration if 0 < last.av_frame.duration <= longest else step)

    def _describe(self, first: Decoded) -> VideoInfo:
        av_frame, orientation, decoder = first.av_frame, first.orientation, self._decoder
        width, height, aspect = orientation.upright(av_frame.width, av_frame.height)
        once = is_read_once(self.path)
        metadata = hdr.read_hdr_metadata(av_frame)
        return VideoInfo(
            path=self.path,
            width=width,
            height=height,
            rotation=orientation.rotation,
            mirrored=orientation.mirrored,
            time_base=decoder.time_base,
            rate=decoder.rate,
            frame_count=decoder.frame_count,
            sample_aspect_ratio=aspect,
            color=Color(matrix(av_frame), av_frame.color_range, av_frame.color_primaries, av_frame.color_trc),
            depth=max(8, *(component.bits for component in av_frame.format.components)),
            hdr_metadata=metadata,
            conversion=hdr.find_conversion(
                av_frame.colorspace, av_frame.color_primaries, av_frame.color_trc, metadata.peak if metadata else None
            ),
            codec=decoder.codec,
            pixel_format=av_frame.format.name,
            has_audio=decoder.has_audio and not once,
            lost_audio=decoder.has_audio and once,
            options=self._options,
        )


def open_decoder(path: Path, options: InputOptions) -> Decoder:
    """Return the decoder of an input."""
    return (None if options.address else image_decoder(path, options)) or hardware.open_decoder(path, options)


def matrix(av_frame: av.VideoFrame) -> int:
    """Return the color matrix for converting a frame.

    For RGB and unsupported matrices it is BT.2020 if the primaries are those of BT.2020, otherwise unspecified.
    """
    if av_frame.colorspace in KNOWN_MATRICES:
        return av_frame.colorspace
    return hdr.BT2020_MATRIX if hdr.is_bt2020(av_frame.color_primaries, av_frame.color_trc) else UNSPECIFIED
