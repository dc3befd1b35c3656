"""A video model of transformers with SalFoM's decoder. Only the decoder and the LoRA are trained and saved.

Sources: Moradi et al., "SalFoM", ICPR 2024 (the decoder); Hu et al., "LoRA: Low-Rank Adaptation of Large Language
Models", ICLR 2022.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....errors import UsageError
from ...spec import ModelSpec
from .adapters import Adapter
from .decoder import Decoder
from .files import Backbone
from .pretrained import pretrained

FROZEN, TRAINED = "backbone.", ".lora_"
"""Prefix of the names of the backbone's tensors, and part of the names of those that are trained."""

CONSTANT = ".relative_position_index"
"""End of the names of the decoder's tensors that are always the same."""


def is_saved(name: str) -> bool:
    """Return whether a tensor belongs into weights files: it is not one of the pretrained backbone, nor constant."""
    return (not name.startswith(FROZEN) or TRAINED in name) and not name.endswith(CONSTANT)


def drop_fixed(module: nn.Module, state_dict: dict[str, Any], prefix: str, metadata: Mapping[str, Any]) -> None:
    """Remove the tensors that are not saved from a network's state dict."""
    for name in [name for name in state_dict if not is_saved(name.removeprefix(prefix))]:
        del state_dict[name]


def accept_fixed(module: nn.Module, incompatible: Any) -> None:
    """Accept a state dict without the tensors that are not saved, which the network has already."""
    incompatible.missing_keys[:] = [name for name in incompatible.missing_keys if is_saved(name)]


def with_lora(model: nn.Module, adapter: Adapter, rank: int, alpha: int) -> nn.Module:
    """Freeze a model, add LoRA to its attention, and recompute its blocks in the backward pass to save memory."""
    model.requires_grad_(False)
    if rank:
        from peft import LoraConfig, inject_adapter_in_model

        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=adapter.lora)
        inject_adapter_in_model(config, model)
        cast("Any", model).activation_checkpointing_enable({"use_reentrant": False})
    return model


class VideoModel(nn.Module):
    """A backbone: clips to features with time and space.

    Args:
        model: the model of transformers.
        adapter: how to call it.
        grid: tokens in time, height and width.
        trained: whether it has LoRA.
    """

    def __init__(self, model: nn.Module, adapter: Adapter, grid: tuple[int, int, int], *, trained: bool) -> None:
        super().__init__()
        self.model = model.get_submodule(adapter.encoder)
        # VideoMAE has no norm at its end if its classes with a head average the tokens.
        self.unnormalized = getattr(self.model, "layernorm", self.model) is None
        self.adapter, self.grid, self.trained = adapter, grid, trained

    def forward(self, clip: Tensor) -> Tensor:
        """Return normalized features ``(N, C, T', H', W')`` of clips ``(N, 3, T, H, W)``."""
        with contextlib.nullcontext() if self.trained else torch.no_grad():
            tokens = self.model(**{self.adapter.argument: clip.transpose(1, 2)}).last_hidden_state
        tokens = tokens[:, self.adapter.class_tokens :]
        if self.unnormalized:
            tokens = F.layer_norm(tokens, tokens.shape[-1:])
        time, height, width = self.grid
        if self.adapter.time_inner:
            features = tokens.unflatten(1, (height, width, time)).permute(0, 4, 3, 1, 2)
        else:
            features = tokens.unflatten(1, self.grid).permute(0, 4, 1, 2, 3)
        return cast("Tensor", features.contiguous())

    def train(self, mode: bool = True) -> VideoModel:
        """Set the mode; a backbone without LoRA stays in evaluation mode."""
        return super().train(mode and self.trained)

    def __deepcopy__(self, memo: dict[int, Any]) -> VideoModel:
        """Return a copy that shares the frozen tensors, which take gigabytes."""
        for parameter in self.parameters():
            if not parameter.requires_grad:
                memo[id(parameter)] = parameter
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return made


class FoundationNetwork(nn.Module):
    """The network: backbone and decoder.

    Args:
        spec: its spec.
        backbone: the files of the backbone.

    Raises:
        UsageError: the backbone cannot read the clips of the spec.
        WeightsError: the backbone cannot be loaded.
    """

    def __init__(self, spec: ModelSpec, backbone: Backbone) -> None:
        super().__init__()
        self.spec = spec
        facts, options = backbone.facts, spec.options
        height, width = spec.input_size
        if height != width:
            raise UsageError(f"--size {height}x{width}: {facts.adapter.title} reads square clips")
        model = with_lora(pretrained(backbone, height), facts.adapter, options["lora_rank"], options["lora_alpha"])
        grid = (spec.clip_frames // facts.tubelet, height // facts.patch, width // facts.patch)
        self.backbone = VideoModel(model, facts.adapter, grid, trained=options["lora_rank"] > 0)
        self.decoder = Decoder(facts.channels, options["decoder_width"])
        self.register_state_dict_post_hook(drop_fixed)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(accept_fixed)  # type: ignore[no-untyped-call]

    def forward(self, clip: Tensor) -> Tensor:
        """Return the saliency ``(N, 1, H, W)`` of the last frames of clips ``(N, 3, T, H, W)``."""
        saliency: Tensor = self.decoder(self.backbone(clip), self.spec.input_size)
        return saliency
