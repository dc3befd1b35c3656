"""Tiny video models of transformers with random weights, as ``save_pretrained`` writes them."""

from __future__ import annotations

import functools
from pathlib import Path

WIDTH = 48
"""Channels of all of them."""

LAYERS = {"hidden_size": WIDTH, "num_attention_heads": 2, "num_hidden_layers": 2}
SMALL = {**LAYERS, "intermediate_size": 64}
SPATIAL_AND_TEMPORAL = {"num_spatial_layers": 1, "num_temporal_layers": 1}
PREDICTOR = {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}

KINDS = {
    "vjepa2": ("VJEPA2", {**LAYERS, **PREDICTOR, "crop_size": 64, "frames_per_clip": 8}),
    "videomae": ("VideoMAE", {**SMALL, "image_size": 64, "num_frames": 8}),
    "videoprism": ("VideoPrismVision", {**SMALL, **SPATIAL_AND_TEMPORAL, "image_size": 72, "num_frames": 4}),
    "vivit": ("Vivit", {**SMALL, "image_size": 64, "num_frames": 8}),
    "timesformer": ("Timesformer", {**SMALL, "image_size": 64, "num_frames": 4}),
}
"""Prefix of the classes and fields of the configuration, by a short name."""

OPTIONS = ("decoder_width=128", "lora_rank=4")
"""Options, as for ``--set``, of a small network on them."""


def write(folder: Path, kind: str = "vjepa2", seed: int = 0, **changes: object) -> Path:
    """Write a model with seeded weights to a folder, and return the folder.

    Args:
        folder: to be created.
        kind: one of ``KINDS``.
        seed: of the weights.
        changes: other fields of the configuration.
    """
    import torch
    import transformers

    prefix, fields = KINDS[kind]
    torch.manual_seed(seed)
    config = getattr(transformers, f"{prefix}Config")(**{**fields, **changes})
    transformers.utils.logging.disable_progress_bar()
    getattr(transformers, f"{prefix}Model")(config).save_pretrained(folder)
    return folder


@functools.cache
def content(seed: int = 0) -> dict[str, bytes]:
    """Return the files of a V-JEPA 2 by name, for a repository of a Hub."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return {path.name: path.read_bytes() for path in write(Path(folder) / "model", seed=seed).iterdir()}
