"""Decode the video stream of a container, with reliable timestamps."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, cast

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.container.core import Flags
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from ..errors import InputError
from .clock import Clock, may_jump
from .decoded import Decoded, read_orientation
from .options import DEFAULT_RATE, InputOptions
from .source import is_read_once, open_container, trailing_index_error

log = logging.getLogger("tinyhd")

UNSPECIFIED = 2
"""FFmpeg's number of an unspecified color matrix."""

RGB = 0
"""FFmpeg's matrix number of RGB frames."""

KNOWN_MATRICES = (1, 4, 5, 6, 7, 9)
"""BT.709, FCC, BT.470BG, SMPTE 170M, SMPTE 240M, BT.2020: the matrices that FFmpeg's scaler supports."""

PLANAR_FORMATS = {"nv12": "yuv420p", "p010le": "yuv420p10le"}
"""Pixel formats of the frames of devices, and those of the software for the same pixels."""

PLAUSIBLE_RATES = (Fraction(1, 3600), 10_000)
"""Range of frames per second, from a time lapse to a high-speed camera."""


class ContainerDecoder:
    """Decodes the video stream of a file, a pipe or a network stream. Implements ``decoded.Decoder``.

    Args:
        path: the input; also its name in messages.
        options: properties of the input that it does not contain.
        device: hardware to decode it on.

    Raises:
        InputError: it cannot be opened, or has no video stream.
    """

    def __init__(self, path: Path, options: InputOptions, device: HWAccel | None = None) -> None:
        self._path = path
        self.damaged = 0
        self._device = device
        self._opened = open_container(path, options, device)
        try:
            self._container = self._opened.container
            # AVI has decoding times only; the presentation times that FFmpeg derives are wrong with B frames.
            self._decoding_times = self._container.format.name == "avi"
            if self._decoding_times:
                self._container.flags &= ~cast("int", Flags.gen_pts.value)
            self._stream = main_video_stream(path, self._container)
            if device is None:
                self._stream.thread_type = "AUTO"
            self.codec = self._stream.codec_context.name
            self._set_times()
        except BaseException:
            self._opened.close()
            raise
        self._clock = Clock(self._stream.index, self._on_jump)
        self._order = DisplayOrder(max(1, round(1 / (self.rate * self.time_base))))
        self.has_audio = bool(self._container.streams.audio)

    def _set_times(self) -> None:
        stream = self._stream
        self.time_base = stream.time_base or Fraction(1, 1000)
        self.rate = claimed = stream.average_rate or stream.guessed_rate or DEFAULT_RATE
        if not is_plausible(claimed):
            self.rate = DEFAULT_RATE
            if stream.frames and stream.duration:  # these are more reliable
                step = Fraction(stream.duration, stream.frames)
                by_duration = 1 / (step * self.time_base)
                if is_plausible(by_duration):
                    self.rate = by_duration
                else:
                    self.time_base = 1 / (DEFAULT_RATE * step)
                    warn_once(
                        f"{self._path}: claims an implausible rate of {float(claimed):g} frames per second;"
                        f" assuming {DEFAULT_RATE}"
                    )
        self.frame_count = claimed_frame_count(self._container, stream, self.rate)
        self._origin = origin(self._container, self.time_base)

    def _on_jump(self, seconds: float, at_s: float) -> None:
        how = f"jumps ahead by {seconds:.1f} s" if seconds > 0 else f"steps back by {-seconds:.1f} s"
        at_s -= float(self._origin * self.time_base)
        self.frame_count = None  # it was derived from the clock
        if not self._clock.jumped:
            warn_once(f"{self._path}: the clock {how} at {at_s:.1f} s; frames and audio continue without a gap")

    def decode(self) -> Iterator[Decoded]:
        """Yield every frame that can be decoded; count and skip damaged packets and frames."""
        context = self._stream.codec_context
        stored = context.sample_aspect_ratio
        aspect = self._stream.sample_aspect_ratio or Fraction(1)
        readable = not (is_read_once(self._path) and "mov" in self._container.format.name)
        for packet in self._packets():
            if self._decoding_times and packet.dts is not None:
                packet.pts = packet.dts
                self._order.add(packet.dts)
            try:
                av_frames: Sequence[Any] = packet.decode()
            except (av.FFmpegError, EOFError) as error:
                log.debug("%s: damaged packet: %s", self._path, error)
                self.damaged += 1
                continue
            for av_frame in av_frames:
                if av_frame.is_corrupt or not isinstance(av_frame, av.VideoFrame):
                    self.damaged += 1
                    continue
                # The decoder's context is ahead of its output, so its aspect ratio applies from the next key frame.
                if av_frame.key_frame and context.sample_aspect_ratio != stored:
                    stored = context.sample_aspect_ratio
                    aspect = stored or Fraction(1)
                if av_frame.colorspace != RGB and av_frame.colorspace not in KNOWN_MATRICES:
                    av_frame.colorspace = UNSPECIFIED  # FFmpeg's scaler rejects other matrices
                readable = True
                orientation, pts = read_orientation(av_frame, aspect), self._timestamp(av_frame)
                yield Decoded(planar(av_frame) if self._device else av_frame, orientation, pts)
        if not readable:
            raise trailing_index_error(self._path)

    @property
    def can_seek(self) -> bool:
        """Whether decoding from a keyframe on gives the frames and the times of the whole input, as far as is known."""
        return not (self._decoding_times or self._clock.jumped or self.damaged)

    def packet_times(self) -> Iterator[tuple[int | None, int, bool]]:
        """Yield presentation time, time to seek to, and whether it is a keyframe, of every packet of a frame.

        Nothing is decoded; the input must be opened again for that.
        """
        for packet in self._packets():
            if packet.size and not packet.is_discard:
                seek_time = packet.pts if packet.dts is None else packet.dts
                pts = None if packet.pts is None else packet.pts - self._origin
                yield pts, seek_time or 0, packet.is_keyframe and not packet.is_corrupt

    def seek(self, time: int) -> None:
        """Go to the last keyframe that is decoded at or before a time, before the first frame is decoded."""
        self._container.seek(time, stream=self._stream)

    def _packets(self) -> Iterator[Packet[Any]]:
        packets = demux_corrected(self._container, self._stream, self._clock)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.FFmpegError, EOFError) as error:
                log.debug("%s: reading ended early: %s", self._path, error)
                self.damaged += 1
                return
            if packet.stream_index == self._stream.index:
                yield packet

    def _timestamp(self, av_frame: av.VideoFrame) -> int | None:
        if av_frame.pts is None:
            return None
        return self._order.presentation_time(av_frame.pts, self._stream.codec_context.reorder_depth) - self._origin

    def end(self) -> int | None:
        """Return the claimed end of the stream as a timestamp; None if it is unknown or the clock jumps."""
        if self._stream.duration is None or self._clock.jumped:
            return None
        return (self._stream.start_time or 0) - self._origin + self._stream.duration

    def close(self) -> None:
        """Close the input."""
        self._opened.close()


