"""ImageNet weights of MobileNetV2 for the encoder, inflated to three dimensions.

Source: Hu et al., WACV 2023, section 3.2: kernels are repeated over time and divided by their number of frames. A clip
of identical frames then has the activations of the single frame, away from the ends of the clip, where time is padded
with zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from torch import Tensor

from ...imagenet import calibrate, fit, mobilenet
from ...registry import family
from .network import TinyHD
from .options import WIDTHS
from .reduce import merge_network


def inflate(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Repeat kernels over time and divide them by their number of frames.

    Raises:
        WeightsError: a tensor is missing or of another shape.
    """
    inflated = {}
    for name, value in state.items():
        like = expected.get(name)
        if like is not None and like.dim() == 5:
            frames = like.shape[2]
            value = (value / frames).unsqueeze(2).expand(-1, -1, frames, -1, -1)
        inflated[name] = value
    return fit(inflated, expected, "MobileNetV2")


def load_encoder(network: TinyHD, tensors: Mapping[str, Tensor], clips: Iterable[Tensor]) -> None:
    """Load ImageNet weights into a network's encoder; those of a narrower one are merged (section 3.3.2).

    Args:
        network: any TinyHD.
        tensors: MobileNetV2 with the names of timm or torchvision.
        clips: ``(N, 3, 16, H, W)``, to measure BatchNorm's statistics if the file has none.

    Raises:
        WeightsError: the tensors are of another network.
    """
    kind, spec = family(network.spec), network.spec
    wide = cast(TinyHD, kind.build(kind.configure(spec, {"width": "full"})))
    names, folded = mobilenet(tensors)
    wide.encoder.load_state_dict(inflate(names, wide.encoder.state_dict()))
    if folded:
        encoder = wide.encoder.eval()
        calibrate(encoder, (encoder(clip) for clip in clips))
    state = encoder_state(wide.state_dict())
    for width, divisor in WIDTHS.items():
        if 1 < divisor <= network.width_divisor:
            narrow = cast(TinyHD, kind.build(kind.configure(spec, {"width": width})))
            state = encoder_state(merge_network(state, narrow)[0])
    network.load_state_dict(network.state_dict() | state)


def encoder_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the encoder alone."""
    return {name: value for name, value in state.items() if name.startswith("encoder.")}
