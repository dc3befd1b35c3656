"""Define the options for reading, encoding and drawing, for the command line and the Python API. Imports no FFmpeg."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError, did_you_mean
from ..fields import LOOK, RUN, option

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEFAULT_RATE = Fraction(25)
"""Frames per second if the input does not state a rate."""

HEAT_THRESHOLD, OBJECT_THRESHOLD = 0.1, 0.5
"""Defaults of ``OverlayStyle.threshold``: of a saliency map, and of an object's probability."""

HEAT_ALPHA, OBJECT_ALPHA = 0.6, 0.35
"""Defaults of ``OverlayStyle.alpha``: of the most salient points, and of the tint on objects."""

OBJECT_LEVEL = 0.75
"""Position in the colormap of the color of objects; the ends of many colormaps are black, white or dark."""

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
"""Names of x264's presets, from the fastest to the most efficient."""


NUMBER = re.compile(r"%0?(\d*)d(?!.*%0?\d*d)")
"""The last placeholder for the number of a frame in a file name, as in FFmpeg: ``%d`` or ``%05d``."""


def is_numbered(path: Path) -> bool:
    """Return whether a path is a name for PNGs, with a placeholder for the number of the frame."""
    return path.suffix.lower() == ".png" and NUMBER.search(path.name) is not None


def numbered(pattern: str, number: int) -> str:
    """Return a file name with the number of a frame, from 1, instead of the placeholder."""
    return NUMBER.sub(lambda match: f"{number:0{int(match[1] or 1)}d}", pattern)


def parse_size(text: str) -> tuple[int, int]:
    """Parse a size such as ``640x360`` to width and height; ``UsageError`` if it is malformed."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None:
        raise UsageError(f"--size {text!r}: must be WIDTHxHEIGHT, such as 640x360")
    return int(match[1]), int(match[2])


def to_frame_rate(value: float) -> Fraction:
    """Return frames per second as a fraction; 23.976, 29.97 and 59.94 become the exact rates of NTSC television."""
    ntsc = Fraction(round(value * 1.001) * 1000, 1001)
    return ntsc if abs(value - ntsc) < 0.005 and value != round(value) else Fraction(str(value))


@dataclass(frozen=True)
class InputOptions:
    """Properties of an input that it does not contain. Raises ``UsageError`` for invalid values."""

    rate: Fraction = option(
        DEFAULT_RATE,
        RUN,
        "N",
        "Frames per second of image folders and raw video.",
        kind=float,
        written=25,
        parse=to_frame_rate,
    )
    size: tuple[int, int] | None = option(
        None, RUN, "WxH", "Read standard input as raw RGB (rgb24) frames of this size.", kind=str, parse=parse_size
    )
    """None: the pipe has a container format that states the size (y4m, Matroska, ...)."""
    address: str = ""
    """URL of a stream or name of a camera to open instead of the path."""
    format: str | None = None
    """FFmpeg's input format of the camera, such as ``v4l2``."""
    playlists: bool = option(
        False,
        RUN,
        "",
        "Read playlists, which refer to other files: ffconcat, HLS, DASH, SDP.",
        flag="allow-playlists",
    )

    hwaccel: str = option(
        "none",
        RUN,
        "none|auto|NAME",
        "Decode videos on hardware: auto, or FFmpeg's name of a device such as cuda or videotoolbox. The software"
        " decodes them if the frames differ.",
    )

    as_video: bool = option(False, RUN, "", "Read the images of a folder as the frames of one video.")
    as_images: bool = option(False, RUN, "", "Read each image of a folder separately.")
    """Neither: the images of a folder are frames if their sizes are equal and their names count on."""

    def __post_init__(self) -> None:
        if self.as_video and self.as_images:
            raise UsageError("--as-video and --as-images contradict each other: give one of them")
        if not 0 < self.rate <= 1000:
            raise UsageError(f"--rate must be above 0 and at most 1000 frames per second, not {self.rate}")
        if self.size is not None and min(self.size) < 1:
            raise UsageError(f"--size must be above 0, not {self.size[0]}x{self.size[1]}")
        if self.hwaccel not in ("none", "auto"):
            from av.codec.hwaccel import hwdevices_available

            if self.hwaccel not in (known := hwdevices_available()):
                raise UsageError(f"--hwaccel {self.hwaccel!r} is unknown: {did_you_mean(self.hwaccel, known)}")


