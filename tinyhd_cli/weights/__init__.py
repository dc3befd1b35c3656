"""Weights by name or file: list, load, verify, convert, download and publish them.

``registry`` describes the named weights; ``file``, ``original``, ``pytorch_file`` and ``tensorflow_file`` read the
formats; ``location`` and ``hub`` locate files; ``store`` loads them; ``same`` compares those of several machines;
``publish`` converts and uploads them. Importing the package does not load PyTorch.
"""

from .file import save
from .location import Located, find_local, local_weights, locate, pull
from .publish import annotate, convert, push
from .registry import HubFile, WeightsInfo, card, default_name, describe, find, registry
from .same import SameWeights
from .store import Checkpoint, Verdict, WeightsFile, inspect, load, open_file, verify

__all__ = [
    "Checkpoint",
    "HubFile",
    "Located",
    "SameWeights",
    "Verdict",
    "WeightsFile",
    "WeightsInfo",
    "annotate",
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
    "open_file",
    "pull",
    "push",
    "registry",
    "save",
    "verify",
]
