"""UVA-Net and its predecessor DIS: the saliency map of a frame, from this frame and the next one, at 32 to 256 pixels.

Source: Fu et al., "Ultrafast Video Attention Prediction with Coupled Knowledge Distillation", AAAI 2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ....errors import UsageError, did_you_mean
from ...family import Family, LossTerm, Stage
from ...spec import ModelSpec, Preprocess
from .original import ORIGINAL_ANCHORS, OWN_ANCHOR, is_original, options_of, own_name, side_in

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .network import CoupledNetwork

HALVES = (0.5, 0.5, 0.5)

USUAL_SIDE = 64
"""Assumed side of the input, in pixels, if the name of a weights file does not state it."""

VALUES = {"trunk": ("dis", "uva"), "heads": ("fused", "two", "spatial", "temporal"), "output": ("raw", "sigmoid")}
"""Values of the options. ``trunk``: the layers; ``heads``: one head over both paths, one head per path, or a single
path with its head; ``output``: the activation of the maps."""


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


def distillation(role: str) -> tuple[LossTerm, ...]:
    """Return the terms of a path: mean squared errors, as published, and optional KL divergences and correlations."""
    return (
        LossTerm(role, "mse", of=role, to=f"teacher.{role}"),
        LossTerm(f"{role}-ground-truth", "mse", of=role, to="density"),
        LossTerm(f"{role}-kl", "kl", of=role, to=f"teacher.{role}", weight=0.0),
        LossTerm(f"{role}-ground-truth-kl", "kl", of=role, to="density", weight=0.0),
        LossTerm(f"{role}-cc", "cc", of=role, to=f"teacher.{role}", weight=0.0),
        LossTerm(f"{role}-ground-truth-cc", "cc", of=role, to="density", weight=0.0),
    )


TWO_HEADS = Stage(
    options={"heads": "two"},
    terms=(
        *distillation("spatial"),
        *distillation("temporal"),
        # The released program loads the temporal teacher's maps, but compares the temporal path with the spatial ones.
        LossTerm("temporal-as-released", "mse", of="temporal", to="teacher.spatial", weight=0.0),
    ),
)
"""Stage 1, coupled distillation: each path has its own head and learns from its own teacher and the ground truth."""

FUSED = Stage(
    options={"heads": "fused"},
    terms=(
        LossTerm("ground-truth", "mse", to="density"),
        # The released program trains on labeled clips only. The target on auxiliary ones is the temporal teacher.
        LossTerm("final", "mse", to="teacher.temporal", weight=0.0, aux_weight=1.0),
        LossTerm("ground-truth-kl", "kl", to="density", weight=0.0),
        LossTerm("final-kl", "kl", to="teacher.temporal", weight=0.0),
        LossTerm("final-spatial-kl", "kl", to="teacher.spatial", weight=0.0),
        LossTerm("ground-truth-cc", "cc", to="density", weight=0.0),
        LossTerm("final-cc", "cc", to="teacher.temporal", weight=0.0),
        LossTerm("nss", "nss", to="fixation", weight=0.0),
    ),
    frozen=("low", "spatial", "temporal"),
)
"""Stage 2, joint optimization: a new head is trained over both paths, which are frozen."""


class UVANetFamily(Family):
    """The UVA-Net family."""

    name = "uvanet"
    paper = "Fu et al., AAAI 2020"
    specs = tuple(
        spec_of(trunk, side) for trunk, sides in (("uva", (64, 32)), ("dis", (32, 64, 96, 128, 256))) for side in sides
    )
    intermediate = True
    roles = ("spatial", "temporal")
    terms = FUSED.terms
    stages = (TWO_HEADS, FUSED)
    anchors = (*ORIGINAL_ANCHORS, OWN_ANCHOR)

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

    # ------------------------------------------------------------------------------------------------ original files

    def is_original(self, state_dict: Mapping[str, Any]) -> bool:
        return is_original(state_dict)

    def recognize(self, state_dict: Mapping[str, Tensor], stem: str = "") -> ModelSpec | None:
        found = options_of(state_dict)
        if not found:
            return None
        trunk, heads = found
        known = {spec.name: spec for spec in self.specs}
        spec = known.get(f"{trunk}-{side_in(stem)}", known[f"{trunk}-{USUAL_SIDE}"])
        return self.configure(spec, {"heads": heads})

    def rename(self, name: str) -> str | None:
        return own_name(name)

    def ambiguity(self, spec: ModelSpec, stem: str = "") -> str:
        side = spec.input_size[0]
        if side == side_in(stem):
            return ""
        return (
            f"its tensors do not determine the size of the input; {side}x{side} assumed (a name like dis_32 states it)"
        )


FAMILY = UVANetFamily()
