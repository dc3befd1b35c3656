"""Which clips a network sees, so that every frame of a video gets one map.

Frames pass through in order and in constant memory. Each item carries a payload (a decoded frame, say) beside the
tensor that the network reads; ``infer`` takes a clip ``(3, 16, H, W)`` and gives its maps ``(T, H, W)``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..models.config import CLIP_FRAMES

Map = NDArray[np.float32]
Infer = Callable[[Tensor], Map]
Payload = TypeVar("Payload")


def consecutive(frames: Iterable[tuple[Payload, Tensor]], infer: Infer) -> Iterator[tuple[Payload, Map]]:
    """Maps of a multi-output network: clips of 16 frames, one after the other.

    The last clip is moved back so that it ends at the last frame, and its maps replace those of the clip before; a
    video of fewer than 16 frames is padded in front with its first frame. Both as the original does.
    """

    def maps(window: list[tuple[Payload, Tensor]]) -> Map:
        return infer(torch.stack([tensor for _, tensor in window], dim=1))

    done: list[tuple[Payload, Tensor]] = []  # the latest whole clip: its maps may still be replaced
    done_maps: Map = np.empty((0, 0, 0), np.float32)
    fresh: list[tuple[Payload, Tensor]] = []
    for item in frames:
        fresh.append(item)
        if len(fresh) == CLIP_FRAMES:
            yield from zip((payload for payload, _ in done), done_maps, strict=True)
            done, done_maps, fresh = fresh, maps(fresh), []
    count = len(fresh)
    yield from zip((payload for payload, _ in done[:count]), done_maps[:count], strict=True)
    if not fresh:
        yield from zip((payload for payload, _ in done), done_maps, strict=True)
        return
    missing = CLIP_FRAMES - len(done[count:]) - count
    window = [fresh[0]] * missing + done[count:] + fresh
    yield from zip((payload for payload, _ in window[missing:]), maps(window)[missing:], strict=True)


def sliding(frames: Iterable[tuple[Payload, Tensor]], infer: Infer) -> Iterator[tuple[Payload, Map]]:
    """Maps of a single-output network: for each frame the clip of 16 that ends in it, padded with the first frame."""
    window: deque[Tensor] = deque(maxlen=CLIP_FRAMES)
    for payload, tensor in frames:
        window.extend([tensor] * (1 if window else CLIP_FRAMES))
        yield payload, infer(torch.stack(list(window), dim=1))[0]
