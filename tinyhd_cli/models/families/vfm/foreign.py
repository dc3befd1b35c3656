"""Recognize weights of published networks on video models that transformers lacks, and say what is missing.

Names of tensors differ from program to program, but shapes are those of the network.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of tensors by name."""

MERGING = (1024, 1024, 2, 3, 3)
"""Kernels that merge two steps in time at the full width of SalFoM's backbone; its decoder has four of them."""

PATCHES = (3, 1, 14, 14)
"""Patch embedding of InternVideo2, without its width: 14 x 14 pixels of one frame."""


def is_salfom(shapes: Shapes) -> bool:
    """Return whether tensors are those of SalFoM."""
    return list(shapes.values()).count(MERGING) >= 4


def is_on_internvideo(shapes: Shapes) -> bool:
    """Return whether tensors are those of InternVideo2, or of a network on it."""
    named = any(re.search("internvideo|visage", name, re.IGNORECASE) for name in shapes)
    return named or any(shape[1:] == PATCHES for shape in shapes.values())


NETWORKS: tuple[tuple[Callable[[Shapes], bool], str], ...] = (
    (is_salfom, "the weights of SalFoM: their backbone, UMT ViT-L, is not in transformers"),
    (is_on_internvideo, "weights on InternVideo2, as those of ViSAGE: this backbone is not in transformers"),
)
"""How to recognize the networks, and what is missing."""


def refusal(shapes: Shapes) -> str:
    """Return why tensors cannot be used, and what to do; empty if they are not those of a known network."""
    for matches, problem in NETWORKS:
        if matches(shapes):
            advice = "for a network on another video model: tinyhd train --model vfm"
            return f"{problem}, so tinyhd cannot run them; {advice}"
    return ""
