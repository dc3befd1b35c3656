"""Define decoded frames, their orientation, and the interface of decoders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import av
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import SideDataContainer, Type


class Orientation(NamedTuple):
    """The transformation from a stored frame to the upright frame."""

    rotation: int
    """Counter-clockwise rotation in degrees: 0, 90, 180 or 270."""
    mirrored: bool
    """Whether it is flipped vertically before the rotation."""
    aspect: Fraction
    """Aspect ratio of a stored pixel, width / height."""

    @property
    def turned(self) -> bool:
        """Whether width and height are swapped."""
        return self.rotation % 180 != 0

    def upright(self, width: int, height: int) -> tuple[int, int, Fraction]:
        """Return width, height and pixel aspect ratio of the upright frame for a stored size."""
        return (height, width, 1 / self.aspect) if self.turned else (width, height, self.aspect)


@dataclass(slots=True)
class Decoded:
    """A frame output by a decoder."""

    av_frame: av.VideoFrame
    orientation: Orientation
    pts: int | None
    """Presentation timestamp from the start of the video, in units of the decoder's time base; None if unknown."""
    path: Path | None = None
    """The image file, if each frame has its own; else None."""


class Decoder(Protocol):
    """Yields the frames of a video once, in display order."""

    codec: str
    """FFmpeg's name of the codec."""
    time_base: Fraction
    """Seconds per unit of timestamps."""
    rate: Fraction
    """Claimed average frames per second; always plausible."""
    frame_count: int | None
    """Claimed number of frames; None if unknown."""
    has_audio: bool
    """Whether the input has an audio stream."""
    damaged: int
    """Number of packets and frames that could not be decoded so far."""

    def decode(self) -> Iterator[Decoded]:
        """Yield every frame that can be decoded."""

    def end(self) -> int | None:
        """Return the claimed end of the last frame as a timestamp; None if unknown."""

    def close(self) -> None:
        """Close the input."""


def read_orientation(av_frame: av.VideoFrame, aspect: Fraction) -> Orientation:
    """Return the orientation of a frame from its display matrix, which comes from the container or from EXIF.

    Args:
        av_frame: the stored frame.
        aspect: aspect ratio of a stored pixel, width / height.
    """
    return Orientation(round(av_frame.rotation / 90) * 90 % 360, is_mirrored(av_frame), aspect)


def is_mirrored(av_frame: av.VideoFrame) -> bool:
    """Return whether a frame's display matrix mirrors it; its rotation then applies to the vertically flipped frame."""
    matrix = side_data(av_frame, "DISPLAYMATRIX")
    if matrix is None:
        return False
    a, b, _, c, d, *_ = np.frombuffer(matrix, np.int32).astype(float)
    return bool(a * d - b * c < 0)


def side_data(av_frame: av.VideoFrame, name: str) -> bytes | None:
    """Return the side data of PyAV's type ``name`` of a frame; None if it has none."""
    # Not av_frame.side_data, which creates a reference cycle with the frame: the image would not be freed with the last
    # reference to the frame, but by a later run of the garbage collector.
    container: Any = SideDataContainer
    try:
        found = container(av_frame)
    except ValueError:  # PyAV 18 fails if there is side data of an unknown type, such as EXIF
        found = container(without_unknown_side_data(av_frame))
    try:
        return bytes(found[name])
    except KeyError:
        return None


def without_unknown_side_data(av_frame: av.VideoFrame) -> av.VideoFrame:
    """Return a frame without side data of types that PyAV does not support."""
    known = {cast("int", kind.value) for kind in Type}
    graph = Graph()
    source = graph.add_buffer(
        width=av_frame.width, height=av_frame.height, format=av_frame.format, time_base=Fraction(1, 1)
    )
    unknown = set(range(max(known) + 17)) - known  # FFmpeg numbers the types consecutively from 0
    filters = [graph.add("sidedata", f"mode=delete:type={kind}") for kind in sorted(unknown)]
    graph.link_nodes(source, *filters, graph.add("buffersink")).configure()
    graph.vpush(av_frame)
    return graph.vpull()
