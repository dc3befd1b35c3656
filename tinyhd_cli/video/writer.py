"""Write a video frame by frame, with the timestamps and audio of its source. It appears complete or not at all."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
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
from .regions import QpMap, RegionMarker
from .source import ffmpeg_name

log = logging.getLogger("tinyhd")

MP4_SUFFIXES = (".mp4", ".m4v", ".mov")
"""Suffixes of MP4 and QuickTime files, whose index must be moved to the start."""

RGB_FORMATS = {1: "rgb24", 2: "rgb48le"}
"""FFmpeg's pixel formats of RGB images by bytes per component."""

X265_DELAY = 2
"""Maximum number of frames by which x265 reorders its output."""


class VideoWriter:
    """Writes a video whose frames correspond to those of a source video. Use it as a context manager.

    Args:
        path: the output; its suffix selects the container. It has a temporary name until :meth:`close`.
        info: the source.
        size: width and height of the images in pixels; odd sizes are padded by repeating the last column or row.
        options: codec, quality and speed.
        audio: whether to copy the audio of the source.
        keep_source_colors: whether images have the depth and colors of the source, such as HDR, as returned by
            :meth:`rgb_of`; else they are 8-bit SDR.
        alpha: whether images are RGBA and the video keeps their transparency; see ``encoders.ALPHA_CODECS``.

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
        alpha: bool = False,
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
        if alpha:
            self._choice = encoders.choose_alpha_encoder(path, self.options, self.width, self.height)
        else:
            self._choice = encoders.choose_encoder(path, self.options, self.width, self.height, info.depth)
        if self._choice.warning:
            log.warning(self._choice.warning)
        self.info = info.as_sdr if self._choice.depth < min(info.depth, 10) else info
        self._hdr_options = self._copy_hdr_metadata(info)
        make_parent(path)
        self._partial = temporary_path(path)
        try:
            self._open(audio and info.has_audio)
        except BaseException:
            self.abort()
            raise

    def _copy_hdr_metadata(self, info: VideoInfo) -> dict[str, str]:
        """Return the encoder options for HDR metadata; warn if depth, colors or metadata are lost."""
        name, encoder = self.path.name, self.encoder
        if self.info is not info:
            colors = "HDR or wide gamut is converted to SDR (BT.709)" if info.conversion else "values are rounded"
            log.warning(f"{name}: {encoder} supports only 8 bits per component, the source has {info.depth}; {colors}")
        elif info.depth > 10:
            log.warning(f"{name}: written with 10 bits per component; the source has {info.depth}")
        metadata = self.info.hdr_metadata
        options = encoders.hdr_settings(encoder, metadata) if metadata else {}
        if metadata and (options is None or metadata.dynamic):
            which = "dynamic HDR metadata (Dolby Vision, HDR10+)" if options is not None else "HDR metadata"
            log.warning(f"{name}: the {which} of {info.path.name} cannot be copied")
        return options or {}

    def _open(self, audio: bool) -> None:
        """Open the container: with the audio copied, else transcoded, else without audio."""
        attempts = [("copied", True), ("transcoded", True), ("left out", False)] if audio else [("absent", False)]
        for how, with_audio in attempts:
            try:
                self._open_once(with_audio, transcode=how == "transcoded")
            except (av.FFmpegError, OSError, ValueError) as error:
                self._close_quietly()
                if (how, with_audio) == attempts[-1] or isinstance(error, FileNotFoundError | PermissionError):
                    raise self._failure(error) from error
                log.debug("%s: audio cannot be %s: %s", self.path, how, error)
                continue
            if how == "left out":
                log.warning(
                    f"{self.path.name}: has no audio; that of {self.info.path.name} cannot be copied or encoded"
                )
            elif self._audio is not None and self._audio.transcoded:
                codecs = ", ".join(dict.fromkeys(self._audio.transcoded))
                log.warning(f"{self.path.name}: {self.path.suffix} does not support {codecs} audio; it was re-encoded")
            return

    def _new_container(self) -> OutputContainer:
        options = {"movflags": "+faststart"} if self.path.suffix.lower() in MP4_SUFFIXES else {}
        # FFmpeg's default format for .m4v does not support hevc, vp9 and av1.
        container_format = "mp4" if self.path.suffix.lower() == ".m4v" else None
        return av.open(ffmpeg_name(self._partial), "w", format=container_format, options=options)

    def _open_once(self, audio: bool, *, transcode: bool) -> None:
        self._container = self._new_container()
        self._stream = self._add_stream(self._container)
        self._audio = AudioCopier(self.info, self._container, transcode=transcode) if audio else None
        self._container.start_encoding()

    def _add_stream(self, container: OutputContainer) -> VideoStream:
        options = encoders.encoder_settings(self.encoder, self.options)
        for option, value in self._hdr_options.items():
            options[option] = f"{options[option]}:{value}" if option in options else value
        if self.path.suffix.lower() == ".avi":
            options["bf"] = "0"  # AVI stores no presentation times, so B frames would be displayed in the wrong order
        stream = container.add_stream(self.encoder, rate=self.info.rate, options=options)
        if not isinstance(stream, VideoStream):
            raise OutputError(f"{self.path}: {self.encoder} is not a video encoder")
        stream.width, stream.height, stream.pix_fmt = self.width, self.height, self._choice.pixel_format
        if stream.codec.canonical_name == "hevc" and self.path.suffix.lower() in MP4_SUFFIXES:
            stream.codec_context.codec_tag = "hvc1"  # Apple's players do not support FFmpeg's default, hev1
        stream.codec_context.time_base = self.time_base
        stream.time_base = self.time_base
        color = self.info.color
        stream.codec_context.colorspace, stream.codec_context.color_range = color.space, color.range
        stream.codec_context.color_primaries, stream.codec_context.color_trc = color.primaries, color.transfer
        stream.sample_aspect_ratio = self.info.sample_aspect_ratio
        return stream

    @property
    def encoder(self) -> str:
        """FFmpeg's name of the encoder."""
        return self._choice.encoder

    @property
    def time_base(self) -> Fraction:
        """Seconds per unit of timestamps: that of the source, unless the encoder does not support it."""
        time_base = self.info.time_base
        if self.encoder == "mpeg4" and time_base.denominator > 65535:  # MPEG-4 part 2 stores 16 bits
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
        """Return the upright image of a source frame, in the colors and depth of the output."""
        return frame.rgb() if self.info.depth < frame.info.depth else frame.stored_rgb()

    def write(self, image: DeepImage | av.VideoFrame, frame: Frame, regions: QpMap | None = None) -> None:
        """Write an image with the timestamp and duration of a source frame.

        Args:
            image: RGB ``(height, width, 3)``, uint8 or uint16, of the writer's size; RGBA ``(height, width, 4)``,
                uint8, with transparency; or a yuv420p frame in the colors of the source, which is passed to the
                encoder without a copy.
            frame: the source frame.
            regions: changes of the quantization parameter, for encoders that support regions of interest.

        Raises:
            OutputError: the file cannot be written.
        """
        av_frame = image if isinstance(image, av.VideoFrame) else self._to_encoder_format(image)
        color = self.info.color
        av_frame.colorspace, av_frame.color_range = color.space, color.range
        av_frame.color_primaries, av_frame.color_trc = color.primaries, color.transfer
        scale = self.info.time_base / self.time_base
        # With a coarser time base, two frames can get the same timestamp, which encoders reject.
        self._last_pts = av_frame.pts = max(round(frame.pts * scale), self._last_pts + 1)
        av_frame.time_base = self.time_base
        av_frame.duration = max(1, round(frame.duration * scale))
        self._durations[av_frame.pts] = av_frame.duration
        self._frames_written += 1
        try:
            if regions is not None:
                av_frame = self._regions.mark(av_frame, regions)
            self._mux(self._stream.encode(av_frame))
            if self._audio is not None:
                self._audio.mux_until(frame.time_s)
        except (av.FFmpegError, OSError) as error:
            raise self._failure(error) from error

    def _to_encoder_format(self, image: DeepImage) -> av.VideoFrame:
        """Convert an RGB image to the encoder's pixel format and pad it to even sides."""
        bottom, right = self.height - image.shape[0], self.width - image.shape[1]
        padded: NDArray[Any] = image
        if bottom or right:
            padded = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        return self._reformatter.reformat(
            av.VideoFrame.from_ndarray(padded, "rgba" if image.shape[2] == 4 else RGB_FORMATS[image.dtype.itemsize]),
            format=self._choice.pixel_format,
            dst_colorspace=self.info.color.space,
            dst_color_range=self.info.color.range,
        )

    def _mux(self, packets: list[Packet[VideoStream]]) -> None:
        """Mux encoded frames."""
        assert self._container is not None
        for packet in self._with_durations(packets):
            self._container.mux(packet)

    def _with_durations(self, packets: list[Packet[VideoStream]]) -> Iterator[Packet[VideoStream]]:
        """Yield encoded frames with the durations that some encoders discard."""
        for packet in packets:
            if packet.pts is not None:
                packet.duration = self._durations.pop(packet.pts, packet.duration or 0)
            yield packet

    def _flush(self) -> None:
        """Mux the frames that the encoder still holds."""
        last = self._stream.encode(None)
        if self.encoder == "libx265" and self._frames_written <= X265_DELAY:
            # With so few frames, x265 has not computed its delay and returns uninitialized decoding times.
            for packet in last:
                packet.dts = packet.pts
        self._mux(last)

    def _finish(self) -> None:
        """Complete the file, and give it its final name."""
        self._flush()
        if self._audio is not None:
            self._audio.mux_until(None)
            self._audio.close()
        if self._container is not None:
            self._container.close()
        publish(self._partial, self.path)

    def close(self) -> None:
        """Finish the file and rename it to its final name; ``OutputError`` if it cannot be written."""
        try:
            self._finish()
        except (av.FFmpegError, OSError) as error:
            failure = self._failure(error)
            self.abort()
            raise failure from error

    def abort(self) -> None:
        """Close the output and remove its temporary file."""
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
    """Writes images to standard output as uncompressed y4m, without audio, at the average frame rate of the source.

    Args:
        info: the source.
        size: width and height of the images in pixels; odd sizes are padded as by :class:`VideoWriter`.

    Raises:
        OutputError: standard output cannot be written to.
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
        """Write the image, uint8 RGB ``(h, w, 3)``, of the next frame."""
        bottom, right = self.height - image.shape[0], self.width - image.shape[1]
        if bottom or right:
            image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE).astype(np.uint8, copy=False)
        self._write(b"FRAME\n" + cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420).tobytes())

    def close(self) -> None:
        """Flush standard output."""
        try:
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"-: cannot be written: {error.strerror or error}") from error

    def abort(self) -> None:
        """Do nothing: data written to a pipe cannot be withdrawn."""
