"""Measure the quality of an encoded video where people look, and elsewhere."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ...callbacks import OnProgress
from ...inference.windows import Map
from ...storage import file_size
from ...video.options import InputOptions
from ...video.reader import Frame, VideoReader
from ...video.regions import Grid, QpMap, QpOffsets
from .offsets import HOLD_FRAMES

WEIGHT_COLUMNS = 64
"""Cells across a frame in which attention weights errors."""


@dataclass(frozen=True)
class Quality:
    """Size and quality of an encoded video. Qualities are peak signal-to-noise ratios of the luminance."""

    bytes: int
    """Size of the file, including audio."""
    crf: float
    psnr_inside_db: float | None
    """PSNR where people look, or on the object: in the cells with a negative quantizer offset. None if there are no
    such cells."""
    psnr_outside_db: float | None
    """PSNR in all other cells; None if there are none."""
    psnr_db: float
    """PSNR of the whole video."""
    weighted_psnr_db: float | None
    """PSNR with each error weighted by the map of its frame; the weights of a frame sum to 1. It is the
    eye-tracking-weighted PSNR (EWPSNR) of Li, Qin and Itti, "Visual attention guided bit allocation in video
    compression", Image and Vision Computing 29(1), 2011, with predicted instead of recorded attention. None if all maps
    are empty."""


class Regions:
    """The regions of interest of a video's frames: which cells get better quality, and how errors are weighted.

    The weights are kept in a temporary file, because they are needed once for each encode. Use it as a context manager.

    Args:
        grid: the cells.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._shape = (max(1, round(WEIGHT_COLUMNS * int(grid.rows[-1]) / int(grid.columns[-1]))), WEIGHT_COLUMNS)
        self._held: list[QpOffsets] = []  # one entry per HOLD_FRAMES frames
        self._weights = tempfile.TemporaryFile()  # noqa: SIM115 (closed in __exit__)

    def __enter__(self) -> Regions:
        return self

    def __exit__(self, *details: object) -> None:
        self._weights.close()

    def add(self, frame: Frame, offsets: QpOffsets, saliency: Map) -> None:
        """Record a frame's offsets and map. Frames are added in order."""
        if frame.index % HOLD_FRAMES == 0:
            self._held.append(offsets)
        weights = cv2.resize(saliency, self._shape[::-1], interpolation=cv2.INTER_AREA)
        self._weights.write(weights.astype(np.float16).tobytes())

    def of(self, index: int) -> QpMap:
        """Return the offsets of the frame with an index."""
        return QpMap(self._grid, self._held[min(index // HOLD_FRAMES, len(self._held) - 1)])

    def weights(self) -> Iterator[NDArray[np.float32]]:
        """Yield the weights of each frame, ``(rows, columns)``; they sum to 1, or are all 0 for an empty map."""
        self._weights.seek(0)
        while data := self._weights.read(2 * math.prod(self._shape)):
            weights = np.frombuffer(data, np.float16).reshape(self._shape).astype(np.float32)
            yield weights / max(float(weights.sum()), 1e-12)


def measure(
    video: Path, encoded: Path, crf: float, regions: Regions, options: InputOptions, progress: OnProgress
) -> Quality:
    """Compare an encoded video with its source.

    Args:
        video: the source.
        encoded: the encoded video.
        crf: its quality factor.
        regions: of the source's frames.
        options: facts about the source.
        progress: called with the number of frames.
    """
    sums, counts = np.zeros(2), np.zeros(2)
    weighted, frames_weighted = 0.0, 0
    with VideoReader(video, options) as source, VideoReader(encoded) as reader:
        width, height = source.info.width, source.info.height
        for original, frame, weights in zip(source, reader, regions.weights(), strict=False):
            decoded = luminance(frame)[:height, :width]
            squared = (luminance(original).astype(np.float32) - decoded) ** 2
            cells = regions.of(original.index)
            inside = cells.grid.pixels(cells.offsets < 0)
            for index, where in enumerate((inside, ~inside)):
                sums[index] += float(squared[where].sum(dtype=np.float64))
                counts[index] += int(where.sum())
            if weights.any():
                errors = cv2.resize(squared, weights.shape[::-1], interpolation=cv2.INTER_AREA)
                weighted += float((errors * weights).sum(dtype=np.float64))
                frames_weighted += 1
            progress(original.index + 1, max(source.frame_count or 0, original.index + 1))
    inside_db, outside_db = (psnr(total, count) for total, count in zip(sums, counts, strict=True))
    return Quality(
        file_size(encoded) or 0,
        crf,
        inside_db,
        outside_db,
        psnr(sums.sum(), counts.sum()) or 0.0,
        psnr(weighted, frames_weighted),
    )


def psnr(squared_errors: float, count: float) -> float | None:
    """Return the peak signal-to-noise ratio of 8-bit values in dB; None without values."""
    return round(10 * math.log10(255**2 * count / max(squared_errors, 1e-9)), 3) if count else None


def luminance(frame: Frame) -> NDArray[np.uint8]:
    """Return the luminance of a frame, uint8 ``(h, w)``."""
    return cv2.cvtColor(frame.rgb(), cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
