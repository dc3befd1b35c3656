"""State dicts with the tensor names of the original TinyHD, made without its files."""

from __future__ import annotations

from itertools import product

import torch

from tinyhd_cli.models import create
from tinyhd_cli.models.families.tinyhd.original import DECODER_BLOCKS, RESIDUAL, RESIDUAL_WITHOUT_EXPANSION, own_name

FIELDS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def original_names() -> dict[str, str]:
    """Return the original tensor names by tinyhd's names."""
    inside = [*RESIDUAL, *RESIDUAL_WITHOUT_EXPANSION]
    modules = [f"encoder.encoder.{block}.{layer}" for block, layer in product((0, 18), (0, 1))]
    modules += [f"encoder.encoder.{block}.conv.{layer}" for block, layer in product(range(1, 18), inside)]
    blocks = range(len(DECODER_BLOCKS))
    modules += [f"aggregator.aggregate_adapter.{block}.conv.{layer}" for block, layer in product(blocks, inside)]
    names = [f"{module}.{field}" for module, field in product([*modules, "decoder.decoder.0"], FIELDS)]
    return {ours: name for name in names if (ours := own_name(name))}


def original_state(name: str = "tinyhd-s-quarter", seed: int = 0) -> dict[str, torch.Tensor]:
    """Return untrained weights by their original names."""
    torch.manual_seed(seed)
    return with_original_names(create(name))


def with_original_names(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights of a network by their original names."""
    theirs = original_names()
    state = {theirs[ours]: tensor for ours, tensor in network.state_dict().items()}
    if network.spec.maps == 1:  # the original fuses single-output maps by a 2D convolution
        state["decoder.decoder.0.weight"] = state["decoder.decoder.0.weight"].squeeze(2)
    return state
