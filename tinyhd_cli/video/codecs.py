"""List video codecs and the encoders that FFmpeg was built with."""

from __future__ import annotations

import av
from av.codec import Codec, codecs_available

CODECS = {
    "h264": ("libx264", "libopenh264", "h264_videotoolbox", "h264_nvenc", "h264_qsv", "h264_amf", "h264_mf"),
    "hevc": ("libx265", "hevc_videotoolbox", "hevc_nvenc", "hevc_qsv", "hevc_amf", "hevc_mf"),
    "vp9": ("libvpx-vp9",),
    "av1": ("libsvtav1", "libaom-av1"),
    "mpeg4": ("mpeg4",),
}
"""Encoders of each codec in the order in which they are tried: software first, for availability and quality."""

ALIASES = {"h265": "hevc", "avc": "h264", "x264": "h264", "x265": "hevc"}
"""Other names of codecs."""


def is_available(encoder: str) -> bool:
    """Return whether FFmpeg was built with a video encoder. A hardware encoder may still fail to open."""
    if encoder not in codecs_available:
        return False
    try:
        return Codec(encoder, "w").type == "video"
    except av.FFmpegError:
        return False


def available_encoders(codec: str) -> list[str]:
    """Return the available encoders of a codec, or the encoder with this name."""
    codec = codec.lower()
    encoders = CODECS.get(ALIASES.get(codec, codec), (codec,))
    return [encoder for encoder in encoders if is_available(encoder)]


def known_names() -> set[str]:
    """Return the names of all codecs and of their available encoders."""
    return {*CODECS, *ALIASES, *(name for names in CODECS.values() for name in names if is_available(name))}
