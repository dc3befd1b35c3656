"""PyTorch, operation by operation: the reference, and what runs everywhere."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .graph import Array


def to_bf16(wanted: bool, device: torch.device) -> str:
    """The precision on a device: bf16 where that is wanted and a graphics card has it."""
    has_it = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return "bf16" if wanted and has_it else "float32"


class TorchEngine:
    """A network as it is.

    Args:
        network: in evaluation mode, on its device.
        device: where it is.
        precision: ``float32`` or ``bf16``.
    """

    name = "torch"
    graph = ""

    def __init__(self, network: nn.Module, device: torch.device, precision: str) -> None:
        self.precision = precision
        self._network = network
        self._device = device

    def infer(self, clip: Array) -> Array:
        """Saliency ``(T, H, W)`` of a clip ``(3, 16, H, W)``."""
        x = torch.from_numpy(clip).unsqueeze(0).to(self._device)
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, self.precision == "bf16"):
            saliency: Tensor = self._network(x)
        maps: Array = saliency[0].float().cpu().numpy()
        return maps
