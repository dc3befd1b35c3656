"""Run a network on photographs: images that are not frames of a video, several at a time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from ..system import engine_threads
from ..video.reader import VideoReader
from .model import Model
from .preprocess import Image, Pixels, reduced, reduced_image
from .windows import Map

Photograph = str | os.PathLike[str] | Image
"""An image file, or an image, uint8 RGB ``(h, w, 3)``."""


def photograph_maps(photographs: Iterable[Photograph], model: Model) -> Iterator[Map]:
    """Yield the saliency map of each photograph, in order.

    Decoding and the network run in threads, one photograph per core.

    Args:
        photographs: files or images. They are read a few at a time, so any number fits into memory.
        model: a loaded model.

    Yields:
        float32 ``(H, W)`` of the network's input size: the map that ``predict`` yields for the same file.

    Raises:
        InputError: a file is not an image that can be read; raised in its turn.
        WeightsError: a map is not finite.
    """
    waiting: deque[Future[Map]] = deque()
    workers = engine_threads() + 1  # one more than the engine runs, so that it never waits for a decoder
    with ThreadPoolExecutor(workers, "tinyhd-photograph") as pool:
        try:
            for photograph in photographs:
                waiting.append(pool.submit(map_of, photograph, model))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def map_of(photograph: Photograph, model: Model) -> Map:
    """Return the saliency map of one photograph."""
    return model.infer_still(pixels_of(photograph, model))


def pixels_of(photograph: Photograph, model: Model) -> Pixels:
    """Return a photograph as the network reads it, ``(3, H, W)``."""
    if isinstance(photograph, np.ndarray):
        return model.prepare(reduced_image(photograph, model.spec.preprocess))
    with VideoReader(photograph) as reader:
        return model.prepare(reduced(next(iter(reader)), model.spec.preprocess))
