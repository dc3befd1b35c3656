"""Convert HDR and wide gamut frames to SDR in BT.709, which networks and displays expect.

FFmpeg maps the code values through one interpolated 3D lookup table, which contains all steps: display light, BT.709
primaries, compression of highlights, BT.1886 code values. Reference white (203 cd/m2, ITU-R BT.2408) is mapped
slightly below SDR white; values below ``KNEE`` are not compressed.
"""

from __future__ import annotations

import tempfile
import threading
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from .decoded import side_data

Values = NDArray[np.float64]

PQ = 16
"""SMPTE ST 2084. This and the following numbers are those of ITU-T H.273."""

HLG = 18
"""ARIB STD-B67."""

SDR_TRANSFERS = (1, 2, 4, 5, 6, 13, 14, 15)
"""BT.709, unspecified, gamma 2.2 and 2.8, BT.601, sRGB, BT.2020: similar enough to be treated as equal."""

UNSPECIFIED, BT2020, DCI_P3, DISPLAY_P3 = 2, 9, 11, 12
"""Color primaries."""

BT2020_MATRIX = 9
"""Color matrix that only BT.2020 uses."""

CHROMATICITIES = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    DCI_P3: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    DISPLAY_P3: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
"""CIE 1931 x and y of red, green and blue, by the number of the primaries."""

D65 = (0.3127, 0.3290)
"""CIE 1931 x and y of the white point."""

REFERENCE_WHITE = 203.0
"""Luminance of diffuse white in HDR, in cd/m2 (ITU-R BT.2408)."""

COMMON_PEAK = 1000.0
"""Peak luminance of HDR video without metadata, and of the nominal HLG display, in cd/m2."""

SDR_GAMMA = 2.4
"""Gamma of the reference display (ITU-R BT.1886)."""

KNEE = 0.75
"""Luminance, relative to reference white, above which highlights are compressed: code value 226 of 255."""

NODES = 65
"""Number of nodes of the lookup table in each dimension. The error is less than one 8-bit code value for grays, and on
average 0.3 for colors; it is up to 35 in the darkest channel of the most saturated colors."""

WORKING_FORMAT = "gbrp16le"
"""RGB format for which FFmpeg interpolates with vector instructions, five times as fast as for 8 or 10 bits."""

MAX_GRAPHS = 4
"""Maximum number of filter graphs that a thread keeps."""


@dataclass(frozen=True)
class Conversion:
    """The color encoding from which a conversion to SDR starts."""

    transfer: int
    """Transfer function: ``PQ``, ``HLG``, or ``UNSPECIFIED`` for SDR."""
    primaries: int
    """Color primaries, a key of ``CHROMATICITIES``."""
    peak: float
    """Peak luminance in cd/m2; highlights are compressed so that it is mapped to SDR white."""


@dataclass(frozen=True)
class HdrMetadata:
    """Static HDR metadata (SMPTE ST 2086 and CTA-861.3); None for absent values."""

    display: tuple[float, ...] | None
    """The mastering display's chromaticities: x and y of red, green, blue and white."""
    display_range: tuple[float, float] | None
    """The mastering display's minimum and maximum luminance in cd/m2."""
    content: tuple[int, int] | None
    """Maximum luminance of a pixel (MaxCLL) and maximum frame average (MaxFALL), in cd/m2."""
    dynamic: bool = False
    """Whether there is also metadata that changes from frame to frame: Dolby Vision, HDR10+, HDR Vivid."""

    @property
    def peak(self) -> float | None:
        """Peak luminance in cd/m2; None if it is not stated or not plausible."""
        stated = [self.content[0] if self.content else 0, self.display_range[1] if self.display_range else 0]
        return next((light for light in stated if REFERENCE_WHITE < light <= 1e4), None)


DYNAMIC = ("DOVI_METADATA", "DYNAMIC_HDR_PLUS", "DYNAMIC_HDR_VIVID")
"""PyAV's names of side data with dynamic metadata."""


def read_hdr_metadata(av_frame: av.VideoFrame) -> HdrMetadata | None:
    """Return the HDR metadata of a frame; None if it has none."""
    dynamic = any(side_data(av_frame, name) is not None for name in DYNAMIC)
    mastering, level = (
        None if (data := side_data(av_frame, name)) is None else np.frombuffer(data, np.int32)
        for name in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL")
    )
    if mastering is None and level is None and not dynamic:
        return None
    display = display_range = content = None
    # FFmpeg's AVMasteringDisplayMetadata: ten fractions, then flags for the first eight and the last two.
    if mastering is not None and len(mastering) == 22:
        values = tuple(float(a / b) if b else 0.0 for a, b in mastering[:20].reshape(10, 2).tolist())
        display = values[:8] if mastering[20] else None
        display_range = (values[8], values[9]) if mastering[21] else None
    if level is not None and len(level) >= 2 and level[0] > 0:
        content = (int(level[0]), int(level[1]))
    return HdrMetadata(display, display_range, content, dynamic)


def find_conversion(matrix: int, primaries: int, transfer: int, peak: float | None = None) -> Conversion | None:
    """Return the conversion to SDR that frames need; None if they are SDR in BT.709 or close to it.

    Args:
        matrix: FFmpeg's number of the color matrix (ITU-T H.273).
        primaries: FFmpeg's number of the color primaries.
        transfer: FFmpeg's number of the transfer function.
        peak: peak luminance in cd/m2, if known.
    """
    if is_bt2020(primaries, transfer) or (primaries == UNSPECIFIED and matrix == BT2020_MATRIX):
        primaries = BT2020
    if transfer in (PQ, HLG):
        known = primaries if primaries in CHROMATICITIES else 1
        return Conversion(transfer, known, peak if peak and transfer == PQ else COMMON_PEAK)
    if transfer in SDR_TRANSFERS and primaries in CHROMATICITIES and primaries != 1:
        return Conversion(UNSPECIFIED, primaries, REFERENCE_WHITE)
    return None


