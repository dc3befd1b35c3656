"""Channel reduction: a network of half the width, made from a wider one by merging pairs of kernels.

Source: Hu et al., WACV 2023, section 3.3.2: each kernel of the student is the mean of a pair of consecutive kernels of
its parent. What the paper leaves open is decided so that activations keep their scale:

- BatchNorm is folded into the kernels first, so that the mean is one of what the channels say, in the units in which
  the next layer hears it. The merged channel gets the pair's mean scale and shift again, and statistics for two
  uncorrelated channels, whose mean varies less by the square root of two: otherwise the signal would fade layer by
  layer. In training BatchNorm finds the true statistics by itself.
- A student's channel stands for two of its parent's, each of which is about as large as their mean: along the input,
  the kernels of a pair are summed.
- Channels that a pixel shuffle turns into places are paired with those of the same place, four further on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import UsageError
from .spec import WIDTHS, ModelConfig, TinyHDConfig

if TYPE_CHECKING:
    from .families.tinyhd import TinyHD

MERGES = ("sum", "mean")
"""What can be done with the two kernels of a pair along the input."""

EPS = 1e-5  # of BatchNorm

BEFORE_SHUFFLE = re.compile(r"encoder\.blocks\.(?:[2-9]|1\d)(?:\.project)?|decoders\.d2(?:_\d+)?\.from_x[123]\.project")
"""Layers whose output channels a pixel shuffle turns into places."""


@dataclass(frozen=True)
class Reduced:
    """A narrower network's tensors."""

    config: TinyHDConfig
    state_dict: dict[str, Tensor]
    fresh: tuple[str, ...]
    """Layers whose shape does not halve, which begin afresh."""


def pairs(channels: int, shuffled: bool) -> Tensor:
    """Which channels are merged: ``(channels / 2, 2)``. Neighbors; before a pixel shuffle those of the same place."""
    index = torch.arange(channels)
    if shuffled and channels % 8 == 0:
        return index.view(-1, 2, 4).transpose(1, 2).reshape(-1, 2)
    return index.view(-1, 2)


def source_of(layer: str) -> str:
    """The layer whose output an encoder's layer reads, as far as its channels may be paired in another order."""
    if match := re.fullmatch(r"encoder\.blocks\.(\d+)(?:\.expand)?", layer):
        return f"encoder.blocks.{int(match[1]) - 1}.project"
    return ""


def halves(wide: Tensor, narrow: Tensor) -> bool:
    """Whether every side of a tensor stays or is halved."""
    return all(a in (b, 2 * b) for a, b in zip(wide.shape, narrow.shape, strict=True))


def merged(values: Tensor, size: int, index: Tensor, dim: int, merge: str = "mean") -> Tensor:
    """Pairs along a side brought together, if that side is to be ``size`` and is not yet."""
    if values.shape[dim] == size:
        return values
    first, second = (values.index_select(dim, index[:, place]) for place in (0, 1))
    return first + second if merge == "sum" else (first + second) / 2


def merge_layer(wide: Mapping[str, Tensor], narrow: Mapping[str, Tensor], layer: str, merge: str) -> dict[str, Tensor]:
    """A convolution and its BatchNorm, merged."""
    kernel, norm = wide[f"{layer}.conv.weight"], f"{layer}.norm"
    gamma, beta, mean, var = (
        wide[f"{norm}.{name}"].double() for name in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / (var + EPS).sqrt()
    out, inputs = narrow[f"{layer}.conv.weight"].shape[:2]
    ours = pairs(len(kernel), BEFORE_SHUFFLE.fullmatch(layer) is not None) if len(kernel) > out else torch.empty(0, 2)
    theirs = torch.empty(0, 2)
    if kernel.shape[1] > inputs:
        theirs = pairs(kernel.shape[1], BEFORE_SHUFFLE.fullmatch(source_of(layer)) is not None)

    folded = kernel.double() * scale.view(-1, *[1] * (kernel.dim() - 1))
    folded = merged(merged(folded, out, ours, 0), inputs, theirs, 1, merge)
    shift = merged(beta - scale * mean, out, ours, 0)
    # On the parent's own data, its channels have the mean beta and the variance gamma squared.
    center = merged(beta, out, ours, 0)
    spread = merged(gamma.square(), out, ours, 0) / (2 if len(kernel) > out else 1)
    result = {
        "conv.weight": folded,
        "norm.weight": merged(gamma.abs(), out, ours, 0),
        "norm.bias": center,
        "norm.running_mean": center - shift,
        "norm.running_var": spread,
    }
    tensors = {f"{layer}.{name}": value.float() for name, value in result.items()}
    return tensors | {f"{norm}.num_batches_tracked": wide[f"{norm}.num_batches_tracked"].clone()}


def merge_network(
    wide: Mapping[str, Tensor], narrow: TinyHD, merge: str = "sum"
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Fill a network from a wider one's tensors, which may lack some: those layers and those of another shape stay.

    Returns:
        The narrow network's state dict, and the names of the layers that stayed as they were.
    """
    state = dict(narrow.state_dict())
    fresh = []
    for name in narrow.state_dict():
        layer = name.removesuffix(".conv.weight")
        if name == "fusion.weight" and name in wide:
            state |= {name: wide[name], "fusion.bias": wide["fusion.bias"]}
        elif layer != name:
            if name in wide and halves(wide[name], state[name]):
                state |= merge_layer(wide, state, layer, merge)
            else:
                fresh.append(layer)
    return state, tuple(fresh)


def reduce_channels(
    config: ModelConfig, state_dict: Mapping[str, Tensor], to: str, merge: str = "sum", seed: int = 0
) -> Reduced:
    """The network of half the width (section 3.3.2).

    Args:
        config: the parent.
        state_dict: its tensors.
        to: ``half`` (from full) or ``quarter`` (from half, or from full by way of half).
        merge: what is done along the input: ``sum``, or ``mean``, with which activations become smaller layer by layer.
        seed: of the layers that begin afresh.

    Raises:
        UsageError: the parent is not wider than that.
    """
    from .registry import build

    if not isinstance(config, TinyHDConfig):
        raise UsageError(f"--from: {config.name} has one size; TinyHD networks have full, half and quarter width")
    if to not in WIDTHS or WIDTHS[to] <= config.width_divisor:
        raise UsageError(f"--to {to}: {config.name} has {config.width} width and can be reduced to a smaller one only")
    if merge not in MERGES:
        raise UsageError(f"--merge must be one of {', '.join(MERGES)}, not {merge}")
    fresh: set[str] = set()
    state = dict(state_dict)
    for width, divisor in WIDTHS.items():
        if config.width_divisor < divisor <= WIDTHS[to]:
            config = replace(config, width=width)  # type: ignore[arg-type]  # one of the three names
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                network = build(config)
            state, stayed = merge_network(state, network, merge)  # type: ignore[arg-type]  # config is TinyHD's
            fresh |= set(stayed)
    assert isinstance(config, TinyHDConfig)
    return Reduced(config, state, tuple(name for name in state_layers(state) if name in fresh))


def state_layers(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the layers in a state dict, in order."""
    return [name.removesuffix(".conv.weight") for name in state if name.endswith(".conv.weight")]
