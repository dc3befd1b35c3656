"""Channel reduction: a TinyHD network of half the width, made from a wider one by merging pairs of kernels.

Source: Hu et al., WACV 2023, section 3.3.2: each kernel of the student is the mean of a pair of consecutive kernels of
its parent. The paper leaves some details open; they are chosen so that activations keep their scale:

- BatchNorm is folded into the kernels before averaging, so that channels are averaged at the scale at which the next
  layer sees them. The merged channel gets the pair's mean scale and shift, and the statistics of two uncorrelated
  channels, whose mean has half their variance: otherwise the signal would fade from layer to layer. In training,
  BatchNorm measures the true statistics.
- One channel of the student replaces two of its parent's, each about as large as their mean. Therefore the kernels of
  a pair are summed along the input.
- Pixel shuffle turns four consecutive channels into four positions. Its input channels are paired with those of the
  same position, four channels later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from ....errors import UsageError
from ...family import Reduced
from ...registry import family
from ...spec import ModelSpec
from .options import WIDTHS

if TYPE_CHECKING:
    from .network import TinyHD

MERGES = ("sum", "mean")
"""Ways to merge the two kernels of a pair along the input."""

EPS = 1e-5  # of BatchNorm

BEFORE_SHUFFLE = re.compile(r"encoder\.blocks\.(?:[2-9]|1\d)(?:\.project)?|decoders\.d2(?:_\d+)?\.from_x[123]\.project")
"""Layers whose output channels a pixel shuffle turns into positions."""


def pairs(channels: int, shuffled: bool) -> Tensor:
    """Return the channels to merge, ``(channels / 2, 2)``: neighbors; before a pixel shuffle, those of one position."""
    index = torch.arange(channels)
    if shuffled and channels % 8 == 0:
        return index.view(-1, 2, 4).transpose(1, 2).reshape(-1, 2)
    return index.view(-1, 2)


def source_of(layer: str) -> str:
    """Return the layer whose output an encoder layer reads, if its channels may be paired in another order."""
    if match := re.fullmatch(r"encoder\.blocks\.(\d+)(?:\.expand)?", layer):
        return f"encoder.blocks.{int(match[1]) - 1}.project"
    return ""


def halves(wide: Tensor, narrow: Tensor) -> bool:
    """Return whether every dimension of a tensor stays or is halved."""
    return all(a in (b, 2 * b) for a, b in zip(wide.shape, narrow.shape, strict=True))


def merged(values: Tensor, size: int, index: Tensor, dim: int, merge: str = "mean") -> Tensor:
    """Merge pairs along a dimension, unless it already has ``size``."""
    if values.shape[dim] == size:
        return values
    first, second = (values.index_select(dim, index[:, member]) for member in (0, 1))
    return first + second if merge == "sum" else (first + second) / 2


def merge_layer(wide: Mapping[str, Tensor], narrow: Mapping[str, Tensor], layer: str, merge: str) -> dict[str, Tensor]:
    """Merge the channels of a convolution and its BatchNorm."""
    kernel, norm = wide[f"{layer}.conv.weight"], f"{layer}.norm"
    gamma, beta, mean, var = (
        wide[f"{norm}.{name}"].double() for name in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / (var + EPS).sqrt()
    out, inputs = narrow[f"{layer}.conv.weight"].shape[:2]
    outputs = (
        pairs(len(kernel), BEFORE_SHUFFLE.fullmatch(layer) is not None) if len(kernel) > out else torch.empty(0, 2)
    )
    sources = torch.empty(0, 2)
    if kernel.shape[1] > inputs:
        sources = pairs(kernel.shape[1], BEFORE_SHUFFLE.fullmatch(source_of(layer)) is not None)

    folded = kernel.double() * scale.view(-1, *[1] * (kernel.dim() - 1))
    folded = merged(merged(folded, out, outputs, 0), inputs, sources, 1, merge)
    shift = merged(beta - scale * mean, out, outputs, 0)
    # On the parent's own data, its channels have the mean beta and the variance gamma squared.
    center = merged(beta, out, outputs, 0)
    spread = merged(gamma.square(), out, outputs, 0) / (2 if len(kernel) > out else 1)
    result = {
        "conv.weight": folded,
        "norm.weight": merged(gamma.abs(), out, outputs, 0),
        "norm.bias": center,
        "norm.running_mean": center - shift,
        "norm.running_var": spread,
    }
    tensors = {f"{layer}.{name}": value.float() for name, value in result.items()}
    return tensors | {f"{norm}.num_batches_tracked": wide[f"{norm}.num_batches_tracked"].clone()}


def merge_network(
    wide: Mapping[str, Tensor], narrow: TinyHD, merge: str = "sum"
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Fill a network from a wider one's tensors. Layers that are missing there, or do not halve, keep their weights.

    Returns:
        The narrow network's state dict, and the names of the layers that kept their weights.
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
    spec: ModelSpec, state_dict: Mapping[str, Tensor], to: str, merge: str = "sum", seed: int = 0
) -> Reduced:
    """Return the network of half or quarter width (section 3.3.2).

    Args:
        spec: the parent.
        state_dict: its tensors.
        to: ``half`` (from full) or ``quarter`` (from half, or from full via half).
        merge: ``sum`` or ``mean`` of the kernels of a pair along the input; the mean makes activations smaller layer by
            layer.
        seed: of the layers that keep their initial weights.

    Raises:
        UsageError: the parent is not wider than ``to``.
    """
    width = spec.options["width"]
    if to not in WIDTHS or WIDTHS[to] <= WIDTHS[width]:
        raise UsageError(f"--to {to}: {spec.name} has {width} width and can be reduced to a smaller one only")
    if merge not in MERGES:
        raise UsageError(f"--merge must be one of {', '.join(MERGES)}, not {merge}")
    fresh: set[str] = set()
    state = dict(state_dict)
    for name, divisor in WIDTHS.items():
        if WIDTHS[width] < divisor <= WIDTHS[to]:
            spec = family(spec).configure(spec, {"width": name})
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                network = cast("TinyHD", family(spec).build(spec))
            state, kept = merge_network(state, network, merge)
            fresh |= set(kept)
    return Reduced(spec, state, tuple(name for name in layers(state) if name in fresh))


def layers(state: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the layers in a state dict, in order."""
    return [name.removesuffix(".conv.weight") for name in state if name.endswith(".conv.weight")]
