"""Read an image or a folder of images as a video. Each file gives one frame, even if it contains several images."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
import numpy as np
from av.codec import CodecContext

from .. import storage
from ..errors import InputError, one_line
from . import pillow_images
from .decoded import Decoded, Orientation, read_orientation
from .options import InputOptions
from .source import IMAGE_SUFFIXES, ffmpeg_reason, images_in

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

log = logging.getLogger("tinyhd")

SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "mjpeg"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"\0\0\0\x0cjP  ", "jpeg2000"),
    (b"\xff\x4f\xff\x51", "jpeg2000"),
)
"""First bytes of image files, and FFmpeg's decoder. The suffix is not used, because it is often wrong."""

WEBP = "webp"
ANIMATED_WEBP = "animated webp"
"""Detected format that Pillow decodes, because FFmpeg has no decoder."""

AVIF, HEIF = "avif", "heif"
"""Detected formats that Pillow decodes, because FFmpeg does not assemble images of several tiles."""

BRANDS = {b"avif": AVIF, b"heic": HEIF, b"heix": HEIF, b"heim": HEIF, b"heis": HEIF, b"mif1": HEIF}
"""Formats by the brands of ISO base media files that are images, the most specific first."""

DOCUMENTS = {b"%PDF-": "a PDF document", b"8BPS": "a Photoshop document", b"%!PS": "a PostScript document"}
"""First bytes of files that people take for images. FFmpeg would show a part of some of them."""

HEAD_BYTES = 4096
"""Bytes of a file that are read to detect its format."""

WORKERS = min(4, os.cpu_count() or 1)
"""Number of images that are decoded in parallel."""


