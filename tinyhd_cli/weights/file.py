"""Read and write tinyhd's weights files.

A weights file is a safetensors file with tinyhd's tensor names. Its metadata has one key, ``tinyhd``: a JSON object
that describes the network, its input, and the origin of the weights.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic_files import atomic_write
from ..errors import UsageError, WeightsError, one_line
from ..models import ModelSpec, original_names
from ..models.original_names import INTEGERS
from ..untrusted import parse_json
from .foreign import refuse
from .registry import WeightsInfo, describe

if TYPE_CHECKING:
    from torch import Tensor

METADATA_KEY = "tinyhd"
SUFFIX = ".safetensors"
ORIGINAL_SUFFIXES = (".pth", ".pt", ".index")

EXTERNAL_FIELDS = ("file", "bytes", "sha256", "hub")
"""Fields of ``WeightsInfo`` that a file cannot contain: its location, size and hash."""

DAMAGED = "damaged, or not a safetensors file"
WRONG_DIGEST = "the tensors do not match the digest in the metadata; download the file again"

BUFFERS = ("running_mean", "running_var", *INTEGERS)
"""Last parts of the names of tensors that are not trained."""

MAX_BYTES = 1 << 30
"""Maximum size of a weights file. THTD-Net has 231 MB; a checkpoint of its training has 870 MB."""

MAX_HEADER = 4 << 20
"""Maximum size of the JSON header of a safetensors file; 100 KB is usual."""


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """Return a file's content.

    Raises:
        WeightsError: it cannot be read, is empty, or is larger than ``limit`` bytes.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read() if size <= limit else b""
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from error
    if size > limit:
        raise WeightsError(f"{path}: is larger than {limit >> 30} GiB, the limit for weights files")
    if not data:
        raise WeightsError(f"{path}: empty file")
    return data


def sha256_of(*parts: bytes) -> str:
    """Return the SHA-256 in hexadecimal of data in one or more parts."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()


def is_safetensors(path: Path) -> bool:
    """Return whether a file is a safetensors file by its suffix."""
    return path.suffix.lower() == SUFFIX


def read_header(data: bytes) -> tuple[dict[str, Any], memoryview]:
    """Return the header of a safetensors file and the bytes of its tensors.

    Raises:
        WeightsError: the data is not a safetensors file.
    """
    if data[:4] == b"PK\3\4":
        raise WeightsError("contains a PyTorch file: rename it to end in .pth")
    length = int.from_bytes(data[:8], "little")  # followed by that many bytes of JSON, then the tensors
    if length > min(MAX_HEADER, len(data) - 8):
        raise WeightsError(DAMAGED)
    try:
        header = parse_json(data[8 : 8 + length], unique=True)
    except ValueError as error:
        raise WeightsError(DAMAGED) from error
    if not isinstance(header, dict):
        raise WeightsError(DAMAGED)
    return header, memoryview(data)[8 + length :]


def read_metadata(data: bytes) -> WeightsInfo:
    """Return tinyhd's metadata of a safetensors file.

    Raises:
        WeightsError: the data is not a safetensors file, or has no valid metadata of tinyhd.
    """
    return metadata_of(read_header(data)[0])


def shapes_in_header(header: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors that the header of a safetensors file describes, by name."""
    shapes = {name: entry.get("shape") for name, entry in header.items() if isinstance(entry, dict)}
    return {name: tuple(shape) for name, shape in shapes.items() if isinstance(shape, list)}


def metadata_of(header: Mapping[str, Any]) -> WeightsInfo:
    """Return tinyhd's metadata in the header of a safetensors file.

    Raises:
        WeightsError: it is missing or invalid.
    """
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or METADATA_KEY not in metadata:
        refuse(shapes_in_header(header))
        raise WeightsError(
            "a safetensors file without tinyhd's metadata, so its network is unknown; "
            "convert the original file with tinyhd weights convert"
        )
    try:
        if not isinstance(metadata[METADATA_KEY], str):
            raise ValueError("not a string")
        values = parse_json(metadata[METADATA_KEY], unique=True)
    except ValueError as error:
        raise WeightsError("the tinyhd metadata is damaged") from error
    return WeightsInfo.from_dict(values)


