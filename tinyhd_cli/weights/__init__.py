"""Weights by name or by file. :func:`load` is what the rest of the program needs.

``known`` has what is known by name, ``file`` the format, ``hub`` the Hugging Face Hub, ``store`` puts these together.
"""

from .file import save
from .registry import HubFile, WeightsInfo, card, default_name, describe, find, network_name, registry
from .store import (
    Checkpoint,
    Located,
    Verdict,
    convert,
    find_local,
    inspect,
    load,
    local_weights,
    locate,
    pull,
    push,
    verify,
)

__all__ = [
    "Checkpoint",
    "HubFile",
    "Located",
    "Verdict",
    "WeightsInfo",
    "card",
    "convert",
    "default_name",
    "describe",
    "find",
    "find_local",
    "inspect",
    "load",
    "local_weights",
    "locate",
    "network_name",
    "pull",
    "push",
    "registry",
    "save",
    "verify",
]
