"""Density maps in a video, one per frame: read in order, or any frame by an exact seek."""

from __future__ import annotations

import atexit
import itertools
import os
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ..errors import InputError
from ..video.container import main_video_stream
from ..video.options import InputOptions
from ..video.source import OpenedInput, open_container
from ..wording import plural
from .images import Map, read_map

OPEN_VIDEOS = 2
"""Number of map videos that a thread keeps open; the decoder of a Full HD map video holds about 80 MB of frames."""

INEXACT = ("mpeg",)
"""FFmpeg's names of formats that must be decoded from the start: after a seek, their timestamps are wrong."""

DECODER_THREADS = 4
"""Number of threads that decode a map video; each holds another frame, and videos are read in parallel anyway."""


@dataclass(frozen=True)
class MapFrame:
    """A frame of a map video, for ``read_density``."""

    path: Path
    index: int
    """Number of the frame in display order, from 0."""


@dataclass(frozen=True)
class MapHeader:
    """Properties of a map video that its container claims."""

    frames: int
    size: tuple[int, int]
    """Height and width."""


def read_density(source: Path | MapFrame) -> Map:
    """Return a density map ``(h, w)``: fixations blurred by a Gaussian, in any scale.

    Args:
        source: an image file, or a frame of a map video. A frame has the values of its luma plane as decoded: uint8, or
            uint16 for more than 8 bits.

    Raises:
        InputError: the file cannot be read, contains NaN or infinity, or has no such frame.
    """
    if isinstance(source, MapFrame):
        return open_map_video(source.path).read(source.index)
    density = read_map(source)
    if density.dtype.kind == "f" and not np.isfinite(density).all():
        raise InputError(f"{source}: contains NaN or infinity")
    return density


def read_header(path: Path) -> MapHeader:
    """Return the number and size of the frames of a map video; does not decode.

    Raises:
        InputError: the file cannot be read, or is not a video.
    """
    opened = open_container(path, InputOptions())
    try:
        stream = main_video_stream(path, opened.container)
        frames = indexed_frames(stream) or len(Timeline(path).times)
        return MapHeader(frames, (stream.codec_context.height, stream.codec_context.width))
    finally:
        opened.close()


def indexed_frames(stream: VideoStream) -> int:
    """Return the number of frames in the index of an MP4, without those that its edit list leaves out; 0 if unknown."""
    index: Any = getattr(stream, "index_entries", ())
    if not stream.frames or len(index) != stream.frames:
        return 0
    return int(stream.frames - sum(entry.is_discard for entry in index))


class Timeline:
    """Order of the frames of a map video, from the timestamps of its packets; does not decode.

    Attributes:
        times: presentation times of the frames, in display order.
        places: place of each frame in decoding order, by presentation time.
        key_times: presentation times of the key frames, in decoding order.
    """

    def __init__(self, path: Path) -> None:
        opened = open_container(path, InputOptions())
        try:
            stream = main_video_stream(path, opened.container)
            packets = [
                (packet.pts, packet.is_keyframe)
                for packet in readable(opened.container.demux(stream))
                if packet.size and not packet.is_discard
            ]
        finally:
            opened.close()
        found = [pts for pts, _ in packets if pts is not None]
        self.times = sorted(found)
        self.places = {pts: place for place, pts in enumerate(found)}
        self.key_times = [pts for pts, key in packets if key and pts is not None]
        if len(self.places) < len(packets):
            raise InputError(f"{path}: has frames without timestamps; convert it to MP4 (ffmpeg -i FILE -qp 0 OUT.mp4)")

    def key_before(self, index: int) -> int | None:
        """Return the presentation time of the last key frame that is displayed no later than a frame.

        A frame that is displayed before a key frame may depend on frames before it, even if it is stored after it.
        """
        position = bisect_right(self.key_times, self.times[index])
        return self.key_times[position - 1] if position else None


def readable(packets: Iterator[Any]) -> Iterator[Any]:
    """Yield packets up to the end of a file, or to the place where it is damaged."""
    while True:
        try:
            yield next(packets)
        except (StopIteration, av.FFmpegError, EOFError):
            return


