"""Open a video: a file, a pipe, a network stream or a camera. FFmpeg may not open files that an input refers to."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer

from .. import storage
from ..atomic_files import is_stream
from ..errors import InputError, one_line
from .options import InputOptions

STDIN = Path("-")
"""The path that means standard input."""

IMAGE_SUFFIXES = frozenset(".png .jpg .jpeg .jfif .bmp .tif .tiff .webp .jp2 .avif .heic .heif".split())
"""Suffixes of images that are read as a video, one frame per file."""

METADATA_OPTIONS: dict[str, Any] = {"metadata_errors": "replace"} if "metadata_errors" in str(av.open.__doc__) else {}
"""Arguments that make ``av.open`` accept metadata that is not UTF-8. PyAV 19 always does and has no such argument."""

TIMEOUT_S = 10.0
"""Seconds to wait for data of a network stream."""

READ_BYTES = 1 << 17
"""Size of FFmpeg's read buffer in bytes."""

MERGE_OPTIONS = {"merge_pmt_versions": "1"}
"""FFmpeg options with which streams of concatenated transport streams continue even if their IDs change."""

NO_PROTOCOLS = {"protocol_whitelist": "none", **MERGE_OPTIONS}
"""FFmpeg options of an input that must not open other files. (An empty list of protocols would allow all.)"""

TRANSPORT_PROTOCOLS = "tcp,udp,tls,crypto,data"
"""Protocols on which other protocols are based; none of them can open local files."""

PROTOCOLS = {
    "http": "http,https,httpproxy",
    "https": "http,https,httpproxy",
    "rtsp": "rtsp,rtp,srtp",
    "rtsps": "rtsp,rtp,srtp",
}
"""Protocols that a URL may use in addition to its own and those of ``TRANSPORT_PROTOCOLS``."""

PLAYLISTS = {
    "ffconcat": rb"ffconcat\b",
    "HLS": rb"#EXTM3U",
    "SDP": rb"v=0\s",
    "DASH": rb"<(\?xml|MPD)[^\0]*?<?MPD\b",
    "Smooth Streaming": rb"<[^\0]*?SmoothStreamingMedia\b",
    "VobSub": rb"# VobSub index file",
}
"""Patterns of the first bytes of files that refer to other files or addresses, by the name of the format."""


@dataclass
class OpenedInput:
    """An input that is open in FFmpeg, with its Python file object, if any."""

    container: InputContainer
    file: BinaryIO | None = None

    def close(self) -> None:
        """Close the container and the file object."""
        self.container.close()
        if self.file is not None:
            self.file.close()


class Pipe:
    """File object through which FFmpeg reads a pipe, without seeking.

    Attributes:
        head: the first 12 bytes read.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.name = "pipe"  # FFmpeg would use the suffix of another name
        self.head = b""

    def read(self, size: int) -> bytes:
        """Return the next bytes; empty at the end."""
        data = self._file.read(size)
        if len(self.head) < 12:
            self.head = (self.head + data)[:12]
        return data

    def close(self) -> None:
        """Close the pipe, unless it is standard input."""
        if self._file is not sys.stdin.buffer:
            self._file.close()


def is_read_once(path: Path) -> bool:
    """Return whether an input can be read only once: standard input, a named pipe or a device."""
    return path == STDIN or is_stream(path)


def images_in(folder: Path) -> list[Path]:
    """Return the images of a folder in natural order (2 before 10); all formats are included."""
    found = [
        path
        for path in storage.files_in(folder)
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    ]
    return sorted(found, key=lambda path: (natural_key(path.stem), path.name))


def natural_key(name: str) -> list[str | int]:
    """Return a sort key for natural order: text and numbers, alternating."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def open_container(path: Path, options: InputOptions, device: HWAccel | None = None) -> OpenedInput:
    """Open an input in FFmpeg.

    Args:
        path: the input.
        options: properties of the input that it does not contain.
        device: hardware to decode a file on.

    Raises:
        InputError: it does not exist, cannot be read, or is not a video.
    """
    try:
        if options.address:
            return OpenedInput(open_address(options))
        if is_read_once(path):
            return open_pipe(path, options)
        if storage.file_size(path) == 0:
            raise InputError(f"{path}: is empty")
        if options.playlists:
            if storage.url_of(path) is not None:
                raise InputError(f"{path}: --allow-playlists reads local files only; download the playlist's files")
            protocols = {"protocol_whitelist": "file,pipe", "safe": "0", **MERGE_OPTIONS}
            return OpenedInput(av_open(ffmpeg_name(path), protocols, hwaccel=device))
        return open_file(path, device)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except PermissionError:
        raise InputError(f"{path}: permission denied") from None
    except (av.FFmpegError, OSError, EOFError, ValueError) as error:
        raise InputError(f"{path}: not a video that FFmpeg can read ({ffmpeg_reason(error)})") from error


