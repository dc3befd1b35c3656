"""A video file written frame by frame, with the source's timestamps and sound. It appears whole or not at all."""

from __future__ import annotations

import logging
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ..atomic_files import make_parent, publish, remove, temporary_path
from ..errors import OutputError, one_line
from . import encoders
from .audio import AudioCopier
from .options import EncoderOptions
from .reader import DeepImage, Frame, Image, VideoInfo
from .regions import QpOffsets, RegionMarker
from .source import ffmpeg_name

log = logging.getLogger("tinyhd")


MP4_SUFFIXES = (".mp4", ".m4v", ".mov")

X265_DELAY = 2
"""Pictures that x265 may give out of order."""


class VideoWriter:
    """Writes pictures that stand for the frames of a source video.

    Args:
        path: the file to write; its suffix names the container. Until :meth:`close` it has another name.
        info: the source.
        size: width and height of the pictures in pixels; odd ones are made even by repeating the last column or row.
        options: codec and quality.
        audio: whether the source's sound is carried over.
        keep_source_colors: whether images have the depth and colors of the source, such as HDR, and come from
            :meth:`rgb_of`; else they are 8-bit SDR.

    Raises:
        OutputError: the file cannot be written, or no encoder works.
    """

    def __init__(
        self,
        path: Path,
        info: VideoInfo,
        size: tuple[int, int],
        options: EncoderOptions | None = None,
        *,
        audio: bool = True,
        keep_source_colors: bool = False,
    ) -> None:
        self.path = path
        self.options = options or EncoderOptions()
        self.width, self.height = (side + side % 2 for side in size)
        self._durations: dict[int, int] = {}
        self._last_pts = -(2**62)
        self._frames_written = 0
        self._reformatter = VideoReformatter()
        self._audio: AudioCopier | None = None
        self._container: OutputContainer | None = None
        self._regions = RegionMarker()
        info = info if keep_source_colors else info.as_sdr
        self._choice = encoders.choose_encoder(path, self.options, self.width, self.height, info.depth)
        if self._choice.warning:
            log.warning(self._choice.warning)
        self.info = info.as_sdr if self._choice.depth < min(info.depth, 10) else info
        self._hdr_options = self._carried_over(info)
        make_parent(path)
        self._partial = temporary_path(path)
        try:
            self._open(audio and info.has_audio)
        except BaseException:
            self.abort()
            raise

    def _carried_over(self, info: VideoInfo) -> dict[str, str]:
        """Return the encoder's options for HDR metadata; warn about lost depth, colors and metadata."""
        name, encoder = self.path.name, self.encoder
        if self.info is not info:
            colors = "HDR or wide gamut is converted to SDR (BT.709)" if info.conversion else "values are rounded"
            log.warning(f"{name}: {encoder} supports only 8 bits, the source has {info.depth}; {colors}")
        elif info.depth > 10:
            log.warning(f"{name}: written with 10 bits, the source has {info.depth}")
        light = self.info.hdr_metadata
        options = encoders.hdr_settings(encoder, light) if light else {}
        if light and (options is None or light.dynamic):
            which = "dynamic HDR metadata (Dolby Vision, HDR10+)" if options is not None else "HDR metadata"
            log.warning(f"{name}: the {which} of {info.path.name} cannot be copied")
        return options or {}

    def _open(self, audio: bool) -> None:
        """Open the container: with the sound as it is, else transcoded, else without."""
        attempts = [("copied", True), ("transcoded", True), ("left out", False)] if audio else [("absent", False)]
        for how, with_audio in attempts:
            try:
                self._open_once(with_audio, transcode=how == "transcoded")
            except (av.FFmpegError, OSError, ValueError) as error:
                self._close_quietly()
                if (how, with_audio) == attempts[-1] or isinstance(error, FileNotFoundError | PermissionError):
                    raise self._failure(error) from error
                log.debug("%s: sound cannot be %s: %s", self.path, how, error)
                continue
            if how == "left out":
                log.warning(f"{self.path.name}: the sound of {self.info.path.name} cannot be carried over")
            elif self._audio is not None and self._audio.transcoded:
                codecs = ", ".join(dict.fromkeys(self._audio.transcoded))
                log.warning(f"{self.path.name}: {self.path.suffix} takes no {codecs} audio, it was encoded anew")
            return

    def _open_once(self, audio: bool, *, transcode: bool) -> None:
        options = {"movflags": "+faststart"} if self.path.suffix.lower() in MP4_SUFFIXES else {}
        # FFmpeg's default format for .m4v does not support hevc, vp9 and av1.
        container_format = "mp4" if self.path.suffix.lower() == ".m4v" else None
        self._container = av.open(ffmpeg_name(self._partial), "w", format=container_format, options=options)
        self._stream = self._add_stream(self._container)
        self._audio = AudioCopier(self.info, self._container, transcode=transcode) if audio else None
        self._container.start_encoding()

    def _add_stream(self, container: OutputContainer) -> VideoStream:
        options = encoders.encoder_settings(self.encoder, self.options)
        for option, value in self._hdr_options.items():
            options[option] = f"{options[option]}:{value}" if option in options else value
        if self.path.suffix.lower() == ".avi":
            options["bf"] = "0"  # AVI stores no presentation times: frames must be in their order
        stream = container.add_stream(self.encoder, rate=self.info.rate, options=options)
        if not isinstance(stream, VideoStream):
            raise OutputError(f"{self.path}: {self.encoder} is not a video encoder")
        stream.width, stream.height, stream.pix_fmt = self.width, self.height, self._choice.pixel_format
        if stream.codec.canonical_name == "hevc" and self.path.suffix.lower() in MP4_SUFFIXES:
            stream.codec_context.codec_tag = "hvc1"  # Apple's players do not play FFmpeg's default, hev1
        stream.codec_context.time_base = self.time_base
        stream.time_base = self.time_base
        color = self.info.color
        stream.codec_context.colorspace, stream.codec_context.color_range = color.space, color.range
        stream.codec_context.color_primaries, stream.codec_context.color_trc = color.primaries, color.transfer
        stream.sample_aspect_ratio = self.info.sample_aspect_ratio
        return stream

    @property
    def encoder(self) -> str:
        """The encoder at work, by FFmpeg's name."""
        return self._choice.encoder

    @property
    def time_base(self) -> Fraction:
        """Seconds in a unit of timestamps: the source's, as far as the encoder can count so finely."""
        time_base = self.info.time_base
        if self.encoder == "mpeg4" and time_base.denominator > 65535:  # its clock has 16 bits
            return Fraction(1, 60000)
        return time_base

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def rgb_of(self, frame: Frame) -> DeepImage:
        """Return the upright image of a source frame, in the colors and depth that this writer keeps."""
        return frame.rgb() if self.info.depth < frame.info.depth else frame.stored_rgb()

    def write(self, image: DeepImage | av.VideoFrame, frame: Frame, offsets: QpOffsets | None = None) -> None:
        """Write a picture at the time of a frame.

        Args:
            image: RGB ``(height, width, 3)``, uint8 or uint16, of the writer's size; or a frame in the encoder's
                format, yuv420p in the source's colors, which is not copied.
            frame: the source's frame that it stands for; gives timestamp and duration.
            offsets: where to spend more or fewer bits, for encoders that listen (see ``regions``).
        """
        av_frame = image if isinstance(image, av.VideoFrame) else self._converted(image)
        color = self.info.color
        av_frame.colorspace, av_frame.color_range = color.space, color.range
        av_frame.color_primaries, av_frame.color_trc = color.primaries, color.transfer
        scale = self.info.time_base / self.time_base
        # A coarser clock can give two frames the same time, which encoders refuse.
        self._last_pts = av_frame.pts = max(round(frame.pts * scale), self._last_pts + 1)
        av_frame.time_base = self.time_base
        av_frame.duration = max(1, round(frame.duration * scale))
        self._durations[av_frame.pts] = av_frame.duration
        self._frames_written += 1
        try:
            if offsets is not None:
                av_frame = self._regions.mark(av_frame, offsets)
            self._mux(self._stream.encode(av_frame))
            if self._audio is not None:
                self._audio.mux_until(frame.time_s)
        except (av.FFmpegError, OSError) as error:
            raise self._failure(error) from error

    def _converted(self, image: DeepImage) -> av.VideoFrame:
        """An RGB picture as encoders take it, with even sides."""
        bottom, right = self.height - image.shape[0], self.width - image.shape[1]
        padded: NDArray[Any] = image
        if bottom or right:
            padded = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        return self._reformatter.reformat(
            av.VideoFrame.from_ndarray(padded, "rgb24" if image.dtype == np.uint8 else "rgb48le"),
            format=self._choice.pixel_format,
            dst_colorspace=self.info.color.space,
            dst_color_range=self.info.color.range,
        )

    def _mux(self, packets: list[Packet[VideoStream]]) -> None:
        """Mux encoded pictures, with the durations that encoders forget."""
        for packet in packets:
            if packet.pts is not None:
                packet.duration = self._durations.pop(packet.pts, packet.duration or 0)
            assert self._container is not None
            self._container.mux(packet)

    def close(self) -> None:
        """Finish the file and give it its name."""
        try:
            last = self._stream.encode(None)
            if self.encoder == "libx265" and self._frames_written <= X265_DELAY:
                # It has not seen enough to know its delay, and decoding times are whatever was in that memory.
                for packet in last:
                    packet.dts = packet.pts
            self._mux(last)
            if self._audio is not None:
                self._audio.mux_until(None)
                self._audio.close()
            if self._container is not None:
                self._container.close()
            publish(self._partial, self.path)
        except (av.FFmpegError, OSError) as error:
            failure = self._failure(error)
            self.abort()
            raise failure from error

    def abort(self) -> None:
        """Give up: nothing is left."""
        self._close_quietly()
        remove(self._partial)

    def _close_quietly(self) -> None:
        for part in (self._audio, self._container):
            try:
                if part is not None:
                    part.close()
            except (av.FFmpegError, OSError) as error:
                log.debug("%s: %s", self.path, error)
        self._audio = self._container = None

    def _failure(self, error: BaseException) -> OutputError:
        reason = getattr(error, "strerror", None) or one_line(error)
        return OutputError(f"{self.path}: cannot be written: {reason}")


