"""The networks of the UVA-Net family: a spatial and a temporal path over two consecutive frames, and one or two heads.

Source: Fu et al., "Ultrafast Video Attention Prediction with Coupled Knowledge Distillation", AAAI 2020, and the
network that the authors released (DIS). The layers of UVA-Net's paths and heads are this project's: the paper's table
of them is not public.

Shapes are ``(N, C, H, W)``; R is the side of the input.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...blocks.conv2d import CARes, ConvNorm, Upsample
from ...spec import ModelSpec

NEIGHBORS = 11
"""Channels in the window of the response normalization."""


class ResponseNorm(nn.Module):
    """Normalization of each channel by its neighbors: ``x / (2e-5 + 1e-4 * sum(x ** 2)) ** 0.75``.

    DIS was trained with these constants, not with the usual bias of 1 and factor of 2e-5: they multiply activations by
    several hundred.
    """

    def forward(self, x: Tensor) -> Tensor:
        # PyTorch divides alpha by the number of channels in the window.
        return F.local_response_norm(x, NEIGHBORS, alpha=1e-4 * NEIGHBORS, beta=0.75, k=2e-5)


class MaxPool(nn.Module):
    """Max pooling, 3 x 3 with stride 2, padded at the bottom and right only, like TensorFlow's ``same`` padding."""

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=float("-inf")), 3, 2)


def dis_low() -> nn.Sequential:
    """Return the layers that both paths of DIS share: ``(N, 3, R, R)`` to ``(N, 64, R/4, R/4)``."""
    return nn.Sequential(
        ConvNorm(3, 16, 3),
        ConvNorm(16, 16, 3),
        ResponseNorm(),
        MaxPool(),
        ConvNorm(16, 32, 3),
        MaxPool(),
        ConvNorm(32, 64, 3),
    )


def dis_path(in_channels: int) -> nn.Sequential:
    """Return the layers of a path of DIS, to ``(N, 128, R/4, R/4)``."""
    return nn.Sequential(ConvNorm(in_channels, 64, 3), ConvNorm(64, 128, 3))


def dis_head(in_channels: int) -> nn.Sequential:
    """Return a head of DIS, to ``(N, 1, R, R)``."""
    return nn.Sequential(
        ConvNorm(in_channels, 32, 1),
        ConvNorm(32, 32, 3),
        ConvNorm(32, 32, 3),
        ConvNorm(32, 16, 3),
        Upsample(16, 8),
        Upsample(8, 1),
    )


def uva_low() -> nn.Sequential:
    """Return the layers that both paths of UVA-Net share: ``(N, 3, R, R)`` to ``(N, 32, R/4, R/4)``."""
    return nn.Sequential(
        ConvNorm(3, 16, 3, stride=2, activation=nn.ReLU6),
        CARes(16, 24, stride=2),
        CARes(24, 24),
        CARes(24, 32),
    )


def uva_spatial() -> nn.Sequential:
    """Return the spatial path of UVA-Net, to ``(N, 48, R/4, R/4)``."""
    return nn.Sequential(CARes(32, 32), CARes(32, 48))


def uva_temporal() -> nn.Sequential:
    """Return the temporal path of UVA-Net, to ``(N, 48, R/4, R/4)``."""
    return nn.Sequential(ConvNorm(64, 32, 1, activation=nn.ReLU6), CARes(32, 32), CARes(32, 48))


def uva_head(in_channels: int) -> nn.Sequential:
    """Return a head of UVA-Net, to ``(N, 1, R, R)``."""
    return nn.Sequential(
        ConvNorm(in_channels, 32, 1, activation=nn.ReLU6),
        CARes(32, 32),
        CARes(32, 32),
        Upsample(32, 16, activation=nn.ReLU),
        Upsample(16, 1),
    )


PATHS = ("spatial", "temporal")

TRUNKS: dict[str, tuple[Callable[[], nn.Module], dict[str, Callable[[], nn.Module]], Callable[[int], nn.Module], int]]
TRUNKS = {
    "dis": (dis_low, {"spatial": partial(dis_path, 64), "temporal": partial(dis_path, 128)}, dis_head, 128),
    "uva": (uva_low, {"spatial": uva_spatial, "temporal": uva_temporal}, uva_head, 48),
}
"""For each trunk: the shared layers, the paths, the head, and the number of channels of a path."""


class CoupledNetwork(nn.Module):
    """A network with a spatial path over the first frame and a temporal path over the change to the next frame.

    The two-head network of the first training stage outputs one map per path; its saliency is their mean. The fused
    network of the second stage has one head over both paths. A network can also have a single path with its head.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        options = spec.options
        self.heads = options["heads"]
        low, paths, head, width = TRUNKS[options["trunk"]]
        self.low = low()
        for path in PATHS:
            if self.heads in (path, "two", "fused"):
                self.add_module(path, paths[path]())
            if self.heads in (path, "two"):
                self.add_module(f"{path}_head", head(width))
        if self.heads == "fused":
            self.head = head(2 * width)
        self.activation = nn.Sigmoid() if options["output"] == "sigmoid" else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(module.weight)  # the default of TensorFlow, in which DIS was trained

    def forward(self, clip: Tensor, intermediate: bool = False) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Return the saliency of the first frame, and the maps of both paths if there are two heads.

        Args:
            clip: the first and the next frame, ``(N, 3, 2, R, R)``.
            intermediate: whether to return ``(saliency, {"spatial": ..., "temporal": ...})``.

        Returns:
            Maps ``(N, 1, R, R)``.
        """
        first, following = clip.unbind(2)
        # In training, BatchNorm normalizes the first frames and the next frames as two batches, as in DIS.
        return self.combine(self.low(first), self.low(following), intermediate)

    def combine(
        self, first: Tensor, following: Tensor, intermediate: bool = False
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Return the maps from the shared features ``(N, C, R/4, R/4)`` of the first and the next frames."""
        inputs = {"spatial": first, "temporal": torch.cat([first, first - following], 1)}
        own = PATHS if self.heads in ("two", "fused") else (self.heads,)
        features = {path: self.get_submodule(path)(inputs[path]) for path in own}
        maps: dict[str, Tensor] = {}
        if self.heads == "fused":
            saliency = self.activation(self.head(torch.cat(list(features.values()), 1)))
        else:
            maps = {path: self.activation(self.get_submodule(f"{path}_head")(x)) for path, x in features.items()}
            saliency = torch.stack(list(maps.values())).mean(0)
        return (saliency, maps) if intermediate else saliency


class OverFrames(nn.Module):
    """A network that is run on many consecutive frames and computes the shared features of each frame only once.

    The next frame of a clip is the first frame of the following clip.
    """

    def __init__(self, network: CoupledNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> Tensor:
        """Return the maps ``(B, 1, R, R)`` of the first B of consecutive frames ``(B + 1, 3, R, R)``."""
        features = self.network.low(frames)
        maps = self.network.combine(features[:-1], features[1:])
        assert isinstance(maps, Tensor)
        return maps
