"""Compression that spends its bits where people look, and what that gains."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..atomic_files import is_special, remove, temporary_path
from ..callbacks import OnProgress, StartPhase, no_phases
from ..errors import UsageError
from ..inference.io_paths import check_two_passes
from ..inference.model import Model
from ..inference.predict import saliency_of
from ..inference.windows import Map
from ..video.reader import Frame, VideoReader
from ..video.regions import ROI_ENCODERS, QpOffsets
from ..video.writer import VideoWriter
from .options import EncodeOptions

COLUMNS = 20
"""Cells across a frame; they are about square. x264 changes its quantizer from block to block of 16 x 16 pixels."""

LEVELS = ((0.12, -1.0), (0.30, -0.5), (0.55, 0.0), (1.0, 0.6))
"""Share of the cells, from the most salient on, and the part of the strength that their quantizer is changed by."""

HOLD_FRAMES = 6
"""The offsets stand still for so many frames: quality that changes all the time flickers, and costs bits."""

FADE_S = 0.5
"""Seconds in which the saliency that counts follows that of the frames by two thirds."""

TOLERANCE = 0.02
"""How far the plain encode's size may be from ours to count as equal."""

MAX_TRIALS = 5
"""Plain encodes that are made to meet our size."""


@dataclass(frozen=True)
class Quality:
    """An encode of a video."""

    bytes: int
    """Of the whole file, with its sound."""
    crf: float
    psnr_inside_db: float
    """Peak signal-to-noise ratio of the brightness where people look: in the cells with a better quantizer."""
    psnr_outside_db: float
    """The same everywhere else."""


@dataclass(frozen=True)
class EncodeSummary:
    """Result of an encode."""

    frames: int
    damaged: int
    """Packets and frames that could not be decoded."""
    duration_s: float
    ours: Quality
    plain: Quality | None
    """A plain encode of about the same size; None if none was made."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


class QpAllocator:
    """QpOffsets of the quantizer from saliency, frame by frame."""

    def __init__(self, width: int, height: int, strength: float) -> None:
        self._shape = (max(1, round(COLUMNS * height / width)), COLUMNS)
        self._strength = strength
        self._saliency: NDArray[np.float64] | None = None
        self._time_s = 0.0
        self._offsets: QpOffsets = np.zeros(self._shape)

    def offsets(self, frame: Frame, saliency: Map) -> QpOffsets:
        """The offsets for a frame, ``(rows, columns)``."""
        cells = cv2.resize(saliency, self._shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float64)
        cells /= max(float(cells.sum()), 1e-12)
        if self._saliency is None:
            self._saliency = cells
        else:
            weight = 1 - math.exp(-max(0.0, frame.time_s - self._time_s) / FADE_S)
            self._saliency = self._saliency + weight * (cells - self._saliency)
        self._time_s = frame.time_s
        if frame.index % HOLD_FRAMES == 0:
            self._offsets = self._of(self._saliency)
        return self._offsets

    def _of(self, saliency: NDArray[np.float64]) -> QpOffsets:
        ranks = np.argsort(np.argsort(-saliency, axis=None, kind="stable")).reshape(self._shape) / saliency.size
        limits, parts = (np.array(values) for values in zip(*LEVELS, strict=True))
        offsets: QpOffsets = self._strength * parts[np.searchsorted(limits, ranks, side="right")]
        return offsets


def encode_file(
    video: Path,
    model: Model,
    output: Path,
    options: EncodeOptions | None = None,
    progress: StartPhase | None = None,
) -> EncodeSummary:
    """Encode a video with better quality where people look and worse elsewhere.

    Args:
        video: the source.
        model: predicts where people look.
        output: the file to write.
        options: encoding and comparison; None: the defaults.
        progress: told what is being done; gives what to call as its frames are done.

    Raises:
        InputError: the video cannot be read; nothing is written.
        OutputError: the output cannot be written; nothing half-written is left.
        UsageError: the output would overwrite the video, or its encoder knows no regions of interest.
    """
    options = options or EncodeOptions()
    check_two_passes(video, output)
    if is_special(output):
        raise UsageError(f"--output {output}: must be a regular file, because it is read again to measure the quality")
    phase = progress or no_phases
    held: list[QpOffsets] = []  # one for HOLD_FRAMES frames

    def ours(reader: VideoReader) -> Iterator[tuple[Frame, QpOffsets | None]]:
        spending = QpAllocator(reader.info.width, reader.info.height, options.strength)
        with contextlib.closing(saliency_of(reader, model)) as pairs:
            for frame, saliency in pairs:
                offsets = spending.offsets(frame, saliency)
                if frame.index % HOLD_FRAMES == 0:
                    held.append(offsets)
                yield frame, offsets

    frames, damaged, duration_s = encode(video, output, options, ours, phase("encoding"))
    size = output.stat().st_size
    quality = measure(video, output, held, options, phase("measuring"))
    plain = None
    if options.compare:
        plain = plain_of_equal_size(video, output, size, options, held, phase)
    return EncodeSummary(frames, damaged, duration_s, quality, plain)


Marked = Callable[[VideoReader], Iterable[tuple[Frame, QpOffsets | None]]]


def encode(
    video: Path, output: Path, options: EncodeOptions, frames_of: Marked, progress: OnProgress
) -> tuple[int, int, float]:
    """Write a video's frames, each with its offsets; returns their number, how many are damaged, and the seconds."""
    with VideoReader(video, options.input) as reader, contextlib.ExitStack() as stack:
        size = (reader.info.width, reader.info.height)
        writer = VideoWriter(output, reader.info, size, options.encoder, audio=options.audio, keep_source_colors=True)
        stack.callback(writer.abort)
        if writer.encoder not in ROI_ENCODERS:
            raise UsageError(
                f"{output}: this would be encoded by {writer.encoder}, which knows no regions of interest;"
                " write an .mp4 or .mkv, in h264 or hevc"
            )
        count, duration_s = 0, 0.0
        for frame, offsets in frames_of(reader):
            writer.write(writer.rgb_of(frame), frame, offsets)
            count, duration_s = count + 1, frame.time_s + float(frame.duration * reader.info.time_base)
            progress(count, max(reader.frame_count or 0, count))
        writer.close()
        return count, reader.damaged, duration_s


