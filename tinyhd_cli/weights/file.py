"""The format of weight files, and reading the original ones.

Ours is safetensors with our tensor names; its metadata has one key, ``tinyhd``, whose JSON says which network it is
for, what its input must look like, and where it comes from. Nothing here knows of names or of the Hub.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError, WeightsError, one_line
from ..files import written_whole
from ..models import upstream
from ..models.config import ModelConfig
from .known import WeightsInfo, describe

if TYPE_CHECKING:
    from torch import Tensor

METADATA_KEY = "tinyhd"
SUFFIX = ".safetensors"
ORIGINAL_SUFFIXES = (".pth", ".pt")

# What the registry knows and the file itself cannot: where it is, and its own hash.
NOT_IN_FILE = ("file", "bytes", "sha256", "hub")

# The network's tensors that are not trained.
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def read_bytes(path: Path) -> bytes:
    """A file's content; ``WeightsError`` if it cannot be read or is empty."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from error
    if not data:
        raise WeightsError(f"{path}: empty file")
    return data


def sha256_of(data: bytes) -> str:
    """The sha256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def is_ours(path: Path) -> bool:
    """Whether a file should be safetensors, by its name."""
    return path.suffix.lower() == SUFFIX


def read_metadata(data: bytes) -> WeightsInfo:
    """What a safetensors file says of itself.

    Raises:
        WeightsError: it is none, or not one of ours.
    """
    try:
        # Eight bytes of length, little endian, then so much JSON.
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = header.get("__metadata__", {})
    except (ValueError, AttributeError, RecursionError) as error:
        raise WeightsError("damaged, or not a safetensors file") from error
    if METADATA_KEY not in metadata:
        raise WeightsError(
            "a safetensors file without the metadata of tinyhd, which say what network it is for: "
            "make one from the original file with tinyhd weights convert",
        )
    try:
        return WeightsInfo.from_dict(json.loads(metadata[METADATA_KEY]))
    except (ValueError, TypeError, AttributeError) as error:
        raise WeightsError("its tinyhd metadata are damaged") from error


def network_state(config: ModelConfig) -> dict[str, Tensor]:
    """The network's tensors without their values."""
    import torch

    from ..models import build

    with torch.device("meta"):
        return build(config).state_dict()


def read_safetensors(data: bytes) -> tuple[dict[str, Tensor], WeightsInfo]:
    """The tensors of a safetensors file of ours, checked against its network, and what it says of itself.

    Raises:
        WeightsError: it is damaged, not one of ours, or its tensors are not its network's.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    info = read_metadata(data)
    try:
        state_dict = load(data)
    except SafetensorError as error:
        raise WeightsError(f"damaged, or not a safetensors file ({one_line(error)})") from error
    upstream.check_state_dict(state_dict, network_state(info.config), info.config)
    return state_dict, info


def read_original(data: bytes) -> dict[str, Tensor]:
    """The state dict in an original file, under its own tensor names. Runs no code of the file.

    Raises:
        WeightsError: it is damaged, would run code, or is no TinyHD or HD2S file.
    """
    import torch

    checkpoint = unpickle(data)
    if isinstance(checkpoint, Mapping) and all(isinstance(name, str) for name in checkpoint):
        state_dict = upstream.unwrap(checkpoint)
        if upstream.is_upstream(state_dict) and all(isinstance(tensor, torch.Tensor) for tensor in state_dict.values()):
            return state_dict
    raise WeightsError("not an original TinyHD or HD2S file: it has no state dict with their tensor names")


def unpickle(data: bytes) -> object:
    """What a PyTorch file holds, if that is nothing but tensors and plain containers."""
    import torch

    try:
        # torch.load does not look at the archive's checksums.
        if zipfile.is_zipfile(io.BytesIO(data)) and (broken := zipfile.ZipFile(io.BytesIO(data)).testzip()):
            raise WeightsError(f"damaged: {broken} in it has a wrong checksum")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols and TorchScript: an error follows, or nothing
            checkpoint: object = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
            return checkpoint
    except WeightsError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        if match := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise WeightsError(f"refused: it holds more than tensors, and loading {match[1]} would run code") from error
        raise WeightsError("damaged, or not a PyTorch file of plain tensors") from error


def save(
    path: str | os.PathLike[str], state_dict: Mapping[str, Tensor], config: ModelConfig, **known: Any
) -> WeightsInfo:
    """Write a weight file; the same tensors and facts give the same bytes. Nothing half-written is ever left.

    Args:
        path: ends in ``.safetensors``; replaced if it exists. Missing folders are made.
        state_dict: the network's tensors by our names.
        config: the network.
        known: further fields of :class:`WeightsInfo` for the file's metadata: name, licence, training_data, ...

    Returns:
        What the file says of itself, with its size and sha256.

    Raises:
        UsageError: the path has another suffix.
        WeightsError: the tensors are not those of the network.
        OutputError: the file cannot be written.
    """
    from safetensors.torch import save as serialize

    path = Path(path).expanduser()
    if not is_ours(path):
        raise UsageError(f"{path}: the name of a weight file must end in {SUFFIX}")
    upstream.check_state_dict(state_dict, network_state(config), config)
    trained = sum(tensor.numel() for name, tensor in state_dict.items() if not name.endswith(BUFFERS))
    info = describe(config, **{**known, "parameters": trained})
    facts = {name: value for name, value in info.to_dict().items() if value and name not in NOT_IN_FILE}
    data = serialize(
        # A copy each, because safetensors refuses tensors that are views of one another.
        {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state_dict.items()},
        {METADATA_KEY: json.dumps(facts, sort_keys=True)},  # a second key would come in random order
    )
    with written_whole(path) as temporary:
        temporary.write_bytes(data)
    return replace(info, bytes=len(data), sha256=sha256_of(data))