class DisplayOrder:
    """Computes presentation times for containers that store only decoding times.

    Frames are displayed in a different order than they are decoded, but at the same set of times: the first displayed
    frame gets the earliest time.

    Args:
        step: units of time between two frames.
    """

    def __init__(self, step: int) -> None:
        self._step = step
        self._free: list[int] = []

    def add(self, dts: int) -> None:
        """Add the decoding time of a frame before it is decoded."""
        heapq.heappush(self._free, dts)

    def presentation_time(self, dts: int, reordered: int) -> int:
        """Return the presentation time of the next frame.

        Args:
            dts: its decoding time; also the result if no time was added.
            reordered: the reorder depth. Earlier times belong to lost frames.
        """
        while self._free and self._free[0] < dts - reordered * self._step:
            heapq.heappop(self._free)
        return heapq.heappop(self._free) if self._free else dts


def is_plausible(rate: Fraction) -> bool:
    """Return whether a frame rate is within ``PLAUSIBLE_RATES``."""
    return PLAUSIBLE_RATES[0] <= rate <= PLAUSIBLE_RATES[1]


def demux_corrected(container: InputContainer, video: Stream, clock: Clock) -> Iterator[Packet[Any]]:
    """Yield the packets of a video stream and of all audio streams, with corrected timestamps.

    If the clock of the format cannot jump, only the packets of ``video`` are yielded.
    """
    if not may_jump(container):
        return demux_streams(container, [video])
    audio = [stream for stream in container.streams.audio if stream.codec_context is not None]
    return clock.corrected(demux_streams(container, [video, *audio]))


def demux_streams(container: InputContainer, streams: Sequence[Stream]) -> Iterator[Packet[Any]]:
    """Yield the packets of streams, even if a new stream appears after the container was opened."""
    packets = container.demux(streams)
    while True:
        try:
            yield next(packets)
        except StopIteration:
            return
        except IndexError:  # PyAV raises it for a packet of a new stream
            packets = container.demux(streams)


def planar(av_frame: av.VideoFrame) -> av.VideoFrame:
    """Return a frame of a device, whose chroma planes are interleaved, in the format of the software's frames."""
    pixel_format = PLANAR_FORMATS.get(av_frame.format.name)
    return av_frame.reformat(format=pixel_format) if pixel_format else av_frame


@cache
def warn_once(message: str) -> None:
    """Log a warning once, even if the same file is read again."""
    log.warning(message)


def main_video_stream(path: Path, container: InputContainer) -> VideoStream:
    """Return the default video stream, or the first one; cover art and thumbnails are excluded.

    Raises:
        InputError: the container has no video stream that can be decoded.
    """
    static = Disposition.attached_pic | Disposition.timed_thumbnails
    moving = [stream for stream in container.streams.video if not stream.disposition & static]
    moving = [stream for stream in moving if stream.codec_context is not None]
    if not moving:
        reason = "only audio" if container.streams.audio else "no audio either"
        raise InputError(f"{path}: has no video stream ({reason})")
    return next((stream for stream in moving if stream.disposition & Disposition.default), moving[0])


def origin(container: InputContainer, time_base: Fraction) -> int:
    """Return the timestamp of time zero, in ``time_base``.

    It is 0, except in formats whose clock can start at any value (MPEG transport and program streams). There it is the
    start of the earliest stream, so that audio and video stay in sync.
    """
    if not may_jump(container) or container.start_time is None:
        return 0
    return round(Fraction(container.start_time, av.time_base) / time_base)


def claimed_frame_count(container: InputContainer, stream: VideoStream, rate: Fraction) -> int | None:
    """Return the number of frames according to the container, or estimated from its duration; None if unknown."""
    if stream.frames:
        return stream.frames
    if stream.duration and stream.time_base:
        return round(stream.duration * stream.time_base * rate)
    if container.duration:
        return round(Fraction(container.duration, av.time_base) * rate)
    return None
