"""Run a graph in PyTorch in float64, so that rounding does not affect tests of its transformations."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from tinyhd_cli.engines import graph


def run(result, clip):
    """Return the output of a graph for a clip ``(N, 3, T, H, W)``."""
    values = {}
    for node in graph.operations(result):
        values[node] = operation(node, [values[source] for source in node.inputs], clip)
        assert tuple(values[node].shape[1:]) == node.shape
    return values[result]


def operation(node, inputs, clip):
    """Return the output of one node."""
    match node:
        case graph.Input():
            return clip
        case graph.Conv():
            weight, bias = torch.from_numpy(node.weight).double(), torch.from_numpy(node.bias).double()
            groups = node.shape[0] if node.depthwise else 1
            (front, top, left), (back, bottom, right) = node.padding, node.end_padding
            padded = F.pad(inputs[0], (left, right, top, bottom, front, back))
            return F.conv3d(padded, weight, bias, node.stride, groups=groups)
        case graph.PixelShuffle():
            return F.conv_transpose3d(inputs[0], torch.from_numpy(node.weight).double(), stride=(1, 2, 2))
        case graph.Interpolate():
            return F.interpolate(inputs[0], node.shape[1:], mode="trilinear", align_corners=True)
        case graph.Mix():
            return torch.einsum("nctyx,st->ncsyx", inputs[0], torch.from_numpy(node.weight).double())
        case graph.Relu6():
            return F.relu6(inputs[0])
        case graph.Sigmoid():
            return torch.sigmoid(inputs[0])
        case graph.Add():
            return inputs[0] + inputs[1]
        case graph.Concat():
            return torch.cat(inputs, dim=1)
        case graph.Scale():
            return inputs[0] * node.factor + node.offset
    raise TypeError(node)
