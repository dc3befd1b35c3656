"""The authors' checkpoints and ImageNet's ResNet-50: tinyhd's names of their tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MODULES = {
    "head.layer0.0": "trunk.conv1",
    "head.layer0.1": "trunk.bn1",
    **{f"head.layer{stage}": f"trunk.layer{stage}" for stage in (1, 2, 3, 4)},
    "head.reduce_low": "low",
    "head.reduce_high": "high",
    **{name: name for name in ("predict0", "predict1", "predict2", "predict3", "mutual")},
}
"""tinyhd's modules by the authors' names."""

ORIGINAL_ANCHORS = ("head.layer0.0.weight", "head.reduce_low.0.weight", "head.layer4.0.conv1.weight")
"""Tensors of every network by the authors' names; several, so that a file is recognized even if one is missing."""

OWN_ANCHORS = ("trunk.conv1.weight", "trunk.stem.conv.weight")
"""A tensor of each trunk, by tinyhd's name: ResNet-50 and MobileNetV2."""


def own_name(name: str) -> str | None:
    """Return tinyhd's name of an original tensor; None for an unknown tensor."""
    match = re.fullmatch(rf"({'|'.join(map(re.escape, MODULES))})\.(.+)", name)
    return f"{MODULES[match[1]]}.{match[2]}" if match else None


def is_original(state_dict: Mapping[str, Any]) -> bool:
    """Return whether a state dict has the authors' names."""
    return any(name in state_dict for name in ORIGINAL_ANCHORS)


def options_of(state_dict: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the options of a state dict with original names or tinyhd's; None if it is another family's."""
    known = {**dict.fromkeys((*ORIGINAL_ANCHORS, OWN_ANCHORS[0]), "resnet50"), OWN_ANCHORS[1]: "mobilenetv2"}
    trunk = next((trunk for anchor, trunk in known.items() if anchor in state_dict), None)
    if trunk is None:
        return None
    return {"trunk": trunk, "mutual": any(name.startswith(("mutual.", "predict3.")) for name in state_dict)}
