"""Compute everything about single frames, several at the same time: maps, scores, and the density to draw."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from ...inference.model import Model
from ...inference.predict import saliency_of
from ...inference.windows import Map
from ...metrics import resize
from ...system import available_cores
from ...video.reader import Frame, VideoReader
from .agreement import FrameScores, score_gaze
from .density import Canvas, Gaussians, small_density, to_density_image, to_fixation_image
from .options import GazeOptions, GazeOutputs
from .points import Gaze

MALLOC_KEEP_BYTES = 64 << 20
"""Freed memory to keep for the arrays of the next frames: page faults take a quarter of the time of a frame."""

Item = TypeVar("Item")
Computed = TypeVar("Computed")


@dataclass(frozen=True)
class FrameGaze:
    """A frame with its gaze."""

    frame: Frame
    gaussians: Gaussians
    saliency: Map | None
    """The model's map; None without a model."""


@dataclass(frozen=True)
class FrameResult:
    """Everything that is computed for a frame independently of other frames."""

    shown: FrameGaze
    density_png: bytes | None
    """The density map; None if maps are not written, or the frame has no gaze."""
    fixation_png: bytes | None
    """The fixation map."""
    scores: FrameScores | None
    """None if the frame is not scored."""
    small: Map | None
    """The density to draw, see :func:`small_density`; None without an overlay."""


def frames_with_gaze(
    reader: VideoReader, gaze: Gaze, canvas: Canvas, model: Model | None
) -> Generator[FrameGaze, None, None]:
    """Yield the frames of a video with their gaze and, with a model, their maps. Close it before the reader."""
    with contextlib.ExitStack() as stack:
        pairs: Iterable[tuple[Frame, Map | None]] = ((frame, None) for frame in reader)
        if model is not None:
            pairs = stack.enter_context(contextlib.closing(saliency_of(reader, model)))
        for frame, saliency in pairs:
            end_s = frame.time_s + float(frame.duration * frame.info.time_base)
            points = gaze.between(frame.time_s, end_s).inside(canvas.width, canvas.height)
            yield FrameGaze(frame, Gaussians(points, canvas), saliency)


def compute(shown: FrameGaze, options: GazeOptions, outputs: GazeOutputs) -> FrameResult:
    """Return the results of one frame."""
    from ...video.image_writer import encode_image

    gaussians, canvas = shown.gaussians, shown.gaussians.canvas
    density = fixation = scores = None
    if len(gaussians.points):
        if outputs.out is not None:
            density = encode_image(to_density_image(gaussians.density()), ".png")
            fixation = encode_image(to_fixation_image(gaussians.points, canvas), ".png")
        if shown.frame.index % options.step == 0:
            full = None if shown.saliency is None else resize(shown.saliency, (canvas.height, canvas.width))
            scores = score_gaze(gaussians, (options.seed, shown.frame.index), full)
    return FrameResult(shown, density, fixation, scores, small_density(gaussians) if outputs.overlay else None)


def in_order(function: Callable[[Item], Computed], items: Iterable[Item]) -> Iterator[Computed]:
    """Yield the results of a function for each item, in order, computed in one thread per core.

    Only a few items are taken in advance, so that memory is constant.
    """
    from threadpoolctl import threadpool_limits

    workers = available_cores()
    waiting: deque[Future[Computed]] = deque()
    # The matrix products of a frame are too small for several threads each.
    with ThreadPoolExecutor(workers) as pool, threadpool_limits(1, "blas"):
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
