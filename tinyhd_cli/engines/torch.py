"""Run networks in PyTorch: the reference for all other engines, available on every machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from .graph import Array


def device_precision(bf16: bool, device: str) -> str:
    """Return ``bf16`` if it is requested and the device is a GPU that supports it, else ``float32``."""
    supported = device.startswith("cuda") and torch.cuda.is_bf16_supported()
    return "bf16" if bf16 and supported else "float32"


class TorchEngine:
    """An unmodified network in PyTorch.

    Args:
        network: the network, in evaluation mode, on its device.
        device: its device.
        precision: ``float32`` or ``bf16``.
    """

    name = "torch"
    graph = ""

    def __init__(self, network: nn.Module, device: str, precision: str) -> None:
        self.precision = precision
        self._network = network
        self._device = torch.device(device)

    def infer(self, clip: Array) -> Array:
        """Return the saliency ``(T, H, W)`` of a clip ``(3, 16, H, W)``."""
        x = torch.from_numpy(clip).unsqueeze(0).to(self._device)
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, self.precision == "bf16"):
            saliency: Tensor = self._network(x)
        maps: Array = saliency[0].float().cpu().numpy()
        return maps


class TorchFrames:
    """A network in PyTorch that is run on many consecutive frames at once.

    Args:
        network: as ``Family.over_frames`` returns it, in evaluation mode, on its device.
        device: its device.
        precision: ``float32`` or ``bf16``.
        batch: number of maps that are computed in one pass.
    """

    name = "torch"
    graph = ""

    def __init__(self, network: nn.Module, device: str, precision: str, batch: int) -> None:
        self.precision = precision
        self.batch = batch
        self._network = network
        self._device = torch.device(device)

    def stream(self, batches: Iterable[Array]) -> Iterator[Array]:
        """Yield the maps ``(batch, H, W)`` of each batch of frames, in order."""
        for frames in batches:
            yield self._maps(frames)

    def _maps(self, frames: Array) -> Array:
        x = torch.from_numpy(frames).to(self._device)
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, self.precision == "bf16"):
            saliency: Tensor = self._network(x)
        maps: Array = saliency[:, 0].float().cpu().numpy()
        return maps
