"""The sound of one file, carried into another: packet by packet where the container takes it, else as AAC or Opus."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet

from .clock import Clock, may_jump
from .container import demuxed, demuxed_again, main_video_stream, origin
from .reader import VideoInfo
from .source import open_container

if TYPE_CHECKING:
    AudioPacket = Packet[AudioStream]

log = logging.getLogger("tinyhd")

AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
"""Samples a second that AAC knows; any other becomes 48,000, as does everything for Opus."""


class AudioTrack:
    """One audio stream on its way from ``source`` to ``container``."""

    def __init__(self, container: OutputContainer, source: AudioStream, shift: int, transcode: bool) -> None:
        self.source = source
        self.shift = shift
        self.transcode = transcode
        self.edit_lists = container.format.name in ("mp4", "mov", "ipod")
        self.resampler: AudioResampler | None = None
        self._resampled_kind: tuple[str, str, int] | None = None
        self._last_dts: int | None = None
        if transcode:
            encoder = "libopus" if container.default_audio_codec == "opus" else "aac"
            rate = source.codec_context.sample_rate
            target = container.add_stream(encoder, rate=rate if encoder == "aac" and rate in AAC_RATES else 48000)
            assert isinstance(target, AudioStream)
            target.codec_context.layout = source.codec_context.layout
            self.target = target
        else:
            self.target = container.add_stream_from_template(source)

    def packets(self, packet: AudioPacket) -> Iterator[AudioPacket]:
        """What to write for a packet of the source; the empty one at its end flushes the encoder."""
        if not self.transcode:
            if packet.size == 0 or self._precedes_start(packet):
                return
            packet.pts = None if packet.pts is None else packet.pts - self.shift
            packet.dts = None if packet.dts is None else packet.dts - self.shift
            packet.stream = self.target
            yield packet
            return
        for frame in packet.decode():
            if frame.pts is not None:
                frame.pts -= self.shift
            for resampled in self._resample(frame):
                yield from self.target.encode(resampled)
        if packet.size == 0:
            for resampled in self._resample(None):
                yield from self.target.encode(resampled)
            yield from self.target.encode(None)

    def _precedes_start(self, packet: AudioPacket) -> bool:
        """Whether a packet only primes the decoder before time zero.

        MP4 and MOV keep such packets and hide them by an edit list; elsewhere they would move the whole file.
        """
        if self.edit_lists or packet.pts is None or not packet.duration:
            return False
        return packet.pts + packet.duration <= self.shift

    def is_out_of_order(self, packet: AudioPacket) -> bool:
        """Whether a packet to write is not later than the one before, as in damaged files: containers refuse it."""
        if packet.dts is None:
            return False
        late = self._last_dts is not None and packet.dts <= self._last_dts
        self._last_dts = self._last_dts if late else packet.dts
        return late

    def start_time(self, packet: AudioPacket) -> Fraction | None:
        """When a packet of the source begins, in seconds of the target."""
        time = packet.pts if packet.dts is None else packet.dts
        return None if time is None or not packet.time_base else (time - self.shift) * packet.time_base

    def _resample(self, frame: av.AudioFrame | None) -> list[av.AudioFrame]:
        context = self.target.codec_context
        ready: list[av.AudioFrame] = []
        kind = self._resampled_kind if frame is None else (frame.format.name, frame.layout.name, frame.sample_rate)
        if self.resampler is not None and kind != self._resampled_kind:  # broadcasts change their format
            ready = self.resampler.resample(None)
            self.resampler = None
        if self.resampler is None:
            context.open(strict=False)
            self.resampler = AudioResampler(context.format, context.layout, context.sample_rate, context.frame_size)
        self._resampled_kind = kind
        return ready + self.resampler.resample(frame)


class AudioCopier:
    """All audio streams of a video, to be muxed into ``container`` alongside its pictures.

    The file is opened a second time for this, so that sound needs no buffer however the pictures are grouped.
    """

    def __init__(self, info: VideoInfo, container: OutputContainer, *, transcode: bool = False) -> None:
        self.container = container
        self.transcoded: list[str] = []
        self._path = info.path
        self._opened = open_container(info.path, info.options)
        self._input = self._opened.container
        self._tracks: dict[int, AudioTrack] = {}
        self._held: AudioPacket | None = None
        supported = container.supported_codecs
        for stream in self._input.streams.audio:
            if stream.codec_context is None:  # FFmpeg knows no decoder and no name for it
                continue
            name = stream.codec_context.name
            refused = transcode or bool(
                supported and name not in supported and stream.codec.canonical_name not in supported
            )
            if refused:
                self.transcoded.append(name)
            shift = origin(self._input, stream.time_base or Fraction(1, av.time_base))
            self._tracks[stream.index] = AudioTrack(container, stream, shift, refused)
        self._packets = self._demux()

    def _demux(self) -> Iterator[AudioPacket]:
        sources = [track.source for track in self._tracks.values()]
        if not sources:
            return iter(())
        if not may_jump(self._input):
            return demuxed_again(self._input, sources)
        # The same streams are read as for the frames, so that jumps of the clock are corrected identically.
        video = main_video_stream(self._path, self._input)
        packets = demuxed(self._input, video, Clock(video.index))
        return (packet for packet in packets if packet.stream_index in self._tracks)

    def mux_until(self, time_s: float | None) -> None:
        """Mux the sound up to a time in seconds; None: all that is left."""
        while True:
            packet = self._held or next(self._readable(), None)
            self._held = None
            if packet is None:
                return
            starts = self._tracks[packet.stream.index].start_time(packet)
            if time_s is not None and starts is not None and starts > time_s:
                self._held = packet
                return
            self._mux(packet)

    def _readable(self) -> Iterator[AudioPacket]:
        """The next packet, or none where the file ends or cannot be read further."""
        try:
            yield next(self._packets)
        except StopIteration:
            return
        except (av.FFmpegError, EOFError) as error:
            log.debug("sound ended early: %s", error)

    def _mux(self, packet: AudioPacket) -> None:
        track = self._tracks[packet.stream.index]
        try:
            ready = list(track.packets(packet))
        except (av.FFmpegError, EOFError, ValueError) as error:  # nothing is written here: it is the sound itself
            log.debug("damaged sound: %s", error)
            return
        for part in ready:
            if track.is_out_of_order(part):
                continue
            try:
                self.container.mux(part)
            except ValueError as error:  # invalid data or times; a full disk is an OSError
                log.debug("damaged sound: %s", error)

    def close(self) -> None:
        """Close the source."""
        self._opened.close()
