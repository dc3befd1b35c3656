"""Lower TinyHD to a graph that engines run fast: the same maps, up to float32 rounding, by cheaper operations.

Differences from the network in ``models``:

- BatchNorm is folded into the convolutions (``fuse_batchnorm``).
- Kernel taps that only read padding are removed, and a block's first convolution is moved before the interpolation
  that it follows (:func:`graph.convolve`).
- Pixel shuffle is a fixed transposed convolution (:func:`graph.shuffle`): engines otherwise copy every value through a
  memory layout that none of their other operations uses.
- Time is interpolated before pixels are shuffled, not after (:func:`up`): the two operations commute.
- Inside blocks, channels are padded to whole vectors (:func:`rounded_up`).
- The decoders' maps are fused as a weighted sum, neither repeated nor concatenated (:func:`fuse`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from torch import Tensor, nn

from ..models.blocks.mobilenet3d import GROUPS, ConvNorm, InvertedResidual, MobileNet3d
from ..models.families.tinyhd.decoders import AggregationDecoder, Decoder, HierarchicalDecoder, UNetDecoder
from ..models.families.tinyhd.network import TinyHD
from .graph import Array, Input, Node, Shape, Size3, add, concat, convolve, interpolate, relu6, scale, shuffle, sigmoid

LANES = 8
"""Floats per vector register of AVX2, half of those of AVX-512."""

Streams = tuple[Node, Node, Node, Node]


def lower(network: TinyHD, shape: Shape) -> Node:
    """Return the graph of a network.

    Args:
        network: with BatchNorm folded.
        shape: of the clip, ``(3, 16, H, W)``.

    Returns:
        The output node, the saliency ``(1, T, H, W)``.
    """
    return lower_with_maps(network, shape)[0]


def lower_with_maps(network: TinyHD, shape: Shape) -> tuple[Node, dict[str, list[Node]]]:
    """Return the graph of a network, see :func:`lower`, and its decoders' maps before the sigmoid, by decoder."""
    streams = encode(network.encoder, Input(shape))
    maps = {name: decode(cast(Decoder, decoder), streams) for name, decoder in network.decoders.items()}
    assert network.fusion.bias is not None
    every = [one for several in maps.values() for one in several]
    return fuse(every, array(network.fusion.weight).ravel(), network.fusion.bias.item()), maps


def array(parameter: Tensor) -> Array:
    """Return a parameter as a contiguous array."""
    return np.ascontiguousarray(parameter.detach().cpu().numpy(), np.float32)


def conv_norm(x: Node, layer: nn.Module, *, channels: int = 0) -> Node:
    """Return a folded convolution with its ReLU6, zero-padded to at least ``channels`` output channels."""
    assert isinstance(layer, ConvNorm)
    conv = layer.conv
    assert conv.bias is not None
    depthwise = conv.groups > 1
    weight, bias = array(conv.weight), array(conv.bias)
    weight = padded(weight, max(channels, len(bias)), weight.shape[1] if depthwise else x.shape[0])
    bias = np.pad(bias, (0, len(weight) - len(bias)))
    stride, padding = cast(Size3, conv.stride), cast(Size3, conv.padding)
    y = convolve(x, weight, bias, stride=stride, padding=padding, depthwise=depthwise)
    return relu6(y) if hasattr(layer, "activation") else y


def padded(weight: Array, outputs: int, inputs: int) -> Array:
    """Return a weight ``(out, in, ...)`` padded with zeros to more channels."""
    more = ((0, outputs - weight.shape[0]), (0, inputs - weight.shape[1]), (0, 0), (0, 0), (0, 0))
    return np.pad(weight, more)


