"""ImageNet weights of MobileNetV2 for the encoder, inflated to three dimensions.

Source: Hu et al., WACV 2023, section 3.2: kernels are repeated over time and divided by their number of frames. A clip
of identical frames then has the activations of the single frame, away from the ends of the clip, where time is padded
with zeros.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from ....errors import WeightsError
from ...blocks.mobilenet3d import ConvNorm
from ...registry import family
from ...spec import IMAGENET_MEAN, IMAGENET_STD
from .network import TinyHD
from .options import WIDTHS
from .reduce import merge_network

TIMM_ANCHOR = "conv_stem.weight"
TORCHVISION_ANCHOR = "features.0.0.weight"

# Blocks in timm's stages.
STAGES = (1, 2, 3, 4, 3, 3, 1)

# Input of the quantized TFLite file that the .npz files come from: (x - 127) / 127.5.
TFLITE_OFFSET, TFLITE_SCALE = 127 / 127.5, 2.0


def has_names(state_dict: Mapping[str, Any]) -> bool:
    """Return whether a state dict has the names of MobileNetV2 in timm or torchvision."""
    return TIMM_ANCHOR in state_dict or TORCHVISION_ANCHOR in state_dict


def torchvision_layer(name: str) -> str | None:
    """Return tinyhd's layer of a torchvision layer such as ``features.2.conv.0.0``, whose BatchNorm is folded in."""
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
        for field in ("weight", "bias", "running_mean", "running_var"):
            state[f"{layer}.norm.{field}"] = tensors[f"{norm}.{field}"].float()
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


def inflate(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Repeat kernels over time and divide them by their number of frames.

    Raises:
        WeightsError: a tensor is missing or of another shape.
    """
    inflated = {}
    for name, like in expected.items():
        if name.endswith("num_batches_tracked"):
            inflated[name] = torch.zeros((), dtype=like.dtype)
            continue
        if name not in state:
            raise WeightsError(f"--init: not a MobileNetV2: no {name}")
        value = state[name]
        if like.dim() == 5:
            frames = like.shape[2]
            value = (value / frames).unsqueeze(2).expand(-1, -1, frames, -1, -1)
        if value.shape != like.shape:
            raise WeightsError(f"--init: not MobileNetV2 1.0: {name} has shape {tuple(value.shape)}")
        inflated[name] = value.contiguous()
    return inflated


def load_encoder(network: TinyHD, tensors: Mapping[str, Tensor], clips: Iterable[Tensor]) -> None:
    """Load ImageNet weights into a network's encoder; those of a narrower one are merged (section 3.3.2).

    Args:
        network: any TinyHD.
        tensors: MobileNetV2 with timm's names, or with torchvision's and BatchNorm folded in.
        clips: ``(N, 3, 16, H, W)``, to measure BatchNorm's statistics if the file has none.

    Raises:
        WeightsError: the tensors are of another network.
    """
    kind, spec = family(network.spec), network.spec
    wide = cast(TinyHD, kind.build(kind.configure(spec, {"width": "full"})))
    folded = TIMM_ANCHOR not in tensors
    try:
        names = from_folded(tensors) if folded else from_timm(tensors)
    except KeyError as error:
        raise WeightsError(f"no MobileNetV2 with timm's or torchvision's names: no {error}") from error
    wide.encoder.load_state_dict(inflate(names, wide.encoder.state_dict()))
    if folded:
        encoder = wide.encoder.eval()
        calibrate(encoder, (encoder(clip) for clip in clips))
    state = encoder_state(wide.state_dict())
    for width, divisor in WIDTHS.items():
        if 1 < divisor <= network.width_divisor:
            narrow = cast(TinyHD, kind.build(kind.configure(spec, {"width": width})))
            state = encoder_state(merge_network(state, narrow)[0])
    network.load_state_dict(network.state_dict() | state)


def encoder_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the encoder alone."""
    return {name: value for name, value in state.items() if name.startswith("encoder.")}


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
