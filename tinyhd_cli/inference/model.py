"""A network with its weights, ready to be asked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import weights
from ..errors import UsageError
from ..models import ModelConfig, build
from ..video.reader import Image
from .folding import fold
from .windows import Map, Payload, consecutive, sliding


@dataclass(frozen=True)
class Model:
    """A network in evaluation mode and what its input must look like."""

    name: str
    """The weights' name or file."""
    config: ModelConfig
    network: nn.Module
    """Folded (see ``folding``); for training, build one from ``weights.load``."""
    device: torch.device
    input_size: tuple[int, int]
    """Height and width in pixels."""
    mean: Tensor
    """Of RGB in 0..1, ``(3, 1, 1)``."""
    std: Tensor
    """Likewise."""
    sha256: str
    """Of the weights' file."""

    def prepare(self, image: Image) -> Tensor:
        """A frame as the network reads it: normalised, then scaled bilinearly without antialiasing, as by the original.

        Args:
            image: uint8 RGB ``(h, w, 3)``.

        Returns:
            float32 ``(3, H, W)`` on the CPU.
        """
        x = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        x = (x - self.mean) / self.std
        return F.interpolate(x.unsqueeze(0), size=self.input_size, mode="bilinear", align_corners=False)[0]

    def infer(self, clip: Tensor) -> Map:
        """Saliency of one clip, float32 ``(3, 16, H, W)`` from :meth:`prepare`: float32 ``(T, H, W)`` in 0..1."""
        with torch.inference_mode():
            saliency: Tensor = self.network(clip.unsqueeze(0).to(self.device))
        maps: Map = saliency[0].float().cpu().numpy()
        return maps

    def maps(self, frames: Iterable[tuple[Payload, Tensor]]) -> Iterator[tuple[Payload, Map]]:
        """One map ``(H, W)`` for each prepared frame of a video, in order; payloads pass through."""
        windows = sliding if self.config.frames_out == 1 else consecutive
        return windows(frames, self.infer)


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


def load_model(name_or_path: str | os.PathLike[str] | None = None, device: str = "auto") -> Model:
    """A network with its weights.

    Args:
        name_or_path: a name that ``tinyhd weights list`` shows, or a weight file: safetensors, or an original ``.pth``.
            None: the default.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        WeightsError: the weights cannot be found, or are damaged, or are of no network here.
        UsageError: there is no such name or device.
    """
    chosen = pick_device(device)
    checkpoint = weights.load(weights.default_name() if name_or_path is None else name_or_path)
    network = build(checkpoint.config)
    network.load_state_dict(checkpoint.state_dict)
    info = checkpoint.info
    fold(network.eval())
    return Model(
        name=info.name,
        config=checkpoint.config,
        network=network.to(chosen),
        device=chosen,
        input_size=info.input_size,
        mean=torch.tensor(info.mean).view(3, 1, 1),
        std=torch.tensor(info.std).view(3, 1, 1),
        sha256=info.sha256,
    )
