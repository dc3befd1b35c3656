"""STKD: the salient objects of a frame, by a cascade of maps that are refined from high and low features.

Source: Tang, Li, Zou, "Fast Video Salient Object Detection via Spatiotemporal Knowledge Distillation", 2020,
arXiv 2010.10027, and the network that the authors released.

Shapes are ``(N, C, H, W)``. Every resize is bilinear with aligned corners.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....errors import UsageError
from ...blocks.mobilenet2d import MobileNet2d
from ...blocks.resnet import ResNet50
from ...imagenet import calibrate, fit, mobilenet
from ...spec import ModelSpec


@dataclass(frozen=True)
class Widths:
    """Channels of the layers after the trunk."""

    low: int
    """Of the low features."""
    deep: int
    """Of the layers before the ASPP."""
    high: int
    """Of the high features."""
    branch: int
    """Of each branch of the ASPP."""
    guidance: int
    """Of the layers that refine a map."""
    separable: bool = False
    """Whether the convolutions larger than 1 x 1 are depthwise-separable."""


TRUNKS: dict[str, tuple[type[ResNet50 | MobileNet2d], Widths]] = {
    "resnet50": (ResNet50, Widths(low=256, deep=256, high=256, branch=128, guidance=128)),
    "mobilenetv2": (MobileNet2d, Widths(low=64, deep=192, high=64, branch=96, guidance=64, separable=True)),
}
"""For each trunk: its class, and the channels of the layers after it."""


def resize(x: Tensor, like: Tensor) -> Tensor:
    """Enlarge a map to the size of another one."""
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=True)


def enlarge(logits: Tensor, like: Tensor) -> Tensor:
    """Return :func:`resize` of a map ``(N, 1, h, w)``, as two matrix products: engines take a fifth of the time."""
    rows, columns = (
        F.interpolate(
            torch.eye(side, device=logits.device, dtype=logits.dtype)[None], size, mode="linear", align_corners=True
        )[0]
        for side, size in zip(logits.shape[-2:], like.shape[-2:], strict=True)
    )
    return rows.T @ logits @ columns


def unit(
    in_channels: int, out_channels: int, kernel: int, *, dilation: int = 1, separable: bool = False
) -> list[nn.Module]:
    """Return the layers of a unit: convolution that keeps the size, BatchNorm, and PReLU with one slope.

    A separable convolution is a depthwise one with BatchNorm and a pointwise one.
    """
    layers: list[nn.Module] = []
    padding = dilation * (kernel // 2)
    if separable and kernel > 1:
        depthwise = nn.Conv2d(in_channels, in_channels, kernel, 1, padding, dilation, groups=in_channels)
        layers += [depthwise, nn.BatchNorm2d(in_channels)]
        kernel, padding, dilation = 1, 0, 1
    convolution = nn.Conv2d(in_channels, out_channels, kernel, 1, padding, dilation)
    return [*layers, convolution, nn.BatchNorm2d(out_channels), nn.PReLU()]


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: branches of 1 x 1, dilated 3 x 3 and global features, concatenated and fused.

    Source: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017; dilations 2, 4 and 6.
    """

    def __init__(self, channels: int, branch: int, out_channels: int, separable: bool) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(*unit(channels, branch, 1))
        self.conv2 = nn.Sequential(*unit(channels, branch, 3, dilation=2, separable=separable))
        self.conv3 = nn.Sequential(*unit(channels, branch, 3, dilation=4, separable=separable))
        self.conv4 = nn.Sequential(*unit(channels, branch, 3, dilation=6, separable=separable))
        self.conv5 = nn.Sequential(*unit(channels, branch, 1))
        self.fuse = nn.Sequential(*unit(5 * branch, out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) == 1:  # one value per channel has no variance
            raise UsageError("--batch-size 1: the BatchNorm of global features needs at least 2 clips; use 2 or more")
        mean = self.conv5(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[-2:])
        y: Tensor = self.fuse(torch.cat([self.conv1(x), self.conv2(x), self.conv3(x), self.conv4(x), mean], 1))
        return y


def guidance(features: int, channels: int, separable: bool) -> nn.Sequential:
    """Return layers that compute the change of a map from it and from features, ``features + 1`` channels in total."""
    return nn.Sequential(
        *unit(features + 1, channels, 3, separable=separable),
        *unit(channels, channels, 3, separable=separable),
        nn.Conv2d(channels, 1, 1),
    )


@dataclass(frozen=True)
class Features:
    """The features of a frame."""

    low: Tensor
    """``(N, C, H/4, W/4)``."""
    high: Tensor
    """``(N, C, H/16, W/16)``."""


class STKD(nn.Module):
    """A network that finds salient objects in single frames, or in pairs of a frame and the one before it.

    With mutual attention, the map of a pair is refined once more, by features of the current frame that were attended
    to from the previous one. Without it, or for clips of a single frame, frames do not affect each other.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        trunk, width = TRUNKS[spec.options["trunk"]]
        self.trunk = trunk()
        shallow, deep = sum(trunk.channels[:3]), sum(trunk.channels[3:])
        self.low = nn.Sequential(
            *unit(shallow, width.low, 3, separable=width.separable),
            *unit(width.low, width.low, 3, separable=width.separable),
            *unit(width.low, width.low, 1),
        )
        self.high = nn.Sequential(
            *unit(deep, width.deep, 3, separable=width.separable),
            *unit(width.deep, width.deep, 3, separable=width.separable),
            ASPP(width.deep, width.branch, width.high, width.separable),
        )
        self.predict0 = nn.Conv2d(width.high, 1, 1)
        self.predict1 = guidance(width.low, width.guidance, width.separable)
        self.predict2 = guidance(width.high, width.guidance, width.separable)
        self.mutual = self.predict3 = None
        if spec.options["mutual"]:
            self.mutual = nn.Sequential(*unit(2 * width.high, width.high, 1))
            self.predict3 = guidance(width.high, width.guidance, width.separable)

    def forward(self, clip: Tensor, intermediate: bool = False) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Return the probability that each pixel of the last frame belongs to a salient object.

        Args:
            clip: consecutive frames, ``(N, 3, F, H, W)``. Any F is allowed; mutual attention needs 2.
            intermediate: whether to return ``(saliency, logits)``, ``{"p0": (N, F, H, W), ...}`` of all frames: p0 to
                p2, and p3 of a pair with mutual attention.

        Returns:
            Saliency ``(N, 1, H, W)``, the sigmoid of the deepest logits.
        """
        frames = clip.unbind(2)
        # In training, BatchNorm normalizes the frames as separate batches, the earliest first, as in the original.
        features = [self.features(frame) for frame in frames]
        if not intermediate and not self.training:
            return self.saliency(features, frames[-1])
        cascades = [self.cascade(one) for one in features]
        if self.attends(features):
            mutual = self.attended(*features)
            for maps, one in zip(cascades, features, strict=True):
                maps.append(self.attention_map(maps[-1], mutual, one))
        logits = {
            f"p{index}": torch.cat([enlarge(one, clip) for one in maps], 1)
            for index, maps in enumerate(zip(*cascades, strict=True))
        }
        saliency = list(logits.values())[-1][:, -1:].sigmoid()
        return (saliency, logits) if intermediate else saliency

    def saliency(self, features: list[Features], like: Tensor) -> Tensor:
        """Return the saliency ``(N, 1, H, W)`` of the last frame, without the maps that it does not depend on."""
        last = self.cascade(features[-1])[-1]
        if self.attends(features):
            last = self.attention_map(last, self.attended(*features), features[-1])
        return enlarge(last, like).sigmoid()

    def features(self, frame: Tensor) -> Features:
        """Return the features of a frame ``(N, 3, H, W)``."""
        l0, l1, l2, l3, l4 = self.trunk(frame)
        low = self.low(torch.cat([l0, resize(l1, l0), resize(l2, l0)], 1))
        return Features(low, self.high(torch.cat([l3, resize(l4, l3)], 1)))

    def cascade(self, features: Features) -> list[Tensor]:
        """Return the logits p0, p1 and p2 of a frame, each ``(N, 1, H/4, W/4)``."""
        high = resize(features.high, features.low)
        p0 = self.predict0(high)
        p1 = self.predict1(torch.cat([p0, features.low], 1)) + p0
        p2 = self.predict2(torch.cat([p1, high], 1)) + p1
        return [p0, p1, p2]

    def attends(self, features: list[Features]) -> bool:
        """Return whether the frames are a pair for the mutual attention."""
        return self.mutual is not None and len(features) == 2

    def attended(self, previous: Features, current: Features) -> Tensor:
        """Return the features of the current frame that each position of the previous one attends to, and its own.

        The former are on the grid of the previous frame and the latter on that of the current one, as in the original.
        """
        assert self.mutual is not None
        size = current.high.shape
        before, now = previous.high.flatten(2), current.high.flatten(2)  # (N, C, positions)
        attention = (before.transpose(1, 2) @ now / size[1] ** 0.5).softmax(2)  # rows: positions of the previous frame
        mixed = (now @ attention.transpose(1, 2)).view(size)
        y: Tensor = self.mutual(torch.cat([mixed, current.high], 1))
        return y

    def attention_map(self, p2: Tensor, mutual: Tensor, features: Features) -> Tensor:
        """Return the logits p3 ``(N, 1, H/4, W/4)`` of a frame."""
        assert self.predict3 is not None
        p3: Tensor = self.predict3(torch.cat([p2, resize(mutual, features.low)], 1)) + p2
        return p3


def load_trunk(network: STKD, tensors: Mapping[str, Tensor], clips: Iterable[Tensor]) -> None:
    """Load the weights of an ImageNet classifier into a network's trunk.

    Args:
        network: any STKD.
        tensors: of ResNet-50 or MobileNetV2, with the names of timm or torchvision.
        clips: ``(N, 3, F, H, W)``, to measure BatchNorm's statistics if the file has none.

    Raises:
        WeightsError: the tensors are of another network.
    """
    trunk, folded = network.trunk, False
    if isinstance(trunk, MobileNet2d):
        tensors, folded = mobilenet(tensors)
    trunk.load_state_dict(fit(tensors, trunk.state_dict(), trunk.title))
    if folded:
        trunk.eval()
        calibrate(trunk, (trunk(clip[:, :, -1]) for clip in clips))
        trunk.train()


class OverFrames(nn.Module):
    """A network that is run on many consecutive frames and computes the features of each frame only once."""

    def __init__(self, network: STKD) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> Tensor:
        """Return the maps ``(B, 1, H, W)`` of the last B of consecutive frames ``(B + F - 1, 3, H, W)``."""
        features = self.network.features(frames)
        skipped = self.network.spec.clip_frames - 1
        count = len(frames) - skipped
        parts = [
            Features(features.low[start : start + count], features.high[start : start + count])
            for start in range(skipped + 1)
        ]
        return self.network.saliency(parts, frames)
