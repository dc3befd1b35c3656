"""The cost of a network: parameters, multiply-adds, and memory for activations."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from ..engines.fuse_batchnorm import fold
from ..engines.loaded import clip_shape
from ..models import build, named_spec
from ..models.registry import family

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def attention_flops(query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object) -> int:
    """Return the floating-point operations of an attention with tensors of these shapes."""
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


NOT_COUNTED = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops}
"""Operations that PyTorch's counter does not know."""


@dataclass(frozen=True)
class Cost:
    """The cost of a network, measured in a forward pass of one clip in PyTorch, with BatchNorm folded, in float32."""

    network: str
    parameters: int
    macs: float
    """Multiply-adds of all convolutions and matrix products for one map."""
    activation_mb: float
    """Peak memory of the tensors that exist at the same time, without weights and clip, in 10^6 bytes."""
    outputs_mb: float
    """Total size of the outputs of all convolutions, in 10^6 bytes."""


def costs(name: str) -> Cost:
    """Return the cost of a network."""
    spec = named_spec(name)
    network = build(spec).eval()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    fold(network, by_name=family(spec).named_norms)
    outputs: list[int] = []

    def collect(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        outputs.append(output.nbytes)

    for layer in network.modules():
        if isinstance(layer, CONVOLUTIONS):
            layer.register_forward_hook(collect)
    clip = torch.zeros(1, *clip_shape(spec))
    counter = FlopCounterMode(display=False, custom_mapping=NOT_COUNTED)
    with torch.inference_mode(), TensorMemory() as memory, counter:
        network(clip)
    return Cost(name, parameters, counter.get_total_flops() / 2 / spec.maps, memory.peak / 1e6, sum(outputs) / 1e6)


class TensorMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tracks the total size of the tensors that operations have returned and that still exist.

    Attributes:
        peak: the largest total so far, in bytes.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._bytes: dict[int, int] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {id(value.untyped_storage()) for value in args if isinstance(value, Tensor)}
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                key = id(storage)
                if key not in self._bytes and key not in given:  # a view has the storage of an argument
                    self._bytes[key] = storage.nbytes()
                    weakref.finalize(storage, self._bytes.pop, key)
        self.peak = max(self.peak, sum(self._bytes.values()))
        return result
