"""Options of the applications, for the command line and the Python API. Loads neither NumPy nor FFmpeg."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..fields import LOOK, MOTION, RUN, Adjust, group, option
from ..inference.options import area_threshold_option, areas_option, check_area_threshold
from ..video.options import EncoderOptions, InputOptions, parse_size

if TYPE_CHECKING:
    from ..inference.areas import Area

PLAYLISTS = Adjust(only=("playlists",))
"""Input options of commands that read files only."""


def parse_aspect(text: str) -> Fraction:
    """Return the ratio of ``9:16``, ``4/5`` or ``1.85``; ``UsageError`` for other texts and extreme ratios."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:[:/x](\d+(?:\.\d+)?))?", text.strip())
    if match and float(match[1]) > 0 and float(match[2] or 1) > 0:
        aspect = Fraction(match[1]) / Fraction(match[2] or 1)
        check_aspect(aspect, f"--aspect {text!r}")
        return aspect
    raise UsageError(f"--aspect {text!r}: must be a ratio like 9:16")


def check_aspect(aspect: Fraction, option: str) -> None:
    """Raise ``UsageError`` for an extreme ratio."""
    if not Fraction(1, 10) <= aspect <= 10:
        raise UsageError(f"{option}: must be a ratio from 1:10 to 10:1")


@dataclass(frozen=True)
class CropOptions:
    """Shape and motion of a crop window, and encoding of the result."""

    aspect: Fraction = option(
        Fraction(9, 16), None, "W:H", "Aspect ratio of the result.", kind=str, written="9:16", parse=parse_aspect
    )
    """Display width divided by display height."""
    smooth_s: float = option(
        0.8, MOTION, "SECONDS", "Ignore movements of the attention that are shorter than this.", flag="smooth"
    )
    max_speed: float = option(
        0.25, MOTION, "N", "Maximum speed of the window in frame widths per second; 0: a fixed window."
    )
    """In frame heights per second if the window moves vertically."""
    encoder: EncoderOptions = group(EncoderOptions)
    audio: bool = option(True, LOOK, "", "Leave out the audio.")
    """Whether the audio is kept."""
    size: tuple[int, int] | None = option(
        None,
        None,
        "WxH",
        "Scale the result to this size, instead of --aspect. Default: the size of the window.",
        kind=str,
        parse=parse_size,
    )
    """Width and height in pixels; it replaces ``aspect``."""
    input: InputOptions = group(InputOptions, PLAYLISTS)

    def __post_init__(self) -> None:
        if self.size is not None:
            name = "--size {}x{}".format(*self.size)
            if min(self.size) < 16 or max(self.size) > 8192 or self.size[0] % 2 or self.size[1] % 2:
                raise UsageError(f"{name}: sides must be even, from 16 to 8192")
            check_aspect(self.shape, name)
        if self.smooth_s < 0:
            raise UsageError(f"--smooth must be at least 0, not {self.smooth_s:g}")
        if self.max_speed < 0:
            raise UsageError(f"--max-speed must be at least 0, not {self.max_speed:g}")

    @property
    def shape(self) -> Fraction:
        """Display width of the result divided by its display height."""
        return Fraction(*self.size) if self.size else self.aspect


def parse_qualities(text: str) -> tuple[float, ...]:
    """Return the numbers of ``23,28,33,38``; ``UsageError`` for other texts."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--compare {text!r}: must be numbers with commas, such as 23,28,33,38") from error


@dataclass(frozen=True)
class EncodeOptions:
    """Encoding with better quality in salient regions."""

    encoder: EncoderOptions = group(
        EncoderOptions,
        Adjust(
            defaults={"crf": 28, "preset": "medium"},
            metavar={"codec": "h264|hevc"},
            help={
                "codec": "Codec. Default: depends on the container.",
                "preset": "Encoding speed, superfast to veryslow.",
            },
        ),
    )
    strength: float = option(
        6, LOOK, "N", "Maximum change of the quantization parameter; 6 halves or doubles the bits."
    )
    compare: bool = option(True, RUN, "", "Do not make a plain encode of the same size for comparison.")
    """Whether a plain encode of the same size is made and measured for comparison."""
    qualities: tuple[float, ...] = option(
        (),
        RUN,
        "N,N,...",
        "Also compare guided with plain encodes at these values of --crf: curves and BD-rate; four values are usual.",
        flag="compare",
        kind=str,
        written=None,
        parse=parse_qualities,
    )
    """Quality factors of the comparison over several qualities; empty: none."""
    audio: bool = option(True, LOOK, "", "Leave out the audio.")
    """Whether the audio is kept."""
    input: InputOptions = group(InputOptions, PLAYLISTS)

    def __post_init__(self) -> None:
        if self.encoder.preset == "ultrafast":
            raise UsageError("--preset ultrafast has no adaptive quantization, which regions of interest need")
        if not 0 < self.strength <= 20:
            raise UsageError(f"--strength must be above 0 and at most 20, not {self.strength:g}")
        if len(self.qualities) == 1 or len(set(self.qualities)) < len(self.qualities):
            raise UsageError("--compare needs at least two different values, such as 23,28,33,38")
        if any(not 0 <= crf <= 51 for crf in self.qualities):
            raise UsageError("--compare: values must be between 0 and 51")


@dataclass(frozen=True)
class ReportOptions:
    """Areas of interest of a report, and facts about the input."""

    areas: tuple[Area, ...] = areas_option("The report shows each area's fraction of the attention.")
    area_threshold: float = area_threshold_option()
    input: InputOptions = group(InputOptions, Adjust(without=("size",)))

    def __post_init__(self) -> None:
        check_area_threshold(self.area_threshold)


@dataclass(frozen=True)
class CompareOptions:
    """Facts about the versions of a comparison, and the threshold of attended areas."""

    area_threshold: float = area_threshold_option()
    input: InputOptions = group(InputOptions, PLAYLISTS)

    def __post_init__(self) -> None:
        check_area_threshold(self.area_threshold)
