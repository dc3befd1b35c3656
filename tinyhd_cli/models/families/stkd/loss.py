"""The training loss of STKD: equations of the paper as the released program computes them, and without its mistakes.

On single frames (spatial distillation), all maps learn the mask, and the first two learn the third. On pairs of frames
(temporal distillation), all maps learn the mask, and the first three learn the third map of the other frame.
"""

from __future__ import annotations

from dataclasses import replace

from ...family import LossTerm

SPATIAL, TEMPORAL = 0.5, 0.3
"""Weights of spatial and temporal distillation."""


def towards_deepest(index: int) -> LossTerm:
    """Return the spatial distillation of a map."""
    return LossTerm(f"self-p{index}", "logits", of=f"p{index}", to="student.p2", weight=SPATIAL, pair_weight=0.0)


def towards_neighbor(index: int, frames: tuple[int, ...] | None = None) -> LossTerm:
    """Return the temporal distillation of a map."""
    name, of = f"temporal-p{index}", f"p{index}"
    return LossTerm(name, "logits", of=of, to="neighbor.p2", weight=0.0, pair_weight=TEMPORAL, frames=frames)


SELF = tuple(towards_deepest(index) for index in (0, 1))
"""Spatial distillation."""

NEIGHBOR = (
    *(towards_neighbor(index) for index in (0, 1)),
    towards_neighbor(2, frames=(0,)),  # the previous frame learns from the current one, but not the reverse
)
"""Temporal distillation."""

ATTENTION = LossTerm("p3", "logits", of="p3", to="mask", weight=0.0, pair_weight=1.0)
"""The map of the mutual attention, which only some networks have."""

TERMS = (
    *(LossTerm(f"p{index}", "logits", of=f"p{index}", to="mask") for index in (0, 1, 2)),
    *SELF,
    ATTENTION,
    *NEIGHBOR,
    LossTerm("final", "bce", to="teacher", pair_weight=0.0),
)

# In the released program, teacher maps have gradients, and p2 of the current frame is compared twice, instead of p3.
SLIPS = (
    *(replace(term, detached=False) for term in (*SELF, *NEIGHBOR)),
    replace(ATTENTION, frames=(0,)),
    replace(ATTENTION, name="p3-current", of="p2", frames=(1,)),
)


def of_network(terms: tuple[LossTerm, ...], *, mutual: bool) -> tuple[LossTerm, ...]:
    """Return the terms of a network with or without mutual attention."""
    return tuple(term for term in terms if mutual or not term.name.startswith(ATTENTION.name))
