"""Video encoders: which there are, what is tried where, and how quality is asked of each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.codec import Codec, codecs_available

from ..errors import OutputError, UsageError, did_you_mean

os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 tells its life story on stderr otherwise

# Encoders of a codec, in the order in which they are tried: software first, because it runs everywhere and looks best.
CODECS = {
    "h264": ("libx264", "libopenh264", "h264_videotoolbox", "h264_nvenc", "h264_qsv", "h264_amf", "h264_mf"),
    "hevc": ("libx265", "hevc_videotoolbox", "hevc_nvenc", "hevc_qsv", "hevc_amf", "hevc_mf"),
    "vp9": ("libvpx-vp9",),
    "av1": ("libsvtav1", "libaom-av1"),
    "mpeg4": ("mpeg4",),
}
ALIASES = {"h265": "hevc", "avc": "h264", "x264": "h264", "x265": "hevc"}

# What a container is given if nobody asks for a codec: every codec is tried until one works.
DEFAULT_CODECS = {
    ".mp4": ("h264", "mpeg4"),
    ".m4v": ("h264", "mpeg4"),
    ".mov": ("h264", "mpeg4"),
    ".mkv": ("h264", "mpeg4"),
    ".avi": ("mpeg4",),  # it stores no presentation times, which h264 wants
    ".webm": ("vp9", "av1"),
}

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


@dataclass(frozen=True)
class EncoderOptions:
    """How video is compressed."""

    codec: str | None = None
    """A codec (h264, hevc, vp9, av1, mpeg4) or one of FFmpeg's encoders; None: what suits the container."""

    crf: float = 18
    """Constant rate factor, 0 (best) to 63 (smallest); 51 is the end of the scale for h264 and hevc."""

    preset: str = "veryfast"
    """Speed against size, by the names of x264."""

    def __post_init__(self) -> None:
        if not 0 <= self.crf <= 63:
            raise UsageError(f"--crf must be between 0 and 63, not {self.crf:g}")
        if self.preset not in PRESETS:
            raise UsageError(f"--preset {self.preset!r} is unknown: {did_you_mean(self.preset, PRESETS)}")
        if self.codec is not None and not candidates(self.codec):
            known = {*CODECS, *ALIASES, *(name for names in CODECS.values() for name in names if is_available(name))}
            raise UsageError(f"--codec {self.codec!r} is unknown here: {did_you_mean(self.codec, known)}")


def check_container(path: Path) -> None:
    """``UsageError`` if the suffix of a video to write is none of a container that we write."""
    if path.suffix.lower() not in DEFAULT_CODECS:
        raise UsageError(
            f"{path}: videos are written as {', '.join(DEFAULT_CODECS)}, not {path.suffix or 'without suffix'}"
        )


def is_available(encoder: str) -> bool:
    """Whether this FFmpeg has the encoder; it may still fail to open (graphics cards)."""
    if encoder not in codecs_available:
        return False
    try:
        return Codec(encoder, "w").type == "video"
    except av.FFmpegError:
        return False


def candidates(codec: str) -> list[str]:
    """The encoders of a codec, or the one encoder that is named, as far as this FFmpeg has them."""
    codec = codec.lower()
    encoders = CODECS.get(ALIASES.get(codec, codec), (codec,))
    return [encoder for encoder in encoders if is_available(encoder)]


def settings(encoder: str, options: EncoderOptions) -> dict[str, str]:
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
    if encoder == "mpeg4":  # a quantiser of 2 to 31 in place of the rate factor
        quantiser = str(max(2, min(31, int(options.crf) // 4)))
        return {"qmin": quantiser, "qmax": quantiser}
    if encoder.endswith("_nvenc"):
        return {"cq": crf, "rc": "vbr"}
    return {"global_quality": crf}


def opens(encoder: str, options: EncoderOptions, width: int, height: int) -> bool:
    """Whether the encoder really works here, for pictures of this size: a hardware encoder may lack its hardware."""
    context = av.CodecContext.create(encoder, "w")
    if not isinstance(context, av.VideoCodecContext):
        return False
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base = Fraction(1, 30)
    context.framerate = Fraction(30)
    context.options = settings(encoder, options)
    try:
        context.open()
    except (av.FFmpegError, OSError, ValueError):
        return False
    return True


def choose(path: Path, options: EncoderOptions, width: int, height: int) -> tuple[str, str | None]:
    """The encoder for a video of this size.

    Returns:
        The encoder's name and, if it is not the first choice, a sentence that says so.

    Raises:
        OutputError: none works.
    """
    codecs = (options.codec,) if options.codec else DEFAULT_CODECS[path.suffix.lower()]
    tried = [encoder for codec in codecs for encoder in candidates(codec)]
    for encoder in tried:
        if opens(encoder, options, width, height):
            wanted = CODECS.get(codecs[0], (encoder,))[0]
            warning = f"{path.name}: {wanted} is not to be had here, using {encoder}"
            return encoder, None if encoder == wanted else warning
    raise OutputError(f"{path}: no encoder works for {width} x {height} (tried {', '.join(tried) or 'none'})")