class PipeWriter:
    """Writes pictures to standard output as uncompressed y4m, without audio, at the source's average rate.

    Args:
        info: the source.
        size: width and height of the pictures in pixels; odd ones are made even as by :class:`VideoWriter`.
    """

    def __init__(self, info: VideoInfo, size: tuple[int, int]) -> None:
        self.width, self.height = (side + side % 2 for side in size)
        aspect = info.sample_aspect_ratio
        rate = f"{info.rate.numerator}:{info.rate.denominator}"
        shape = f"W{self.width} H{self.height} F{rate} Ip A{aspect.numerator}:{aspect.denominator} C420jpeg"
        self._write(f"YUV4MPEG2 {shape}\n".encode())

    def _write(self, data: bytes) -> None:
        try:
            sys.stdout.buffer.write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"-: cannot be written: {error.strerror or error}") from error

    def write(self, image: Image, frame: Frame) -> None:
        """Write the picture, uint8 RGB ``(h, w, 3)``, that stands for a frame."""
        bottom, right = self.height - image.shape[0], self.width - image.shape[1]
        if bottom or right:
            image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE).astype(np.uint8, copy=False)
        self._write(b"FRAME\n" + cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420).tobytes())

    def close(self) -> None:
        """Send what is left."""
        try:
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"-: cannot be written: {error.strerror or error}") from error

    def abort(self) -> None:
        """There is nothing to take back from a pipe."""
