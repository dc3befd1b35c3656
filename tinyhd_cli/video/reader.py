"""Frames of a video file with their timestamps, one after the other, in constant memory."""

from __future__ import annotations

import logging
import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.container import InputContainer
from av.format import Flags
from av.stream import Disposition
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from ..errors import InputError
from . import hdr
from .source import STDIN, InputOptions, open_container, pictures_in

if TYPE_CHECKING:
    from av.video.stream import VideoStream

Image = NDArray[np.uint8]

DeepImage = NDArray[np.uint8] | NDArray[np.uint16]

log = logging.getLogger("tinyhd")

UNSPECIFIED = 2
"""What FFmpeg calls a colour matrix that a file does not state."""

RGB = 0
"""Its matrix for pictures that need none."""

KNOWN_MATRICES = (1, 4, 5, 6, 7, 9)
"""BT.709, FCC, BT.470BG, SMPTE 170M, SMPTE 240M, BT.2020: those that FFmpeg's scaler converts."""


CLOSE_S = 1.0
"""How long closing waits for a thread that is decoding: under its feet the file must not vanish."""


@dataclass(frozen=True)
class Colour:
    """How numbers stand for colours, by FFmpeg's numbering (ITU-T H.273)."""

    space: int
    range: int
    primaries: int
    transfer: int


SDR = Colour(space=1, range=1, primaries=1, transfer=1)
"""BT.709 in limited range."""


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video before all its frames are read. Sizes are those of the upright picture."""

    path: Path
    width: int
    """Pixels, after rotation."""
    height: int
    """Pixels, after rotation."""
    rotation: int
    """Quarter turns counter-clockwise that bring the stored picture upright, in degrees: 0, 90, 180 or 270."""
    mirrored: bool
    """Whether the stored picture is upside down before that rotation, as from some front cameras."""
    time_base: Fraction
    """Seconds in one unit of a frame's ``pts``."""
    rate: Fraction
    """Frames a second, on average."""
    frames: int | None
    """How many frames the container claims; None where it does not say."""
    sample_aspect_ratio: Fraction
    """Width of a pixel through its height, after rotation."""
    colour: Colour
    depth: int
    """Bits of a component, at least 8."""
    light: hdr.Light | None
    """Static HDR metadata, where the first picture has them."""
    conversion: hdr.Conversion | None
    """How pictures become SDR in BT.709; None: they are."""
    codec: str
    pixel_format: str
    has_sound: bool

    @property
    def as_sdr(self) -> VideoInfo:
        """Of the same video in 8 bits, and SDR in BT.709 if it is not near that: as :meth:`Frame.rgb` shows it."""
        return replace(self, depth=8, colour=SDR if self.conversion else self.colour, light=None, conversion=None)


Scalers = defaultdict[tuple[float, str, int], VideoReformatter]
"""Reduction factor, pixel format and thread to FFmpeg's scaler, which is slow to set up, fast to use again, and belongs
to one thread."""


