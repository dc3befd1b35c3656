"""Encode a video with better quality where people look, or on its object, and measure the gain."""

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
from ..video.options import OBJECT_THRESHOLD
from ..video.reader import Frame, VideoReader
from ..video.regions import ROI_ENCODERS, QpOffsets
from ..video.writer import VideoWriter
from .options import EncodeOptions

COLUMNS = 20
"""Cells across a frame, which are about square. x264 can change its quantizer between blocks of 16 x 16 pixels."""

LEVELS = ((0.12, -1.0), (0.30, -0.5), (0.55, 0.0), (1.0, 0.6))
"""Cumulative fraction of the cells, starting with the most salient one, and their quantizer offset, relative to the
strength."""

OBJECT_CELLS = ((0.5, -1.0), (0.05, -0.5))
"""Fraction of a cell that an object covers at least, and the quantizer offset of the cell, relative to the strength."""

BESIDE, BACKGROUND = 0.0, 0.6
"""Offsets of the cells next to those of the object, and of all others, relative to the strength."""

HOLD_FRAMES = 6
"""Frames between updates of the quantizer offsets; more frequent changes flicker and cost bits."""

FADE_S = 0.5
"""Time constant of the exponential smoothing of saliency, in seconds."""

TOLERANCE = 0.02
"""Relative difference up to which the size of the plain encode counts as equal."""

MAX_TRIALS = 5
"""Maximum number of plain encodes made to match the size."""


@dataclass(frozen=True)
class Quality:
    """Size and quality of an encoded video."""

    bytes: int
    """Size of the file, including audio."""
    crf: float
    psnr_inside_db: float | None
    """Peak signal-to-noise ratio of the luminance where people look, or on the object: in the cells with a negative
    quantizer offset. None if there are no such cells."""
    psnr_outside_db: float | None
    """Peak signal-to-noise ratio of the luminance in all other cells; None if there are none."""


@dataclass(frozen=True)
class EncodeSummary:
    """Result of an encode."""

    frames: int
    damaged: int
    """Number of packets and frames that could not be decoded."""
    duration_s: float
    guided: Quality
    """The saliency-guided encode."""
    plain: Quality | None
    """A plain encode of about the same size; None if the comparison is disabled."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values for JSON."""
        return asdict(self)


class QpAllocator:
    """Computes the quantizer offsets of consecutive frames from their maps.

    Args:
        width: of the frames, in pixels.
        height: of the frames, in pixels.
        strength: largest offset.
        objects: whether the maps are probabilities of objects. Then all cells of the object get better quality, and
            all cells the same one in frames without an object.
    """

    def __init__(self, width: int, height: int, strength: float, objects: bool = False) -> None:
        self._objects = objects
        self._shape = (max(1, round(COLUMNS * height / width)), COLUMNS)
        self._strength = strength
        self._saliency: NDArray[np.float64] | None = None
        self._time_s = 0.0
        self._offsets: QpOffsets = np.zeros(self._shape)

    def offsets(self, frame: Frame, saliency: Map) -> QpOffsets:
        """Return the offsets of a frame, ``(rows, columns)``."""
        if self._objects:
            saliency = (saliency > OBJECT_THRESHOLD).astype(np.float32)
        cells = cv2.resize(saliency, self._shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float64)
        if not self._objects:
            cells /= max(float(cells.sum()), 1e-12)
        if self._saliency is None:
            self._saliency = cells
        else:
            weight = 1 - math.exp(-max(0.0, frame.time_s - self._time_s) / FADE_S)
            self._saliency = self._saliency + weight * (cells - self._saliency)
        self._time_s = frame.time_s
        if frame.index % HOLD_FRAMES == 0:
            factors = object_factors(self._saliency) if self._objects else attention_factors(self._saliency)
            self._offsets = self._strength * factors
        return self._offsets


def attention_factors(saliency: NDArray[np.float64]) -> QpOffsets:
    """Return the offset of each cell relative to the strength, by its rank in the saliency of all cells."""
    ranks = np.argsort(np.argsort(-saliency, axis=None, kind="stable")).reshape(saliency.shape) / saliency.size
    limits, factors = (np.array(values) for values in zip(*LEVELS, strict=True))
    offsets: QpOffsets = factors[np.searchsorted(limits, ranks, side="right")]
    return offsets


