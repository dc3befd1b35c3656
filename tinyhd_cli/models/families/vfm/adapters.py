"""The video models of transformers that can be backbones, and the facts in their configuration files. Imports no torch.

Source: the classes of transformers 5.24. Their own processors are not used, because they need torchvision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ....errors import WeightsError
from ...spec import IMAGENET, Triple, is_count, is_number, shown

UNCHANGED: tuple[Triple, Triple] = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

MAX_FREE_FRAMES = 32
"""Frames of a clip for backbones that read any number of frames: as many as SalFoM's decoder has steps for."""

MAX_VALUE = 1 << 16
"""Limit on the numbers of a configuration."""


MAX_LAYERS = 256
COUNTS = ("num_hidden_layers", "num_spatial_layers", "num_temporal_layers", "num_attention_heads")
UNUSED = ("pred_num_hidden_layers", "pred_num_attention_heads", "num_auxiliary_layers", "num_pooler_layers")
"""Numbers of layers and heads in configurations, of parts that are used and of others, which may be 0; their limit."""


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

    prefix: str = ""
    """Prefix of the names of the model's tensors in weights of larger models that transformers cannot find itself."""

    arguments: tuple[tuple[str, Any], ...] = ()
    """Other arguments of the class."""

    scale: tuple[float, bool] = (1 / 255, False)
    """Factor of RGB in 0..255, and whether 1 is subtracted then, unless the backbone's preprocessor states others."""

    normalization: tuple[Triple, Triple] = IMAGENET
    """Mean and standard deviation of the result, unless the backbone's preprocessor states others."""

    required: tuple[tuple[str, tuple[Any, ...]], ...] = (("num_channels", (3,)),)
    """Fields of the configuration with the values that can be used; the first one is the default of the class."""


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
        required=(("in_chans", (3,)),),
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
        prefix="video_model.vision_model.",  # of the model with text
        normalization=UNCHANGED,
    ),
    "vivit": Adapter(
        "ViViT",
        "VivitModel",
        {"hidden_size": 768, "num_frames": 32, "image_size": 224, "tubelet_size": (2, 16, 16)},
        r"layers\.\d+\.attention\.[qkvo]_proj",
        class_tokens=1,
        arguments=(("add_pooling_layer", False),),
        scale=(1 / 127.5, True),
        normalization=UNCHANGED,
    ),
    "timesformer": Adapter(
        "TimeSformer",
        "TimesformerModel",
        {"hidden_size": 768, "num_frames": 8, "image_size": 224, "patch_size": 16, "tubelet_size": 1},
        r".*\.(temporal_)?attention\.(attention\.qkv|output\.dense)",
        class_tokens=1,
        time_inner=True,
        required=(("num_channels", (3,)), ("attention_type", ("divided_space_time", "joint_space_time"))),
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
    config: Mapping[str, Any]
    """The fields of the configuration, as they are in the file."""

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
        raise WeightsError(
            f"{subject}: a model of type {shown(kind)}, not a video model with an adapter: "
            f"choose from {', '.join(sorted({*ADAPTERS, *NESTED}))}"
        )
    adapter = ADAPTERS[kind]
    for name, (default, *others) in adapter.required:
        if (value := config.get(name, default)) not in (default, *others):
            allowed = " or ".join(shown(one) for one in (default, *others))
            raise WeightsError(f"{subject}: {name} in config.json must be {allowed}, not {shown(value)}")
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
    for name in (*COUNTS, *UNUSED):
        least = int(name in COUNTS)
        if name in config and not (is_count(value := config[name]) and least <= value <= MAX_LAYERS):
            limits = f"from {least} to {MAX_LAYERS}"
            raise WeightsError(f"{subject}: {name} in config.json must be {limits}, not {shown(value)}")
    channels, frames, side, tubelet, patch = numbers.values()
    if side % patch or frames % tubelet:
        raise WeightsError(f"{subject}: clips of {frames} x {side} x {side} are not whole tokens in config.json")
    return Facts(adapter, channels, frames, side, tubelet, patch, config)


def side_of(value: object) -> Any:
    """Return the side of a square from a number or from two equal ones; other values unchanged."""
    if isinstance(value, list | tuple) and len(value) == 2 and value[0] == value[1]:
        return value[0]
    return value


def read_normalization(preprocessor: object, facts: Facts) -> tuple[Triple, Triple]:
    """Return mean and standard deviation of RGB / 255 in the clips of a backbone.

    The processors of transformers compute ``(x * rescale_factor - offset - image_mean) / image_std`` of RGB in 0..255.

    Args:
        preprocessor: the content of ``preprocessor_config.json``; the class's defaults replace what it lacks.
        facts: of the backbone.
    """
    values = preprocessor if isinstance(preprocessor, Mapping) else {}
    mean, std = triple(values.get("image_mean")), triple(values.get("image_std"))
    if values.get("do_normalize") is False:
        mean, std = UNCHANGED
    elif not (mean and std and min(std) > 0):
        mean, std = facts.adapter.normalization
    factor, shifted = facts.adapter.scale
    stated: Any = values.get("rescale_factor")
    factor = stated if is_number(stated) and stated > 0 else factor
    # The second name is that of early ViViT repositories.
    shifted = values.get("offset", values.get("do_zero_centering", shifted)) is True
    if values.get("do_rescale") is False:
        factor, shifted = 1.0, False
    scale = 1 / (255 * factor)
    return scaled(mean, scale, float(shifted)), scaled(std, scale)


def scaled(values: Triple, scale: float, offset: float = 0.0) -> Triple:
    """Return ``scale * (value + offset)`` for three values, without the last digits, which are rounding errors."""
    red, green, blue = (round(scale * (value + offset), 12) for value in values)
    return red, green, blue


def triple(value: object) -> Triple | None:
    """Return three numbers; None for other values."""
    if isinstance(value, list) and len(value) == 3 and all(is_number(one) for one in value):
        return float(value[0]), float(value[1]), float(value[2])
    return None
