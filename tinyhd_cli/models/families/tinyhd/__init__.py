"""TinyHD: an inflated MobileNetV2, heterogeneous decoders, and a 1x1 fusion of their maps.

Source: Hu et al., "TinyHD: Efficient Video Saliency Prediction with Heterogeneous Decoders using Hierarchical Maps
Distillation", WACV 2023.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from ....errors import UsageError, WeightsError
from ...family import MOBILENET_V2, Family, LossTerm, Reduced
from ...spec import ModelSpec
from .options import DECODERS, MAX_DECODERS, OUTPUTS, WIDTHS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .network import TinyHD

CLIP_FRAMES = 16
"""Frames of a clip (section 4.2 of the paper)."""


class TinyHDFamily(Family):
    """The TinyHD family: TinyHD-M (a map for each of 16 frames) and TinyHD-S (for the last one), in three widths."""

    name = "tinyhd"
    paper = "Hu et al., WACV 2023"
    intermediate = True
    named_norms = True
    hierarchy = "d1"
    features = "encoder"
    terms = (
        *(LossTerm(f"d1.{number}", "kl", of=f"d1.{number - 1}", to=f"teacher.{number - 1}") for number in (1, 2, 3, 4)),
        LossTerm("final", "kl", to="teacher"),
        LossTerm("ground-truth", "kl", to="density"),
        LossTerm("cc", "cc", to="density", weight=0.0),
        LossTerm("final-cc", "cc", to="teacher", weight=0.0),
        LossTerm("nss", "nss", to="fixation", weight=0.0),
    )
    """Equations 2 and 3 of the paper; CC and NSS are additions."""

    init = "imagenet"
    imagenet = MOBILENET_V2
    anchors = ("encoder.encoder.0.0.weight", "encoder.stem.conv.weight")

    def __init__(self) -> None:
        pairs = ((outputs, width) for outputs in OUTPUTS for width in WIDTHS)
        self.specs = tuple(self.spec(outputs, width) for outputs, width in pairs)

    def spec(self, outputs: str = "multi", width: str = "full", decoders: Iterable[str] = DECODERS) -> ModelSpec:
        """Return the spec of a TinyHD network.

        Args:
            outputs: ``multi`` (a map per frame) or ``single`` (the map of the last frame).
            width: ``full``, ``half`` or ``quarter`` of the encoder's channels (section 3.3.2).
            decoders: in the order in which the fusion reads their maps; a decoder may be repeated (Table 3).

        Raises:
            UsageError: a value is invalid.
        """
        if outputs not in OUTPUTS:
            raise UsageError(f"outputs must be single or multi, not {outputs!r}")
        if width not in tuple(WIDTHS):
            raise UsageError(f"width must be one of {', '.join(WIDTHS)}, not {width!r}")
        if not isinstance(decoders, list | tuple) or len(decoders) > MAX_DECODERS:
            raise UsageError(f"decoders must be a list of at most {MAX_DECODERS} names")
        wrong = [str(name) for name in decoders if name not in DECODERS]
        if wrong or not decoders:
            raise UsageError(
                f"decoders must be one or more of {', '.join(DECODERS)}, not {','.join(wrong) or 'an empty list'}"
            )
        return ModelSpec(
            name=f"tinyhd-{outputs[0]}{'' if width == 'full' else f'-{width}'}",
            family=self.name,
            clip_frames=CLIP_FRAMES,
            maps=CLIP_FRAMES if outputs == "multi" else 1,
            options={"outputs": outputs, "width": width, "decoders": tuple(decoders)},
        )

    def configure(self, spec: ModelSpec, options: Mapping[str, Any]) -> ModelSpec:
        super().configure(spec, options)  # raises an error for unknown options
        new = self.spec(**{**spec.options, **options})
        return replace(spec, name=new.name, maps=new.maps, options=new.options)

    def title(self, spec: ModelSpec) -> str:
        return f"{spec.name} ({', '.join(spec.options['decoders'])})"

    def build(self, spec: ModelSpec) -> TinyHD:
        from .network import TinyHD

        return TinyHD(spec)

    # ------------------------------------------------------------------------------------------------ original files

    def is_original(self, state_dict: Mapping[str, Any]) -> bool:
        return any(name.startswith("encoder.encoder.") for name in state_dict)

    def recognize(self, state_dict: Mapping[str, Tensor], stem: str = "") -> ModelSpec | None:
        from . import original

        if self.is_original(state_dict):
            return self.spec(*original.options_of(state_dict, stem))
        if self.anchors[1] in state_dict:
            return self._by_own_names(state_dict)
        return None

    def _by_own_names(self, state_dict: Mapping[str, Tensor]) -> ModelSpec:
        """Return the spec of tensors with tinyhd's names; the decoders are in the order of their names."""
        from ...registry import network_state
        from .original import width_of

        width = width_of(state_dict[self.anchors[1]])
        names = dict.fromkeys(name.split(".")[1] for name in state_dict if name.startswith("decoders."))
        decoders = tuple(name.partition("_")[0] for name in names)
        try:
            candidates = [self.spec(outputs, width, decoders) for outputs in OUTPUTS]
        except UsageError as error:
            raise WeightsError(f"not weights of TinyHD: {error}") from None
        for spec in candidates:
            expected = network_state(spec)
            if all(name in state_dict and state_dict[name].shape == like.shape for name, like in expected.items()):
                return spec
        return candidates[0]

    def rename(self, name: str) -> str | None:
        from .original import own_name

        return own_name(name)

    def convert_tensor(self, name: str, tensor: Tensor) -> Tensor:
        # The original single-output fusion works on images.
        return tensor.unsqueeze(2) if name == "fusion.weight" and tensor.dim() == 4 else tensor

    def ambiguity(self, spec: ModelSpec, stem: str = "") -> str:
        if spec.name != "tinyhd-m":
            return ""
        order = ",".join(spec.options["decoders"])
        return f"its shapes do not determine the fusion order; {order} assumed (see --decoders)"

    def reinterpret(self, spec: ModelSpec, options: Mapping[str, Any]) -> ModelSpec:
        decoders = tuple(options.get("decoders", spec.options["decoders"]))
        super().reinterpret(spec, {name: value for name, value in options.items() if name != "decoders"})
        if sorted(decoders) != sorted(spec.options["decoders"]):
            wanted = ",".join(sorted(spec.options["decoders"]))
            raise UsageError(f"--decoders must be {wanted} in some order, not {','.join(decoders)}")
        return self.configure(spec, {"decoders": decoders})

    # ------------------------------------------------------------------------------------------------------ training

    def is_imagenet(self, state_dict: Mapping[str, Any]) -> bool:
        from ...imagenet import is_mobilenet

        return is_mobilenet(state_dict)

    def initialize(
        self, network: nn.Module, spec: ModelSpec, state_dict: Mapping[str, Tensor], clips: Iterable[Tensor]
    ) -> None:
        from .imagenet import load_encoder

        load_encoder(cast("TinyHD", network), state_dict, clips)

    def init_output_bias(self, network: nn.Module) -> None:
        from .network import init_output_bias

        init_output_bias(cast("TinyHD", network))

    def make_static(self, network: nn.Module) -> None:
        from .network import make_static

        make_static(cast("TinyHD", network))

    def with_time(self, state_dict: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        from ...static import with_time

        return with_time(state_dict, like)

    def reduce_channels(
        self, spec: ModelSpec, state_dict: Mapping[str, Tensor], to: str, merge: str = "sum", seed: int = 0
    ) -> Reduced:
        from .reduce import reduce_channels

        return reduce_channels(spec, state_dict, to, merge, seed)


FAMILY = TinyHDFamily()