def object_factors(covered: NDArray[np.float64]) -> QpOffsets:
    """Return the offset of each cell relative to the strength, by the fraction of it that the object covers."""
    (inside, better), (edge, good) = OBJECT_CELLS
    if covered.max() < edge:
        return np.zeros_like(covered)
    beside = cv2.dilate((covered >= edge).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return np.select([covered >= inside, covered >= edge, beside], [better, good, BESIDE], BACKGROUND)


def encode_file(
    video: Path,
    model: Model,
    output: Path,
    options: EncodeOptions | None = None,
    start_phase: StartPhase = no_phases,
) -> EncodeSummary:
    """Encode a video with better quality where people look, or on its object, and worse elsewhere.

    Args:
        video: the source.
        model: predicts where people look, or finds objects.
        output: the file to write.
        options: encoding and comparison; None: the defaults.
        start_phase: called at the start of each phase; returns the callback for the progress of the phase.

    Raises:
        InputError: the video cannot be read; nothing is written.
        OutputError: the output cannot be written; no incomplete file is left.
        UsageError: the output would overwrite the video, or its encoder does not support regions of interest.
    """
    options = options or EncodeOptions()
    check_two_passes(video, output)
    if is_special(output):
        raise UsageError(f"--output {output}: must be a regular file, because it is read again to measure the quality")
    held: list[QpOffsets] = []  # one entry per HOLD_FRAMES frames

    def guided(reader: VideoReader) -> Iterator[tuple[Frame, QpOffsets | None]]:
        objects = model.spec.task == "object"
        allocator = QpAllocator(reader.info.width, reader.info.height, options.strength, objects)
        with contextlib.closing(saliency_of(reader, model)) as pairs:
            for frame, saliency in pairs:
                offsets = allocator.offsets(frame, saliency)
                if frame.index % HOLD_FRAMES == 0:
                    held.append(offsets)
                yield frame, offsets

    frames, damaged, duration_s = write_encoded(video, output, options, guided, start_phase("encoding"))
    size = output.stat().st_size
    quality = measure(video, output, held, options, start_phase("measuring"))
    plain = None
    if options.compare:
        plain = plain_of_equal_size(video, output, size, options, held, start_phase)
    return EncodeSummary(frames, damaged, duration_s, quality, plain)


FramesWithOffsets = Callable[[VideoReader], Iterable[tuple[Frame, QpOffsets | None]]]
"""Returns the frames of a video with their quantizer offsets, None for a plain encode."""


def write_encoded(
    video: Path, output: Path, options: EncodeOptions, frames_of: FramesWithOffsets, progress: OnProgress
) -> tuple[int, int, float]:
    """Encode a video's frames with their offsets.

    Returns:
        The number of frames, the number of damaged packets and frames, and the duration in seconds.
    """
    with VideoReader(video, options.input) as reader, contextlib.ExitStack() as stack:
        size = (reader.info.width, reader.info.height)
        writer = VideoWriter(output, reader.info, size, options.encoder, audio=options.audio, keep_source_colors=True)
        stack.callback(writer.abort)
        if writer.encoder not in ROI_ENCODERS:
            raise UsageError(
                f"{output}: its encoder, {writer.encoder}, does not support regions of interest;"
                " write an .mp4 or .mkv in h264 or hevc"
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
    start_phase: StartPhase,
) -> Quality:
    """Measure a plain encode of about the same size. It is found by trying quality factors, and removed afterward."""
    trial = temporary_path(output.with_name(f"{output.stem}.plain{output.suffix}"))
    tried: dict[float, int] = {}
    crf = float(options.encoder.crf)

    def unguided(reader: VideoReader) -> Iterator[tuple[Frame, QpOffsets | None]]:
        return ((frame, None) for frame in reader)

    try:
        for number in range(1, MAX_TRIALS + 1):
            write_encoded(video, trial, with_factor(options, crf), unguided, start_phase(f"plain encode {number}"))
            tried[crf] = trial.stat().st_size
            if abs(tried[crf] / size - 1) <= TOLERANCE or number == MAX_TRIALS:
                break
            crf = next_factor(tried, size)
            if crf in tried:
                break
        return measure(video, trial, held, with_factor(options, crf), start_phase("measuring"))
    finally:
        remove(trial)


def with_factor(options: EncodeOptions, crf: float) -> EncodeOptions:
    """Return the same options with another quality factor."""
    return replace(options, encoder=replace(options.encoder, crf=crf))


def next_factor(tried: dict[float, int], size: int) -> float:
    """Estimate the quality factor for a file size.

    Interpolates or extrapolates log size from the two trials nearest to ``size``. After one trial, it assumes that an
    increase by 6 halves the size.
    """
    near = sorted(tried, key=lambda crf: abs(math.log(tried[crf] / size)))[:2]
    slope = -math.log(2) / 6
    if len(near) == 2 and tried[near[0]] != tried[near[1]]:
        slope = min(-0.02, math.log(tried[near[0]] / tried[near[1]]) / (near[0] - near[1]))
    factor = near[0] + math.log(size / tried[near[0]]) / slope
    return round(min(51.0, max(0.0, factor)), 2)


def measure(video: Path, encoded: Path, held: list[QpOffsets], options: EncodeOptions, progress: OnProgress) -> Quality:
    """Compare an encoded video with its source, in the cells with a negative quantizer offset and in all others."""
    sums, counts = np.zeros(2), np.zeros(2)
    with VideoReader(video, options.input) as source, VideoReader(encoded) as reader:
        width, height = source.info.width, source.info.height
        for original, frame in zip(source, reader, strict=False):
            offsets = held[min(original.index // HOLD_FRAMES, len(held) - 1)]
            inside = cv2.resize((offsets < 0).astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
            decoded = luminance(frame)[:height, :width]
            squared = (luminance(original).astype(np.float32) - decoded) ** 2
            for index, where in enumerate((inside, ~inside)):
                sums[index] += float(squared[where].sum(dtype=np.float64))
                counts[index] += int(where.sum())
            progress(original.index + 1, max(source.frame_count or 0, original.index + 1))
    inside_db, outside_db = (
        round(10 * math.log10(255**2 * count / max(total, 1e-9)), 3) if count else None
        for total, count in zip(sums, counts, strict=True)
    )
    return Quality(encoded.stat().st_size, options.encoder.crf, inside_db, outside_db)


def luminance(frame: Frame) -> NDArray[np.uint8]:
    """Return the luminance of a frame, uint8 ``(h, w)``."""
    return cv2.cvtColor(frame.rgb(), cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
