"""What a network is: the one description that the command line, weight files and training share. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..errors import UsageError
from ..untrusted import printable

CLIP_FRAMES = 16
"""Frames in the clip that every network here reads."""

INPUT_HEIGHT, INPUT_WIDTH = 192, 256
"""Pixels of the network's input, and of its maps (Hu et al. 2023, section 4.2)."""

STRIDE = 32
"""Downsampling factor of the networks' deepest features; both sides of the input must be multiples of it."""

MIN_SIDE = 64
"""Minimum input side in pixels; below it, the deepest features have a single position."""

MAX_DECODERS = 8

WIDTHS = {"full": 1, "half": 2, "quarter": 4}
"""Width names and what they divide the encoder's channels by."""


@dataclass(frozen=True)
class TinyHDConfig:
    """One of the TinyHD networks."""

    outputs: Literal["single", "multi"] = "multi"
    """``single``: one map for the last of 16 frames; ``multi``: a map for each."""

    width: Literal["full", "half", "quarter"] = "full"
    """Share of the encoder's channels that is kept (section 3.3.2)."""

    decoders: tuple[str, ...] = ("d1", "d2", "d3")
    """Decoders in the order in which the fusion sees their maps; one may be named several times (Table 3)."""

    architecture: Literal["tinyhd"] = "tinyhd"

    def __post_init__(self) -> None:
        if self.outputs not in ("single", "multi"):
            raise UsageError(f"outputs must be single or multi, not {self.outputs!r}")
        if self.width not in tuple(WIDTHS):
            raise UsageError(f"width must be one of {', '.join(WIDTHS)}, not {self.width!r}")
        if not isinstance(self.decoders, list | tuple) or len(self.decoders) > MAX_DECODERS:
            raise UsageError(f"decoders must be a list of at most {MAX_DECODERS} names")
        object.__setattr__(self, "decoders", tuple(self.decoders))
        wrong = [str(name) for name in self.decoders if name not in ("d1", "d2", "d3")]
        if wrong or not self.decoders:
            raise UsageError(f"decoders must be taken from d1, d2, d3, not {','.join(wrong) or 'none at all'}")

    def check_size(self, size: tuple[int, int]) -> None:
        """Raise ``UsageError`` for an input size that the network cannot read, or not in sensible memory."""
        check_size(size, 1024)

    @property
    def width_divisor(self) -> int:
        """What the encoder's channels are divided by: 1, 2 or 4."""
        return WIDTHS[self.width]

    @property
    def frames_out(self) -> int:
        """Maps for one clip."""
        return CLIP_FRAMES if self.outputs == "multi" else 1

    @property
    def decoder_names(self) -> dict[str, str]:
        """Decoder name to kind, in fusion order; a repeated kind is numbered: d1, d1_2, d1_3."""
        seen: Counter[str] = Counter()
        names = {}
        for kind in self.decoders:
            seen[kind] += 1
            names[kind if seen[kind] == 1 else f"{kind}_{seen[kind]}"] = kind
        return names

    @property
    def name(self) -> str:
        """The network's name without its decoders: tinyhd-m, tinyhd-s-quarter, ..."""
        suffix = "" if self.width == "full" else f"-{self.width}"
        return f"tinyhd-{self.outputs[0]}{suffix}"


@dataclass(frozen=True)
class HD2SConfig:
    """HD2S, the teacher: it has one size."""

    architecture: Literal["hd2s"] = "hd2s"

    def check_size(self, size: tuple[int, int]) -> None:
        """Raise ``UsageError`` for an input size that the network cannot read, or not in sensible memory."""
        check_size(size, 512)

    @property
    def frames_out(self) -> int:
        """Maps for one clip: that of the last frame."""
        return 1

    @property
    def name(self) -> str:
        """The network's name."""
        return "hd2s"


def check_size(size: tuple[int, int], largest: int) -> None:
    """Raise ``UsageError`` unless both sides are multiples of ``STRIDE`` from ``MIN_SIDE`` to ``largest``."""
    if any(side % STRIDE or not MIN_SIDE <= side <= largest for side in size):
        limits = f"both sides must be multiples of {STRIDE} from {MIN_SIDE} to {largest}"
        raise UsageError(f"an input of {size[0]}x{size[1]} pixels: {limits}")


ModelConfig = TinyHDConfig | HD2SConfig


def to_dict(config: ModelConfig) -> dict[str, Any]:
    """The configuration as plain values, for JSON and YAML."""
    values = asdict(config)
    if "decoders" in values:
        values["decoders"] = list(values["decoders"])
    return values


def from_dict(values: object) -> ModelConfig:
    """The configuration that :func:`to_dict` wrote; ``UsageError`` if it is none."""
    if not isinstance(values, Mapping):
        raise UsageError("the network's configuration must be a table")
    values = dict(values)
    kinds: dict[str, type[TinyHDConfig] | type[HD2SConfig]] = {"tinyhd": TinyHDConfig, "hd2s": HD2SConfig}
    architecture = values.get("architecture")
    kind = kinds.get(architecture) if isinstance(architecture, str) else None
    if kind is None:
        raise UsageError(f"unknown architecture {printable(repr(architecture))[:60]}")
    try:
        return kind(**values)
    except TypeError as error:
        raise UsageError(f"not a {values['architecture']} configuration: {error}") from None