@dataclass(frozen=True)
class EncoderOptions:
    """Codec, quality and speed of video encoding. Raises ``UsageError`` for invalid values."""

    codec: str | None = option(
        None,
        LOOK,
        "NAME",
        "h264, hevc, vp9, av1, mpeg4, or the name of an FFmpeg encoder. Default: depends on the container.",
    )
    crf: float = option(18, LOOK, "N", "Quality: lower is better.", kind=int)
    """Constant rate factor, from 0 (best) to 63 (smallest); the maximum of h264 and hevc is 51."""
    preset: str = option("veryfast", LOOK, "NAME", "Encoding speed, ultrafast to veryslow.")
    """Trade-off between speed and file size, one of ``PRESETS``; other encoders get their nearest setting."""

    def __post_init__(self) -> None:
        if not 0 <= self.crf <= 63:
            raise UsageError(f"--crf must be between 0 and 63, not {self.crf:g}")
        if self.preset not in PRESETS:
            raise UsageError(f"--preset {self.preset!r} is unknown: {did_you_mean(self.preset, PRESETS)}")
        if self.codec is not None:
            from .codecs import available_encoders, known_names

            if not available_encoders(self.codec):
                raise UsageError(f"--codec {self.codec!r} is not available: {did_you_mean(self.codec, known_names())}")


COLORMAPS = "turbo viridis magma inferno plasma cividis jet hot gray".split()
"""Colormaps whose tables are in ``colormaps.npz``: importing Matplotlib takes as long as a second of video."""


@dataclass(frozen=True)
class OverlayStyle:
    """Colors and layout of an overlay. Raises ``UsageError`` for invalid values."""

    colormap: str = option("turbo", LOOK, "NAME", "Any Matplotlib colormap.")
    alpha: float | None = option(
        None, LOOK, "0..1", "Opacity of the most salient regions (default: 0.6), or of the tint on objects (0.35)."
    )
    """Opacity of the most salient points, 0 to 1; it decreases with saliency to 0 at ``threshold``."""
    threshold: float | None = option(
        None,
        LOOK,
        "0..1",
        "Saliency below which nothing is drawn (default: 0.1), or probability above which a pixel is part of an object"
        " (0.5).",
    )
    side_by_side: bool = option(False, LOOK, "", "Show the source to the left of the overlay.")

    def __post_init__(self) -> None:
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            raise UsageError(f"--alpha must be between 0 and 1, not {self.alpha:g}")
        if self.threshold is not None and not 0 <= self.threshold < 1:
            raise UsageError(f"--threshold must be at least 0 and below 1, not {self.threshold:g}")
        if self.colormap not in COLORMAPS and self.colormap not in (known := all_colormaps()):
            raise UsageError(f"--colormap {self.colormap!r} is unknown: {did_you_mean(self.colormap, known)}")

    def opacity(self) -> NDArray[np.float64]:
        """Return the opacity of each of 256 saliency levels, ``(256, 1)``, in 0..1."""
        import numpy as np

        threshold = HEAT_THRESHOLD if self.threshold is None else self.threshold
        alpha = HEAT_ALPHA if self.alpha is None else self.alpha
        above = np.clip((np.linspace(0, 1, 256) - threshold) / (1 - threshold), 0, 1)
        # Quadratic ease-out to full opacity at the middle of the range: no visible edge at the threshold.
        return np.asarray(alpha * (1 - np.clip(1 - 2 * above, 0, 1) ** 2)[:, np.newaxis])

    @property
    def object_threshold(self) -> float:
        """Probability above which a pixel is part of an object."""
        return OBJECT_THRESHOLD if self.threshold is None else self.threshold

    @property
    def tint_alpha(self) -> float:
        """Opacity of the tint on objects."""
        return OBJECT_ALPHA if self.alpha is None else self.alpha

    def object_color(self) -> NDArray[np.float64]:
        """Return the color of objects, RGB ``(1, 3)``, in 0..1."""
        return self.colors()[[round(255 * OBJECT_LEVEL)]]

    def colors(self) -> NDArray[np.float64]:
        """Return the color of each of 256 saliency levels, RGB ``(256, 3)``, in 0..1."""
        return color_table(self.colormap)


@cache
def color_table(colormap: str) -> NDArray[np.float64]:
    """Return the 256 colors of a colormap, RGB ``(256, 3)``, in 0..1; read-only, because all callers share them."""
    import numpy as np

    if colormap in COLORMAPS:
        with np.load(Path(__file__).with_name("colormaps.npz"), allow_pickle=False) as tables:
            colors = np.asarray(tables[colormap])
    else:
        colors = np.asarray(all_colormaps()[colormap](np.linspace(0, 1, 256))[:, :3])
    colors.flags.writeable = False
    return colors


def all_colormaps() -> Mapping[str, Any]:
    """Return all Matplotlib colormaps by name."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns if the home folder is read-only
    import matplotlib

    return matplotlib.colormaps
