"""A family of networks that the package does not know: two frames in, the map of the first one out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinyhd_cli import models, weights
from tinyhd_cli.models import Family, LossTerm, ModelSpec, Preprocess


class Pair(nn.Module):
    """Spatial features of the first frame and the difference to the second one, one map each, and their sum."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        width = spec.options["width"]
        self.features = nn.Sequential(
            nn.Conv2d(6, width, 3, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.early, self.late = nn.Conv2d(width, 1, 1), nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, clip: Tensor, intermediate: bool = False) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        first, second = clip.unbind(2)
        x = F.relu(self.features(torch.cat([first, second - first], 1)))
        early, late = (torch.sigmoid(self.up(head(x))) for head in (self.early, self.late))
        saliency = (early + late) / 2
        return (saliency, {"early": early.unsqueeze(1)}) if intermediate else saliency

    def up(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class PairFamily(Family):
    """One network, with its width as an option."""

    name = "pair"
    paper = "Nobody et al., 2026"
    specs = (
        ModelSpec(
            name="pair-64",
            family="pair",
            clip_frames=2,
            map_frame=0,
            input_size=(64, 64),
            size_multiple=8,
            side_limits=(32, 256),
            preprocess=Preprocess(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
            options={"width": 8},
        ),
    )
    intermediate = True
    terms = (
        LossTerm("final", "mse"),
        LossTerm("ground-truth", "mse", to="density"),
        LossTerm("self", "mse", of="early", to="student.final", weight=0.5),
    )

    def build(self, spec: ModelSpec) -> nn.Module:
        return Pair(spec)

    def recognize(self, state_dict: Mapping[str, Tensor], stem: str = "") -> ModelSpec | None:
        if "early.weight" not in state_dict:
            return None
        return self.configure(self.specs[0], {"width": state_dict["early.weight"].shape[1]})

    anchors = ("early.weight",)


def write_pair(path: Path) -> Path:
    """Write a weights file of the network with seeded weights; the family must be registered."""
    torch.manual_seed(3)
    weights.save(path, models.create("pair-64").state_dict(), models.named_spec("pair-64"))
    return path