def rounded_up(channels: int) -> int:
    """Return a number of channels rounded up to a multiple of 8, if that adds no more than a third.

    Engines store the channels of a pixel side by side. Unless a pixel fills whole vectors, reading it crosses cache
    lines, which costs depthwise convolutions and interpolations a fifth of their time.
    """
    filled = -(-channels // LANES) * LANES
    return filled if 3 * (filled - channels) <= channels else channels


def block(x: Node, layer: nn.Module) -> Node:
    """Return an inverted residual, or the encoder's last convolution."""
    if not isinstance(layer, InvertedResidual):
        return conv_norm(x, layer)
    y = x
    if not isinstance(layer.expand, nn.Identity):
        y = conv_norm(y, layer.expand, channels=rounded_up(layer.depthwise.conv.out_channels))
    y = conv_norm(y, layer.depthwise, channels=y.shape[0])
    y = conv_norm(y, layer.project)
    return add(x, y) if layer.skip else y


def encode(encoder: MobileNet3d, clip: Node) -> Streams:
    """Return the encoder's four streams."""
    x = conv_norm(clip, encoder.stem)
    groups = []
    for group in GROUPS:
        taps = []
        for number in group:
            x = block(x, encoder.blocks[str(number)])
            taps.append(x)
        groups.append(concat(*taps))
    shallow, *deeper = groups
    half, quarter, eighth, sixteenth = (shuffle(group) for group in deeper)
    return concat(shallow, half), quarter, eighth, sixteenth


def decode(decoder: Decoder, streams: Streams) -> list[Node]:
    """Return a decoder's maps before the sigmoid, each ``(1, T, H, W)``."""
    if isinstance(decoder, HierarchicalDecoder):
        return hierarchical(decoder, streams)
    if isinstance(decoder, UNetDecoder):
        return [unet(decoder, streams)]
    assert isinstance(decoder, AggregationDecoder)
    return [aggregation(decoder, streams)]


def up(decoder: Decoder, x: Node) -> Node:
    """Double the time steps (if the network outputs several maps), then the resolution by pixel shuffle."""
    return shuffle(interpolate(x, time=2 if decoder.multi else 1))


def stretch(decoder: Decoder, x: Node) -> Node:
    """Double the time steps and the resolution by interpolation."""
    return interpolate(x, time=2 if decoder.multi else 1, space=2)


def hierarchical(d: HierarchicalDecoder, streams: Streams) -> list[Node]:
    """Lower d1, without the concatenation of its four maps."""
    x0, x1, x2, x3 = streams
    a = shuffle(block(block(x0, d.x0[0]), d.x0[1]))
    a = block(block(a, d.x0[2]), d.x0[3])
    b = shuffle(block(shuffle(block(x1, d.x1[0])), d.x1[1]))
    b = block(block(b, d.x1[2]), d.x1[3])
    c = shuffle(block(shuffle(block(x2, d.x2[0])), d.x2[1]))
    c = block(shuffle(block(c, d.x2[2])), d.x2[3])
    e = block(interpolate(x3, space=2) if d.interpolates_x3 else shuffle(x3), d.x3[0])
    for layer in list(d.x3)[1:]:
        e = block(shuffle(e), layer)
    return [a, b, c, e]


def unet(d: UNetDecoder, streams: Streams) -> Node:
    """Lower d2."""
    x0, x1, x2, x3 = streams
    y = add(up(d, block(x3, d.from_x3)), x2)
    y = add(up(d, block(y, d.from_x2)), block(x1, d.lateral_x1))
    y = add(up(d, block(y, d.from_x1)), block(block(x0, d.lateral_x0[0]), d.lateral_x0[1]))
    y = block(y, d.from_x0)
    return block(stretch(d, y) if d.interpolates_last else up(d, y), d.to_map)


def aggregation(d: AggregationDecoder, streams: Streams) -> Node:
    """Lower d3."""
    u = [stretch(d, x) if d.interpolates_streams else up(d, x) for x in streams]
    one = [u[0]] + [add(u[i + 1], block(streams[i], d.lateral1[i])) for i in range(3)]
    two = [add(up(d, block(one[i + 1], d.up2[i])), block(one[i], d.lateral2[i])) for i in range(3)]
    three = [add(up(d, two[i + 1]), block(two[i], d.lateral3[i])) for i in range(2)]
    four = add(up(d, three[1]), block(three[0], d.lateral4))
    return block(four, d.to_map)


def fuse(maps: Sequence[Node], weights: Array, bias: float) -> Node:
    """Return the fusion: a weighted sum of the maps; those with one time step are broadcast over time."""
    # Maps with one time step are added first, while they are small.
    terms = sorted(zip(maps, weights, strict=True), key=lambda term: term[0].shape[1])
    (first, weight), *others = terms
    total = scale(sigmoid(first), float(weight), bias)
    for one, weight in others:
        total = add(total, scale(sigmoid(one), float(weight)))
    return sigmoid(total)
