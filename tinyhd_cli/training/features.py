"""The features of a network, the output of the module that :attr:`tinyhd_cli.models.Family.features` names."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Tap:
    """Records the features ``(N, C, T, H, W)`` that a module of a network returned last.

    Args:
        network: the network.
        name: name of the module. Of several tensors that it returns, the last one counts.
    """

    def __init__(self, network: nn.Module, name: str) -> None:
        self._value: Tensor | None = None
        network.get_submodule(name).register_forward_hook(self._record)

    def _record(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._value = output[-1] if isinstance(output, list | tuple) else output

    def take(self) -> Tensor:
        """Return the recorded features, and forget them."""
        value, self._value = self._value, None
        assert value is not None, "the network has not been run"
        return value


def during(features: Tensor, frames: tuple[int, int], clip_frames: int) -> Tensor:
    """Return the steps of features ``(N, C, T, H, W)`` of a clip that belong to some of its frames.

    Args:
        features: of all frames of the clip.
        frames: first frame and the frame after the last one.
        clip_frames: number of frames of the clip.
    """
    steps = features.shape[2]
    first, last = frames[0] * steps // clip_frames, -(-frames[1] * steps // clip_frames)
    return features[:, :, first : max(last, first + 1)]
