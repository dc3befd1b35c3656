"""Windows: the clips that a network is run on, so that every frame of a video gets one map.

Frames pass through in order and in constant memory. Each item has a payload (a decoded frame, for example) next to its
preprocessed pixels ``(C, H, W)``; ``infer`` takes a clip ``(C, T, H, W)`` and returns its maps. For an
engine that is run on many frames at once, :func:`batched` passes consecutive frames instead of clips.

Uses NumPy, not PyTorch, because PyTorch's idle worker threads spin and would compete with the engine for cores.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..models import ModelSpec
from .preprocess import Pixels

Map = NDArray[np.float32]
Infer = Callable[[Pixels], Map]
Stream = Callable[[Iterable[Pixels]], Iterator[Map]]
Payload = TypeVar("Payload")


class RecentFrames:
    """The latest frames of a video, in a ring buffer.

    It is allocated once: interleaving allocations with the network's would fragment the heap, and peak memory would
    grow with the length of the video.

    Args:
        size: frames that the buffer holds, a multiple of ``clip_frames``.
        clip_frames: frames of a clip.
    """

    def __init__(self, size: int, clip_frames: int) -> None:
        self._size, self._clip_frames = size, clip_frames
        self._clips: Pixels | None = None  # (clips, C, T, H, W)
        self.count = 0
        """Number of frames added so far."""

    def add(self, frame: Pixels) -> None:
        """Add the next frame ``(C, H, W)``; it replaces the oldest."""
        if self._clips is None:
            channels, height, width = frame.shape
            shape = (self._size // self._clip_frames, channels, self._clip_frames, height, width)
            self._clips = np.zeros(shape, np.float32)
        self._frame(self.count)[:] = frame
        self.count += 1

    def _frame(self, number: int) -> Pixels:
        """Return the place of a frame, ``(C, H, W)``."""
        assert self._clips is not None
        clip, place = divmod(number % self._size, self._clip_frames)
        frame: Pixels = self._clips[clip, :, place]
        return frame

    def clip(self) -> Pixels:
        """Return the clip that ends at the latest frame, ``(C, T, H, W)``; missing frames repeat the first one.

        The next call of :meth:`add` may overwrite it.
        """
        return self.clip_ending_at(self.count - 1)

    def clip_ending_at(self, last: int) -> Pixels:
        """Return the clip whose last frame has the number ``last``; frames beyond either end repeat the outermost."""
        assert self._clips is not None
        clip: Pixels
        if (last + 1) % self._clip_frames == 0 and last < self.count:
            clip = self._clips[last % self._size // self._clip_frames]  # its frames are in order, so without a copy
            return clip
        clip = np.empty_like(self._clips[0])
        for place in range(self._clip_frames):
            number = last + 1 - self._clip_frames + place
            clip[:, place] = self._frame(min(max(0, number), self.count - 1))
        return clip


def windows(spec: ModelSpec, frames: Iterable[tuple[Payload, Pixels]], infer: Infer) -> Iterator[tuple[Payload, Map]]:
    """Yield one map ``(H, W)`` per frame, with its payload, in order."""
    return (consecutive if spec.windowing == "block" else sliding)(spec, frames, infer)


def consecutive(
    spec: ModelSpec, frames: Iterable[tuple[Payload, Pixels]], infer: Infer
) -> Iterator[tuple[Payload, Map]]:
    """Yield the maps of a network with one map per frame: of consecutive clips.

    The last clip is moved back so that it ends at the last frame, and its maps replace those of the clip before; a
    video shorter than a clip is padded at the front with its first frame. The original code does both.
    """
    length = spec.clip_frames
    recent = RecentFrames(2 * length, length)
    payloads: list[Payload] = []  # of the latest complete clip, whose maps may still be replaced, and of later frames
    maps: list[Map] = []  # of that clip
    for payload, frame in frames:
        recent.add(frame)
        payloads.append(payload)
        if recent.count % length == 0:
            yield from zip(payloads, maps, strict=False)
            payloads, maps = payloads[len(maps) :], list(infer(recent.clip()))
    after = recent.count % length
    if after:
        maps = [*maps[:after], *infer(recent.clip())][-len(payloads) :]
    yield from zip(payloads, maps, strict=True)


def sliding(spec: ModelSpec, frames: Iterable[tuple[Payload, Pixels]], infer: Infer) -> Iterator[tuple[Payload, Map]]:
    """Yield the maps of a network with one map per clip: of one clip for each frame.

    In the clip of a frame, that frame is number ``spec.map_frame``; the map is available ``spec.lookahead`` frames
    later. Before the first and after the last frame, that frame is repeated.
    """
    recent = RecentFrames(spec.clip_frames, spec.clip_frames)
    waiting: deque[Payload] = deque()
    for payload, frame in frames:
        recent.add(frame)
        waiting.append(payload)
        if len(waiting) > spec.lookahead:
            yield waiting.popleft(), infer(recent.clip())[0]
    for missing in range(spec.lookahead - len(waiting) + 1, spec.lookahead + 1):
        yield waiting.popleft(), infer(recent.clip_ending_at(recent.count - 1 + missing))[0]


def batched(
    spec: ModelSpec, frames: Iterable[tuple[Payload, Pixels]], batch: int, stream: Stream
) -> Iterator[tuple[Payload, Map]]:
    """Yield the same maps as :func:`sliding`, from an engine that is run on many consecutive frames at once.

    Args:
        spec: the network.
        frames: payloads and frames.
        batch: number of maps that are computed in one pass.
        stream: takes batches of frames, and yields the maps ``(batch, H, W)`` of each.
    """
    waiting: deque[Payload] = deque()  # payloads of frames without a map yet

    def pixels() -> Iterator[Pixels]:
        for payload, frame in frames:
            waiting.append(payload)
            yield frame

    for maps in stream(batches(spec, pixels(), batch)):
        for saliency in maps[: len(waiting)]:  # the last batch is padded
            yield waiting.popleft(), saliency


def batches(spec: ModelSpec, frames: Iterable[Pixels], batch: int) -> Iterator[Pixels]:
    """Yield batches of consecutive frames ``(batch + clip_frames - 1, C, H, W)``, each for ``batch`` maps.

    The same array is overwritten and yielded each time, so memory is constant (see :class:`RecentFrames`).
    """
    shared = spec.clip_frames - 1  # number of frames that consecutive batches have in common
    array, filled = np.empty(0, np.float32), 0
    for frame in padded(spec, frames, batch):
        if not array.size:
            array = np.empty((batch + shared, *frame.shape), np.float32)
        array[filled] = frame
        filled += 1
        if filled == len(array):
            yield array
            array[:shared] = array[batch:].copy()
            filled = shared


def padded(spec: ModelSpec, frames: Iterable[Pixels], batch: int) -> Iterator[Pixels]:
    """Yield frames; the first and the last one are repeated as in :func:`sliding`, and to fill the last batch."""
    count = 0
    for frame in frames:
        yield from repeat(frame, 1 if count else 1 + spec.frames_before)
        count += 1
    if count:
        yield from repeat(frame, spec.lookahead + -count % batch)


def first_frame_needed(spec: ModelSpec, start: int) -> int:
    """Return the first frame to read so that the maps from frame ``start`` on are those of the whole video."""
    if spec.windowing == "sliding":
        return max(0, start - spec.frames_before)
    return max(0, start // spec.clip_frames - 1) * spec.clip_frames  # the last clip may overlap the one before it


def frames_needed(spec: ModelSpec, start: int, end: int, batch: int = 1) -> tuple[int, int]:
    """Return the first frame to read, and the number after the last, for the maps from ``start`` to before ``end``.

    They are those of the whole video, to the bit, if they are computed from these frames alone: windows and batches
    begin at the same frames. If the video ends before the second number, all frames to its end are needed.

    Args:
        spec: the network.
        start: the first map.
        end: number after the last map.
        batch: number of maps that the engine computes in one pass, see :func:`batched`.
    """
    if spec.windowing == "block":  # the last clip of the video may overlap the one before it
        return first_frame_needed(spec, start), (-(-end // spec.clip_frames) + 1) * spec.clip_frames
    first = max(0, (start // batch * batch - spec.frames_before) // batch) * batch
    return first, -(-end // batch) * batch + spec.lookahead
