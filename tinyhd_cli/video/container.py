"""Pictures of a container's video stream, with timestamps that mean something."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, cast

import av
from av.container import InputContainer
from av.container.core import Flags
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from ..errors import InputError
from .clock import Clock, may_jump
from .decoded import Decoded, layout_of
from .source import DEFAULT_RATE, InputOptions, index_comes_last, open_container, read_once

log = logging.getLogger("tinyhd")

UNSPECIFIED = 2
"""What FFmpeg calls a colour matrix that a file does not state."""

RGB = 0
"""Its matrix for pictures that need none."""

KNOWN_MATRICES = (1, 4, 5, 6, 7, 9)
"""BT.709, FCC, BT.470BG, SMPTE 170M, SMPTE 240M, BT.2020: those that FFmpeg's scaler converts."""

PLAUSIBLE_RATES = (Fraction(1, 3600), 10_000)
"""Frames per second: from a time lapse to a high-speed camera."""


class ContainerDecoder:
    """Decodes the video stream of a file, a pipe or a network stream; a ``decoded.Decoder``.

    Args:
        path: the input, or how to call it.
        options: what it does not say of itself.

    Raises:
        InputError: it cannot be opened, or has no video stream.
    """

    def __init__(self, path: Path, options: InputOptions) -> None:
        self._path = path
        self.damaged = 0
        self._opened = open_container(path, options)
        try:
            self._container = self._opened.container
            # AVI has decoding times alone, and what FFmpeg makes of them is wrong with B frames.
            self._decoding_times = self._container.format.name == "avi"
            if self._decoding_times:
                self._container.flags &= ~cast("int", Flags.gen_pts.value)
            self._stream = picture_stream(path, self._container)
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
            if stream.frames and stream.duration:  # then timestamps tell more
                step = Fraction(stream.duration, stream.frames)
                by_table = 1 / (step * self.time_base)
                if is_plausible(by_table):
                    self.rate = by_table
                else:
                    self.time_base = 1 / (DEFAULT_RATE * step)
                    warn_once(
                        f"{self._path}: claims an implausible rate of {float(claimed):g} frames per second;"
                        f" assuming {DEFAULT_RATE}"
                    )
        self.frames = claimed_frames(self._container, stream, self.rate)
        self._origin = origin(self._container, self.time_base)

    def _on_jump(self, seconds: float, at_s: float) -> None:
        how = f"jumps ahead by {seconds:.1f} s" if seconds > 0 else f"steps back by {-seconds:.1f} s"
        at_s -= float(self._origin * self.time_base)
        self.frames = None  # it was taken from the clock
        if not self._clock.jumped:
            warn_once(f"{self._path}: the clock {how} at {at_s:.1f} s; frames and audio continue without a gap")

    def pictures(self) -> Iterator[Decoded]:
        """Every picture that decodes; damage is counted and passed over."""
        context = self._stream.codec_context
        stored = context.sample_aspect_ratio
        aspect = self._stream.sample_aspect_ratio or Fraction(1)
        readable = not (read_once(self._path) and "mov" in self._container.format.name)
        for packet in self._packets():
            if self._decoding_times and packet.dts is not None:
                packet.pts = packet.dts
                self._order.add(packet.dts)
            try:
                pictures: Sequence[Any] = packet.decode()
            except (av.FFmpegError, EOFError) as error:
                log.debug("%s: damaged packet: %s", self._path, error)
                self.damaged += 1
                continue
            for picture in pictures:
                if picture.is_corrupt or not isinstance(picture, av.VideoFrame):
                    self.damaged += 1
                    continue
                # The decoder's context is ahead of the pictures, by as many as it reorders.
                if picture.key_frame and context.sample_aspect_ratio != stored:
                    stored = context.sample_aspect_ratio
                    aspect = stored or Fraction(1)
                if picture.colorspace != RGB and picture.colorspace not in KNOWN_MATRICES:
                    picture.colorspace = UNSPECIFIED  # else FFmpeg's scaler refuses the picture
                readable = True
                yield Decoded(picture, layout_of(picture, aspect), self._timestamp(picture))
        if not readable:
            raise index_comes_last(self._path)

    def _packets(self) -> Iterator[Packet[Any]]:
        packets = demuxed(self._container, self._stream, self._clock)
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

    def _timestamp(self, picture: av.VideoFrame) -> int | None:
        if picture.pts is None:
            return None
        return self._order.shown(picture.pts, self._stream.codec_context.reorder_depth) - self._origin

    def end(self) -> int | None:
        """Timestamp at which the stream ends, as claimed; None where nothing says, or its clock jumps."""
        if self._stream.duration is None or self._clock.jumped:
            return None
        return (self._stream.start_time or 0) - self._origin + self._stream.duration

    def close(self) -> None:
        """Close the input."""
        self._opened.close()


