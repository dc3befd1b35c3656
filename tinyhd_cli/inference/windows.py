"""Which clips a network sees, so that every frame of a video gets one map.

Frames pass through in order and in constant memory. Each item carries a payload (a decoded frame, say) beside what the
network reads of it, ``(C, H, W)``; ``infer`` takes a clip ``(C, 16, H, W)`` and gives its maps ``(T, H, W)``.

Arrays are NumPy's: PyTorch's threads would wait for the next one by spinning on the cores that an engine works on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..models.spec import CLIP_FRAMES

Map = NDArray[np.float32]
Pixels = NDArray[np.float32]
Infer = Callable[[Pixels], Map]
Payload = TypeVar("Payload")


class RecentFrames:
    """The latest frames of a video, in memory that is taken once.

    Blocks that come and go between those of the network would leave holes in the heap, and its peak would creep up for
    as long as a video lasts.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._frames: Pixels | None = None
        self.count = 0
        """Frames added so far."""

    def add(self, frame: Pixels) -> None:
        """Take the next frame ``(C, H, W)``; it replaces the oldest."""
        if self._frames is None:
            channels, height, width = frame.shape
            self._frames = np.zeros((channels, self._size, height, width), np.float32)
        self._frames[:, self.count % self._size] = frame
        self.count += 1

    def clip(self) -> Pixels:
        """The 16 frames that end in the latest, ``(C, 16, H, W)``; if there are fewer, the first fills the front."""
        assert self._frames is not None
        indices = [max(0, index) % self._size for index in range(self.count - CLIP_FRAMES, self.count)]
        # Not by index: what that gives is in the order of frames, and engines would copy it.
        return np.take(self._frames, indices, axis=1)


def consecutive(frames: Iterable[tuple[Payload, Pixels]], infer: Infer) -> Iterator[tuple[Payload, Map]]:
    """Maps of a multi-output network: clips of 16 frames, one after the other.

    The last clip is moved back so that it ends at the last frame, and its maps replace those of the clip before; a
    video of fewer than 16 frames is padded in front with its first frame. Both as the original does.
    """
    recent = RecentFrames(2 * CLIP_FRAMES)
    payloads: list[Payload] = []  # of the latest whole clip, whose maps may still be replaced, and of frames after it
    maps: list[Map] = []  # of that clip
    for payload, frame in frames:
        recent.add(frame)
        payloads.append(payload)
        if recent.count % CLIP_FRAMES == 0:
            yield from zip(payloads, maps, strict=False)
            payloads, maps = payloads[len(maps) :], list(infer(recent.clip()))
    after = recent.count % CLIP_FRAMES
    if after:
        maps = [*maps[:after], *infer(recent.clip())][-len(payloads) :]
    yield from zip(payloads, maps, strict=True)


def sliding(frames: Iterable[tuple[Payload, Pixels]], infer: Infer) -> Iterator[tuple[Payload, Map]]:
    """Maps of a single-output network: for each frame the clip of 16 that ends in it, padded with the first frame."""
    recent = RecentFrames(CLIP_FRAMES)
    for payload, frame in frames:
        recent.add(frame)
        yield payload, infer(recent.clip())[0]
