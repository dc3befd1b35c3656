"""STKD: masks of salient objects in video, from single frames or from pairs of frames.

Source: Tang, Li, Zou, "Fast Video Salient Object Detection via Spatiotemporal Knowledge Distillation", 2020,
arXiv 2010.10027.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ....errors import UsageError, WeightsError
from ...family import MOBILENET_V2, RESNET_50, Family, LossTerm
from ...spec import ModelSpec
from .loss import SLIPS, TERMS, of_network
from .original import ORIGINAL_ANCHORS, OWN_ANCHORS, is_original, options_of, own_name

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .network import STKD


def spec_of(name: str, side: int, trunk: str, *, mutual: bool = False) -> ModelSpec:
    """Return the spec of a network with square inputs."""
    return ModelSpec(
        name=name,
        family="stkd",
        clip_frames=2 if mutual else 1,
        input_size=(side, side),
        size_multiple=1,
        task="object",
        options={"trunk": trunk, "mutual": mutual},
    )


class STKDFamily(Family):
    """The STKD family."""

    name = "stkd"
    paper = "Tang et al., 2020"
    specs = (
        spec_of("stkd-lite", 256, "mobilenetv2"),
        spec_of("stkd", 473, "resnet50"),
        spec_of("stkd-pair", 473, "resnet50", mutual=True),
    )
    intermediate = True
    terms = TERMS
    slips = SLIPS
    named_norms = True
    init = "imagenet"
    imagenet = MOBILENET_V2
    anchors = (*ORIGINAL_ANCHORS, *OWN_ANCHORS)

    def build(self, spec: ModelSpec) -> STKD:
        from .network import STKD

        return STKD(spec)

    def configure(self, spec: ModelSpec, options: Mapping[str, Any]) -> ModelSpec:
        wanted = super().configure(spec, options).options
        for one in self.specs:
            if one.options == wanted:
                return replace(spec, name=one.name, clip_frames=one.clip_frames, options=wanted)
        known = "; ".join(f"{one.name} has {settings(one.options)}" for one in self.specs)
        raise UsageError(f"--set: no network has {settings(wanted)}: {known}")

    def loss(self, spec: ModelSpec, *, original_slips: bool = False) -> tuple[LossTerm, ...]:
        terms = super().loss(spec, original_slips=original_slips)
        return of_network(terms, mutual=spec.options["mutual"])

    def over_frames(self, network: nn.Module) -> nn.Module:
        from .network import STKD, OverFrames

        assert isinstance(network, STKD)
        return OverFrames(network)

    # ------------------------------------------------------------------------------------------------ original files

    def is_original(self, state_dict: Mapping[str, Any]) -> bool:
        return is_original(state_dict)

    def recognize(self, state_dict: Mapping[str, Tensor], stem: str = "") -> ModelSpec | None:
        options = options_of(state_dict)
        if options is None:
            return None
        found = [spec for spec in self.specs if spec.options == options]
        if not found:
            raise WeightsError(f"not weights of STKD: no network has {settings(options)}")
        return found[0]

    def rename(self, name: str) -> str | None:
        return own_name(name)

    # ------------------------------------------------------------------------------------------------------ training

    def imagenet_file(self, spec: ModelSpec) -> tuple[str, str]:
        return {"mobilenetv2": MOBILENET_V2, "resnet50": RESNET_50}[spec.options["trunk"]]

    def is_imagenet(self, state_dict: Mapping[str, Any]) -> bool:
        from ...imagenet import is_mobilenet, is_resnet50

        return is_mobilenet(state_dict) or is_resnet50(state_dict)

    def initialize(
        self, network: nn.Module, spec: ModelSpec, state_dict: Mapping[str, Tensor], clips: Iterable[Tensor]
    ) -> None:
        from .network import STKD, load_trunk

        assert isinstance(network, STKD)
        load_trunk(network, state_dict, clips)


def settings(options: Mapping[str, Any]) -> str:
    """Return options as text for messages."""
    return ", ".join(f"{name}={str(value).lower()}" for name, value in options.items())


FAMILY = STKDFamily()
