"""Run networks faster than PyTorch does: the graph that engines are built from, and one module for each engine.

The public names are imported on first use, so that importing the package does not load PyTorch.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

# OpenVINO reports every import to Google Analytics. It does so in a forked process, waits for it at exit, ends it by
# SIGTERM, and writes into the home folder. Without its telemetry package it uses a stub instead.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

if TYPE_CHECKING:
    from .base import ENGINES, PRECISIONS, Engine, EngineUnavailable
    from .selection import EngineOptions, choose

__all__ = ["ENGINES", "PRECISIONS", "Engine", "EngineOptions", "EngineUnavailable", "choose"]

_MODULES = {"EngineOptions": ".selection", "choose": ".selection"}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module(_MODULES.get(name, ".base"), __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
