"""Formats of region maps for other encoders. Loads neither NumPy nor FFmpeg."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RoiFormat:
    """A format of region maps."""

    block: int
    """Width and height of a block, in pixels."""
    contents: str
    """Contents of the file, as shown after it is written."""
    suffix: str = ""
    """Required suffix of the file; empty: any."""


GRAPH = "regions of the filter addroi, for FFmpeg's libx264 and libx265"

ROI_FORMATS = {
    "x264-qpfile": RoiFormat(16, "one quantizer per frame; x264 reads no blocks: --format ffmpeg has them"),
    "x265": RoiFormat(16, f"{GRAPH}; x265's own program reads no blocks"),
    "ffmpeg": RoiFormat(16, GRAPH),
    "svtav1": RoiFormat(64, "quantizer offsets of blocks, for SvtAv1EncApp --roi-map-file"),
    "vvenc": RoiFormat(16, "the video, blurred where people do not look; VVenC reads no regions", ".mkv"),
    "vmaf": RoiFormat(16, "weights as a video, for FFmpeg's maskedmerge before libvmaf, which reads none", ".mkv"),
}
"""Formats by name."""