def is_bt2020(primaries: int, transfer: int) -> bool:
    """Return whether the primaries are BT.2020, or unspecified in an HDR video, where BT.2020 is the default."""
    return primaries == BT2020 or (primaries == UNSPECIFIED and transfer in (PQ, HLG))


def pq_light(code: Values) -> Values:
    """Convert PQ code values in 0..1 to luminance in cd/m2 (SMPTE ST 2084)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    powered = np.asarray(code) ** (1 / m2)
    return np.asarray(1e4 * (np.maximum(powered - c1, 0) / (c2 - c3 * powered)) ** (1 / m1))


def hlg_light(code: Values) -> Values:
    """Convert HLG code values ``(..., 3)`` in 0..1 to light in cd/m2 on a display of 1000 cd/m2 (ITU-R BT.2100)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593])
    return np.asarray(COMMON_PEAK * luminance[..., np.newaxis] ** 0.2 * scene)


def to_xyz(primaries: int) -> Values:
    """Return the matrix ``(3, 3)`` from linear RGB with these primaries and D65 white to CIE XYZ."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in CHROMATICITIES[primaries]]).T
    x, y = D65
    return np.asarray(columns * np.linalg.solve(columns, np.array([x / y, 1, (1 - x - y) / y])))


def compress_highlights(light: Values, peak: float) -> Values:
    """Compress the highlights of linear RGB ``(..., 3)``, relative to reference white, so that ``peak`` is mapped to 1.

    The curve is smooth and starts at ``KNEE``. All three channels are scaled by the factor of the largest channel,
    which preserves the hue.
    """
    if peak <= 1:
        return light
    # Möbius transform with the value and slope of the identity at the knee, and the value 1 at the peak.
    a = -(KNEE**2) * (peak - 1) / (KNEE**2 - 2 * KNEE + peak)
    b = (KNEE**2 - 2 * KNEE * peak + peak) / (peak - 1)
    largest = np.maximum(light.max(axis=-1, keepdims=True), 1e-9)
    above = np.clip(largest, KNEE, peak)
    lowered = (b + KNEE) ** 2 / (b - a) * (above + a) / (above + b)
    return np.asarray(light * np.where(largest > KNEE, lowered / largest, 1.0))


def convert_code_values(code: Values, conversion: Conversion) -> Values:
    """Convert RGB code values ``(..., 3)`` in 0..1 to SDR in BT.709; frames use a lookup table of this function."""
    if conversion.transfer == PQ:
        light = pq_light(code) / REFERENCE_WHITE
    elif conversion.transfer == HLG:
        light = hlg_light(code) / REFERENCE_WHITE
    else:
        light = np.asarray(code) ** SDR_GAMMA
    light = np.maximum(light @ (np.linalg.inv(to_xyz(1)) @ to_xyz(conversion.primaries)).T, 0)
    return np.asarray(np.clip(compress_highlights(light, conversion.peak / REFERENCE_WHITE), 0, 1) ** (1 / SDR_GAMMA))


@lru_cache(maxsize=4)
def lookup_table(conversion: Conversion) -> str:
    """Return the lookup table of a conversion as text in Adobe's ``.cube`` format."""
    steps = np.linspace(0, 1, NODES)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")  # red changes fastest
    rows = convert_code_values(np.stack([red, green, blue], axis=-1).reshape(-1, 3), conversion).tolist()
    return f"LUT_3D_SIZE {NODES}\n" + "\n".join(f"{r:.5f} {g:.5f} {b:.5f}" for r, g, b in rows)


def build_graph(conversion: Conversion, width: int, height: int) -> av.filter.Graph:
    """Return a filter graph that applies a conversion to frames of one size in ``WORKING_FORMAT``."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat(WORKING_FORMAT), time_base=Fraction(1))
    with tempfile.TemporaryDirectory(prefix="tinyhd-") as folder:  # FFmpeg reads the file when the filter is added
        file = Path(folder) / "table.cube"
        file.write_text(lookup_table(conversion), encoding="ascii")
        table = graph.add("lut3d", file=str(file), interp="tetrahedral")
    graph.link_nodes(source, table, graph.add("buffersink")).configure()
    return graph


class GraphCache(threading.local):
    """Cache of filter graphs of the current thread; the least recently used is dropped first."""

    def __init__(self) -> None:
        self.kept: dict[tuple[Conversion, int, int], av.filter.Graph] = {}

    def get(self, conversion: Conversion, width: int, height: int) -> av.filter.Graph:
        """Return the graph of a conversion for frames of one size."""
        key = (conversion, width, height)
        graph = self.kept.pop(key, None) or build_graph(conversion, width, height)
        while len(self.kept) >= MAX_GRAPHS:
            del self.kept[next(iter(self.kept))]
        self.kept[key] = graph
        return graph


GRAPHS = GraphCache()
"""Filter graphs of each thread."""


def to_sdr(av_frame: av.VideoFrame, conversion: Conversion) -> av.VideoFrame:
    """Convert a frame in ``WORKING_FORMAT``; the result has the same format."""
    graph = GRAPHS.get(conversion, av_frame.width, av_frame.height)
    av_frame.colorspace, av_frame.color_range = UNSPECIFIED, 0  # the same as in the graph; the frame is RGB
    graph.vpush(av_frame)
    return graph.vpull()
