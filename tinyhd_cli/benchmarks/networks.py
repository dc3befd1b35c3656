"""What the benchmarks need to know about a network: the shape of its input, its number of maps, who can run it.

Only this module reads configurations of networks for the benchmarks. It imports no torch.
"""

from __future__ import annotations

from ..errors import UsageError
from ..models import CONFIGS, ModelConfig, config
from ..models.spec import CLIP_FRAMES, INPUT_HEIGHT, INPUT_WIDTH
from ..training.options import TrainConfig
from ..weights import default_name, find

MAPS = CLIP_FRAMES
"""Number of maps that reported times and multiply-adds refer to."""


def clip_shape(spec: ModelConfig) -> tuple[int, int, int, int]:
    """Return the shape of a network's input without the batch: channels, frames, height, width."""
    return 3, CLIP_FRAMES, INPUT_HEIGHT, INPUT_WIDTH


def maps_per_clip(spec: ModelConfig) -> int:
    """Return the number of maps that a network computes from one clip."""
    return spec.frames_out


def engine_networks() -> list[str]:
    """Return the names of the networks that engines other than PyTorch can run, which are those of one family."""
    family = next(iter(CONFIGS.values())).architecture
    return [name for name, known in CONFIGS.items() if known.architecture == family]


def engine_network(name: str) -> ModelConfig:
    """Return the configuration of a network; ``UsageError`` if it is unknown or only PyTorch can run it."""
    found = config(name)
    if found.name not in engine_networks():
        raise UsageError(f"{name}: only PyTorch can run this network, so there are no engines to compare")
    return found


def trainable_network(name: str | None) -> ModelConfig:
    """Return the configuration of a network; ``UsageError`` if it is unknown or cannot be trained.

    Args:
        name: name of the network; None for that of the default weights.
    """
    return TrainConfig(model=find(default_name()).config.name if name is None else name).model_config
