"""The original files: their tensor names to ours, and which network a file holds.

The originals are feiyanhu/tinyHD (``student_model`` inside ``.pth`` files) and perceivelab/hd2s. Only their names and
shapes are used here; see ``weights/README.md`` for what may be done with the files.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import WeightsError
from ..untrusted import printable
from .registry import config as named_config
from .spec import HD2SConfig, ModelConfig, TinyHDConfig

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINT_KEYS = (
    *("student_model", "state_dict", "model_state_dict", "model", "net", "network", "student", "weights", "params"),
    *("ema", "model_ema", "ema_model"),
)
"""Keys of state dicts in checkpoints, in order of preference."""

ANCHORS = (
    "encoder.encoder.0.0.weight",  # TinyHD's
    "featureExtractor.block1.0.conv_s.weight",  # HD2S's
    "encoder.stem.conv.weight",  # TinyHD, tinyhd's names
    "encoder.stage1.space.conv.weight",  # HD2S, tinyhd's names
)
"""The first tensor of each network: anything before its name in a checkpoint is a prefix added by a wrapper."""

ANCHOR_ENDINGS = tuple(name.rpartition(".")[2] for name in ANCHORS)

# The original decoders' 37 blocks in their order, by our names.
DECODER_BLOCKS = (
    *[f"d1.{stream}.{i}" for stream in ("x0", "x1", "x2", "x3") for i in range(4)],
    *["d2.from_x3", "d2.from_x2", "d2.lateral_x1", "d2.from_x1", "d2.lateral_x0.0", "d2.lateral_x0.1"],
    *["d2.from_x0", "d2.to_map"],
    *[f"d3.{level}.{i}" for level in ("lateral1", "up2", "lateral2") for i in range(3)],
    *["d3.lateral3.0", "d3.lateral3.1", "d3.lateral4", "d3.to_map"],
)

# Layers inside an inverted residual, theirs to ours; block 1 has no expansion.
RESIDUAL = {
    "0.0": "expand.conv",
    "0.1": "expand.norm",
    "1.0": "depthwise.conv",
    "1.1": "depthwise.norm",
    "2": "project.conv",
    "3": "project.norm",
}
RESIDUAL_WITHOUT_EXPANSION = {
    "0.0": "depthwise.conv",
    "0.1": "depthwise.norm",
    "1": "project.conv",
    "2": "project.norm",
}
CONV_NORM = {"0": "conv", "1": "norm"}


def tinyhd_name(name: str) -> str | None:
    """Our name of an original TinyHD tensor, or None if it is none."""
    module, _, field = name.rpartition(".")
    if match := re.fullmatch(r"encoder\.encoder\.(0|18)\.(\d)", module):
        place = "stem" if match[1] == "0" else "blocks.18"
        inside = CONV_NORM.get(match[2])
        return inside and f"encoder.{place}.{inside}.{field}"
    if match := re.fullmatch(r"encoder\.encoder\.(\d+)\.conv\.([\d.]+)", module):
        inside = (RESIDUAL_WITHOUT_EXPANSION if match[1] == "1" else RESIDUAL).get(match[2])
        return inside and f"encoder.blocks.{match[1]}.{inside}.{field}"
    if match := re.fullmatch(r"aggregator\.aggregate_adapter\.(\d+)\.conv\.([\d.]+)", module):
        inside = RESIDUAL.get(match[2])
        return inside and f"decoders.{DECODER_BLOCKS[int(match[1])]}.{inside}.{field}"
    if module == "decoder.decoder.0":
        return f"fusion.{field}"
    return None


# Layers inside S3D's and HD2S's blocks, theirs to ours.
SEPARABLE_3D = {"conv_s": "space.conv", "bn_s": "space.norm", "conv_t": "time.conv", "bn_t": "time.norm"}
SEPARABLE_2D = {
    "conv_s": "depthwise",
    "bn_s": "depthwise_norm",
    "conv_t": "pointwise",
    "bn_t": "pointwise_norm",
}
PLAIN = {"conv": "conv", "bn": "norm"}


def hd2s_name(name: str) -> str | None:
    """Our name of an original HD2S tensor, or None if it is none."""
    path, _, field = name.rpartition(".")
    module, _, layer = path.rpartition(".")
    if match := re.fullmatch(r"featureExtractor\.block(\d)\.(.+)", module):
        inside = (PLAIN | SEPARABLE_3D).get(layer)
        place = match[2]
        if match[1] == "1":  # a single separable convolution
            place = ""
        elif place.endswith("branch0.0"):  # a single convolution
            place = place.removesuffix(".0")
        return inside and f"encoder.stage{match[1]}.{place}.{inside}.{field}".replace("..", ".")
    if match := re.fullmatch(r"conv_t(\d)(?:_(\d))?", module):
        inside = PLAIN.get(layer)
        return inside and f"decoders.{int(match[1]) - 2}.fold.{int(match[2] or 1) - 1}.{inside}.{field}"
    if match := re.fullmatch(r"decoder(\d)\.deconvlayer\1_(\d)\.(\d)", module):
        # Theirs count layers down to 1, from 5, 5, 4, 3 for the stages 5, 4, 3, 2.
        first = {"5": 5, "4": 5, "3": 4, "2": 3}[match[1]]
        place = f"decoders.{int(match[1]) - 2}.layers.{first - int(match[2])}"
        if match[3] == "0":
            inside = PLAIN.get(layer)
            return inside and f"{place}.{inside}.{field}"
        inside = SEPARABLE_2D.get(layer)
        return inside and f"{place}.separable.{int(match[3]) - 1}.{inside}.{field}"
    if match := re.fullmatch(r"decoder(\d)\.last_conv\1", path):
        return f"decoders.{int(match[1]) - 2}.to_map.{field}"
    if path == "last_conv":
        return f"fusion.{field}"
    return None


def is_upstream(state_dict: Mapping[str, Any]) -> bool:
    """Whether the tensors have original names."""
    return any(name.startswith(("encoder.encoder.", "featureExtractor.")) for name in state_dict)


def recognize(state_dict: Mapping[str, Tensor], filename: str | Path = "") -> ModelConfig:
    """Which network an unwrapped original state dict belongs to: by its shapes, the fusion order by the file's name.

    The full-size multi-output file ``d1d2d3_M_lt.pth`` fuses d2, d3, d1; all others fuse d1, d2, d3. Shapes cannot
    tell these apart.

    Raises:
        WeightsError: it is neither TinyHD nor HD2S.
    """
    if "featureExtractor.block1.0.conv_s.weight" in state_dict:
        return HD2SConfig()
    try:
        width = width_of(state_dict["encoder.encoder.0.0.weight"])
        fusion_dims = state_dict["decoder.decoder.0.weight"].dim()
    except KeyError as error:
        raise WeightsError(f"neither TinyHD nor HD2S: no tensor {error}") from None
    # The multi-output fusion works on clips, the single-output one on images.
    outputs: Literal["single", "multi"] = "multi" if fusion_dims == 5 else "single"
    fuses_d1_last = Path(filename).stem.lower() == "d1d2d3_m_lt"
    return TinyHDConfig(outputs, width, ("d2", "d3", "d1") if fuses_d1_last else ("d1", "d2", "d3"))


def width_of(stem: Tensor) -> Literal["full", "half", "quarter"]:
    """Return the width of a TinyHD network from its first layer; ``WeightsError`` if no width matches."""
    widths: dict[int, Literal["full", "half", "quarter"]] = {32: "full", 16: "half", 8: "quarter"}
    channels = stem.shape[0] if stem.dim() else 0
    if channels not in widths:
        raise WeightsError(f"no TinyHD network has a first layer of {channels} channels")
    return widths[channels]


def renamed(state_dict: Mapping[str, Tensor], config: ModelConfig) -> Iterator[tuple[str, Tensor]]:
    """The tensors of an original state dict with our names; ``WeightsError`` for one that has none."""
    to_ours = hd2s_name if isinstance(config, HD2SConfig) else tinyhd_name
    for name, tensor in state_dict.items():
        try:
            ours = to_ours(name)
        except (KeyError, IndexError, ValueError):  # an index that no network has
            ours = None
        if ours is None:
            raise WeightsError(f"the original {config.name} has no tensor '{printable(name)[:80]}'")
        if ours == "fusion.weight" and tensor.dim() == 4 and not isinstance(config, HD2SConfig):
            tensor = tensor.unsqueeze(2)  # ours works on clips in both forms
        yield ours, tensor


def convert(state_dict: Mapping[str, Tensor], name: str | ModelConfig) -> dict[str, Tensor]:
    """An original state dict under our tensor names.

    Args:
        state_dict: original tensor names to tensors, as the networks of the original repositories save them.
        name: the network's name (``tinyhd-m-quarter``, ``hd2s``, ...) or its configuration.

    Returns:
        Our names to the same tensors, every one of the network and no other.

    Raises:
        WeightsError: a tensor is unknown, missing, or of another shape.
    """
    config = named_config(name) if isinstance(name, str) else name
    converted = dict(renamed(state_dict, config))
    check_state_dict(converted, network_state(config), config)
    return converted


@functools.cache
def network_state(config: ModelConfig) -> dict[str, Tensor]:
    """Return the tensors of a network, without values."""
    import torch

    from .registry import build

    with torch.device("meta"):
        return build(config).state_dict()


def check_state_dict(given: Mapping[str, Tensor], expected: Mapping[str, Tensor], config: ModelConfig) -> None:
    """Raise ``WeightsError`` with the first difference, if tensors are not those of the network."""
    for problem, names in (
        ("lack", expected.keys() - given.keys()),
        ("have an unknown", given.keys() - expected.keys()),
    ):
        if names:
            raise WeightsError(
                f"not weights of {config.name}: they {problem} '{printable(min(names))[:80]}' "
                f"(and {len(names) - 1} more)"
            )
    for name, tensor in expected.items():
        if given[name].shape != tensor.shape:
            shapes = f"shape {tuple(given[name].shape)}, not {tuple(tensor.shape)}"
            raise WeightsError(f"not weights of {config.name}: {name!r} has {shapes}")
