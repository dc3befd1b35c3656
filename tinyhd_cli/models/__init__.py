"""The networks: one a file, in reading order."""

from .config import HD2SConfig, ModelConfig, TinyHDConfig
from .registry import CONFIGS, build, config, create

__all__ = ["CONFIGS", "HD2SConfig", "ModelConfig", "TinyHDConfig", "build", "config", "create"]
