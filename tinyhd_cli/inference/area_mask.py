"""Read areas of interest from a mask image: each color or label is an area."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .area_values import MAX_AREAS, Drawing, drawn_area
from .polygons import Points

SIGNATURES = (b"\x89PNG", b"BM", b"GIF8", b"II*\0", b"MM\0*", b"\xff\xd8\xff", b"RIFF")
"""First bytes of the image formats that masks may have."""

FORMATS = ("PNG", "BMP", "GIF", "TIFF", "WEBP")
"""Without JPEG, whose compression adds flat colors that look like areas."""

MAX_PIXELS = 1 << 26
"""Maximum size of a mask, about 8,000 x 8,000."""

Codes = NDArray[np.float32]
"""One number per pixel ``(H, W)``: the label, or the color as 256 * (256 * red + green) + blue. Float32 is exact up to
2^24, and OpenCV filters it."""


def is_image(path: Path) -> bool:
    """Return whether a file begins like an image; ``OSError`` if it cannot be read."""
    with path.open("rb") as file:
        return file.read(8).startswith(SIGNATURES)


def mask_drawing(path: Path) -> Drawing:
    """Return the areas of a mask image, without the background: black, label 0, or transparent.

    A color or label is an area if it fills some square of 3 x 3 pixels. The others, which smooth edges add, count as
    the most similar of these.

    Raises:
        ValueError: it cannot be read as an image, or is not a mask.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is stricter
            image = Image.open(path, formats=FORMATS)
        with image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels; the limit of a mask is {MAX_PIXELS >> 20} MP")
            codes, are_colors = to_codes(image)
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, EOFError, OSError) as error:
        raise ValueError("is not an image that can be read as a mask; save it as PNG") from error
    size = (float(codes.shape[1]), float(codes.shape[0]))
    codes = without_edges(codes, are_colors)
    areas = [
        drawn_area(code_name(int(code), are_colors), outlines(codes == code), size)
        for code in np.unique(codes)
        if code > 0
    ]
    if not areas:
        raise ValueError("contains no area: everything is background (black, label 0, or transparent)")
    return Drawing(areas)


def to_codes(image: Any) -> tuple[Codes, bool]:
    """Return the codes of a Pillow image, and whether they are colors; else they are labels."""
    if image.mode in ("1", "L", "I", "I;16", "I;16B", "F"):
        labels = np.asarray(image).astype(np.float32)
        if not (np.isfinite(labels).all() and labels.min() >= 0 and labels.max() < 1 << 24):
            raise ValueError("labels must be from 0 to 16,777,215")
        return np.floor(labels), False
    pixels = np.asarray(image.convert("RGBA")).astype(np.float32)
    codes: Codes = pixels[..., 0] * 65536 + pixels[..., 1] * 256 + pixels[..., 2]
    return np.where(pixels[..., 3] < 128, 0, codes), True


def without_edges(codes: Codes, are_colors: bool) -> Codes:
    """Replace the colors or labels of smooth edges by the most similar one of an area."""
    square = np.ones((3, 3), np.uint8)
    solid = np.unique(codes[cv2.erode(codes, square) == cv2.dilate(codes, square)])
    if not len(solid):
        raise ValueError("is not a mask: no color fills an area; a mask has one flat color for each area")
    if len(solid) > MAX_AREAS:
        raise ValueError(f"is not a mask: {len(solid):,} colors fill areas; the limit is {MAX_AREAS}")
    found, index = np.unique(codes, return_inverse=True)
    parts = [(65536, 256), (256, 256), (1, 256)] if are_colors else [(1, 1 << 24)]
    steps, limits = np.array(parts).T
    colors, solid_colors = (values[:, None].astype(np.int64) // steps % limits for values in (found, solid))
    nearest = [int(np.argmin(((solid_colors - color) ** 2).sum(axis=1))) for color in colors]
    exact = np.isin(found, solid)
    return np.where(exact, found, solid[nearest])[index].reshape(codes.shape).astype(np.float32)


def code_name(code: int, is_color: bool) -> str:
    """Return the name of an area: ``label 3``, or its color as ``red`` or ``#e6194b``."""
    if not is_color:
        return f"label {code}"
    from PIL import ImageColor

    color = (code >> 16, code >> 8 & 255, code & 255)
    return next((name for name in ImageColor.colormap if ImageColor.getrgb(name) == color), f"#{code:06x}")


def outlines(mask: NDArray[np.bool_]) -> list[Points]:
    """Return the outlines of a mask ``(H, W)`` along the edges of its pixels, holes included."""
    # OpenCV traces the centers of pixels. In an image of twice the size, these are next to the edges of the pixels.
    doubled = np.kron(np.pad(mask, 1), np.ones((2, 2), np.uint8)).astype(np.uint8)
    contours, _ = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = []
    for contour in contours:
        points = (contour[:, 0].astype(np.int64) + 1) // 2 - 1
        points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
        before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
        turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
        if turns.any():
            rings.append(points[turns].astype(np.float64))
    return rings
