"""Load the model of a command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .terminal import loading

if TYPE_CHECKING:
    from ..inference.model import Model
    from ..inference.model_options import ModelOptions


def load(options: ModelOptions, *, exact: bool = False) -> Model:
    """Load a model, and show that it is loading.

    Args:
        options: the model.
        exact: whether the values of the maps matter; they do not if the maps are only displayed.
    """
    loading.show(f"loading {options.source} and preparing it for this machine")
    return options.load(exact=exact)