class DisplayOrder:
    """Times of display for pictures of which a container stores times of decoding alone.

    Pictures are shown in another order than they are decoded in, but at the same times: the first one shown gets the
    earliest of them.

    Args:
        step: units from one picture to the next.
    """

    def __init__(self, step: int) -> None:
        self._step = step
        self._free: list[int] = []

    def add(self, dts: int) -> None:
        """Take the time of a picture that is to be decoded."""
        heapq.heappush(self._free, dts)

    def shown(self, dts: int, reordered: int) -> int:
        """The time of the next picture.

        Args:
            dts: when it was decoded; its time itself, if it was not given to :meth:`add`.
            reordered: how many places it can have come forward at most. Times before that are of lost pictures.
        """
        while self._free and self._free[0] < dts - reordered * self._step:
            heapq.heappop(self._free)
        return heapq.heappop(self._free) if self._free else dts


def is_plausible(rate: Fraction) -> bool:
    """Whether a file can have so many frames per second."""
    return PLAUSIBLE_RATES[0] <= rate <= PLAUSIBLE_RATES[1]


def demuxed(container: InputContainer, video: Stream, clock: Clock) -> Iterator[Packet[Any]]:
    """The packets of the audio and the video streams of a container, in which their clock does not jump.

    Of formats whose clock cannot, those of the streams beside ``video`` are left out.
    """
    if not may_jump(container):
        return demuxed_again(container, [video])
    audio = [stream for stream in container.streams.audio if stream.codec_context is not None]
    return clock.corrected(demuxed_again(container, [video, *audio]))


def demuxed_again(container: InputContainer, streams: Sequence[Stream]) -> Iterator[Packet[Any]]:
    """The packets of streams, also beyond one of a stream that was not there when the container was opened."""
    packets = container.demux(streams)
    while True:
        try:
            yield next(packets)
        except StopIteration:
            return
        except IndexError:  # which PyAV raises there
            packets = container.demux(streams)


@cache
def warn_once(message: str) -> None:
    """Log a warning, but not again when the same file is read again."""
    log.warning(message)


def picture_stream(path: Path, container: InputContainer) -> VideoStream:
    """The moving pictures of a file: by type, never by number, and not an album cover or a thumbnail."""
    stills = Disposition.attached_pic | Disposition.timed_thumbnails
    moving = [stream for stream in container.streams.video if not stream.disposition & stills]
    moving = [stream for stream in moving if stream.codec_context is not None]
    if not moving:
        what = "only audio" if container.streams.audio else "no audio either"
        raise InputError(f"{path}: has no video stream ({what})")
    return next((stream for stream in moving if stream.disposition & Disposition.default), moving[0])


def origin(container: InputContainer, time_base: Fraction) -> int:
    """The timestamp, in ``time_base``, that counts as zero.

    It is 0, except in formats whose clock starts anywhere (MPEG transport and program streams): there it is the start
    of the earliest stream, so that sound and picture move together.
    """
    if not may_jump(container) or container.start_time is None:
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
