"""HD2S: four decoders on S3D features and a fusion of their maps; TinyHD's teacher.

Source: Bellitto et al., "Hierarchical Domain-Adapted Feature Learning for Video Saliency Prediction", IJCV 2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...family import Family
from ...spec import ModelSpec, Preprocess

if TYPE_CHECKING:
    from torch import Tensor

    from .network import HD2S

HALVES = (0.5, 0.5, 0.5)


class HD2SFamily(Family):
    """The HD2S family: one network, which outputs the map of the last of 16 frames."""

    name = "hd2s"
    paper = "Bellitto et al., IJCV 2021"
    specs = (
        ModelSpec(
            name="hd2s",
            family="hd2s",
            side_limits=(64, 512),
            preprocess=Preprocess(mean=HALVES, std=HALVES),  # RGB in -1..1
        ),
    )
    trainable = False
    intermediate = True
    named_norms = True
    features = "encoder"
    hierarchy = "maps"
    anchors = ("featureExtractor.block1.0.conv_s.weight", "encoder.stage1.space.conv.weight")

    def build(self, spec: ModelSpec) -> HD2S:
        from .network import HD2S

        return HD2S(spec)

    def is_original(self, state_dict: Mapping[str, Any]) -> bool:
        return any(name.startswith("featureExtractor.") for name in state_dict)

    def recognize(self, state_dict: Mapping[str, Tensor], stem: str = "") -> ModelSpec | None:
        return self.specs[0] if any(anchor in state_dict for anchor in self.anchors) else None

    def rename(self, name: str) -> str | None:
        from .original import own_name

        return own_name(name)


FAMILY = HD2SFamily()
