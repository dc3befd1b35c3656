"""Tensor names of the authors' HD2S files (perceivelab/hd2s), translated to tinyhd's."""

from __future__ import annotations

import re

# Layers inside S3D's and HD2S's blocks, original to tinyhd's.
SEPARABLE_3D = {"conv_s": "space.conv", "bn_s": "space.norm", "conv_t": "time.conv", "bn_t": "time.norm"}
SEPARABLE_2D = {"conv_s": "depthwise", "bn_s": "depthwise_norm", "conv_t": "pointwise", "bn_t": "pointwise_norm"}
PLAIN = {"conv": "conv", "bn": "norm"}

FIRST_LAYER = {"5": 5, "4": 5, "3": 4, "2": 3}
"""Number of a decoder's first layer by stage; the originals count down to 1."""


def own_name(name: str) -> str | None:
    """Return tinyhd's name of an original HD2S tensor; None for an unknown tensor."""
    path, _, field = name.rpartition(".")
    module, _, layer = path.rpartition(".")
    if match := re.fullmatch(r"featureExtractor\.block(\d)\.(.+)", module):
        inside = (PLAIN | SEPARABLE_3D).get(layer)
        block = match[2]
        if match[1] == "1":  # a single separable convolution
            block = ""
        elif block.endswith("branch0.0"):  # a single convolution
            block = block.removesuffix(".0")
        return inside and f"encoder.stage{match[1]}.{block}.{inside}.{field}".replace("..", ".")
    if match := re.fullmatch(r"conv_t(\d)(?:_(\d))?", module):
        inside = PLAIN.get(layer)
        return inside and f"decoders.{int(match[1]) - 2}.fold.{int(match[2] or 1) - 1}.{inside}.{field}"
    if match := re.fullmatch(r"decoder(\d)\.deconvlayer\1_(\d)\.(\d)", module):
        block = f"decoders.{int(match[1]) - 2}.layers.{FIRST_LAYER[match[1]] - int(match[2])}"
        if match[3] == "0":
            inside = PLAIN.get(layer)
            return inside and f"{block}.{inside}.{field}"
        inside = SEPARABLE_2D.get(layer)
        return inside and f"{block}.separable.{int(match[3]) - 1}.{inside}.{field}"
    if match := re.fullmatch(r"decoder(\d)\.last_conv\1", path):
        return f"decoders.{int(match[1]) - 2}.to_map.{field}"
    if path == "last_conv":
        return f"fusion.{field}"
    return None
