"""Write the region map of a video as a file for other encoders and for quality tools."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from ...atomic_files import atomic_write
from ...callbacks import StartPhase, no_phases
from ...errors import UsageError
from ...inference.model import Model
from ...inference.windows import Map
from ...video.options import EncoderOptions
from ...video.reader import Frame, VideoInfo, VideoReader
from ...video.regions import QP_RANGE, Grid, QpMap, QpOffsets
from ...video.writer import VideoWriter
from ..options import EncodeOptions
from .offsets import HOLD_FRAMES, allocate
from .roi_formats import ROI_FORMATS, RoiFormat

QINDEX_PER_STEP = 4
"""Quantizer indices of AV1, 0 to 255, in a step of SVT-AV1's scale of quality, 0 to 63."""

QP_PER_DOUBLING = 6
"""Decrease of the quantization parameter of H.264 that halves the quantizer step and doubles the bits."""

I_FRAME_QP, B_REFERENCE_QP, B_FRAME_QP = -3, 1, 2
"""x264's default differences between the quantization parameters of other types of frames and that of P-frames."""

KEYFRAMES = 250
"""Frames between keyframes in a file of frame types; the default of x264 and x265."""

TYPES = "PbBb"
"""Repeated types of all other frames: x264's default of three B-frames, of which the middle one is a reference."""

BLUR, MIN_BLUR = 1 / 400, 0.6
"""Standard deviation of the blur of the least important regions, as a fraction of the frame's height, and its minimum
in pixels. More saves more bits, but loses more quality than an encoder with as many bits."""

GRAPH_FRAMES = 2 * HOLD_FRAMES
"""Frames between changes of the regions in a filter graph, whose size and time to load grow with each change."""

Add = Callable[[Frame, QpOffsets, Map], None]
"""Adds a frame with the offsets of its blocks and the importance of its points."""


@dataclass(frozen=True)
class RoiSummary:
    """A region map that was written."""

    frames: int
    damaged: int
    """Number of packets and frames that could not be decoded."""
    blocks: tuple[int, int]
    """Rows and columns of the blocks in a frame."""


def write_roi_file(
    video: Path,
    model: Model,
    path: Path,
    name: str,
    options: EncodeOptions | None = None,
    start_phase: StartPhase = no_phases,
) -> RoiSummary:
    """Write the region map of a video as a file for another encoder.

    Args:
        video: the source.
        model: predicts where people look, or finds objects.
        path: the file to write.
        name: the format, a key of ``ROI_FORMATS``.
        options: ``strength`` is the largest change of the quantization parameter; for files that hold absolute
            values, ``encoder.crf`` is the value without a change.
        start_phase: see :func:`encode_file`.

    Raises:
        InputError: the video cannot be read; nothing is written.
        OutputError: the file cannot be written; no incomplete file is left.
        UsageError: the format is unknown, or does not allow the file's suffix.
    """
    options = options or EncodeOptions()
    form = check_roi_file(path, name)
    if path.resolve() == video.resolve():
        raise UsageError(f"--roi-file {path}: is the input itself; write to another file")
    progress = start_phase("region map")
    with VideoReader(video, options.input) as reader, contextlib.ExitStack() as stack:
        info = reader.info
        grid = Grid.blocks(info.width, info.height, form.block)
        add = stack.enter_context(WRITERS[name](path, info, options))
        count = 0
        with contextlib.closing(allocate(reader, model, grid, options.strength)) as allocated:
            for frame, offsets, weights in allocated:
                add(frame, offsets, weights)
                count += 1
                progress(count, max(reader.frame_count or 0, count))
    return RoiSummary(count, reader.damaged, grid.shape)


def check_roi_file(path: Path, name: str) -> RoiFormat:
    """Return a format; ``UsageError`` if it is unknown, or does not allow the file's suffix."""
    form = ROI_FORMATS.get(name)
    if form is None:
        raise UsageError(f"--format {name!r}: must be one of {', '.join(ROI_FORMATS)}")
    if form.suffix and path.suffix.lower() != form.suffix:
        raise UsageError(f"--roi-file {path}: --format {name} is a video; its suffix must be {form.suffix}")
    return form


