"""The interface of engines: programs that run a network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from .graph import Array

ENGINES = ("fused", "openvino", "onnx", "torch")
"""From the fastest to the slowest, on x86 CPUs."""

PRECISIONS = ("float32", "bf16", "int8")
"""Number formats of the multiplications, from the most to the least exact."""

PACKAGES = {"fused": "openvino", "openvino": "openvino", "onnx": "onnxruntime"}
"""Package that an engine needs."""


class Engine(Protocol):
    """Runs a network."""

    name: str
    precision: str
    graph: str
    """Digest of the compiled graph in the cache; empty if it is not cached."""

    def infer(self, clip: Array) -> Array:
        """Return the saliency ``(maps, H, W)`` of a clip ``(3, clip_frames, H, W)``, both float32."""
        ...


class FramesEngine(Protocol):
    """Runs a network with a sliding window on many consecutive frames at once; see ``Family.over_frames``."""

    name: str
    precision: str
    graph: str
    """See :class:`Engine`."""
    batch: int
    """Number of maps that are computed at once."""

    def stream(self, batches: Iterable[Array]) -> Iterator[Array]:
        """Yield the maps ``(batch, H, W)`` of each batch of frames, in order.

        Several batches may be processed in parallel.

        Args:
            batches: consecutive frames ``(batch + clip_frames - 1, 3, H, W)``, float32. An array may be overwritten
                once the next one is requested.
        """
        ...


class StillEngine(Protocol):
    """Runs a network on still clips (clips of identical frames), several at a time; see :mod:`.still`."""

    name: str
    precision: str
    graph: str
    """See :class:`Engine`."""

    def infer(self, frame: Array) -> Array:
        """Return the last map ``(H, W)`` of the clip that repeats a frame ``(3, H, W)``. Threads may call this."""
        ...


class HierarchyEngine(Protocol):
    """Runs a network that has hierarchical maps; see ``Family.hierarchy`` and :mod:`.hierarchy`."""

    name: str
    precision: str
    graph: str
    """See :class:`Engine`."""

    def outputs(self, clip: Array) -> list[Array]:
        """Return the saliency ``(maps, H, W)`` and the hierarchical maps ``(K, T1, H, W)`` of a clip.

        A network may lack the hierarchical maps, although its family has them: TinyHD without the decoder d1.
        """
        ...


class EngineUnavailable(Exception):
    """An engine cannot be used; the message gives the reason."""
