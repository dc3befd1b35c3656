"""Decide the quantizer offset of each cell of a frame from its map."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator

import cv2
import numpy as np
from numpy.typing import NDArray

from ...inference.model import Model
from ...inference.predict import saliency_of
from ...inference.windows import Map
from ...video.options import OBJECT_THRESHOLD
from ...video.reader import Frame, VideoReader
from ...video.regions import Grid, QpOffsets

MACROBLOCK = 16
"""Width and height of the blocks, in pixels, between which x264 can change its quantizer."""

COLUMNS = 40
"""Approximate number of cells across a wide frame, at most 1.5 times as many. More would follow details that maps do
not have."""

STEPS = 3
"""Number of different negative offsets. Each doubling of the attention, relative to the mean of the frame, is one step
down, and each halving is one step up.

At equal bits, the attention-weighted error is least if a doubling of the attention lowers the quantization parameter by
3 (the error doubles every 3). The steps of the default strength, 6, are smaller: predictions can be wrong.
"""

OBJECT_CELLS = ((0.5, -1.0), (0.05, -0.5))
"""Fraction of a cell that an object covers at least, and the quantizer offset of the cell, relative to the strength."""

BESIDE, BACKGROUND = 0.0, 0.6
"""Offsets of the cells next to those of the object, and of all others, relative to the strength."""

HOLD_FRAMES = 6
"""Frames between updates of the quantizer offsets; more frequent changes flicker and cost bits."""

FADE_S = 0.5
"""Time constant of the exponential smoothing of saliency, in seconds."""


def cells_of(width: int, height: int) -> Grid:
    """Return the cells of a frame: blocks of 16 x 16 pixels, or larger ones in frames at least 960 pixels wide."""
    return Grid.blocks(width, height, MACROBLOCK * max(1, round(width / (MACROBLOCK * COLUMNS))))


def importance(saliency: Map, objects: bool) -> Map:
    """Return the weight of each point of a map ``(h, w)``: its attention, or 1 on an object and 0 elsewhere."""
    return (saliency > OBJECT_THRESHOLD).astype(np.float32) if objects else saliency


class QpAllocator:
    """Computes the quantizer offsets of consecutive frames from their maps.

    Args:
        grid: the cells.
        strength: largest offset.
        objects: whether the maps are probabilities of objects. Then all cells of the object get better quality, and
            all cells the same one in frames without an object.
    """

    def __init__(self, grid: Grid, strength: float, objects: bool = False) -> None:
        self._objects = objects
        self._grid = grid
        self._strength = strength
        self._saliency: NDArray[np.float64] | None = None
        self._time_s = 0.0
        self._offsets: QpOffsets = np.zeros(grid.shape)

    def offsets(self, frame: Frame, saliency: Map) -> QpOffsets:
        """Return the offsets of a frame, ``(rows, columns)``."""
        cells = self._grid.means(importance(saliency, self._objects))
        if not self._objects:
            cells /= max(float(cells.mean()), 1e-12)
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


def allocate(reader: VideoReader, model: Model, grid: Grid, strength: float) -> Generator[tuple[Frame, QpOffsets, Map]]:
    """Yield each frame with the offsets of its cells ``(rows, columns)`` and the weights of its points ``(h, w)``."""
    objects = model.spec.task == "object"
    allocator = QpAllocator(grid, strength, objects)
    with contextlib.closing(saliency_of(reader, model)) as pairs:
        for frame, saliency in pairs:
            yield frame, allocator.offsets(frame, saliency), importance(saliency, objects)


def attention_factors(attention: NDArray[np.float64]) -> QpOffsets:
    """Return the offset of each cell relative to the strength, by its attention relative to the mean of all cells."""
    if not attention.any():
        return np.zeros_like(attention)
    doublings = np.round(np.log2(np.maximum(attention / attention.mean(), 2.0**-STEPS)))
    offsets: QpOffsets = 0.0 - np.minimum(doublings, STEPS) / STEPS
    return offsets


def object_factors(covered: NDArray[np.float64]) -> QpOffsets:
    """Return the offset of each cell relative to the strength, by the fraction of it that the object covers."""
    (inside, better), (edge, good) = OBJECT_CELLS
    if covered.max() < edge:
        return np.zeros_like(covered)
    beside = cv2.dilate((covered >= edge).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return np.select([covered >= inside, covered >= edge, beside], [better, good, BESIDE], BACKGROUND)
