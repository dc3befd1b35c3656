"""First weights: MobileNetV2 of ImageNet for the encoder, inflated to three dimensions.

Source: Hu et al., WACV 2023, section 3.2: kernels are repeated over time and divided by their number of frames, so that
a clip of a still picture gives the activations that the picture gave (away from the ends of the clip, where time is
padded with zeros).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import WeightsError, one_line
from ..models import build
from ..models.blocks.mobilenet3d import ConvNorm
from ..models.families.tinyhd import TinyHD
from ..models.reduce import merge_network
from ..models.spec import WIDTHS
from ..weights.registry import IMAGENET

FOLDED = ".npz"
"""How names of files end that have BatchNorm folded into the convolutions."""

HUB_REPO, HUB_FILE = "timm/mobilenetv2_100.ra_in1k", "model.safetensors"

# Blocks in timm's stages.
STAGES = (1, 2, 3, 4, 3, 3, 1)

# Input of the quantized TFLite file that the .npz files come from: (x - 127) / 127.5.
TFLITE_OFFSET, TFLITE_SCALE = 127 / 127.5, 2.0


def torchvision_layer(name: str) -> str | None:
    """Our layer of a torchvision layer such as ``features.2.conv.0.0``, whose BatchNorm is folded in."""
    if match := re.fullmatch(r"features\.(0|18)\.0", name):
        return "stem" if match[1] == "0" else "blocks.18"
    if match := re.fullmatch(r"features\.(\d+)\.conv\.(0\.0|1\.0|1|2)", name):
        inside = {"0.0": "depthwise", "1": "project"} if match[1] == "1" else None
        inside = inside or {"0.0": "expand", "1.0": "depthwise", "2": "project"}
        return f"blocks.{match[1]}.{inside[match[2]]}" if match[2] in inside else None
    return None


def timm_layers() -> dict[str, tuple[str, str]]:
    """Our layers to timm's convolution and BatchNorm."""
    layers = {"stem": ("conv_stem", "bn1"), "blocks.18": ("conv_head", "bn2")}
    block = 0
    for stage, count in enumerate(STAGES):
        for place in range(count):
            block += 1
            theirs = f"blocks.{stage}.{place}"
            parts = ("depthwise", "project") if block == 1 else ("expand", "depthwise", "project")
            kinds = ("conv_dw", "conv_pw") if block == 1 else ("conv_pw", "conv_dw", "conv_pwl")
            for number, (part, kind) in enumerate(zip(parts, kinds, strict=True), start=1):
                layers[f"blocks.{block}.{part}"] = (f"{theirs}.{kind}", f"{theirs}.bn{number}")
    return layers


def from_timm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """MobileNetV2 of timm under our names, kernels still ``(out, in, h, w)``."""
    state = {}
    for ours, (conv, norm) in timm_layers().items():
        state[f"{ours}.conv.weight"] = tensors[f"{conv}.weight"].float()
        for field in ("weight", "bias", "running_mean", "running_var"):
            state[f"{ours}.norm.{field}"] = tensors[f"{norm}.{field}"].float()
    return state