class Frame:
    """One decoded picture.

    Attributes:
        index: its number from 0.
        pts: presentation timestamp in units of ``info.time_base``.
        duration: in the same units; that to the next frame.
        time_s: presentation time in seconds.
        picture: FFmpeg's frame, as stored (not rotated).
        path: the image file that it comes from, if each frame has its own.
    """

    __slots__ = ("_scalers", "duration", "index", "info", "path", "picture", "pts", "time_s")

    def __init__(self, info: VideoInfo, index: int, pts: int, picture: av.VideoFrame, scalers: Scalers) -> None:
        self.info = info
        self.index = index
        self.pts = pts
        self.duration = 0
        self.time_s = float(pts * info.time_base)
        self.picture = picture
        self.path: Path | None = None
        self._scalers = scalers

    def rgb(self) -> Image:
        """The upright picture, uint8 ``(info.height, info.width, 3)``."""
        return self.reduced_rgb(1)

    def reduced_rgb(self, factor: float) -> Image:
        """The upright picture with both sides divided by ``factor``, by area averaging where this is above 1.

        HDR and wide gamut are converted to SDR in BT.709, after the reduction.
        """
        how = self.info.conversion
        if how is None:
            return self._upright(self._scaled(factor, "rgb24")).astype(np.uint8, copy=False)
        picture = hdr.to_sdr(self._scaled(factor, hdr.WORKING_FORMAT), how)
        scaler = self._scalers[factor, "rgb24", threading.get_ident()]
        return self._upright(scaler.reformat(picture, format="rgb24")).astype(np.uint8, copy=False)

    def stored_rgb(self) -> DeepImage:
        """The upright picture in its own colours: uint8, or uint16 in 0..65535 if it has more than 8 bits."""
        return self._upright(self._scaled(1, "rgb48le" if self.info.depth > 8 else "rgb24"))

    def _scaled(self, factor: float, pixel_format: str) -> av.VideoFrame:
        """The picture as stored, in RGB, with both sides divided by ``factor``."""
        turned = self.info.rotation % 180 != 0
        width, height = (self.info.height, self.info.width) if turned else (self.info.width, self.info.height)
        picture = self.picture
        return self._scalers[factor, pixel_format, threading.get_ident()].reformat(
            picture,
            max(1, round(width / factor)),
            max(1, round(height / factor)),
            pixel_format,
            src_colorspace=matrix(picture),
            # FFmpeg's scaler takes the range from its argument, not from the frame.
            src_color_range=picture.color_range,
            interpolation=Interpolation.AREA if factor > 1 else Interpolation.BILINEAR,
        )

    def _upright(self, picture: av.VideoFrame) -> NDArray[Any]:
        rgb = picture.to_ndarray()
        if self.info.mirrored:
            rgb = rgb[::-1]
        return np.ascontiguousarray(np.rot90(rgb, self.info.rotation // 90))


class VideoReader:
    """A video file, opened. Iterate once over its frames; use it as a context manager.

    Args:
        path: any container and codec that PyAV's FFmpeg reads, a folder of pictures, or ``-`` for standard input.
        options: what an input of the last two kinds does not say of itself.

    Attributes:
        info: what is known of the video.
        damaged: packets and frames that could not be decoded so far; they are skipped.

    Raises:
        InputError: there is no such file, it is no video, or not one frame of it can be decoded.
    """

    def __init__(self, path: str | os.PathLike[str], options: InputOptions | None = None) -> None:
        self.path = Path(path)
        self.damaged = 0
        self._busy = threading.Lock()
        self._container = open_container(self.path, options or InputOptions())
        try:
            self._stream = picture_stream(self.path, self._container)
            self._pictures = self._decode()
            first = next(self._pictures, None)
            if first is None:
                raise InputError(f"{self.path}: not one frame could be decoded")
            self._first = first
            self.info = self._describe(first)
            self._origin = origin(self._container, self.info.time_base)
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; one in which a thread hangs is left to the end of the process."""
        if self._busy.acquire(timeout=CLOSE_S):
            self._container.close()
            self._busy.release()

    def __iter__(self) -> Iterator[Frame]:
        """The frames in the order of presentation. Their timestamps always increase."""
        step = max(1, round(1 / (self.info.rate * self.info.time_base)))
        scalers: Scalers = defaultdict(VideoReformatter)
        waiting: Frame | None = None
        images = pictures_in(self.path) if self.path.is_dir() else []
        for index, picture in enumerate(self._all_pictures()):
            pts = self._timestamp(picture)
            if pts is None:
                pts = 0 if waiting is None else waiting.pts + step
            if waiting is not None:
                # Some files repeat a timestamp or step back; encoders refuse both.
                pts = max(pts, waiting.pts + 1)
                waiting.duration = pts - waiting.pts
                yield waiting
            waiting = Frame(self.info, index, pts, picture, scalers)
            if images:  # one that does not decode leaves a gap
                waiting.path = images[min(round(pts * self.info.time_base * self.info.rate), len(images) - 1)]
        if waiting is not None:
            waiting.duration = self._last_duration(waiting, step)
            yield waiting

    def _all_pictures(self) -> Iterator[av.VideoFrame]:
        picture: av.VideoFrame | None = self._first
        while picture is not None:
            yield picture
            with self._busy:
                picture = next(self._pictures, None)

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Every picture that decodes; damage is counted and passed over."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.FFmpegError, EOFError) as error:
                log.debug("%s: reading ended early: %s", self.path, error)
                self.damaged += 1
                return
            except IndexError:  # PyAV, at a packet of a stream that was not there when the file was opened
                packets = self._container.demux(self._stream)
                continue
            try:
                pictures = packet.decode()
            except (av.FFmpegError, EOFError) as error:
                log.debug("%s: damaged packet: %s", self.path, error)
                self.damaged += 1
                continue
            for picture in pictures:
                if picture.is_corrupt or not isinstance(picture, av.VideoFrame):
                    self.damaged += 1
                    continue
                if picture.colorspace != RGB and picture.colorspace not in KNOWN_MATRICES:
                    picture.colorspace = UNSPECIFIED  # else FFmpeg's scaler refuses the picture
                yield picture

    def _timestamp(self, picture: av.VideoFrame) -> int | None:
        return None if picture.pts is None else picture.pts - self._origin

    def _last_duration(self, last: Frame, step: int) -> int:
        """How long the last frame is shown: to the end of the stream, if that is plausible."""
        if self._stream.duration is not None:
            start = (self._stream.start_time or 0) - self._origin
            rest = start + self._stream.duration - last.pts
            if 0 < rest <= 10 * step:
                return rest
        return last.picture.duration if 0 < last.picture.duration <= 10 * step else step

    def _describe(self, first: av.VideoFrame) -> VideoInfo:
        stream = self._stream
        rotation = round(first.rotation / 90) * 90 % 360
        width, height = first.width, first.height
        aspect = stream.sample_aspect_ratio or Fraction(1)
        if rotation % 180:
            width, height, aspect = height, width, 1 / aspect
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        time_base = stream.time_base or Fraction(1, 1000)
        light = hdr.light_of(first)
        return VideoInfo(
            path=self.path,
            width=width,
            height=height,
            rotation=rotation,
            mirrored=is_mirrored(first),
            time_base=time_base,
            rate=rate,
            frames=claimed_frames(self._container, stream, rate),
            sample_aspect_ratio=aspect,
            colour=Colour(matrix(first), first.color_range, first.color_primaries, first.color_trc),
            depth=max(8, *(component.bits for component in first.format.components)),
            light=light,
            conversion=hdr.conversion(
                first.colorspace, first.color_primaries, first.color_trc, light.peak if light else None
            ),
            codec=stream.codec_context.name,
            pixel_format=first.format.name,
            # What comes through a pipe is read once, for the pictures.
            has_sound=bool(self._container.streams.audio) and self.path != STDIN,
        )


def is_mirrored(picture: av.VideoFrame) -> bool:
    """Whether a picture's display matrix turns it over; its rotation is then that of the picture upside down."""
    side_data: Any = picture.side_data  # its type says dict
    if (data := side_data.get("DISPLAYMATRIX")) is None:
        return False
    a, b, _, c, d, *_ = np.frombuffer(data, np.int32).astype(float)
    return bool(a * d - b * c < 0)


def matrix(picture: av.VideoFrame) -> int:
    """The colour matrix of a picture, as far as it can be converted by: RGB has none, some codecs have exotic ones."""
    if picture.colorspace in KNOWN_MATRICES:
        return picture.colorspace
    return hdr.BT2020_MATRIX if hdr.is_bt2020(picture.color_primaries, picture.color_trc) else UNSPECIFIED


def picture_stream(path: Path, container: InputContainer) -> VideoStream:
    """The moving pictures of a file: by type, never by number, and not an album cover or a thumbnail."""
    stills = Disposition.attached_pic | Disposition.timed_thumbnails
    moving = [stream for stream in container.streams.video if not stream.disposition & stills]
    moving = [stream for stream in moving if stream.codec_context is not None]
    if not moving:
        what = "only sound" if container.streams.audio else "nothing to see"
        raise InputError(f"{path}: has no video stream ({what})")
    chosen = next((stream for stream in moving if stream.disposition & Disposition.default), moving[0])
    chosen.thread_type = "AUTO"
    return chosen


def origin(container: InputContainer, time_base: Fraction) -> int:
    """The timestamp, in ``time_base``, that counts as zero.

    It is 0, except in formats whose clock starts anywhere (MPEG transport and program streams): there it is the start
    of the earliest stream, so that sound and picture move together.
    """
    flags: Any = container.format.flags
    if not flags & Flags.ts_discont.value or container.start_time is None:
        return 0
    return round(Fraction(container.start_time, av.time_base) / time_base)


def claimed_frames(container: InputContainer, stream: VideoStream, rate: Fraction) -> int | None:
    """The number of frames by the container's tables, or by its duration."""
    if stream.frames:
        return stream.frames
    if stream.duration and stream.time_base:
        return round(stream.duration * stream.time_base * rate)
    if container.duration:
        return round(Fraction(container.duration, av.time_base) * rate)
    return None