def digest_of(header: Mapping[str, Any], body: memoryview) -> str:
    """Return the digest of a file's tensors: SHA-256 over names, types, shapes and bytes, sorted by name.

    Raises:
        WeightsError: the header does not describe tensors.
    """
    found = hashlib.sha256()
    try:
        for name in sorted(header.keys() - {"__metadata__"}):
            entry = header[name]
            start, end = entry["data_offsets"]
            found.update(json.dumps([name, entry["dtype"], entry["shape"]]).encode())
            found.update(body[start:end])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(DAMAGED) from error
    return found.hexdigest()


def matches_digest(data: bytes) -> bool | None:
    """Return whether the tensors of a file match the digest in its metadata; None if the metadata has no digest."""
    header, body = read_header(data)
    stated = metadata_of(header).tensors_sha256
    return stated == digest_of(header, body) if stated else None


def read_safetensors(data: bytes) -> tuple[dict[str, Tensor], WeightsInfo]:
    """Return the tensors of a safetensors file and its metadata, after checking the tensors against the network.

    Raises:
        WeightsError: it is damaged, lacks tinyhd's metadata, or has the tensors of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    header, body = read_header(data)
    info = metadata_of(header)
    try:
        state_dict = load(data)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:  # KeyError: a dtype that PyTorch lacks
        raise WeightsError(f"{DAMAGED} ({one_line(error)})") from error
    original_names.check_state_dict(state_dict, info.spec)
    if info.tensors_sha256 and digest_of(header, body) != info.tensors_sha256:
        raise WeightsError(f"damaged: {WRONG_DIGEST}")
    return state_dict, info


def check_tensors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a network, converted to float32, after checking their types and values.

    Raises:
        WeightsError: a type or value is invalid.
    """
    import torch

    converted = {}
    for name, tensor in state_dict.items():
        if not tensor.is_floating_point() and not name.endswith(INTEGERS):
            raise WeightsError(f"{name!r} has the type {tensor.dtype}; weights must be floating-point")
        converted[name] = tensor.float()
    values = torch.cat([tensor.flatten() for tensor in converted.values()])
    if not bool(torch.isfinite(values).all()):
        name = next(name for name, tensor in converted.items() if not bool(torch.isfinite(tensor).all()))
        raise WeightsError(f"{name!r} contains NaN or infinity: the training diverged, or the file is damaged")
    if not any(bool(tensor.any()) for name, tensor in converted.items() if not name.endswith(BUFFERS)):
        raise WeightsError("all tensors are zero: the file contains no weights")
    variances = {name: tensor for name, tensor in converted.items() if name.endswith("running_var")}
    if variances and float(torch.cat(list(variances.values())).min()) < 0:
        name = next(name for name, tensor in variances.items() if float(tensor.min()) < 0)
        raise WeightsError(f"{name!r} contains negative variances: the file is damaged")
    return {name: tensor.long() if name.endswith(INTEGERS) else tensor for name, tensor in converted.items()}


def save(path: str | os.PathLike[str], state_dict: Mapping[str, Tensor], spec: ModelSpec, **facts: Any) -> WeightsInfo:
    """Write a weights file atomically. The same arguments give the same bytes.

    Args:
        path: the file to write or replace; its name must end in ``.safetensors``. Missing folders are created.
        state_dict: the network's tensors by tinyhd's names.
        spec: the network.
        facts: other fields of :class:`WeightsInfo` for the file's metadata: name, license, training_data, ...

    Returns:
        The file's metadata, with its size and sha256.

    Raises:
        UsageError: the path has another suffix.
        WeightsError: the tensors do not match the network.
        OutputError: the file cannot be written.
    """
    from safetensors.torch import save as serialize

    path = Path(path).expanduser()
    if not is_safetensors(path):
        raise UsageError(f"{path}: the name of a weights file must end in {SUFFIX}")
    original_names.check_state_dict(state_dict, spec)
    trained = sum(tensor.numel() for name, tensor in state_dict.items() if not name.endswith(BUFFERS))
    # Each tensor is copied, because safetensors rejects tensors that share memory.
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state_dict.items()}
    digest = digest_of(*read_header(serialize(tensors)))
    info = describe(spec, **{**facts, "parameters": trained, "tensors_sha256": digest})
    metadata = {name: value for name, value in info.to_dict().items() if value and name not in EXTERNAL_FIELDS}
    # A single metadata key: the order of several keys would be random.
    data = serialize(tensors, {METADATA_KEY: json.dumps(metadata, sort_keys=True)})
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)
    return replace(info, bytes=len(data), sha256=sha256_of(data))