def av_open(source: object, options: dict[str, str], **arguments: Any) -> InputContainer:
    """Open a name or a file with ``av.open``."""
    return cast("InputContainer", av.open(source, "r", options=options, **METADATA_OPTIONS, **arguments))


def open_file(path: Path, device: HWAccel | None = None) -> OpenedInput:
    """Open a file such that FFmpeg cannot open any other file, whatever the content."""
    file = storage.open_file(path)
    try:
        return OpenedInput(av_open(file, NO_PROTOCOLS, buffer_size=READ_BYTES, hwaccel=device), file)
    except BaseException as error:
        file.seek(0)
        head = file.read(2048).lstrip(b"\xef\xbb\xbf \t\r\n")
        file.close()
        kind = next((kind for kind, pattern in PLAYLISTS.items() if re.match(pattern, head)), None)
        if kind is None or not isinstance(error, Exception):
            raise
        can = "can refer to any other file; to read it, use --allow-playlists"
        raise InputError(f"{path}: is a playlist ({kind}), which {can}") from error


def open_address(options: InputOptions) -> InputContainer:
    """Open a stream or a camera. A stream may refer to other network addresses, but not to local files."""
    if options.format is not None:
        return av_open(options.address, {}, format=options.format, timeout=TIMEOUT_S)
    scheme = options.address.partition(":")[0].lower()
    allowed = f"{scheme},{PROTOCOLS.get(scheme, '')},{TRANSPORT_PROTOCOLS}".replace(",,", ",")
    return av_open(options.address, {"protocol_whitelist": allowed, **MERGE_OPTIONS}, timeout=TIMEOUT_S)


def open_pipe(path: Path, options: InputOptions) -> OpenedInput:
    """Open standard input or a pipe: raw RGB if a size is given, else the format that FFmpeg detects."""
    file = standard_input() if path == STDIN else path.open("rb", buffering=0)
    pipe = Pipe(file)
    if os.isatty(file.fileno()):
        pipe.close()
        raise InputError(f"{path}: is a terminal; pipe a video into tinyhd")
    try:
        if options.size is None:
            return OpenedInput(av_open(pipe, NO_PROTOCOLS), cast("BinaryIO", pipe))
        width, height = options.size
        raw = {"video_size": f"{width}x{height}", "pixel_format": "rgb24", "framerate": str(options.rate)}
        return OpenedInput(av_open(pipe, NO_PROTOCOLS | raw, format="rawvideo"), cast("BinaryIO", pipe))
    except BaseException as error:
        pipe.close()
        if isinstance(error, Exception) and not pipe.head:
            raise InputError(f"{path}: is empty") from error
        if isinstance(error, Exception) and pipe.head[4:8] == b"ftyp":
            raise trailing_index_error(path) from error
        raise


def trailing_index_error(path: Path) -> InputError:
    """Return the error for a pipe whose index is at its end."""
    return InputError(
        f"{path}: cannot be read from a pipe, because the index of this MP4 or MOV is at its end; give the file, or"
        " remux it with -movflags +faststart"
    )


def standard_input() -> BinaryIO:
    """Return standard input, if data is piped into it."""
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("-: nothing is piped in; for example: ffmpeg -i clip.mp4 -f yuv4mpegpipe - | tinyhd predict -")
    return sys.stdin.buffer


def ffmpeg_name(path: Path) -> str:
    """Return a path as an FFmpeg URL; FFmpeg would parse text before a colon as a protocol."""
    return f"file:{path}"


def ffmpeg_reason(error: BaseException) -> str:
    """Return FFmpeg's message of an error, without the error number and the file name."""
    return getattr(error, "strerror", None) or one_line(error)
