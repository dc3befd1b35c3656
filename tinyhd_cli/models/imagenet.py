"""ImageNet weights of trunks: MobileNetV2 with the tensor names of other libraries, under tinyhd's names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import WeightsError
from .blocks import conv2d, mobilenet3d
from .spec import IMAGENET_MEAN, IMAGENET_STD

TIMM_ANCHOR = "conv_stem.weight"
TORCHVISION_ANCHOR = "features.0.0.weight"
TORCHVISION_NORM = "features.0.1.weight"
"""A tensor of torchvision's MobileNetV2 unless its BatchNorm is folded in."""

RESNET_ANCHORS = ("conv1.weight", "layer4.2.conv3.weight")
"""Tensors of ResNet-50, which timm and torchvision give the same names."""

NORM_FIELDS = ("weight", "bias", "running_mean", "running_var")

# Blocks in timm's stages.
STAGES = (1, 2, 3, 4, 3, 3, 1)

# Input of the quantized TFLite file that the .npz files come from: (x - 127) / 127.5.
TFLITE_OFFSET, TFLITE_SCALE = 127 / 127.5, 2.0

ConvNorm = mobilenet3d.ConvNorm | conv2d.ConvNorm


def is_mobilenet(state_dict: Mapping[str, Any]) -> bool:
    """Return whether a state dict has the names of MobileNetV2 in timm or torchvision."""
    return TIMM_ANCHOR in state_dict or TORCHVISION_ANCHOR in state_dict


def is_resnet50(state_dict: Mapping[str, Any]) -> bool:
    """Return whether a state dict has the names of ResNet-50 in timm or torchvision."""
    return all(name in state_dict for name in RESNET_ANCHORS)


def torchvision_layer(name: str) -> str | None:
    """Return tinyhd's layer of a convolution of torchvision, such as ``features.2.conv.0.0``."""
    if match := re.fullmatch(r"features\.(0|18)\.0", name):
        return "stem" if match[1] == "0" else "blocks.18"
    if match := re.fullmatch(r"features\.(\d+)\.conv\.(0\.0|1\.0|1|2)", name):
        inside = {"0.0": "depthwise", "1": "project"} if match[1] == "1" else None
        inside = inside or {"0.0": "expand", "1.0": "depthwise", "2": "project"}
        return f"blocks.{match[1]}.{inside[match[2]]}" if match[2] in inside else None
    return None


def timm_layers() -> dict[str, tuple[str, str]]:
    """Return timm's convolution and BatchNorm of each of tinyhd's layers."""
    layers = {"stem": ("conv_stem", "bn1"), "blocks.18": ("conv_head", "bn2")}
    block = 0
    for stage, count in enumerate(STAGES):
        for index in range(count):
            block += 1
            prefix = f"blocks.{stage}.{index}"
            parts = ("depthwise", "project") if block == 1 else ("expand", "depthwise", "project")
            kinds = ("conv_dw", "conv_pw") if block == 1 else ("conv_pw", "conv_dw", "conv_pwl")
            for number, (part, kind) in enumerate(zip(parts, kinds, strict=True), start=1):
                layers[f"blocks.{block}.{part}"] = (f"{prefix}.{kind}", f"{prefix}.bn{number}")
    return layers


def from_timm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return timm's MobileNetV2 under tinyhd's names, kernels still ``(out, in, h, w)``."""
    state = {}
    for layer, (conv, norm) in timm_layers().items():
        state[f"{layer}.conv.weight"] = tensors[f"{conv}.weight"].float()
        for field in NORM_FIELDS:
            state[f"{layer}.norm.{field}"] = tensors[f"{norm}.{field}"].float()
    return state


def from_torchvision(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return torchvision's MobileNetV2 under tinyhd's names. The BatchNorm of a layer has the next number."""
    state = {}
    for name in tensors:
        conv = name.removesuffix(".weight")
        if name == conv or (layer := torchvision_layer(conv)) is None:
            continue
        before, _, number = conv.rpartition(".")
        state[f"{layer}.conv.weight"] = tensors[name].float()
        for field in NORM_FIELDS:
            state[f"{layer}.norm.{field}"] = tensors[f"{before}.{int(number) + 1}.{field}"].float()
    return state


