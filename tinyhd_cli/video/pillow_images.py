"""Decode images with Pillow: formats and color models that FFmpeg does not decode completely, and very large images."""

from __future__ import annotations

import io
import logging
import math
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, one_line

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger("tinyhd")

MAX_PIXELS = 1 << 26
"""Pixels of the largest image that is processed at its own size; an overlay needs about 20 bytes for each."""

MAX_STORED_PIXELS = 1 << 30
"""Pixels of the largest image that is decoded to be reduced; Pillow needs 4 bytes for each."""

HEIC_ADVICE = "reading HEIC needs pillow-heif: pip install 'tinyhd[heic]', or export the image as JPEG"

FORMATS = {"png": "PNG", "mjpeg": "JPEG", "bmp": "BMP", "tiff": "TIFF", "jpeg2000": "JPEG2000", "webp": "WEBP"}
"""Pillow's names of the formats that FFmpeg decodes, by FFmpeg's decoder; others have the same name in both."""

ORIENTATION = 0x0112
"""EXIF tag of the orientation."""


def opened(file: Path, stream: BinaryIO, kind: str) -> Image | None:
    """Open an image without decoding its pixels; None if Pillow cannot.

    Args:
        file: for messages.
        stream: its content; read from again when the pixels are decoded.
        kind: format as ``images.detect_decoder`` returns it.
    """
    from PIL import Image

    name = FORMATS.get(kind, kind.upper())
    if name == "HEIF":
        try:
            import pillow_heif
        except ImportError:
            raise InputError(f"{file}: {HEIC_ADVICE}") from None
        pillow_heif.register_heif_opener()
    Image.init()
    if name not in Image.OPEN:
        return None
    with suppress(OSError, ValueError, SyntaxError, EOFError):
        # Not Image.open, which refuses large images; they are reduced here.
        return Image.OPEN[name][0](stream, str(file))
    return None


def is_needed(image: Image, kind: str) -> bool:
    """Return whether Pillow must decode an image: FFmpeg cannot read it, ignores its profile, or cannot reduce it."""
    profile = image.mode == "CMYK" and bool(image.info.get("icc_profile"))
    return kind not in FORMATS or profile or image.width * image.height > MAX_PIXELS


def decode(file: Path, image: Image) -> NDArray[np.uint8]:
    """Return the upright image in sRGB, uint8 ``(h, w, 3)``, or ``(h, w, 4)`` if it is transparent.

    Raises:
        InputError: it is damaged or too large.
    """
    size = image.size
    if size[0] * size[1] > MAX_STORED_PIXELS:
        limit = math.isqrt(MAX_STORED_PIXELS)
        raise InputError(
            f"{file}: {size[0]} x {size[1]} pixels are too many (at most {limit} x {limit}); reduce it first"
        )
    factor = max(1.0, math.sqrt(size[0] * size[1] / MAX_PIXELS))
    fitted = (max(1, int(size[0] / factor)), max(1, int(size[1] / factor)))
    orientation, profile = orientation_of(image), image.info.get("icc_profile")
    try:
        image.draft(None, fitted)  # JPEG decodes directly at a half, a quarter, or an eighth
        image.load()
        pixels = as_rgb(eight_bits(image, factor > 1, fitted), profile)
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
        raise InputError(f"{file}: cannot be decoded ({one_line(error) or 'out of memory'})") from error
    if factor > 1:
        log.warning("%s: %d x %d pixels, reduced to %d x %d, the size of all outputs", file, *size, *fitted)
    return np.asarray(upright(pixels, orientation))


def orientation_of(image: Image) -> int:
    """Return the EXIF orientation of an image, 1 to 8; 1 (upright) if it has none, or if its EXIF data is damaged."""
    with suppress(OSError, ValueError, SyntaxError, EOFError, struct.error):
        orientation: int = image.getexif().get(ORIENTATION, 1)
        return orientation
    return 1


def eight_bits(image: Image, reduce: bool, size: tuple[int, int]) -> Image:
    """Return an image with 8 bits per component, reduced to ``size`` on request."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
    if image.mode == "1":
        image = image.convert("L")
    return image.resize(size, Image.Resampling.BOX) if reduce else image


def as_rgb(image: Image, profile: bytes | None) -> Image:
    """Return an image in sRGB, converted with its color profile if it has one that is valid."""
    from PIL import ImageCms

    if profile and image.mode in ("RGB", "CMYK"):
        with suppress(ImageCms.PyCMSError, OSError):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def upright(image: Image, orientation: int) -> Image:
    """Return an image with its EXIF orientation applied."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image
