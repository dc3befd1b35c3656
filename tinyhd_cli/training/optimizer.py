"""Optimizers and learning-rate schedules: those of the papers and their code, and AdamW with a cosine schedule."""

from __future__ import annotations

import math
from itertools import chain
from typing import Any

import torch
from torch import nn

from .options import TrainConfig

POWER = 0.9
"""Power of the schedule ``poly``."""


def parameter_groups(network: nn.Module, config: TrainConfig, hint: nn.Module | None = None) -> list[dict[str, Any]]:
    """Return the trainable parameters by learning rate and decay; the schedule scales each group's ``base_lr``."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    every = chain(network.named_parameters(), hint.named_parameters(prefix="hint") if hint else ())
    for name, parameter in every:
        if parameter.requires_grad:
            groups.setdefault((name.startswith("encoder."), name.endswith(".bias")), []).append(parameter)
    result = []
    for (encoder, bias), parameters in sorted(groups.items(), key=lambda item: item[0]):
        lr = config.lr * (config.encoder_lr if encoder else 1) * (config.bias_lr if bias else 1)
        decay = 0.0 if bias else config.weight_decay
        result.append({"params": parameters, "lr": lr, "base_lr": lr, "weight_decay": decay})
    return result


def build_optimizer(network: nn.Module, config: TrainConfig, hint: nn.Module | None = None) -> torch.optim.Optimizer:
    """Return SGD with momentum, Adam or AdamW for the trainable parameters of a network, and of its hint if any."""
    groups = parameter_groups(network, config, hint)
    if config.optimizer == "adam":
        return torch.optim.Adam(groups, lr=config.lr)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)


def milestones(config: TrainConfig, steps: int) -> list[int]:
    """Return the steps at which the learning rate drops; an empty list for other schedules."""
    return [round(fraction * steps) for fraction in config.milestones] if config.schedule == "steps" else []


def lr_factor(config: TrainConfig, step: int, steps: int) -> float:
    """Return the factor of the learning rates in a step, counted from 0."""
    warmup_steps = round(config.warmup * steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if config.schedule == "steps":
        return float(0.1 ** sum(step >= milestone for milestone in milestones(config, steps)))
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    return (1 - done) ** POWER if config.schedule == "poly" else 0.5 * (1 + math.cos(math.pi * done))


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set the learning rate of every group to ``factor`` times its base learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def ema_decay(config: TrainConfig, step: int) -> float:
    """Return the decay of the moving average of the weights in a step: less at first, to forget the initial weights."""
    return min(config.ema, (1 + step) / (10 + step))
