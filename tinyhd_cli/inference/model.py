"""A network with its weights, ready for inference."""

from __future__ import annotations

import itertools
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from .. import weights
from ..engines import lowered
from ..engines.base import PACKAGES, Engine, FramesEngine, StillEngine
from ..engines.loaded import LoadedNetwork, clip_shape
from ..engines.selection import EngineOptions, choose, frames_engine, still_engine
from ..engines.self_test import self_test_clip
from ..errors import UsageError, WeightsError
from ..models import ModelSpec, build
from ..models.registry import family, is_built_in, named_errors
from ..models.spec import Task
from .devices import pick_device
from .preprocess import Image, Pixels, network_input
from .windows import Map, Payload, batched, windows

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger("tinyhd")

FLAT = 1e-6
"""A map is constant if its range is at most this fraction of its largest value."""


FEW_STILLS = 8
"""Number of photographs after which the engine for still clips is built. Loading it takes as long as some 5 of them,
compiling it for new weights as long as some 50."""

NOT_FINITE = "the saliency maps contain NaN or infinity; use other weights"


@dataclass(frozen=True)
class Model:
    """A network in evaluation mode, with its spec and the engine that runs it."""

    name: str
    """Name of the weights, or their file."""
    spec: ModelSpec
    """The network, with the input size and preprocessing of these weights."""
    loaded: LoadedNetwork = field(repr=False)
    """What the engines are built from."""
    engine: Engine
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    _stills: Iterator[int] = field(default_factory=itertools.count, repr=False, compare=False)
    """Counts the photographs."""

    @cached_property
    def frames_engine(self) -> FramesEngine | None:
        """The engine that is run on many consecutive frames at once; None if clips are run one by one.

        It is built on first use, because single clips do not need it.
        """
        return frames_engine(self.loaded, self.engine)

    @cached_property
    def _still_engine(self) -> StillEngine | None:
        return still_engine(self.loaded, self.engine)

    @property
    def still_engine(self) -> StillEngine | None:
        """The engine that is run on photographs, several at a time; None if clips of identical frames are run.

        It is built on first use, because videos do not need it.
        """
        with self._lock:
            return self._still_engine

    @property
    def network(self) -> nn.Module:
        """The network in PyTorch, which is imported on first use.

        BatchNorm is folded into the convolutions: for training, build a network from ``weights.load``.
        """
        return self.loaded.module

    @property
    def device(self) -> str:
        """Name of the device, such as ``cpu`` or ``cuda:1``."""
        return self.loaded.device

    @property
    def sha256(self) -> str:
        """Digest of the weights file."""
        return self.loaded.sha256

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input, in pixels."""
        return self.spec.input_size

    def prepare(self, image: Image) -> Pixels:
        """Return a frame as the network reads it: resized and normalized (see :mod:`.preprocess`).

        Args:
            image: uint8 RGB ``(h, w, 3)``; large frames must have been reduced already.

        Returns:
            float32 ``(3, H, W)``.
        """
        return network_input(image, self.spec)

    def infer(self, clip: Pixels) -> Map:
        """Return the saliency, float32 ``(maps, H, W)``, of a clip ``(3, clip_frames, H, W)`` from :meth:`prepare`.

        Negative maps are shifted (see :func:`checked`).

        Raises:
            WeightsError: a value is not finite, or the maps have another shape.
        """
        return run_engine(self.engine, clip, self.name, self.spec)

    def infer_still(self, frame: Pixels) -> Map:
        """Return the saliency ``(H, W)`` of a photograph ``(3, H, W)`` from :meth:`prepare`. Threads may call this.

        It is the map that a video of this one frame gets: the last one of the clip that repeats the frame. After
        ``FEW_STILLS`` photographs it comes from the engine for still clips, if there is one.

        Raises:
            WeightsError: see :meth:`infer`.
        """
        if next(self._stills) < FEW_STILLS or self.still_engine is None:
            with self._lock:
                maps: Map = self.infer(np.repeat(frame[:, np.newaxis], self.spec.clip_frames, axis=1))[-1:]
        else:
            maps = checked(self.still_engine.infer(frame)[np.newaxis], (1, *self.input_size), self.name)
        saliency: Map = ConstantMaps(self.name, self.spec.task)(maps)[0]
        return saliency

    def not_finite(self) -> WeightsError:
        """Return the error for maps that contain NaN or infinity."""
        return WeightsError(f"{self.name}: {NOT_FINITE}")

    def watched(self) -> Callable[[Pixels], Map]:
        """Return :meth:`infer` for the clips of one video; its first constant map is logged as a warning."""
        watch = ConstantMaps(self.name, self.spec.task)
        return lambda clip: watch(self.infer(clip))

    def maps(self, frames: Iterable[tuple[Payload, Pixels]]) -> Iterator[tuple[Payload, Map]]:
        """Yield one map ``(H, W)`` for each prepared frame of a video, in order; payloads pass through."""
        engine = self.frames_engine
        if engine is None:
            return windows(self.spec, frames, self.watched())
        watch, expected = ConstantMaps(self.name, self.spec.task), (engine.batch, *self.input_size)

        def stream(batches: Iterable[Pixels]) -> Iterator[Map]:
            return (watch(checked(maps, expected, self.name)) for maps in engine.stream(batches))

        return batched(self.spec, frames, engine.batch, stream)


class ConstantMaps:
    """Logs a warning for the first constant map of a video.

    A map of small probabilities is a frame without an object, and not an error.

    Args:
        name: of the weights.
        task: of the network.
    """

    def __init__(self, name: str, task: Task) -> None:
        self._name = name
        self._empty_below = 0.5 if task == "object" else 0.0
        self._found = False

    def __call__(self, maps: Map) -> Map:
        """Check maps ``(T, H, W)``, and return them."""
        if not self._found and is_constant(maps) and maps.max() >= self._empty_below:
            self._found = True
            log.warning("%s: a saliency map is constant; check that these weights are trained", self._name)
        return maps


def run_engine(engine: Engine, clip: Pixels, name: str, spec: ModelSpec) -> Map:
    """Return an engine's maps of a clip.

    Raises:
        WeightsError: they have another shape than the spec states, or a value is not finite, or the network is a
            plugin's and raises an error.
    """
    with named_errors(family(spec)):
        maps: Map = engine.infer(clip)
    expected = (spec.maps, *clip.shape[2:])  # PyTorch can run other sizes than the spec's
    return checked(maps, expected, name)


def checked(maps: Map, expected: tuple[int, ...], name: str) -> Map:
    """Return maps without negative values.

    A network without an output activation can output negative values. Such a map is shifted so that its minimum is 0,
    which keeps the differences between pixels.

    Raises:
        WeightsError: the shape is not the expected one, or a value is not finite.
    """
    if maps.shape != expected:
        raise WeightsError(f"{name}: the network outputs maps of shape {maps.shape}, but its spec states {expected}")
    if not np.isfinite(maps.sum()):  # one pass, without a temporary array
        raise WeightsError(f"{name}: {NOT_FINITE}")
    smallest = maps.min(axis=(1, 2), keepdims=True)
    return maps if smallest.min() >= 0 else maps - np.minimum(smallest, 0)


def is_constant(maps: Map) -> bool:
    """Return whether any of ``maps`` ``(T, H, W)`` is constant, up to rounding."""
    flat = maps.reshape(len(maps), -1)
    largest = flat.max(axis=1)
    return bool((largest - flat.min(axis=1) <= FLAT * largest).any())


def load_model(
    name_or_path: str | os.PathLike[str] | None = None,
    device: str = "auto",
    *,
    engine: str = "auto",
    precision: str = "auto",
    exact: bool = True,
) -> Model:
    """Load a network with its weights.

    PyTorch is imported only if it is needed: on a GPU, for weights that were never used before, and for networks that
    no other engine can run.

    Args:
        name_or_path: a name that ``tinyhd weights list`` shows, or a weights file: safetensors, or an original
            ``.pth`` or (TensorFlow) ``.index``. None: the default.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        engine: ``torch``, ``fused``, ``openvino``, ``onnx``; ``auto``: the fastest that passes the self-test.
        precision: ``float32``, ``bf16`` or ``int8``; ``auto``: see ``exact``.
        exact: whether the values of the maps matter. If the maps are only displayed, ``auto`` may choose bf16.

    Raises:
        WeightsError: the weights cannot be found, are damaged, or are of a family that is not installed.
        UsageError: a name, device, engine or precision is unknown.
    """
    options = EngineOptions(engine, precision)
    # Engines other than PyTorch run on the CPU, so naming one also chooses the device.
    chosen = pick_device("cpu" if device == "auto" and engine in PACKAGES else device)
    if chosen != "cpu" and engine not in ("auto", "torch"):
        raise UsageError(f"--engine {engine}: runs on the CPU, not on {device}")
    file = weights.open_file(weights.default_name() if name_or_path is None else name_or_path)
    network, name = load_network(file, chosen, saved=engine != "torch")
    chosen_engine = choose(network, options, exact=exact)
    if chosen_engine.graph and file.metadata is not None:  # original files state too little to be run without PyTorch
        lowered.save(network)
    return Model(name, network.spec, network, chosen_engine)


def load_network(file: weights.WeightsFile, device: str, *, saved: bool) -> tuple[LoadedNetwork, str]:
    """Return the network of a weights file, and the name of the weights.

    Args:
        file: the weights file.
        device: the device to run it on.
        saved: whether to use the saved graph of the file, if there is one.
    """
    if saved and device == "cpu" and file.metadata is not None:
        embedded = file.path if file.source == "embedded" else None
        spec, name = file.metadata.spec, file.metadata.name
        if graph := lowered.find(file.sha256, clip_shape(spec), embedded):
            return LoadedNetwork(spec, lambda: make_module(file.load(), device), file.sha256, device, graph), name
    checkpoint = file.load()
    spec, name = checkpoint.spec, checkpoint.info.name
    network = LoadedNetwork(spec, lambda: make_module(checkpoint, device), file.sha256, device)
    if not is_built_in(spec.family):  # otherwise, an error in its code would look like one of each engine
        run_engine(network.in_torch(), self_test_clip(clip_shape(spec)), name, spec)
    return network, name


def make_module(checkpoint: weights.Checkpoint, device: str) -> nn.Module:
    """Return the network of a checkpoint in evaluation mode, with BatchNorm folded, on a device."""
    from ..engines.fuse_batchnorm import fold

    spec = checkpoint.spec
    network = build(spec)
    with named_errors(family(spec)):
        network.load_state_dict(checkpoint.state_dict)
        fold(network.eval(), by_name=family(spec).named_norms)
        network.to(device)
    return network
