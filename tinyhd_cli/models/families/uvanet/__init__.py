"""UVA-Net and its forerunner DIS: two consecutive frames of 32 to 256 pixels, the map of the first one.

Source: Fu et al., "Ultrafast Video Attention Prediction with Coupled Knowledge Distillation", AAAI 2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ....errors import UsageError, did_you_mean
from ...family import Family
from ...spec import ModelSpec, Preprocess

if TYPE_CHECKING:
    from torch import nn

    from .network import CoupledNetwork

HALVES = (0.5, 0.5, 0.5)

VALUES = {"trunk": ("dis", "uva"), "heads": ("fused", "two"), "output": ("raw", "sigmoid")}
"""Options and their values: the layers of the shared features and paths; the fused network or that with two heads; the
activation of the maps."""


def spec_of(trunk: str, side: int) -> ModelSpec:
    """Return the spec of a network with square inputs."""
    return ModelSpec(
        name=f"{trunk}-{side}",
        family="uvanet",
        clip_frames=2,
        map_frame=0,
        input_size=(side, side),
        size_multiple=4,
        side_limits=(16, 1024),
        preprocess=Preprocess(mean=HALVES, std=HALVES),  # RGB in -1..1
        options={"trunk": trunk, "heads": "fused", "output": "raw"},
    )


class UVANetFamily(Family):
    """The UVA-Net family."""

    name = "uvanet"
    paper = "Fu et al., AAAI 2020"
    specs = tuple(
        spec_of(trunk, side) for trunk, sides in (("uva", (64, 32)), ("dis", (32, 64, 96, 128, 256))) for side in sides
    )
    intermediate = True

    def build(self, spec: ModelSpec) -> CoupledNetwork:
        from .network import CoupledNetwork

        return CoupledNetwork(spec)

    def configure(self, spec: ModelSpec, options: Mapping[str, Any]) -> ModelSpec:
        for name, value in options.items():
            if name in VALUES and value not in VALUES[name]:
                known = did_you_mean(str(value), VALUES[name])
                raise UsageError(f"--set {name}={value}: unknown value: {known}")
        return super().configure(spec, options)

    def over_frames(self, network: nn.Module) -> nn.Module:
        from .network import CoupledNetwork, OverFrames

        assert isinstance(network, CoupledNetwork)
        return OverFrames(network)


FAMILY = UVANetFamily()
