"""The networks: one a file, in reading order."""

from .registry import CONFIGS, build, config, create
from .spec import HD2SConfig, ModelConfig, TinyHDConfig

__all__ = ["CONFIGS", "HD2SConfig", "ModelConfig", "TinyHDConfig", "build", "config", "create"]
