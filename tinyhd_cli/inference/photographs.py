"""Run a network on photographs: images that are not frames of a video, several at a time."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from ..video.reader import VideoReader
from .model import ConstantMaps, Model
from .preprocess import Image, Pixels, reduced, reduced_image
from .windows import Map

Photograph = str | os.PathLike[str] | Image
"""An image file, or an image, uint8 RGB ``(h, w, 3)``."""

MANY = 8
"""Number of photographs from which the engine for still clips is used. Compiling it takes as long as some 50 of them,
once for given weights; loading it takes as long as some 5."""


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
    items = iter(photographs)
    first = list(itertools.islice(items, MANY))
    watch = ConstantMaps(model.name, model.spec.task)
    if len(first) < MANY:
        for photograph in first:
            yield watch(model.infer_repeated(pixels_of(photograph, model))[np.newaxis])[0]
        return
    workers = torch.get_num_threads() + 1  # one more than the engine runs, so that it never waits for a decoder
    waiting: deque[Future[Map]] = deque()
    with ThreadPoolExecutor(workers, "tinyhd-photograph") as pool:
        try:
            for photograph in itertools.chain(first, items):
                waiting.append(pool.submit(lambda one: model.infer_still(pixels_of(one, model)), photograph))
                if len(waiting) > 2 * workers:
                    yield watch(waiting.popleft().result()[np.newaxis])[0]
            while waiting:
                yield watch(waiting.popleft().result()[np.newaxis])[0]
        finally:
            for future in waiting:
                future.cancel()


def pixels_of(photograph: Photograph, model: Model) -> Pixels:
    """Return a photograph as the network reads it, ``(3, H, W)``."""
    if isinstance(photograph, np.ndarray):
        return model.prepare(reduced_image(photograph, model.spec.preprocess))
    with VideoReader(photograph) as reader:
        return model.prepare(reduced(next(iter(reader)), model.spec.preprocess))
