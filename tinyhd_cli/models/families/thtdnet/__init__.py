"""THTD-Net: a Video Swin transformer and one decoder; the saliency map of the last of 32 frames.

Source: Moradi, Palazzo, Spampinato, "Transformer-based Video Saliency Prediction with High Temporal Dimension
Decoding", VISAPP 2024, arXiv 2401.07942.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ....errors import UsageError, WeightsError
from ...family import KL_CC_TERMS, Family
from ...spec import ModelSpec, is_count, is_number
from .original import AUTHORS_ANCHOR, OWN_ANCHOR, is_encoder, options_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .network import THTDNet

DECODERS = ("narrow", "wide")


class THTDNetFamily(Family):
    """The THTD-Net family."""

    name = "thtdnet"
    paper = "Moradi et al., VISAPP 2024"
    specs = (
        ModelSpec(
            name="thtdnet",
            family="thtdnet",
            clip_frames=32,
            input_size=(224, 384),
            options={
                "channels": 96,
                "depths": (2, 2, 18, 2),
                "decoder": "narrow",
                "laterals": True,
                "patch_norm": True,
                "drop_path": 0.2,
                "checkpoint": False,
            },
        ),
    )
    training_options = ("drop_path", "checkpoint")
    terms = KL_CC_TERMS
    features = "encoder"
    anchors = (OWN_ANCHOR, AUTHORS_ANCHOR)

    def build(self, spec: ModelSpec) -> THTDNet:
        from .network import THTDNet

        return THTDNet(spec)

    def configure(self, spec: ModelSpec, options: Mapping[str, Any]) -> ModelSpec:
        configured = super().configure(spec, options)
        found = configured.options
        channels, depths, drop = found["channels"], found["depths"], found["drop_path"]
        counts = isinstance(depths, tuple) and len(depths) == 4 and all(is_count(one) for one in depths)
        for name, valid, wanted in (
            ("channels", is_count(channels) and channels in range(32, 257, 32), "a multiple of 32 up to 256"),
            ("depths", counts and all(one in range(1, 65) for one in depths), "4 numbers from 1 to 64"),
            ("decoder", found["decoder"] in DECODERS, " or ".join(DECODERS)),
            ("laterals", isinstance(found["laterals"], bool), "true or false"),
            ("patch_norm", isinstance(found["patch_norm"], bool), "true or false"),
            ("drop_path", is_number(drop) and 0 <= drop < 1, "a number from 0 to below 1"),
            ("checkpoint", isinstance(found["checkpoint"], bool), "true or false"),
        ):
            if not valid:
                raise UsageError(f"--set {name}={as_text(found[name])}: must be {wanted}")
        return configured

    # ------------------------------------------------------------------------------------------------ original files

    def recognize(self, state_dict: Mapping[str, Tensor], stem: str = "") -> ModelSpec | None:
        if OWN_ANCHOR in state_dict:
            try:
                return self.configure(self.specs[0], options_of(state_dict))
            except UsageError as error:
                raise WeightsError(f"not weights of THTD-Net: {str(error).removeprefix('--set ')}") from error
        if is_encoder(state_dict):
            raise WeightsError(
                "contains a Video Swin transformer, but not the decoder of tinyhd's THTD-Net, whose layers are not "
                "published; train one from it: tinyhd train --model thtdnet --init FILE"
            )
        return None

    # ------------------------------------------------------------------------------------------------------ training

    def is_imagenet(self, state_dict: Mapping[str, Any]) -> bool:
        return is_encoder(state_dict)

    def initialize(
        self, network: nn.Module, spec: ModelSpec, state_dict: Mapping[str, Tensor], clips: Iterable[Tensor]
    ) -> None:
        from .network import THTDNet, load_encoder

        assert isinstance(network, THTDNet)
        load_encoder(network, state_dict)


def as_text(value: object) -> str:
    """Return the value of an option as ``--set`` takes it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


FAMILY = THTDNetFamily()
