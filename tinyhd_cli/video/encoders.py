"""Video encoders: which there are, what is tried where, and how quality is asked of each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.codec import Codec

from ..errors import OutputError, UsageError
from .codecs import CODECS, available_encoders
from .hdr import HdrMetadata
from .options import PRESETS, EncoderOptions

os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 tells its life story on stderr otherwise

# What a container is given if nobody asks for a codec: every codec is tried until one works.
DEFAULT_CODECS = {
    ".mp4": ("h264", "mpeg4"),
    ".m4v": ("h264", "mpeg4"),
    ".mov": ("h264", "mpeg4"),
    ".mkv": ("h264", "mpeg4"),
    ".avi": ("mpeg4",),  # it stores no presentation times, which h264 wants
    ".webm": ("vp9", "av1"),
}

# For sources of more than 8 bits: devices decode 10-bit hevc and av1, but hardly ever 10-bit h264 or vp9.
DEEP_CODECS = {".mp4": "hevc", ".m4v": "hevc", ".mov": "hevc", ".mkv": "hevc", ".webm": "av1"}

PIXEL_FORMATS = {8: ("yuv420p",), 10: ("yuv420p10le", "p010le")}
"""Pixel formats by bits per component, in order of preference."""


def check_container(path: Path) -> None:
    """``UsageError`` if the suffix of a video to write is none of a container that we write."""
    if path.suffix.lower() not in DEFAULT_CODECS:
        raise UsageError(
            f"{path}: videos are written as {', '.join(DEFAULT_CODECS)}, not {path.suffix or 'without suffix'}"
        )


def pixel_format(encoder: str, depth: int) -> str | None:
    """Return the pixel format of ``depth`` bits that an encoder supports; None if there is none."""
    taken = {taken.name for taken in Codec(encoder, "w").video_formats or ()}
    return next((name for name in PIXEL_FORMATS[depth] if name in taken or name == "yuv420p"), None)


def hdr_settings(encoder: str, light: HdrMetadata) -> dict[str, str] | None:
    """Return the encoder options for static HDR metadata; None if the encoder cannot write it."""
    # x264 and x265 use the units of the bitstream: chromaticities in 1/50000, luminance in 1/10000 cd/m2.
    unit, dim = (1, 1) if encoder == "libsvtav1" else (50000, 10000)
    found = {}
    if light.display and light.display_range:
        x_y = [f"{value * unit:.5g}" if unit == 1 else f"{value * unit:.0f}" for value in light.display]
        red, green, blue, white = (f"({x},{y})" for x, y in zip(x_y[::2], x_y[1::2], strict=True))
        darkest, brightest = (f"{value * dim:.10g}" for value in light.display_range)
        found["display"] = f"G{green}B{blue}R{red}WP{white}L({brightest},{darkest})"
    if light.content:
        found["content"] = f"{light.content[0]},{light.content[1]}"
    names = {
        "libx264": ("x264-params", {"display": "mastering-display", "content": "cll"}),
        "libx265": ("x265-params", {"display": "master-display", "content": "max-cll"}),
        "libsvtav1": ("svtav1-params", {"display": "mastering-display", "content": "content-light"}),
    }
    if encoder not in names:
        return None
    option, parts = names[encoder]
    return {option: ":".join(f"{parts[part]}={value}" for part, value in found.items())} if found else {}


def encoder_settings(encoder: str, options: EncoderOptions) -> dict[str, str]:
    """Quality and speed in the words of an encoder."""
    crf = f"{options.crf:g}"
    speed = PRESETS.index(options.preset)  # 0 is fastest
    if encoder == "libx264":
        # Motion of whole blocks of 16 x 16 alone: overlays are encoded in three quarters of the time. At equal quality
        # they are 2 % smaller (1080p, much motion) to 10 % larger (small and quiet ones).
        partitions = {"partitions": "i8x8"} if options.preset == "veryfast" else {}
        return {"crf": f"{min(options.crf, 51):g}", "preset": options.preset, **partitions}
    if encoder == "libx265":
        return {"crf": f"{min(options.crf, 51):g}", "preset": options.preset, "x265-params": "log-level=error"}
    if encoder == "libvpx-vp9":
        return {"crf": crf, "b": "0", "deadline": "good", "cpu-used": str(max(0, 5 - speed // 2)), "row-mt": "1"}
    if encoder == "libsvtav1":
        return {"crf": crf, "preset": str(12 - speed)}
    if encoder == "libaom-av1":
        return {"crf": crf, "b": "0", "cpu-used": str(max(1, 8 - speed))}
    if encoder == "mpeg4":  # a quantizer of 2 to 31 in place of the rate factor
        quantizer = str(max(2, min(31, int(options.crf) // 4)))
        return {"qmin": quantizer, "qmax": quantizer}
    if encoder.endswith("_nvenc"):
        return {"cq": crf, "rc": "vbr"}
    return {"global_quality": crf}


def can_open(encoder: str, options: EncoderOptions, width: int, height: int, pixels: str = "yuv420p") -> bool:
    """Return whether an encoder opens on this machine with these settings: a hardware encoder may lack its hardware."""
    context = av.CodecContext.create(encoder, "w")
    if not isinstance(context, av.VideoCodecContext):
        return False
    context.width, context.height, context.pix_fmt = width, height, pixels
    context.time_base = Fraction(1, 30)
    context.framerate = Fraction(30)
    context.options = encoder_settings(encoder, options)
    try:
        context.open()
    except (av.FFmpegError, OSError, ValueError):
        return False
    return True


@dataclass(frozen=True)
class EncoderChoice:
    """A working encoder."""

    encoder: str
    pixel_format: str
    depth: int
    """Bits per component: 8 or 10."""
    warning: str | None
    """A message, if it is not the preferred encoder."""


def choose_encoder(path: Path, options: EncoderOptions, width: int, height: int, depth: int = 8) -> EncoderChoice:
    """Find the encoder for a video of this size: with 10 bits if ``depth`` is above 8 and one supports it, else 8.

    Raises:
        OutputError: none works.
    """
    suffix = path.suffix.lower()
    codecs = (options.codec,) if options.codec else DEFAULT_CODECS[suffix]
    if depth > 8 and not options.codec and suffix in DEEP_CODECS:
        codecs = (DEEP_CODECS[suffix], *codecs)
    tried = list(dict.fromkeys(encoder for codec in codecs for encoder in available_encoders(codec)))
    for bits in (10, 8) if depth > 8 else (8,):
        for encoder in tried:
            pixels = pixel_format(encoder, bits)
            if pixels and can_open(encoder, options, width, height, pixels):
                wanted = CODECS.get(codecs[0], (encoder,))[0]
                warning = f"{path.name}: {wanted} is not available, using {encoder}"
                return EncoderChoice(encoder, pixels, bits, None if encoder == wanted else warning)
    raise OutputError(f"{path}: no encoder works for {width} x {height} (tried {', '.join(tried) or 'none'})")