class MapVideo:
    """An open map video.

    Args:
        path: the file.

    Raises:
        InputError: the file cannot be read, is not a video, or has no timestamps.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: OpenedInput | None = None
        self._decoded: Iterator[Any] = iter(())
        self._timeline = Timeline(path)
        self._restart()

    def __del__(self) -> None:  # when the thread that opened it ends
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._decoded = iter(())
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _restart(self) -> None:
        """Open the file at its start."""
        self.close()
        self._opened = open_container(self._path, InputOptions())
        self._stream = main_video_stream(self._path, self._opened.container)
        self._stream.thread_type = "AUTO"
        self._stream.codec_context.thread_count = DECODER_THREADS
        self._decoded = decode(self._opened.container.demux(self._stream))
        self._next = 0

    def read(self, index: int) -> Map:
        """Return a map, uint8 or uint16 ``(h, w)``, given its number in display order.

        Raises:
            InputError: there is no such frame, or it cannot be decoded.
        """
        times = self._timeline.times
        if not 0 <= index < len(times):
            raise InputError(f"{self._path}: has no frame {index + 1}, only {plural(len(times), 'frame')}")
        key = self._timeline.key_before(index)
        ahead = key is not None and bisect_left(times, key) > self._next
        if index < self._next or ahead:
            self._seek(key)
        for av_frame in self._decoded:
            self._next = bisect_left(times, av_frame.pts) + 1
            if av_frame.pts == times[index]:
                values = luma(av_frame)
                if self._next == len(times):  # most readers are done now, and the decoder holds many frames
                    self.close()
                return values
            if av_frame.pts > times[index]:
                break
        self._next = len(times)  # seek before the next frame is read
        raise InputError(f"{self._path}: frame {index + 1} cannot be decoded; copy or download the file again")

    def _seek(self, key: int | None) -> None:
        """Continue at a key frame, or before it, given its presentation time; None for the start of the file."""
        if self._opened is None:
            self._restart()
        places = self._timeline.places
        if key is not None and self._opened is not None and self._opened.container.format.name not in INEXACT:
            container = self._opened.container
            container.seek(key, stream=self._stream, backward=True)
            packets = container.demux(self._stream)
            first = next(readable(packets), None)
            # Demuxers search by decoding or by presentation time, some of them imprecisely.
            if first is not None and places.get(first.pts, places[key] + 1) <= places[key]:
                self._decoded = decode(itertools.chain([first], packets))
                self._next = 0
                return
        self._restart()


def decode(packets: Iterator[Any]) -> Iterator[Any]:
    """Yield the frames of packets in display order, without those that cannot be decoded."""
    for packet in readable(packets):
        try:
            av_frames = packet.decode()
        except (av.FFmpegError, EOFError):
            continue
        yield from (av_frame for av_frame in av_frames if av_frame.pts is not None and not av_frame.is_corrupt)


def luma(av_frame: av.VideoFrame) -> Map:
    """Return the brightness of a frame as stored, uint8 or uint16 ``(h, w)``: Y, or green of an RGB frame."""
    if not is_first_plane(av_frame.format.name):
        deep = max(component.bits for component in av_frame.format.components) > 8
        av_frame = av_frame.reformat(format="gbrp16le" if deep else "gbrp")
    plane = av_frame.planes[0]
    deep = av_frame.format.components[0].bits > 8
    values = np.frombuffer(
        cast("Any", plane), (">" if av_frame.format.is_big_endian else "<") + ("u2" if deep else "u1")
    )
    rows: NDArray[Any] = values.reshape(plane.height, -1)[:, : plane.width]
    return rows.astype(np.uint16 if deep else np.uint8)


@cache
def is_first_plane(pixel_format: str) -> bool:
    """Return whether the first plane of frames of a format has their brightness and nothing else."""
    form = av.VideoFormat(pixel_format)
    shared = any(component.plane == 0 for component in form.components[1:])
    return not (form.is_rgb or form.has_palette or form.is_bit_stream or shared)


class OpenVideos(threading.local):
    """The map videos that a thread has open, by path, size and modification time; the last one was used last."""

    def __init__(self) -> None:
        self.videos: dict[tuple[str, int, int], MapVideo] = {}


opened_by_thread = OpenVideos()

inherited: list[object] = []
"""The map videos that the parent of a forked process had open."""


def close_all() -> None:
    """Close the map videos of the main thread, while PyAV still can."""
    opened_by_thread.videos.clear()


def leave_open() -> None:
    """Neither use nor close the decoders of the parent process: their threads do not exist in a forked one."""
    inherited.append(opened_by_thread.videos)
    opened_by_thread.videos = {}


atexit.register(close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=leave_open)


def open_map_video(path: Path) -> MapVideo:
    """Return the open map video of a file; the one that this thread has not used for the longest time is closed.

    Raises:
        InputError: the file cannot be read, is not a video, or has no timestamps.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    key, videos = (str(path), state.st_size, state.st_mtime_ns), opened_by_thread.videos
    video = videos.pop(key, None) or MapVideo(path)
    videos[key] = video
    while len(videos) > OPEN_VIDEOS:
        videos.pop(next(iter(videos))).close()
    return video
