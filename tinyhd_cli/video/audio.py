"""Copy the audio of a source file to an output file; re-encode it as AAC or Opus if necessary."""

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
from .container import demux_corrected, demux_streams, main_video_stream, origin
from .reader import VideoInfo
from .source import open_container

if TYPE_CHECKING:
    AudioPacket = Packet[AudioStream]

log = logging.getLogger("tinyhd")

AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
"""Sampling rates that AAC supports, in Hz. Audio of other rates, and all Opus audio, is resampled to 48 kHz."""


class AudioTrack:
    """Copies or re-encodes one audio stream.

    Args:
        container: the output, to which a stream is added.
        source: the input stream.
        shift: ticks of the source's time base to subtract from its timestamps.
        transcode: whether to re-encode the stream instead of copying its packets.
    """

    def __init__(self, container: OutputContainer, source: AudioStream, shift: int, transcode: bool) -> None:
        self.source = source
        self.shift = shift
        self.transcode = transcode
        self.edit_lists = container.format.name in ("mp4", "mov", "ipod")
        self.resampler: AudioResampler | None = None
        self._resampled_format: tuple[str, str, int] | None = None
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
        """Yield the output packets for a packet of the source; an empty packet at its end flushes the encoder."""
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
        """Return whether a packet ends before time zero and only primes the decoder.

        MP4 and MOV keep such packets and hide them with an edit list. In other containers they would delay all streams.
        """
        if self.edit_lists or packet.pts is None or not packet.duration:
            return False
        return packet.pts + packet.duration <= self.shift

    def is_out_of_order(self, packet: AudioPacket) -> bool:
        """Return whether an output packet does not follow the previous one (damaged files); muxers reject it."""
        if packet.dts is None:
            return False
        late = self._last_dts is not None and packet.dts <= self._last_dts
        self._last_dts = self._last_dts if late else packet.dts
        return late

    def start_time(self, packet: AudioPacket) -> Fraction | None:
        """Return the start of a source packet in the output, in seconds; None if it has no timestamp."""
        time = packet.pts if packet.dts is None else packet.dts
        return None if time is None or not packet.time_base else (time - self.shift) * packet.time_base

    def _resample(self, frame: av.AudioFrame | None) -> list[av.AudioFrame]:
        context = self.target.codec_context
        ready: list[av.AudioFrame] = []
        source_format = (
            self._resampled_format if frame is None else (frame.format.name, frame.layout.name, frame.sample_rate)
        )
        if (
            self.resampler is not None and source_format != self._resampled_format
        ):  # the format of a broadcast can change
            ready = self.resampler.resample(None)
            self.resampler = None
        if self.resampler is None:
            context.open(strict=False)
            self.resampler = AudioResampler(context.format, context.layout, context.sample_rate, context.frame_size)
        self._resampled_format = source_format
        return ready + self.resampler.resample(frame)


class AudioCopier:
    """Copies all audio streams of a video to an output container, in step with its frames.

    The source is opened a second time, so that no audio has to be buffered while its frames are processed.

    Args:
        info: the source video.
        container: the output.
        transcode: whether to re-encode all streams; else only those that the container does not support.

    Attributes:
        transcoded: names of the source codecs that are re-encoded.
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
            if stream.codec_context is None:  # FFmpeg has no decoder for it
                continue
            name = stream.codec_context.name
            reencode = transcode or bool(
                supported and name not in supported and stream.codec.canonical_name not in supported
            )
            if reencode:
                self.transcoded.append(name)
            shift = origin(self._input, stream.time_base or Fraction(1, av.time_base))
            self._tracks[stream.index] = AudioTrack(container, stream, shift, reencode)
        self._packets = self._demux()

    def _demux(self) -> Iterator[AudioPacket]:
        sources = [track.source for track in self._tracks.values()]
        if not sources:
            return iter(())
        if not may_jump(self._input):
            return demux_streams(self._input, sources)
        # Read the same streams as the frame decoder does, so that clock jumps are corrected identically.
        video = main_video_stream(self._path, self._input)
        packets = demux_corrected(self._input, video, Clock(video.index))
        return (packet for packet in packets if packet.stream_index in self._tracks)

    def mux_until(self, time_s: float | None) -> None:
        """Mux the audio up to a time in seconds; None muxes all that remains."""
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
        """Yield the next packet; nothing at the end of the file, or if it cannot be read further."""
        try:
            yield next(self._packets)
        except StopIteration:
            return
        except (av.FFmpegError, EOFError) as error:
            log.debug("audio ended early: %s", error)

    def _mux(self, packet: AudioPacket) -> None:
        track = self._tracks[packet.stream.index]
        try:
            ready = list(track.packets(packet))
        except (av.FFmpegError, EOFError, ValueError) as error:  # not a write error: the source is damaged
            log.debug("damaged audio: %s", error)
            return
        for part in ready:
            if track.is_out_of_order(part):
                continue
            try:
                self.container.mux(part)
            except ValueError as error:  # invalid data or times; a full disk is an OSError
                log.debug("damaged audio: %s", error)

    def close(self) -> None:
        """Close the source; the container stays open."""
        self._opened.close()
