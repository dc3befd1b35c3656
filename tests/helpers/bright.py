"""A family of object networks that needs no training: bright pixels are the object."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from tinyhd_cli import models, weights
from tinyhd_cli.models import Family, ModelSpec, Preprocess


class Bright(nn.Module):
    """The probability rises from 0 to 1 around a brightness."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor([0.5]))
        self.slope = nn.Parameter(torch.tensor([60.0]))

    def forward(self, clip: Tensor) -> Tensor:
        return torch.sigmoid(self.slope * (clip.mean(1) - self.level))


class BrightFamily(Family):
    """One network."""

    name = "bright"
    paper = "Nobody et al., 2026"
    specs = (
        ModelSpec(
            name="bright-64",
            family="bright",
            clip_frames=1,
            input_size=(96, 128),
            size_multiple=1,
            preprocess=Preprocess(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), resize="area"),
            task="object",
        ),
    )

    def build(self, spec: ModelSpec) -> nn.Module:
        return Bright()

    anchors = ("level",)


def write_bright(path: Path, level: float = 0.5) -> Path:
    """Write a weights file of the network; the family must be registered. Above level 1, there is no object."""
    network = models.create("bright-64")
    with torch.no_grad():
        network.level.fill_(level)
    weights.save(path, network.state_dict(), models.named_spec("bright-64"))
    return path