def from_folded(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return torchvision's MobileNetV2, with BatchNorm folded into the convolutions, under tinyhd's names.

    The file expects (x - 127) / 127.5; the first kernel is rescaled for ImageNet's normalization. BatchNorm becomes one
    that only adds the bias; :func:`calibrate` measures its statistics.
    """
    state = {}
    for name in tensors:
        layer = torchvision_layer(name.removesuffix(".weight")) if name.endswith(".weight") else None
        if layer is None:
            continue
        kernel, bias = tensors[name].float(), tensors[f"{name.removesuffix('weight')}bias"].float()
        if layer == "stem":
            mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
            bias = bias + (kernel * (TFLITE_SCALE * mean - TFLITE_OFFSET)).sum((1, 2, 3))
            kernel = kernel * TFLITE_SCALE * std
        state[f"{layer}.conv.weight"] = kernel
        state[f"{layer}.norm.weight"] = torch.ones(len(kernel))
        state[f"{layer}.norm.bias"] = bias
        state[f"{layer}.norm.running_mean"] = torch.zeros(len(kernel))
        state[f"{layer}.norm.running_var"] = torch.ones(len(kernel)) - 1e-5
    return state


def mobilenet(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """Return a MobileNetV2 under tinyhd's names, kernels ``(out, in, h, w)``, and whether its BatchNorm was folded in.

    The statistics of a folded BatchNorm must be measured by :func:`calibrate`.

    Args:
        tensors: with the names of timm or torchvision; with the latter, BatchNorm may be folded in.

    Raises:
        WeightsError: a tensor is missing.
    """
    try:
        if TIMM_ANCHOR in tensors:
            return from_timm(tensors), False
        if TORCHVISION_NORM in tensors:
            return from_torchvision(tensors), False
        return from_folded(tensors), True
    except KeyError as error:
        raise WeightsError(f"no MobileNetV2 with timm's or torchvision's names: no {error}") from error


def fit(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], network: str) -> dict[str, Tensor]:
    """Return the tensors that a trunk expects.

    Args:
        state: tensors by the trunk's names; others are ignored.
        expected: the trunk's tensors, for their names and shapes.
        network: name of the trunk, for messages.

    Raises:
        WeightsError: a tensor is missing or of another shape.
    """
    found = {}
    for name, like in expected.items():
        if name.endswith("num_batches_tracked"):
            found[name] = torch.zeros((), dtype=like.dtype)
            continue
        if name not in state:
            raise WeightsError(f"--init: not a {network}: no {name}")
        if state[name].shape != like.shape:
            shapes = f"{tuple(state[name].shape)}, not {tuple(like.shape)}"
            raise WeightsError(f"--init: not a {network}: {name} has shape {shapes}")
        found[name] = state[name].float().contiguous()
    return found


@torch.no_grad()
def calibrate(module: nn.Module, run: Iterable[object]) -> None:
    """Set every BatchNorm to the statistics of its input on some clips, and its scale and shift so that they cancel.

    The output in evaluation mode stays the same. In training mode it starts close to that, instead of losing the scales
    that were folded into the kernels.

    Args:
        module: the layers to calibrate, in evaluation mode.
        run: runs the network on one clip for each item that it yields.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, ConvNorm)]
    sums = {layer: torch.zeros(3, layer.conv.out_channels, dtype=torch.float64) for layer in layers}

    def collect(layer: ConvNorm, x: Tensor) -> None:
        values = x.detach().double().transpose(0, 1).flatten(1)
        parts = (torch.full((len(values),), values.shape[1]), values.sum(1), values.square().sum(1))
        sums[layer] += torch.stack([part.double().cpu() for part in parts])

    hooks = [
        layer.conv.register_forward_hook(lambda conv, args, output, layer=layer: collect(layer, output))
        for layer in layers
    ]
    try:
        for _ in run:
            pass
    finally:
        for hook in hooks:
            hook.remove()
    for layer in layers:
        norm = layer.norm
        count, total, squares = sums[layer]
        mean = (total / count).float().to(norm.weight)
        var = ((squares / count) - (total / count).square()).clamp_min(0).float().to(norm.weight)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        shift = norm.bias - scale * norm.running_mean
        norm.weight.copy_(scale * (var + norm.eps).sqrt())
        norm.bias.copy_(shift + scale * mean)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)
