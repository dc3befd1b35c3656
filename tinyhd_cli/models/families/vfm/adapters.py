"""The video models of transformers that can be backbones, and the facts in their configuration files. Imports no torch.

Source: the classes of transformers 5.24. Their own processors are not used, because they need torchvision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ....errors import WeightsError, did_you_mean
from ...spec import IMAGENET, Triple, is_count, is_number, shown

HALVES: tuple[Triple, Triple] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
UNCHANGED: tuple[Triple, Triple] = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

MAX_FREE_FRAMES = 32
"""Frames of a clip for backbones that read any number of frames: as many as SalFoM's decoder has steps for."""

MAX_VALUE = 1 << 16
"""Limit on the numbers of a configuration."""


@dataclass(frozen=True)
class Adapter:
    """What distinguishes the classes of transformers."""

    title: str
    model: str
    """Name of the class in transformers."""

    defaults: Mapping[str, Any]
    """Fields of the configuration that matter here, with the default values of the class."""

    lora: str
    """Regular expression of the names of the linear layers of attention."""

    frames: str = "num_frames"
    side: str = "image_size"
    """Fields of the configuration with the number of frames and the side of a clip."""

    argument: str = "pixel_values"
    """Name of the input of the class."""

    class_tokens: int = 0
    """Tokens before those of the patches."""

    time_inner: bool = False
    """Whether the tokens of one place in successive frames are neighbors; if not, those of one frame are."""

    free: bool = False
    """Whether other numbers of frames, and other square sizes, than those of the configuration can be read."""

    encoder: str = ""
    """Submodule that is the backbone; empty: the whole model."""

    arguments: tuple[tuple[str, Any], ...] = ()
    """Other arguments of the class."""

    normalization: tuple[Triple, Triple] = IMAGENET
    """Mean and standard deviation of RGB / 255, unless the backbone's preprocessor states others."""


ADAPTERS = {
    "vjepa2": Adapter(
        "V-JEPA 2",
        "VJEPA2Model",
        {"hidden_size": 1024, "frames_per_clip": 64, "crop_size": 256, "patch_size": 16, "tubelet_size": 2},
        r".*\.attention\.(query|key|value|proj)",
        frames="frames_per_clip",
        side="crop_size",
        argument="pixel_values_videos",
        free=True,
        encoder="encoder",  # without the predictor
    ),
    "videomae": Adapter(
        "VideoMAE",
        "VideoMAEModel",
        {"hidden_size": 768, "num_frames": 16, "image_size": 224, "patch_size": 16, "tubelet_size": 2},
        r".*\.attention\.(attention\.(query|key|value)|output\.dense)",
    ),
    "videoprism_vision_model": Adapter(
        "VideoPrism",
        "VideoPrismVisionModel",
        {"hidden_size": 768, "num_frames": 16, "image_size": 288, "tubelet_size": (1, 18, 18)},
        r"(spatial|temporal)_layers\.\d+\.attention\.[qkvo]_proj",
        argument="pixel_values_videos",
        normalization=UNCHANGED,
    ),
    "vivit": Adapter(
        "ViViT",
        "VivitModel",
        {"hidden_size": 768, "num_frames": 32, "image_size": 224, "tubelet_size": (2, 16, 16)},
        r"layers\.\d+\.attention\.[qkvo]_proj",
        class_tokens=1,
        arguments=(("add_pooling_layer", False),),
        normalization=HALVES,
    ),
    "timesformer": Adapter(
        "TimeSformer",
        "TimesformerModel",
        {"hidden_size": 768, "num_frames": 8, "image_size": 224, "patch_size": 16, "tubelet_size": 1},
        r".*\.(temporal_)?attention\.(attention\.qkv|output\.dense)",
        class_tokens=1,
        time_inner=True,
    ),
}
"""The adapters by the ``model_type`` of the configuration."""

NESTED = {"videoprism": "vision_config"}
"""Types of models with text whose configuration contains that of the video model, and its key there."""


@dataclass(frozen=True)
class Facts:
    """What a backbone's configuration states: its features are ``(N, channels, frames / tubelet, rows, rows)``."""

    adapter: Adapter
    channels: int
    frames: int
    """Frames of the clips that the backbone was trained on."""
    side: int
    """Height and width of these clips, in pixels."""
    tubelet: int
    """Frames of a token."""
    patch: int
    """Height and width of a token, in pixels."""

    @property
    def clip_frames(self) -> int:
        """Default number of frames of a clip."""
        return min(self.frames, MAX_FREE_FRAMES) if self.adapter.free else self.frames


def read_facts(config: object, subject: str) -> Facts:
    """Return the facts of a configuration, the content of ``config.json``.

    Args:
        config: the content.
        subject: the backbone, which starts the messages.

    Raises:
        WeightsError: it is not the configuration of a video model that has an adapter.
    """
    config = config if isinstance(config, Mapping) else {}
    kind = config.get("model_type")
    if isinstance(kind, str) and kind in NESTED:
        nested = config.get(NESTED[kind])
        kind, config = f"{kind}_vision_model", nested if isinstance(nested, Mapping) else {}
    if not isinstance(kind, str) or kind not in ADAPTERS:
        near = did_you_mean(kind, ADAPTERS) if isinstance(kind, str) else did_you_mean("", ADAPTERS)
        raise WeightsError(f"{subject}: a model of type {shown(kind)}, not a video model with an adapter: {near}")
    adapter = ADAPTERS[kind]
    values = {name: config.get(name, default) for name, default in adapter.defaults.items()}
    tubelet, patch = values["tubelet_size"], values.get("patch_size")
    if patch is None and isinstance(tubelet, list | tuple) and len(tubelet) == 3:
        tubelet, patch = tubelet[0], list(tubelet[1:])
    numbers = {
        "hidden_size": values["hidden_size"],
        adapter.frames: values[adapter.frames],
        adapter.side: side_of(values[adapter.side]),
        "tubelet_size": tubelet,
        "patch_size": side_of(patch),
    }
    for name, value in numbers.items():
        if not is_count(value) or not 0 < value <= MAX_VALUE:
            raise WeightsError(f"{subject}: {name} in config.json must be a positive number, not {shown(value)}")
    channels, frames, side, tubelet, patch = numbers.values()
    if side % patch or frames % tubelet:
        raise WeightsError(f"{subject}: clips of {frames} x {side} x {side} are not whole tokens in config.json")
    return Facts(adapter, channels, frames, side, tubelet, patch)


def side_of(value: object) -> Any:
    """Return the side of a square from a number or from two equal ones; other values unchanged."""
    if isinstance(value, list | tuple) and len(value) == 2 and value[0] == value[1]:
        return value[0]
    return value


def read_normalization(preprocessor: object, facts: Facts) -> tuple[Triple, Triple]:
    """Return mean and standard deviation from the content of ``preprocessor_config.json``, or the class's defaults."""
    values = preprocessor if isinstance(preprocessor, Mapping) else {}
    if values.get("do_normalize") is False:
        return UNCHANGED
    mean, std = triple(values.get("image_mean")), triple(values.get("image_std"))
    return (mean, std) if mean and std and min(std) > 0 else facts.adapter.normalization


def triple(value: object) -> Triple | None:
    """Return three numbers; None for other values."""
    if isinstance(value, list) and len(value) == 3 and all(is_number(one) for one in value):
        return float(value[0]), float(value[1]), float(value[2])
    return None