def from_folded(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Names of torchvision with BatchNorm folded in, for input (x - 127) / 127.5, under ours for ImageNet's input.

    BatchNorm becomes one that only adds the bias; :func:`calibrate` gives it statistics.
    """
    state = {}
    for name in arrays:
        layer = torchvision_layer(name.removesuffix(".weight")) if name.endswith(".weight") else None
        if layer is None:
            continue
        kernel = torch.from_numpy(arrays[name]).float()
        bias = torch.from_numpy(arrays[f"{name.removesuffix('weight')}bias"]).float()
        if layer == "stem":
            mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in IMAGENET)
            bias = bias + (kernel * (TFLITE_SCALE * mean - TFLITE_OFFSET)).sum((1, 2, 3))
            kernel = kernel * TFLITE_SCALE * std
        state[f"{layer}.conv.weight"] = kernel
        state[f"{layer}.norm.weight"] = torch.ones(len(kernel))
        state[f"{layer}.norm.bias"] = bias
        state[f"{layer}.norm.running_mean"] = torch.zeros(len(kernel))
        state[f"{layer}.norm.running_var"] = torch.ones(len(kernel)) - 1e-5
    return state


def read_imagenet(source: str) -> dict[str, Tensor]:
    """MobileNetV2 under our names, kernels ``(out, in, h, w)``.

    Args:
        source: ``imagenet`` (timm's file from the Hub), a ``.safetensors`` file with timm's names, or an ``.npz`` file
            with torchvision's and BatchNorm folded in.

    Raises:
        WeightsError: it cannot be had, read, or is of another network.
    """
    path = download() if source == "imagenet" else Path(source)
    try:
        if path.suffix == FOLDED:
            with np.load(path, allow_pickle=False) as arrays:
                state = from_folded(dict(arrays))
        else:
            from safetensors.torch import load

            state = from_timm(load(path.read_bytes()))
    except KeyError as error:
        raise WeightsError(f"--init {path}: no MobileNetV2 with timm's or torchvision's names: no {error}") from error
    except OSError as error:
        raise WeightsError(f"--init {path}: cannot be read: {error.strerror or one_line(error)}") from error
    except Exception as error:  # NumPy and safetensors raise what they like at a damaged file
        raise WeightsError(f"--init {path}: damaged, or no weight file ({one_line(error)})") from error
    return state


def download() -> Path:
    """The file of timm from the Hub's cache, or from the Hub."""
    from huggingface_hub import hf_hub_download

    from ..weights.hub import one_line_errors

    with one_line_errors(f"--init imagenet ({HUB_REPO})", otherwise="check the connection, or name a file with --init"):
        return Path(hf_hub_download(HUB_REPO, HUB_FILE))


def inflate(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Kernels repeated over time and divided by their number of frames.

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


def load_encoder(network: TinyHD, source: str, clips: Iterable[Tensor]) -> None:
    """Give a network's encoder the weights of ImageNet; a narrower one gets them merged (section 3.3.2).

    Args:
        network: any TinyHD.
        source: as for :func:`read_imagenet`.
        clips: ``(N, 3, 16, H, W)``, to find BatchNorm's statistics where the file has none.

    Raises:
        WeightsError: the file cannot be had, read, or is of another network.
    """
    wide = build(replace(network.config, width="full"))
    assert isinstance(wide, TinyHD)
    wide.encoder.load_state_dict(inflate(read_imagenet(source), wide.encoder.state_dict()))
    if source.endswith(FOLDED):
        encoder = wide.encoder.eval()
        calibrate(encoder, (encoder(clip) for clip in clips))
    state = encoder_state(wide.state_dict())
    for width, divisor in WIDTHS.items():
        if 1 < divisor <= network.config.width_divisor:
            narrow = build(replace(network.config, width=width))  # type: ignore[arg-type]  # one of the three names
            assert isinstance(narrow, TinyHD)
            state = encoder_state(merge_network(state, narrow)[0])
    network.load_state_dict(network.state_dict() | state)


def encoder_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the encoder alone."""
    return {name: value for name, value in state.items() if name.startswith("encoder.")}


DARK = -2.0
"""Shift of a fresh decoder's map before its sigmoid: 0.12 where it has nothing to say."""

FUSION_WEIGHT, FUSION_BIAS = 2.0, -4.0


@torch.no_grad()
def darken(network: TinyHD) -> None:
    """Let fresh decoders and their fusion begin with dark maps that have peaks, instead of even gray ones.

    The prior of Lin et al., ICCV 2017, section 3.3, for outputs that are rarely on.
    """
    for decoder in network.decoders.values():
        for layer in decoder.modules():
            if isinstance(layer, ConvNorm) and layer.conv.out_channels == 1:
                layer.norm.bias.fill_(DARK)
    network.fusion.weight.fill_(FUSION_WEIGHT)
    assert network.fusion.bias is not None
    network.fusion.bias.fill_(FUSION_BIAS)


@torch.no_grad()
def calibrate(module: nn.Module, run: Iterable[object]) -> None:
    """Give every BatchNorm the statistics of its input on some clips, and scales that undo them.

    What the network answers in evaluation mode stays the same; in training mode it begins with much the same answers,
    instead of losing the scales that were folded into the kernels.

    Args:
        module: the layers to calibrate, in evaluation mode.
        run: each item that it yields has sent a clip through the network.
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
