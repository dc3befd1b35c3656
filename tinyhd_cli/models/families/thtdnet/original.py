"""Tensor names of Video Swin transformers, and the options of a network from its tensors. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

TABLE = "attn.relative_position_bias_table"
TORCHVISION_ANCHOR = f"features.0.0.{TABLE}"
AUTHORS_ANCHOR = f"layers.0.blocks.0.{TABLE}"
OWN_ANCHOR = f"encoder.{TORCHVISION_ANCHOR}"
"""The first bias table, by the names of torchvision, of the authors of Video Swin, and of tinyhd."""

PATCH_NORM = "patch_embed.norm.weight"
"""A tensor of LayerNorm after the patch embedding, which some programs leave out."""

PERCEPTRON = {"fc1": "0", "fc2": "3"}


def prefix_of(names: Mapping[str, Any]) -> str | None:
    """Return the text before the names of a Video Swin transformer (such as ``backbone.``); None without one."""
    for name in names:
        if name.endswith((TORCHVISION_ANCHOR, AUTHORS_ANCHOR)):
            return name.removesuffix(TORCHVISION_ANCHOR).removesuffix(AUTHORS_ANCHOR)
    return None


def is_encoder(state_dict: Mapping[str, Any]) -> bool:
    """Return whether a state dict contains a Video Swin transformer, but not tinyhd's network.

    Its tensors may be None. A Swin transformer for images has no axis of time in the patch embedding.
    """
    prefix = prefix_of(state_dict)
    if prefix is None or OWN_ANCHOR in state_dict:
        return False
    kernel = state_dict.get(f"{prefix}patch_embed.proj.weight")
    return kernel is None or len(getattr(kernel, "shape", ())) == 5


def torchvision_name(name: str) -> str:
    """Return torchvision's name of a tensor of the authors' code; other names are returned as they are."""
    if match := re.fullmatch(r"layers\.(\d+)\.blocks\.(\d+)\.(.+)", name):
        inside = re.sub(r"^mlp\.(fc1|fc2)\.", lambda part: f"mlp.{PERCEPTRON[part[1]]}.", match[3])
        return f"features.{2 * int(match[1])}.{match[2]}.{inside}"
    if match := re.fullmatch(r"layers\.(\d+)\.downsample\.(.+)", name):
        return f"features.{2 * int(match[1]) + 1}.{match[2]}"
    return name


def encoder_tensors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a Video Swin transformer by torchvision's names, without a prefix."""
    prefix = prefix_of(state_dict) or ""
    return {
        torchvision_name(name.removeprefix(prefix)): tensor
        for name, tensor in state_dict.items()
        if name.startswith(prefix)
    }


def options_of(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the options of tinyhd's network that its tensors determine."""
    blocks = {match[1] for name in state_dict if (match := re.match(r"encoder\.features\.(\d\.\d+)\.attn\.", name))}
    depths = tuple(sum(block.startswith(f"{stage}.") for block in blocks) for stage in (0, 2, 4, 6))
    return {
        "channels": 32 * state_dict[OWN_ANCHOR].shape[-1],
        "depths": depths,
        "decoder": "narrow" if "decoder.project.weight" in state_dict else "wide",
        "laterals": "decoder.laterals.0.weight" in state_dict,
        "patch_norm": f"encoder.{PATCH_NORM}" in state_dict,
    }
