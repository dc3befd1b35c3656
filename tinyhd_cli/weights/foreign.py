"""Refuse weights of published networks that tinyhd cannot run, and say what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import WeightsError
from ..models.registry import all_families
from .pytorch_file import shapes_in


def refuse(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ``WeightsError`` if tensors, given by the shapes of all of them, belong to such a network."""
    for known in all_families().values():
        if problem := known.refusal(shapes):
            raise WeightsError(problem)


def refuse_large(path: Path) -> None:
    """Raise ``WeightsError`` if a PyTorch file that is too large to be read belongs to such a network."""
    refuse(shapes_in(path))
