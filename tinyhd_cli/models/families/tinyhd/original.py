"""Tensor names of the authors' TinyHD files (feiyanhu/tinyHD), translated to tinyhd's.

Only their names and shapes are used here; see ``weights/README.md`` for the terms of the files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ....errors import WeightsError
from .options import DECODERS

if TYPE_CHECKING:
    from torch import Tensor

# The 37 blocks of the original decoders in their order, by tinyhd's names.
DECODER_BLOCKS = (
    *[f"d1.{stream}.{i}" for stream in ("x0", "x1", "x2", "x3") for i in range(4)],
    *["d2.from_x3", "d2.from_x2", "d2.lateral_x1", "d2.from_x1", "d2.lateral_x0.0", "d2.lateral_x0.1"],
    *["d2.from_x0", "d2.to_map"],
    *[f"d3.{level}.{i}" for level in ("lateral1", "up2", "lateral2") for i in range(3)],
    *["d3.lateral3.0", "d3.lateral3.1", "d3.lateral4", "d3.to_map"],
)

# Layers inside an inverted residual, original to tinyhd's; block 1 has no expansion.
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

WIDTH_OF_STEM = {32: "full", 16: "half", 8: "quarter"}
"""Width by the channels of the first layer."""

D1_LAST = "d1d2d3_m_lt"
"""Name of the full-size multi-output file, which fuses d2, d3, d1; all others fuse d1, d2, d3."""


def own_name(name: str) -> str | None:
    """Return tinyhd's name of an original TinyHD tensor; None for an unknown tensor."""
    module, _, field = name.rpartition(".")
    if match := re.fullmatch(r"encoder\.encoder\.(0|18)\.(\d)", module):
        block = "stem" if match[1] == "0" else "blocks.18"
        inside = CONV_NORM.get(match[2])
        return inside and f"encoder.{block}.{inside}.{field}"
    if match := re.fullmatch(r"encoder\.encoder\.(\d+)\.conv\.([\d.]+)", module):
        inside = (RESIDUAL_WITHOUT_EXPANSION if match[1] == "1" else RESIDUAL).get(match[2])
        return inside and f"encoder.blocks.{match[1]}.{inside}.{field}"
    if match := re.fullmatch(r"aggregator\.aggregate_adapter\.(\d+)\.conv\.([\d.]+)", module):
        inside = RESIDUAL.get(match[2])
        return inside and f"decoders.{DECODER_BLOCKS[int(match[1])]}.{inside}.{field}"
    if module == "decoder.decoder.0":
        return f"fusion.{field}"
    return None


def options_of(state_dict: Mapping[str, Tensor], stem: str = "") -> tuple[str, str, tuple[str, ...]]:
    """Return outputs, width and decoders of an original state dict, from its shapes and (fusion order) its file name.

    Raises:
        WeightsError: the tensors do not belong to a TinyHD network.
    """
    try:
        width = width_of(state_dict["encoder.encoder.0.0.weight"])
        fusion_dims = state_dict["decoder.decoder.0.weight"].dim()
    except KeyError as error:
        raise WeightsError(f"not weights of TinyHD: no tensor {error}") from None
    # The multi-output fusion works on clips, the single-output one on images.
    outputs = "multi" if fusion_dims == 5 else "single"
    return outputs, width, ("d2", "d3", "d1") if stem.lower() == D1_LAST else DECODERS


def width_of(stem: Tensor) -> str:
    """Return the width of a network from its first layer; ``WeightsError`` if no width matches."""
    channels = stem.shape[0] if stem.dim() else 0
    if channels not in WIDTH_OF_STEM:
        raise WeightsError(f"no TinyHD network has a first layer of {channels} channels")
    return WIDTH_OF_STEM[channels]
