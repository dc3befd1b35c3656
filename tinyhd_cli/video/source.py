"""What a video can come from: a file, a pipe, a folder of pictures."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from av.container import InputContainer

from ..errors import InputError, UsageError, one_line

STDIN = Path("-")
"""Stands for standard input."""

PICTURE_FORMATS = {
    ".png": "png_pipe",
    ".jpg": "jpeg_pipe",
    ".jpeg": "jpeg_pipe",
    ".bmp": "bmp_pipe",
    ".tif": "tiff_pipe",
    ".tiff": "tiff_pipe",
    ".webp": "webp_pipe",
}
"""Suffixes of pictures, and what FFmpeg calls a row of them."""

DEFAULT_RATE = Fraction(25)
"""Frames a second where nothing says."""


TOLERANT: dict[str, Any] = {"metadata_errors": "replace"} if "metadata_errors" in str(av.open.__doc__) else {}
"""Makes ``av.open`` accept metadata that are not UTF-8. PyAV 19 does so by itself and has no such argument."""

TIMEOUT_S = 10.0
"""How long a stream may keep us waiting."""


@dataclass(frozen=True)
class InputOptions:
    """What an input does not say of itself."""

    rate: Fraction = DEFAULT_RATE
    """Frames a second of pictures in a folder and of raw video."""
    size: tuple[int, int] | None = None
    """Width and height of raw RGB video from standard input; None: the pipe says what it is (y4m, Matroska, ...)."""
    address: str = ""
    """A stream's URL or a camera's name, to be opened instead of the path."""
    format: str | None = None
    """What FFmpeg calls the kind of camera."""

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1000:
            raise UsageError(f"--rate must be above 0 and at most 1000 frames a second, not {self.rate}")
        if self.size is not None and min(self.size) < 1:
            raise UsageError(f"--size must be above 0, not {self.size[0]}x{self.size[1]}")


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of ``640x360``; ``UsageError`` if it is none."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None:
        raise UsageError(f"--size {text!r}: must be WIDTHxHEIGHT, such as 640x360")
    return int(match[1]), int(match[2])


def as_rate(value: float) -> Fraction:
    """A rate as people write it; 29.97 and the like are the fractions of television."""
    television = Fraction(round(value * 1.001) * 1000, 1001)
    return television if abs(value - television) < 0.005 and value != round(value) else Fraction(str(value))


class Joined(io.RawIOBase):
    """Several files as if they were one, opened one after the other."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = iter(paths)
        self._file: io.BufferedReader | None = None

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """The next bytes; empty at the end of the last file."""
        while True:
            if self._file is None:
                path = next(self._paths, None)
                if path is None:
                    return b""
                self._file = path.open("rb")
            if data := self._file.read(size):
                return data
            self._file.close()
            self._file = None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        super().close()


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of their numbers; those of the most common kind if there are several."""
    found = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in PICTURE_FORMATS and not path.name.startswith(".") and path.is_file()
    ]
    kinds = [PICTURE_FORMATS[path.suffix.lower()] for path in found]
    if not kinds:
        return []
    most = max(sorted(set(kinds)), key=kinds.count)
    chosen = [path for path, kind in zip(found, kinds, strict=True) if kind == most]
    return sorted(chosen, key=lambda path: ([int(part) for part in re.findall(r"\d+", path.stem)], path.name))


def open_container(path: Path, options: InputOptions) -> InputContainer:
    """An input, opened by FFmpeg; ``InputError`` says in one line why it is not."""
    try:
        if options.address:
            return av.open(options.address, "r", format=options.format, timeout=TIMEOUT_S)
        if path == STDIN:
            return open_pipe(options)
        if path.is_dir():
            return open_pictures(path, options)
        if path.is_file() and path.stat().st_size == 0:
            raise InputError(f"{path}: is empty")
        return cast("InputContainer", av.open(ffmpeg_name(path), **TOLERANT))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except PermissionError:
        raise InputError(f"{path}: permission denied") from None
    except (av.FFmpegError, OSError, EOFError, ValueError) as error:
        raise InputError(f"{path}: not a video that FFmpeg can read ({ffmpeg_reason(error)})") from error


def open_pipe(options: InputOptions) -> InputContainer:
    """Standard input: raw RGB if a size is given, else whatever FFmpeg finds that it is."""
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("-: nothing is piped in; for example: ffmpeg -i clip.mp4 -f yuv4mpegpipe - | tinyhd predict -")
    if options.size is None:
        return cast("InputContainer", av.open(sys.stdin.buffer, "r", **TOLERANT))
    width, height = options.size
    raw = {"video_size": f"{width}x{height}", "pixel_format": "rgb24", "framerate": str(options.rate)}
    return av.open(sys.stdin.buffer, "r", format="rawvideo", options=raw)


def open_pictures(folder: Path, options: InputOptions) -> InputContainer:
    """The pictures of a folder as a video."""
    paths = pictures_in(folder)
    if not paths:
        raise InputError(f"{folder}: is a folder without pictures; name one video")
    kind = PICTURE_FORMATS[paths[0].suffix.lower()]
    return av.open(Joined(paths), "r", format=kind, options={"framerate": str(options.rate)})


def ffmpeg_name(path: Path) -> str:
    """A path for FFmpeg, which would take what stands before a colon for a protocol."""
    return f"file:{path}"


def ffmpeg_reason(error: BaseException) -> str:
    """What FFmpeg says of an error, without its number and the file's name."""
    return getattr(error, "strerror", None) or one_line(error)
