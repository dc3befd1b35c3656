"""Optimizer and learning rate as in the paper (section 4.2) and its code, and AdamW with a cosine."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from .options import TrainConfig

ENCODER_FACTOR = 0.5
"""The encoder begins from ImageNet's weights and learns half as fast."""

BIAS_FACTOR = 2.0
"""Biases learn twice as fast, without decay."""


def parameter_groups(network: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """The network's parameters by learning rate and decay; each group's ``base_lr`` is what the schedule scales."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        groups.setdefault((name.startswith("encoder."), name.endswith(".bias")), []).append(parameter)
    result = []
    for (encoder, bias), parameters in sorted(groups.items(), key=lambda item: item[0]):
        lr = config.lr * (ENCODER_FACTOR if encoder else 1) * (BIAS_FACTOR if bias else 1)
        decay = 0.0 if bias else config.weight_decay
        result.append({"params": parameters, "lr": lr, "base_lr": lr, "weight_decay": decay})
    return result


def build_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW."""
    groups = parameter_groups(network, config)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)


def milestones(config: TrainConfig, steps: int) -> list[int]:
    """The steps at which the learning rate falls; none with a cosine."""
    return [round(share * steps) for share in config.milestones] if config.schedule == "steps" else []


def lr_factor(config: TrainConfig, step: int, steps: int) -> float:
    """What the learning rates are multiplied by in a step, counted from 0."""
    warm = round(config.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    if config.schedule == "steps":
        return float(0.1 ** sum(step >= milestone for milestone in milestones(config, steps)))
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Scale the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