@contextlib.contextmanager
def svtav1(path: Path, info: VideoInfo, options: EncodeOptions) -> Iterator[Add]:
    """Write lines of a frame's number and the offsets of all its blocks, from the top left, row by row.

    SVT-AV1 allows eight different offsets in a frame, and ignores those that would make the quantizer index, which
    differs between frames, negative. The best blocks therefore have the offset 0, and all others a positive one.
    Negative offsets would also have less effect: the encoder decides as if there were none.
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="ascii") as file:

        def add(frame: Frame, offsets: QpOffsets, saliency: Map) -> None:
            values = np.rint(QINDEX_PER_STEP * (offsets - offsets.min())).astype(int)
            file.write(" ".join(map(str, [frame.index, *values.ravel()])) + "\n")

        yield add


@contextlib.contextmanager
def frame_qps(path: Path, info: VideoInfo, options: EncodeOptions) -> Iterator[Add]:
    """Write lines of a frame's number, type and the quantization parameter that costs as many bits as its offsets."""
    with atomic_write(path) as temporary, temporary.open("w", encoding="ascii") as file:

        def add(frame: Frame, offsets: QpOffsets, saliency: Map) -> None:
            number = frame.index % KEYFRAMES
            kind = TYPES[number % len(TYPES)] if number else "K"
            change = {"K": I_FRAME_QP, "P": 0, "B": B_REFERENCE_QP, "b": B_FRAME_QP}[kind]
            bits = float(np.exp2(-offsets / QP_PER_DOUBLING).mean())
            qp = round(options.encoder.crf + change - QP_PER_DOUBLING * math.log2(bits))
            file.write(f"{frame.index} {kind} {min(max(qp, 0), QP_RANGE)}\n")

        yield add


@contextlib.contextmanager
def filter_graph(path: Path, info: VideoInfo, options: EncodeOptions) -> Iterator[Add]:
    """Write an FFmpeg filter graph that attaches the regions to frames; its input is ``0:v`` and its output ``v``.

    FFmpeg's filter ``addroi`` has the same regions in all frames, so that the video is cut where the regions change.
    """
    parts: list[tuple[int, QpOffsets]] = []  # the first frame of each part, and its offsets

    def add(frame: Frame, offsets: QpOffsets, saliency: Map) -> None:
        if frame.index % GRAPH_FRAMES == 0 and not (parts and np.array_equal(parts[-1][1], offsets)):
            parts.append((frame.index, offsets))

    yield add
    grid = Grid.blocks(info.width, info.height, ROI_FORMATS["ffmpeg"].block)
    qp_range = QP_RANGE + 6 * (min(info.depth, 10) - 8)
    text = io.StringIO()
    names = [f"[{number}]" for number in range(len(parts))]
    text.write(f"[0:v]split={len(parts)}{''.join(names)};\n")
    ends = [f":end_frame={first}" for first, _ in parts[1:]] + [""]
    for name, end, (first, offsets) in zip(names, ends, parts, strict=True):
        filters = [f"trim=start_frame={first}{end}", "setpts=PTS-STARTPTS"]
        for x, y, width, height, value in QpMap(grid, offsets).rectangles():
            filters.append(f"addroi={x}:{y}:{width}:{height}:{value / qp_range:.4f}")
        text.write(f"{name}{','.join(filters)}[r{name[1:]};\n")
    text.write(f"{''.join(f'[r{name[1:]}' for name in names)}concat={len(parts)}[v]\n")
    with atomic_write(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="ascii")


@contextlib.contextmanager
def prefiltered(path: Path, info: VideoInfo, options: EncodeOptions) -> Iterator[Add]:
    """Write the video without loss, blurred where people do not look: every encoder then spends fewer bits there."""
    size = (info.width, info.height)
    with VideoWriter(path, info, size, EncoderOptions(codec="ffv1"), keep_source_colors=True) as writer:

        def add(frame: Frame, offsets: QpOffsets, saliency: Map) -> None:
            image = writer.rgb_of(frame)
            blurred = cv2.GaussianBlur(image, (0, 0), max(MIN_BLUR, BLUR * info.height))
            share = np.clip(offsets / options.strength, 0, 1).astype(np.float32)
            smooth = cv2.resize(share, size, interpolation=cv2.INTER_LINEAR)[..., None]
            mixed = np.rint(image + smooth * (blurred.astype(np.float32) - image))
            writer.write(mixed.astype(np.uint8) if image.dtype == np.uint8 else mixed.astype(np.uint16), frame)

        yield add


@contextlib.contextmanager
def weights(path: Path, info: VideoInfo, options: EncodeOptions) -> Iterator[Add]:
    """Write a video without loss whose luminance is the map, from 0 to 255 in each frame."""
    size = (info.width, info.height)
    with VideoWriter(path, info.as_sdr, size, EncoderOptions(codec="ffv1"), audio=False) as writer:
        chroma = np.full((writer.height // 2, writer.width), 128, np.uint8)

        def add(frame: Frame, offsets: QpOffsets, saliency: Map) -> None:
            scaled = saliency * (255 / max(float(saliency.max()), 1e-12))
            luma = np.rint(cv2.resize(scaled, size, interpolation=cv2.INTER_LINEAR)).astype(np.uint8)
            padding = ((0, writer.height - info.height), (0, writer.width - info.width))
            planes = np.concatenate([np.pad(luma, padding, "edge"), chroma])
            writer.write(av.VideoFrame.from_ndarray(planes, "yuv420p"), frame)

        yield add


WRITERS = {
    "svtav1": svtav1,
    "x264-qpfile": frame_qps,
    "x265": filter_graph,
    "ffmpeg": filter_graph,
    "vvenc": prefiltered,
    "vmaf": weights,
}
"""Functions that write each format."""
