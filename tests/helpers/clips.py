"""Write small videos for tests, and read files back with PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

TIME_BASE = Fraction(1, 600)
"""Seconds per unit of timestamps of the clips."""


@dataclass(frozen=True)
class Clip:
    """The properties of a clip."""

    frames: int = 20
    width: int = 64
    height: int = 48
    durations: Sequence[int] = (20,)
    """Durations of the frames in units of ``TIME_BASE``, used in turn; different ones make a variable frame rate."""
    rotation: int = 0
    flips: tuple[bool, bool] = (False, False)
    """Horizontal and vertical flip, stored in the display matrix."""
    audio: str | None = None
    """Audio encoder; None for a clip without audio."""
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    aspect: Fraction | None = None
    options: dict[str, str] = field(default_factory=dict)
    """Options of the video encoder."""
    container: dict[str, str] = field(default_factory=dict)
    """Options of the container."""

    @property
    def timestamps(self) -> list[Fraction]:
        """Presentation times of the frames in seconds."""
        times, now = [], Fraction(0)
        for index in range(self.frames):
            times.append(now)
            now += self.durations[index % len(self.durations)] * TIME_BASE
        return times

    @property
    def duration(self) -> Fraction:
        """Seconds from the first frame to the end of the last."""
        last = self.durations[(self.frames - 1) % len(self.durations)]
        return self.timestamps[-1] + last * TIME_BASE


def image(index: int, width: int, height: int) -> np.ndarray:
    """Return a frame whose orientation is visible: a red band at the top, a blue one at the left, and a moving disc."""
    image = np.full((height, width, 3), 90, np.uint8)
    image[: height // 4] = (220, 30, 30)
    image[height // 4 :, : width // 8] = (30, 30, 220)
    y, x = np.mgrid[:height, :width]
    center_x = width * (0.3 + 0.02 * (index % 20))
    disc = (x - center_x) ** 2 + (y - height * 0.6) ** 2 < (height / 8) ** 2
    image[disc] = (250, 240, 60)
    return image


def make(path: Path, clip: Clip | None = None, **changes: object) -> Path:
    """Write a clip and return its path."""
    clip = clip or Clip(**changes)  # type: ignore[arg-type]
    with av.open(str(path), "w", options=clip.container) as container:
        stream = container.add_stream(clip.codec, rate=30, options=clip.options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, clip.pixel_format
        stream.codec_context.time_base = stream.time_base = TIME_BASE if clip.codec != "mpeg4" else Fraction(1, 30)
        if clip.aspect:
            stream.sample_aspect_ratio = clip.aspect
        if clip.rotation or any(clip.flips):
            stream.set_display_rotation(clip.rotation, *clip.flips)
        audio = add_audio(container, clip.audio) if clip.audio else None
        for index, time in enumerate(clip.timestamps):
            frame = av.VideoFrame.from_ndarray(image(index, clip.width, clip.height), "rgb24")
            frame = frame.reformat(format=clip.pixel_format)
            frame.time_base = stream.codec_context.time_base
            frame.pts = round(time / frame.time_base)
            frame.duration = round(clip.durations[index % len(clip.durations)] * TIME_BASE / frame.time_base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio:
            write_tone(container, audio, float(clip.duration))
    return path


def add_audio(container: av.container.OutputContainer, codec: str) -> AudioStream:
    """Add a mono audio stream of 48 kHz to a container, and return it."""
    audio = container.add_stream(codec, rate=48000)
    assert isinstance(audio, AudioStream)
    audio.codec_context.layout = "mono"
    audio.codec_context.open()
    return audio


def write_tone(container: av.container.OutputContainer, audio: AudioStream, seconds: float) -> None:
    """Write a tone of 440 Hz."""
    samples = np.sin(np.arange(round(48000 * seconds)) * (2 * np.pi * 440 / 48000)) * 0.3
    size = audio.codec_context.frame_size or 1024
    name = audio.codec_context.format.packed.name
    values = samples.astype(np.float32) if name == "flt" else (samples * 32767).astype(np.int16)
    for start in range(0, len(values), size):
        frame = av.AudioFrame.from_ndarray(
            values[np.newaxis, start : start + size], format=audio.codec_context.format.name, layout="mono"
        )
        frame.rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        container.mux(audio.encode(frame))
    container.mux(audio.encode(None))


def audio_only(path: Path) -> Path:
    """Write a file that contains only audio, and return its path."""
    with av.open(str(path), "w") as container:
        write_tone(container, add_audio(container, "aac"), 0.5)
    return path


def timestamps(path: Path) -> list[Fraction]:
    """Return the presentation times of the frames of a file, in seconds."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [frame.pts * stream.time_base for frame in container.decode(stream)]


def frames(path: Path) -> list[np.ndarray]:
    """Return the frames of a file, uint8 RGB."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def audio_packets(path: Path) -> list[tuple[Fraction, bytes]]:
    """Return the time in seconds and the content of each packet of the first audio stream of a file."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in container.demux(stream) if packet.size]
