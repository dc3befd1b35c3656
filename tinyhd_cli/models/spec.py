"""The description of a network that weights files, checkpoints, exports and results carry. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, cast, get_args

from ..errors import UsageError
from ..untrusted import printable

Triple = tuple[float, float, float]
Resize = Literal["bilinear", "area", "bicubic"]
Task = Literal["fixation", "object"]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
"""Mean of RGB / 255 over ImageNet."""

IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
"""Standard deviation of RGB / 255 over ImageNet."""

IMAGENET = (IMAGENET_MEAN, IMAGENET_STD)

DHF1K_PIXELS = 640 * 360
"""Pixels of a frame of DHF1K, on which most networks are trained."""

MAX_SIDE = 4096
"""Limit on the sides of any network's input, in pixels."""

MAX_CLIP_FRAMES = 512


@dataclass(frozen=True)
class Preprocess:
    """The steps from a decoded frame to the input of a network."""

    mean: Triple = IMAGENET_MEAN
    """Mean of RGB / 255, subtracted."""

    std: Triple = IMAGENET_STD
    """Standard deviation of RGB / 255, divided by."""

    resize: Resize = "bilinear"
    """Interpolation of the resize to the input size; none of them is antialiased except ``area``."""

    reduce_above: int | None = DHF1K_PIXELS
    """Area-average frames of more than 2.25 times this number of pixels down to it before the resize, because the
    resize would skip pixels; None: never."""

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = getattr(self, name)
            numbers = isinstance(values, list | tuple) and all(is_number(value) for value in values)
            if not numbers or len(values) != 3:
                raise UsageError(f"preprocess: {name} must be 3 numbers, not {shown(values)}")
            object.__setattr__(self, name, tuple(float(value) for value in values))
        if min(self.std) <= 0:
            raise UsageError(f"preprocess: std must be above 0, not {shown(self.std)}")
        if self.resize not in get_args(Resize):
            raise UsageError(
                f"preprocess: resize must be one of {', '.join(get_args(Resize))}, not {shown(self.resize)}"
            )
        if self.reduce_above is not None and not (is_count(self.reduce_above) and self.reduce_above > 0):
            raise UsageError(f"preprocess: reduce_above must be a number of pixels, not {shown(self.reduce_above)}")


