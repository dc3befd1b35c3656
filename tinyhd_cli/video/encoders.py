"""Select a video encoder that works on this machine, and translate quality settings to its options."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.codec import Codec

from ..errors import OutputError, UsageError
from .codecs import CODECS, available_encoders, is_available
from .hdr import HdrMetadata
from .options import PRESETS, EncoderOptions

os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 logs its configuration to stderr by default

DEFAULT_CODECS = {
    ".mp4": ("h264", "mpeg4"),
    ".m4v": ("h264", "mpeg4"),
    ".mov": ("h264", "mpeg4"),
    ".mkv": ("h264", "mpeg4"),
    ".avi": ("mpeg4",),  # AVI stores no presentation times, which h264 needs
    ".webm": ("vp9", "av1"),
}
"""Default codecs of each container, in the order in which they are tried."""

DEEP_CODECS = {".mp4": "hevc", ".m4v": "hevc", ".mov": "hevc", ".mkv": "hevc", ".webm": "av1"}
"""Default codecs for sources of more than 8 bits: few devices decode 10-bit h264 or vp9."""

PIXEL_FORMATS = {8: ("yuv420p",), 10: ("yuv420p10le", "p010le")}
"""Pixel formats by bits per component, in order of preference."""


ALPHA_CODECS = {
    ".webm": ("libvpx-vp9", "yuva420p"),
    ".mkv": ("libvpx-vp9", "yuva420p"),
    ".mov": ("prores_ks", "yuva444p10le"),  # ProRes 4444
}
"""Encoder and pixel format of videos with transparency, by container."""


def check_container(path: Path) -> None:
    """Raise ``UsageError`` if the suffix of an output video is not that of a supported container."""
    if path.suffix.lower() not in DEFAULT_CODECS:
        raise UsageError(f"{path}: the suffix of a video must be one of {', '.join(DEFAULT_CODECS)}")


def pixel_format(encoder: str, depth: int) -> str | None:
    """Return the pixel format of ``depth`` bits that an encoder supports; None if it supports none."""
    supported = {video_format.name for video_format in Codec(encoder, "w").video_formats or ()}
    return next((name for name in PIXEL_FORMATS[depth] if name in supported or name == "yuv420p"), None)


def hdr_settings(encoder: str, metadata: HdrMetadata) -> dict[str, str] | None:
    """Return the encoder options for static HDR metadata; None if the encoder cannot write it."""
    # x264 and x265 use the units of the bitstream: chromaticities in 1/50000, luminance in 1/10000 cd/m2.
    unit, dim = (1, 1) if encoder == "libsvtav1" else (50000, 10000)
    found = {}
    if metadata.display and metadata.display_range:
        x_y = [f"{value * unit:.5g}" if unit == 1 else f"{value * unit:.0f}" for value in metadata.display]
        red, green, blue, white = (f"({x},{y})" for x, y in zip(x_y[::2], x_y[1::2], strict=True))
        darkest, brightest = (f"{value * dim:.10g}" for value in metadata.display_range)
        found["display"] = f"G{green}B{blue}R{red}WP{white}L({brightest},{darkest})"
    if metadata.content:
        found["content"] = f"{metadata.content[0]},{metadata.content[1]}"
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
    """Return the encoder's own options for quality and speed."""
    crf = f"{options.crf:g}"
    speed = PRESETS.index(options.preset)  # 0 is fastest
    if encoder == "libx264":
        # Search motion only for whole blocks of 16 x 16 pixels: overlays encode in three quarters of the time. At
        # equal quality the files are 2 % smaller (1080p, much motion) to 10 % larger (small frames, little motion).
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
    if encoder == "prores_ks":  # has a fixed quality; editors expect the vendor to be Apple
        return {"profile": "4444", "vendor": "apl0"}
    if encoder == "mpeg4":  # has a quantizer of 2 to 31 instead of a rate factor
        quantizer = str(max(2, min(31, int(options.crf) // 4)))
        return {"qmin": quantizer, "qmax": quantizer}
    if encoder.endswith("_nvenc"):
        return {"cq": crf, "rc": "vbr"}
    return {"global_quality": crf}


def can_open(encoder: str, options: EncoderOptions, width: int, height: int, pixels: str = "yuv420p") -> bool:
    """Return whether an encoder opens with these settings; hardware encoders fail without their hardware."""
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
    """An encoder that opens on this machine, and its pixel format."""

    encoder: str
    pixel_format: str
    depth: int
    """Bits per component: 8 or 10."""
    warning: str | None
    """A message if the preferred encoder is not available; else None."""


def choose_encoder(path: Path, options: EncoderOptions, width: int, height: int, depth: int = 8) -> EncoderChoice:
    """Return the first encoder that works for a video.

    Args:
        path: the output; its suffix is one of ``DEFAULT_CODECS``.
        options: codec, quality and speed.
        width: of the frames, in pixels.
        height: of the frames, in pixels.
        depth: bits per component of the source. Above 8, a 10-bit encoder is preferred to an 8-bit encoder.

    Raises:
        OutputError: no encoder works.
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
                warning = f"{path.name}: {wanted} is not available; using {encoder}"
                return EncoderChoice(encoder, pixels, bits, None if encoder == wanted else warning)
    raise OutputError(
        f"{path}: no encoder works for {width} x {height} (tried {', '.join(tried) or 'none'}); tinyhd doctor lists the"
        " encoders that work"
    )


def choose_alpha_encoder(path: Path, options: EncoderOptions, width: int, height: int) -> EncoderChoice:
    """Return the encoder of a video with transparency; its container alone decides, not ``options.codec``.

    Args:
        path: the output; its suffix is one of ``ALPHA_CODECS``.
        options: quality and speed.
        width: of the frames, in pixels.
        height: of the frames, in pixels.

    Raises:
        OutputError: FFmpeg was built without the encoder.
    """
    encoder, pixels = ALPHA_CODECS[path.suffix.lower()]
    if is_available(encoder) and can_open(encoder, options, width, height, pixels):
        return EncoderChoice(encoder, pixels, 8, None)
    raise OutputError(f"{path}: {encoder} is not available here or does not support {width} x {height}; write PNGs")
