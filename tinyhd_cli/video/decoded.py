"""Decoded pictures, how they are to be shown, and what gives them: a container's stream or a row of images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import av
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import Type


class Layout(NamedTuple):
    """How a stored picture becomes the upright one."""

    rotation: int
    """Quarter turns counter-clockwise, in degrees: 0, 90, 180 or 270."""
    mirrored: bool
    """Whether it is turned upside down before that."""
    aspect: Fraction
    """Width of a stored pixel through its height."""

    @property
    def turned(self) -> bool:
        """Whether width and height change places."""
        return self.rotation % 180 != 0

    def upright(self, width: int, height: int) -> tuple[int, int, Fraction]:
        """Width, height and pixel aspect of the upright picture for those of the stored one."""
        return (height, width, 1 / self.aspect) if self.turned else (width, height, self.aspect)


@dataclass(slots=True)
class Decoded:
    """A picture as it comes from a decoder."""

    picture: av.VideoFrame
    layout: Layout
    pts: int | None
    """In units of the decoder's time base, from the start of the video; None if nothing says."""
    path: Path | None = None
    """The file, where each picture has its own."""


class Decoder(Protocol):
    """Gives the pictures of a video, once, in the order in which they are shown."""

    codec: str
    time_base: Fraction
    """Seconds in a unit of timestamps."""
    rate: Fraction
    """Frames per second, on average, as claimed; always plausible."""
    frames: int | None
    """How many there are, as claimed."""
    has_audio: bool
    damaged: int
    """Packets and pictures that could not be decoded so far."""

    def pictures(self) -> Iterator[Decoded]:
        """Every picture that can be decoded."""

    def end(self) -> int | None:
        """Timestamp at which the last picture ends, as claimed."""

    def close(self) -> None:
        """Close the files."""


def layout_of(picture: av.VideoFrame, aspect: Fraction) -> Layout:
    """The layout of a picture, by its display matrix: MP4 and MOV have one for the stream, EXIF for a picture."""
    return Layout(round(picture.rotation / 90) * 90 % 360, is_mirrored(picture), aspect)


def is_mirrored(picture: av.VideoFrame) -> bool:
    """Whether a picture's display matrix turns it over; its rotation is then that of the picture upside down."""
    matrix = side_data(picture, "DISPLAYMATRIX")
    if matrix is None:
        return False
    a, b, _, c, d, *_ = np.frombuffer(matrix, np.int32).astype(float)
    return bool(a * d - b * c < 0)


def side_data(picture: av.VideoFrame, name: str) -> bytes | None:
    """The side data of a picture of a type that PyAV knows by ``name``; None if it has none."""
    try:
        found: Any = picture.side_data  # its type says dict
    except ValueError:  # PyAV 18 refuses if any is of a type that it does not know, such as EXIF
        found = without_unknown_side_data(picture).side_data
    try:
        return bytes(found[name])
    except KeyError:
        return None


def without_unknown_side_data(picture: av.VideoFrame) -> av.VideoFrame:
    """The same picture with no side data but of those types that PyAV knows."""
    known = {cast("int", kind.value) for kind in Type}
    graph = Graph()
    source = graph.add_buffer(
        width=picture.width, height=picture.height, format=picture.format, time_base=Fraction(1, 1)
    )
    unknown = set(range(max(known) + 17)) - known  # FFmpeg numbers them from 0, one after the other
    filters = [graph.add("sidedata", f"mode=delete:type={kind}") for kind in sorted(unknown)]
    graph.link_nodes(source, *filters, graph.add("buffersink")).configure()
    graph.vpush(picture)
    return graph.vpull()