@dataclass(frozen=True)
class ModelSpec:
    """The description of a network: everything that other modules need to use it.

    Two specs are equal if all their fields are; :meth:`same_network` ignores fields that do not affect the tensors.
    """

    name: str
    """Name of the network, e.g. ``tinyhd-m``; several weights may exist for it."""

    family: str
    """Name of the family in :mod:`tinyhd_cli.models.registry`."""

    clip_frames: int = 16
    """Frames of a clip, the T of the input ``(N, 3, T, H, W)``."""

    maps: int = 1
    """Maps per clip, the T of the output ``(N, T, H, W)``: 1, or as many as ``clip_frames``."""

    map_frame: int = -1
    """Frame of the clip that a single map belongs to; negative: counted from the end. Ignored with several maps."""

    input_size: tuple[int, int] = (192, 256)
    """Height and width of the input and of the maps, in pixels."""

    size_multiple: int = 32
    """Number that both sides of the input must be multiples of."""

    side_limits: tuple[int, int] = (64, 1024)
    """Smallest and largest side of the input, in pixels."""

    preprocess: Preprocess = field(default_factory=Preprocess)
    task: Task = "fixation"
    """``fixation``: maps of where people look; ``object``: masks of salient objects."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the family, such as the width of the encoder; values are text, numbers, booleans or tuples of them."""

    def __post_init__(self) -> None:
        for name in ("name", "family"):
            value = getattr(self, name)
            if not is_text(value) or not 0 < len(value) <= 100:
                raise UsageError(f"{name} must be 1 to 100 printable characters, not {shown(value)}")
        if not is_count(self.clip_frames) or not 1 <= self.clip_frames <= MAX_CLIP_FRAMES:
            raise UsageError(f"clip_frames must be from 1 to {MAX_CLIP_FRAMES}, not {shown(self.clip_frames)}")
        if not is_count(self.maps) or self.maps not in (1, self.clip_frames):
            raise UsageError(f"maps must be 1 or clip_frames ({self.clip_frames}), not {shown(self.maps)}")
        if not is_count(self.map_frame) or not -self.clip_frames <= self.map_frame < self.clip_frames:
            raise UsageError(f"map_frame {shown(self.map_frame)} is outside a clip of {self.clip_frames} frames")
        if self.task not in get_args(Task):
            raise UsageError(f"task must be one of {', '.join(get_args(Task))}, not {shown(self.task)}")
        if not isinstance(self.preprocess, Preprocess):
            raise UsageError(f"preprocess must be a table, not {shown(self.preprocess)}")
        if not isinstance(self.options, Mapping) or not all(is_text(name) for name in self.options):
            raise UsageError(f"options must be a table, not {shown(self.options)}")
        object.__setattr__(self, "options", {name: plain(value) for name, value in self.options.items()})
        for name in ("input_size", "side_limits"):
            value = getattr(self, name)
            if not isinstance(value, list | tuple) or len(value) != 2 or not all(is_count(side) for side in value):
                raise UsageError(f"{name} must be 2 whole numbers, not {shown(value)}")
            object.__setattr__(self, name, tuple(value))
        if not is_count(self.size_multiple) or self.size_multiple < 1:
            raise UsageError(f"size_multiple must be at least 1, not {shown(self.size_multiple)}")
        if not 0 < self.side_limits[0] <= self.side_limits[1] <= MAX_SIDE:
            raise UsageError(f"side_limits must be from 1 to {MAX_SIDE}, not {shown(self.side_limits)}")
        self.check_size(self.input_size)

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_dict(), sort_keys=True))

    def check_size(self, size: tuple[int, int]) -> None:
        """Raise ``UsageError`` for an input size that the network does not support or that needs too much memory."""
        smallest, largest = self.side_limits
        if any(side % self.size_multiple or not smallest <= side <= largest for side in size):
            limits = f"both sides must be multiples of {self.size_multiple} from {smallest} to {largest}"
            raise UsageError(f"input_size {size[0]}x{size[1]}: {limits}")

    @property
    def windowing(self) -> Literal["block", "sliding"]:
        """``block``: a clip gives one map for each of its frames; ``sliding``: one map in total."""
        return "block" if self.maps == self.clip_frames > 1 else "sliding"

    @property
    def frames_before(self) -> int:
        """Frames of a sliding clip before the one that the map belongs to."""
        return self.map_frame % self.clip_frames

    @property
    def lookahead(self) -> int:
        """Number of frames after a frame that its map depends on; for blocks, the maximum."""
        return self.clip_frames - 1 - (0 if self.windowing == "block" else self.frames_before)

    def same_network(self, other: ModelSpec) -> bool:
        """Return whether both have the same tensors: the same family and options."""
        return (self.family, self.options) == (other.family, other.options)

    def with_size(self, size: tuple[int, int]) -> ModelSpec:
        """Return the spec with another input size; ``UsageError`` if the network cannot read it."""
        return replace(self, input_size=size)

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as plain values, for JSON and YAML."""
        return cast("dict[str, Any]", listed(asdict(self)))


def from_dict(values: Mapping[str, Any]) -> ModelSpec:
    """Return the spec that :meth:`ModelSpec.to_dict` wrote. Fields that a later version may add are ignored.

    Raises:
        UsageError: a field is missing or invalid; the message names it.
    """
    known = {item.name for item in fields(ModelSpec)}
    values = {name: value for name, value in values.items() if name in known}
    if missing := {"name", "family"} - values.keys():
        raise UsageError(f"{min(missing)!r} is missing")
    if "preprocess" in values:
        table = values["preprocess"]
        if not isinstance(table, Mapping):
            raise UsageError(f"preprocess must be a table, not {shown(table)}")
        steps = {item.name for item in fields(Preprocess)}
        values["preprocess"] = Preprocess(**{name: value for name, value in table.items() if name in steps})
    return ModelSpec(**values)


def plain(value: Any) -> Any:
    """Return the value of an option in its immutable form; ``UsageError`` for a value that JSON does not have."""
    if isinstance(value, list | tuple):
        return tuple(plain(one) for one in value)
    if value is None or isinstance(value, bool) or is_text(value) or is_number(value):
        return value
    raise UsageError(f"options must be printable text, numbers, booleans or lists of them, not {shown(value)}")


def listed(value: Any) -> Any:
    """Return a value with lists instead of tuples at all depths."""
    if isinstance(value, Mapping):
        return {name: listed(one) for name, one in value.items()}
    return [listed(one) for one in value] if isinstance(value, list | tuple) else value


def is_text(value: object) -> bool:
    """Return whether a value is text without control characters, which could change what a terminal shows."""
    return isinstance(value, str) and value.isprintable()


def is_number(value: object) -> bool:
    """Return whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


def is_count(value: object) -> bool:
    """Return whether a value is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def shown(value: object) -> str:
    """Return a value as it appears in a message: escaped and not too long."""
    return printable(repr(value))[:60]