def plain_of_equal_size(
    video: Path,
    output: Path,
    size: int,
    options: EncodeOptions,
    held: list[QpOffsets],
    phase: StartPhase,
) -> Quality:
    """A plain encode whose file is as large as ours, found by trying quality factors, and removed after measuring."""
    trial = temporary_path(output.with_name(f"{output.stem}.plain{output.suffix}"))
    tried: dict[float, int] = {}
    crf = float(options.encoder.crf)

    def unmarked(reader: VideoReader) -> Iterator[tuple[Frame, QpOffsets | None]]:
        return ((frame, None) for frame in reader)

    try:
        for number in range(1, MAX_TRIALS + 1):
            label = f"plain encode {number}"
            encode(video, trial, with_factor(options, crf), unmarked, phase(label))
            tried[crf] = trial.stat().st_size
            if abs(tried[crf] / size - 1) <= TOLERANCE or number == MAX_TRIALS:
                break
            crf = next_factor(tried, size)
            if crf in tried:
                break
        return measure(video, trial, held, with_factor(options, crf), phase("measuring"))
    finally:
        remove(trial)


def with_factor(options: EncodeOptions, crf: float) -> EncodeOptions:
    """Return the same options with another quality factor."""
    return replace(options, encoder=replace(options.encoder, crf=crf))


def next_factor(tried: dict[float, int], size: int) -> float:
    """The quality factor at which the file should have a size, by the two nearest tries; 6 more halve it."""
    near = sorted(tried, key=lambda crf: abs(math.log(tried[crf] / size)))[:2]
    slope = -math.log(2) / 6
    if len(near) == 2 and tried[near[0]] != tried[near[1]]:
        slope = min(-0.02, math.log(tried[near[0]] / tried[near[1]]) / (near[0] - near[1]))
    factor = near[0] + math.log(size / tried[near[0]]) / slope
    return round(min(51.0, max(0.0, factor)), 2)


def measure(video: Path, encoded: Path, held: list[QpOffsets], options: EncodeOptions, progress: OnProgress) -> Quality:
    """Compare an encode with its source, where the quantizer was better and elsewhere."""
    sums, counts = np.zeros(2), np.zeros(2)
    with VideoReader(video, options.input) as source, VideoReader(encoded) as reader:
        width, height = source.info.width, source.info.height
        for original, frame in zip(source, reader, strict=False):
            offsets = held[min(original.index // HOLD_FRAMES, len(held) - 1)]
            inside = cv2.resize((offsets < 0).astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
            shown = gray(frame)[:height, :width]
            squared = (gray(original).astype(np.float32) - shown) ** 2
            for index, where in enumerate((inside, ~inside)):
                sums[index] += float(squared[where].sum(dtype=np.float64))
                counts[index] += int(where.sum())
            progress(original.index + 1, max(source.frame_count or 0, original.index + 1))
    inside_db, outside_db = (
        10 * math.log10(255**2 * count / max(total, 1e-9)) if count else 0.0
        for total, count in zip(sums, counts, strict=True)
    )
    return Quality(encoded.stat().st_size, options.encoder.crf, round(inside_db, 3), round(outside_db, 3))


def gray(frame: Frame) -> NDArray[np.uint8]:
    """The brightness of a frame, uint8 ``(h, w)``."""
    return cv2.cvtColor(frame.rgb(), cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
