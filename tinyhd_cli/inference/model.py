"""A network with its weights, ready to be asked."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from .. import weights
from ..engines.fuse_batchnorm import fold
from ..engines.selection import PACKAGES, Engine, EngineOptions, choose
from ..errors import UsageError, WeightsError
from ..models import ModelConfig, build
from ..video.reader import Image
from .windows import Map, Payload, Pixels, consecutive, sliding

log = logging.getLogger("tinyhd")

FLAT = 1e-6
"""A map is constant if its range is at most this fraction of its largest value."""


@dataclass(frozen=True)
class Model:
    """A network in evaluation mode and what its input must look like."""

    name: str
    """The weights' name or file."""
    config: ModelConfig
    network: nn.Module
    """Folded (see ``folding``); for training, build one from ``weights.load``."""
    device: torch.device
    engine: Engine
    """What runs the network."""
    input_size: tuple[int, int]
    """Height and width in pixels."""
    mean: Tensor
    """Of RGB in 0..1, ``(3, 1, 1)``."""
    std: Tensor
    """Likewise."""
    sha256: str
    """Of the weights' file."""

    def prepare(self, image: Image) -> Pixels:
        """A frame as the network reads it: scaled bilinearly without antialiasing, normalized, as by the original.

        Args:
            image: uint8 RGB ``(h, w, 3)``.

        Returns:
            float32 ``(3, H, W)``.
        """
        height, width = self.input_size
        scaled = cv2.resize(image.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        x = np.empty((3, height, width), np.float32)
        for channel, mean, std in zip(range(3), self.mean.flatten().tolist(), self.std.flatten().tolist(), strict=True):
            np.multiply(scaled[..., channel], np.float32(1 / 255 / std), out=x[channel])
            x[channel] -= np.float32(mean / std)
        return x

    def infer(self, clip: Pixels) -> Map:
        """Return the saliency, float32 ``(T, H, W)`` in 0..1, of a clip ``(3, 16, H, W)`` from :meth:`prepare`.

        Raises:
            WeightsError: a value is not finite.
        """
        maps = self.engine.infer(clip)
        if not np.isfinite(maps.sum()):  # one pass, without a temporary array
            raise self.not_finite()
        return maps

    def not_finite(self) -> WeightsError:
        """Return the error for maps that contain NaN or infinity."""
        return WeightsError(f"{self.name}: the saliency maps contain NaN or infinity; use other weights")

    def watched(self) -> Callable[[Pixels], Map]:
        """Return :meth:`infer` for the clips of one video; its first constant map is logged as a warning."""
        reported = False

        def infer(clip: Pixels) -> Map:
            nonlocal reported
            maps = self.infer(clip)
            if not reported and is_constant(maps):
                reported = True
                log.warning("%s: a saliency map is constant; check that these weights are trained", self.name)
            return maps

        return infer

    def maps(self, frames: Iterable[tuple[Payload, Pixels]]) -> Iterator[tuple[Payload, Map]]:
        """Yield one map ``(H, W)`` for each prepared frame of a video, in order; payloads pass through."""
        windows = sliding if self.config.frames_out == 1 else consecutive
        return windows(frames, self.watched())


def is_constant(maps: Map) -> bool:
    """Return whether any of ``maps`` ``(T, H, W)`` is constant, up to rounding."""
    flat = maps.reshape(len(maps), -1)
    largest = flat.max(axis=1)
    return bool((largest - flat.min(axis=1) <= FLAT * largest).any())


def pick_device(name: str) -> torch.device:
    """The device of a name: ``auto`` (the fastest there is), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises:
        UsageError: there is no such device.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    kind, _, number = name.partition(":")
    if not available.get(kind) or (number and not number.isdigit()):
        here = ", ".join(kind for kind, there in available.items() if there)
        raise UsageError(f"--device {name!r} is not available here (there is {here})")
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise UsageError(f"--device {name!r}: there are {torch.cuda.device_count()} CUDA devices, counted from 0")
    return torch.device(name)


def load_model(
    name_or_path: str | os.PathLike[str] | None = None,
    device: str = "auto",
    *,
    engine: str = "auto",
    precision: str = "auto",
    exact: bool = True,
) -> Model:
    """A network with its weights.

    Args:
        name_or_path: a name that ``tinyhd weights list`` shows, or a weight file: safetensors, or an original ``.pth``.
            None: the default.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        engine: ``torch``, ``fused``, ``openvino``, ``onnx``; ``auto``: the fastest that agrees with PyTorch here.
        precision: ``float32``, ``bf16`` or ``int8``; ``auto``: see ``exact``.
        exact: whether maps are used as numbers. Where they are only looked at, ``auto`` may mean bf16.

    Raises:
        WeightsError: the weights cannot be found, or are damaged, or are of no network here.
        UsageError: there is no such name, device, engine or precision.
    """
    options = EngineOptions(engine, precision)
    # Other engines than PyTorch use the processor: who asks for one has said what the device is.
    chosen = pick_device("cpu" if device == "auto" and engine in PACKAGES else device)
    if chosen.type != "cpu" and engine not in ("auto", "torch"):
        raise UsageError(f"--engine {engine}: runs on the CPU, not on {device}")
    checkpoint = weights.load(weights.default_name() if name_or_path is None else name_or_path)
    network = build(checkpoint.config)
    network.load_state_dict(checkpoint.state_dict)
    info = checkpoint.info
    fold(network.eval())
    network.to(chosen)
    return Model(
        name=info.name,
        config=checkpoint.config,
        network=network,
        device=chosen,
        engine=choose(network, info.input_size, chosen, info.sha256, options, exact=exact),
        input_size=info.input_size,
        mean=torch.tensor(info.mean).view(3, 1, 1),
        std=torch.tensor(info.std).view(3, 1, 1),
        sha256=info.sha256,
    )
