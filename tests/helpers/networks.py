"""Untrained networks whose output depends on the input."""

from __future__ import annotations

import torch
from torch import nn

from tinyhd_cli.models import create, named_spec


def lively(name: str = "tinyhd-m-quarter", seed: int = 0, **overrides):
    """Return a network in evaluation mode with seeded weights and the BatchNorm statistics of noise.

    With the default initialization the signal would vanish in so many layers: every map would be constant.
    """
    generator = torch.Generator().manual_seed(seed)
    network = create(name, **overrides)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                fan_in = parameter[0].numel()
                parameter.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.momentum = 1.0
    frames = network.spec.clip_frames
    clip = nn.functional.interpolate(torch.randn(2, 3, frames, 8, 8, generator=generator), (frames, 64, 64))
    with torch.no_grad():
        network.train()(clip[:, :, : named_spec(name).clip_frames])
    return network.eval()