def detect_decoder(head: bytes) -> str | None:
    """Return the decoder for an image file with these first bytes; None if it is not an image."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return ANIMATED_WEBP if head[12:16] == b"VP8X" and head[20] & 2 else WEBP
    if head[4:8] == b"ftyp":
        brands = head[8 : int.from_bytes(head[:4], "big")]
        return next((kind for brand, kind in BRANDS.items() if brand in brands), None)
    return next((codec for signature, codec in SIGNATURES if head.startswith(signature)), None)


def is_animated_png(head: bytes) -> bool:
    """Return whether a PNG file with these first bytes is animated; FFmpeg then reads it as a video."""
    return b"acTL" in head.partition(b"IDAT")[0]


def is_static_image(path: Path) -> bool:
    """Return whether a file contains an image that is not animated; False if it cannot be read, or only once.

    In a store, the suffix decides, because millions of files would have to be opened; WebP may be animated.
    """
    suffix = path.suffix.lower()
    if storage.url_of(path) is not None and not path.is_file():
        if suffix == ".webp":
            with contextlib.closing(storage.open_file(path)) as file:
                return detect_decoder(file.read(HEAD_BYTES)) not in (None, ANIMATED_WEBP)
        return suffix in IMAGE_SUFFIXES
    if not path.is_file():  # the first bytes of a pipe would be lost
        return False
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return False
    kind = detect_decoder(head)
    return kind not in (None, ANIMATED_WEBP) and not (kind == "png" and is_animated_png(head))


def stored_size(file: Path) -> tuple[int, int] | None:
    """Return width and height of an image as it is stored, without decoding it; None if they cannot be read."""
    try:
        with file.open("rb") as stream:
            kind = detect_decoder(stream.read(HEAD_BYTES))
            stream.seek(0)
            image = pillow_images.opened(file, stream, kind) if kind else None
            return image.size if image else None
    except (OSError, InputError):
        return None


class ImageDecoder:
    """Decodes image files in parallel, one frame per file. Implements ``decoded.Decoder``.

    Args:
        files: the images, in order.
        rate: frames per second.
    """

    has_audio = False

    def __init__(self, files: Sequence[Path], rate: Fraction) -> None:
        self._files = files
        self.rate = rate
        self.time_base = 1 / rate
        self.frame_count: int | None = len(files)
        self.damaged = 0
        self.codec = ""

    def decode(self) -> Iterator[Decoded]:
        """Yield one frame per file; a file that cannot be decoded leaves a gap, unless it is the only one."""
        if len(self._files) == 1:
            self.codec, decoded = decode_image(self._files[0], 0)
            yield decoded
            return
        waiting: deque[Future[tuple[str, Decoded]]] = deque()
        with ThreadPoolExecutor(WORKERS) as pool:
            for number, file in enumerate(self._files):
                waiting.append(pool.submit(decode_image, file, number))
                if len(waiting) > WORKERS:
                    yield from self._finished(waiting.popleft())
            while waiting:
                yield from self._finished(waiting.popleft())

    def _finished(self, image: Future[tuple[str, Decoded]]) -> Iterator[Decoded]:
        try:
            codec, decoded = image.result()
        except InputError as error:
            log.warning("%s", error)
            self.damaged += 1
        else:
            self.codec = self.codec or codec
            yield decoded

    def end(self) -> int | None:
        """Return the end of the last image; all images have the same duration."""
        return len(self._files)

    def close(self) -> None:
        """Do nothing: no file stays open."""


def decode_image(file: Path, number: int) -> tuple[str, Decoded]:
    """Decode the first image of a file.

    Args:
        file: the image file.
        number: number of the frame, from 0, which becomes its timestamp.

    Returns:
        FFmpeg's name of the codec, and the frame.

    Raises:
        InputError: it cannot be read or decoded.
    """
    try:
        data = file.read_bytes()
        kind = detect_decoder(data[:HEAD_BYTES])
        if kind is None:
            raise InputError(f"{file}: is not an image, despite its suffix")
        if kind == ANIMATED_WEBP:
            return WEBP, Decoded(next(animation(file, data))[0], Orientation(0, False, Fraction(1)), number, file)
        image = pillow_images.opened(file, io.BytesIO(data), kind)
        if image is not None and pillow_images.is_needed(image, kind):
            pixels = pillow_images.decode(file, image)
            av_frame = av.VideoFrame.from_ndarray(pixels, "rgba" if pixels.shape[2] == 4 else "rgb24")
            return kind, Decoded(av_frame, Orientation(0, False, Fraction(1)), number, file)
        if kind in BRANDS.values():
            raise InputError(f"{file}: is damaged, or this Pillow cannot read {kind.upper()}")
        context = cast("VideoCodecContext", CodecContext.create(kind, "r"))
        context.thread_count = 1  # other images are decoded in parallel
        packet = av.Packet(data)
        packet.is_keyframe = True  # else the PNG decoder would blend it with the previous image
        av_frame = (context.decode(packet) or context.decode(None))[0]
    except (av.FFmpegError, OSError, EOFError, IndexError) as error:
        raise InputError(f"{file}: cannot be decoded ({ffmpeg_reason(error)})") from error
    if av_frame.is_corrupt:
        raise InputError(f"{file}: is damaged")
    return kind, Decoded(av_frame, read_orientation(av_frame, Fraction(1)), number, file)


class AnimationDecoder:
    """Decodes an animated WebP. Implements ``decoded.Decoder``."""

    has_audio = False
    codec = "webp"
    time_base = Fraction(1, 1000)

    def __init__(self, path: Path) -> None:
        self._path = path
        self._end = 0
        data = path.read_bytes()
        self._frames = animation(path, data)
        durations = durations_ms(data)
        self.frame_count: int | None = len(durations)
        self.rate = Fraction(1000 * len(durations), max(1, sum(durations)))
        self.damaged = 0

    def decode(self) -> Iterator[Decoded]:
        """Yield every frame of the animation."""
        try:
            for av_frame, duration_ms in self._frames:
                yield Decoded(av_frame, Orientation(0, False, Fraction(1)), self._end)
                self._end += max(1, duration_ms)
        except InputError as error:
            log.debug("%s", error)
            self.damaged += 1

    def end(self) -> int | None:
        """Return the end of the last frame so far, in milliseconds."""
        return self._end

    def close(self) -> None:
        """Do nothing: no file stays open."""


def animation(path: Path, data: bytes) -> Iterator[tuple[av.VideoFrame, int]]:
    """Yield the frames of an animated WebP with their durations in milliseconds; ``InputError`` if it is damaged."""
    try:
        from PIL import Image, ImageSequence
    except ImportError:
        raise InputError(f"{path}: reading animated WebP needs Pillow; install it with pip install pillow") from None
    try:
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
            for frame in ImageSequence.Iterator(image):
                pixels = np.asarray(frame.convert("RGBA"))  # the duration is known once the frame is decoded
                yield av.VideoFrame.from_ndarray(pixels, "rgba"), int(frame.info.get("duration", 0))
    except (OSError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: this animated WebP cannot be decoded: {one_line(error)}") from error


def durations_ms(data: bytes) -> list[int]:
    """Return the duration of each frame of an animated WebP from its ANMF chunks, in milliseconds."""
    found, at = [], 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"ANMF":
            found.append(max(1, int.from_bytes(data[at + 20 : at + 23], "little")))
        at += 8 + size + size % 2
    return found


@contextlib.contextmanager
def local_images(path: Path) -> Iterator[None]:
    """Copy an image, or the images of a folder, from its store for the time of the block; do nothing for other paths.

    Raises:
        InputError: they cannot be read.
    """
    folder = storage.url_of(path) is not None and storage.is_folder(path)
    if storage.url_of(path) is None or not (folder or path.suffix.lower() in IMAGE_SUFFIXES):
        yield
        return
    files = images_in(path) if folder else [path]
    if all(map(storage.is_used, files)):  # copied already
        yield
        return
    storage.hold(path, files if folder else None)
    try:
        yield
    finally:
        storage.release(path)


def image_decoder(path: Path, options: InputOptions) -> ImageDecoder | AnimationDecoder | None:
    """Return the decoder of an image or a folder of images; None for other paths.

    Raises:
        InputError: a folder has no images.
    """
    if path.is_dir():
        files = images_in(path)
        if not files:
            raise InputError(f"{path}: is a folder without images; give a video")
        return ImageDecoder(files, options.rate)
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:  # reported when the file is opened next
        return None
    for signature, name in DOCUMENTS.items():
        if head.startswith(signature):
            raise InputError(f"{path}: is {name}, not an image; export it as PNG or JPEG")
    kind = detect_decoder(head) if path.suffix.lower() in IMAGE_SUFFIXES else None
    if kind is None or (kind == "png" and is_animated_png(head)):
        return None
    return AnimationDecoder(path) if kind == ANIMATED_WEBP else ImageDecoder([path], options.rate)
