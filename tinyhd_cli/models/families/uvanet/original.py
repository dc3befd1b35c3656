"""The authors' DIS checkpoints: tinyhd's names of their tensors, and the network that tensors belong to.

The names of their variables, ``SCOPE/conv5_S/weights`` and ``SCOPE/conv5_S/BatchNorm/gamma``, are read as
``conv5_S.weight`` and ``conv5_S.norm.weight``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

LOW = {"conv1": 0, "conv2": 1, "conv3": 4, "conv4": 6}
"""Index of each shared layer in tinyhd's ``low``; the response normalization and the pooling layers have no tensors."""

PATH = {"conv5": 0, "conv6": 1}
HEAD = {"conv7": 0, "conv8": 1, "conv9": 2, "conv10": 3, "deconv1": 4, "deconv2": 5}

PATHS = {"S": "spatial", "T": "temporal"}
HEADS = {"S": "spatial_head", "T": "temporal_head", "ST": "head"}

ORIGINAL_ANCHORS = ("conv5_S.weight", "conv5_T.weight", "conv6_S.weight", "conv6_T.weight")
"""Tensors of every DIS network by the authors' names; several, so that a file is recognized even if one is missing."""

OWN_ANCHOR = "low.0.conv.weight"
"""A tensor of every network of the family, by tinyhd's name."""

SIDES = r"(?<!\d)(32|64|96|128|256)(?!\d)"
"""Regular expression of the input's side in a file's name."""

SAVED_STEP = r"ckpt-\d+"
"""Regular expression of the training step, which TensorFlow appends to a file's name."""


def own_name(name: str) -> str | None:
    """Return tinyhd's name of an original DIS tensor; None for an unknown tensor."""
    match = re.fullmatch(r"((?:de)?conv\d+)(?:_(S|T|ST))?\.(weight|norm\.\w+)", name)
    if not match:
        return None
    layer, branch, field = match.groups()
    if not branch:
        module = f"low.{LOW[layer]}" if layer in LOW else None
    elif layer in PATH:
        module = f"{PATHS[branch]}.{PATH[layer]}" if branch in PATHS else None
    else:
        module = f"{HEADS[branch]}.{HEAD[layer]}" if layer in HEAD else None
    return module and f"{module}.{field if field.startswith('norm.') else f'conv.{field}'}"


def side_in(stem: str) -> int | None:
    """Return the side of the input that a file's name contains, as in ``dis_32``; None if it contains none."""
    found = re.search(SIDES, re.sub(SAVED_STEP, "", stem.lower()))
    return int(found[1]) if found else None


def is_original(state_dict: Mapping[str, Any]) -> bool:
    """Return whether a state dict has the authors' names."""
    return any(name in state_dict for name in ORIGINAL_ANCHORS)


def options_of(state_dict: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """Return trunk and heads of a state dict with original names or tinyhd's; None if it is another family's."""
    if is_original(state_dict):
        two = any(re.match(r"conv7_[ST]\.", name) for name in state_dict)
        return "dis", "two" if two else "fused"
    if OWN_ANCHOR not in state_dict:
        return None
    trunk = "uva" if any(name.startswith("low.1.expand.") for name in state_dict) else "dis"
    heads = [path for path in PATHS.values() if any(name.startswith(f"{path}_head.") for name in state_dict)]
    return trunk, "two" if len(heads) == 2 else heads[0] if heads else "fused"
