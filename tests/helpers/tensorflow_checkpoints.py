"""TensorFlow checkpoints, written without TensorFlow: the index as a sorted string table, and its data files."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from tinyhd_cli.models.families.uvanet.original import own_name

MAGIC = 0xDB4775248B80FB57
TYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "float16": 19, "bool": 10}
RESTART_EVERY = 16
"""Entries between keys that are stored whole."""

HEADER = b"\x08\x01\x1a\x02\x08\x01"
"""One data file, little-endian, version 1."""

VARIABLES = {
    "weight": "weights",
    "norm.weight": "BatchNorm/gamma",
    "norm.bias": "BatchNorm/beta",
    "norm.running_mean": "BatchNorm/moving_mean",
    "norm.running_var": "BatchNorm/moving_variance",
}


def crc32c(data: bytes) -> int:
    """Return the CRC-32C."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_OF_BYTE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def remainder(byte: int) -> int:
    """Return the remainder of a byte, bit by bit."""
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


CRC_OF_BYTE = [remainder(byte) for byte in range(256)]


def mask(crc: int) -> bytes:
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def message(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def entry(
    dtype: int, shape: tuple[int, ...], offset: int, data: bytes, *, size: int | None = None, file: int = 0
) -> bytes:
    """Return the description of a variable, with zeros left out as in the original."""
    dims = b"".join(message(2, number(1, side)) for side in shape)
    size = len(data) if size is None else size
    return (
        number(1, dtype)
        + message(2, dims)
        + (number(3, file) if file else b"")
        + (number(4, offset) if offset else b"")
        + (number(5, size) if size else b"")
        + varint(6 << 3 | 5)
        + mask(crc32c(data))
    )


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """Return the content of a block whose keys share their beginnings."""
    out, restarts, last = bytearray(), [], b""
    for index, (key, value) in enumerate(entries):
        shared = 0
        if index % RESTART_EVERY == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return bytes(out) + struct.pack(f"<{len(restarts or [0]) + 1}I", *(restarts or [0]), len(restarts or [0]))


def table(entries: Mapping[bytes, bytes], *, block_bytes: int = 1000, kind: int = 0) -> bytes:
    """Return a table with blocks of about ``block_bytes`` and a compression type that the content does not have."""
    out = bytearray()

    def add(content: bytes) -> bytes:
        handle = varint(len(out)) + varint(len(content))
        out.extend(content + bytes([kind]) + mask(crc32c(content + bytes([kind]))))
        return handle

    index, part, size = [], [], 0
    for key in sorted(entries):
        part.append((key, entries[key]))
        size += len(key) + len(entries[key])
        if size >= block_bytes:
            index.append((key, add(block(part))))
            part, size = [], 0
    if part:
        index.append((part[-1][0], add(block(part))))
    metadata = add(block([]))
    footer = metadata + add(block(index))
    return bytes(out) + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def index_and_data(variables: Mapping[str, np.ndarray]) -> tuple[dict[bytes, bytes], bytes]:
    """Return the entries of an index, and its data file."""
    entries, data = {b"": HEADER}, bytearray()
    for name in sorted(variables):
        values = np.asarray(variables[name])
        content = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes()
        entries[name.encode()] = entry(TYPES[values.dtype.name], values.shape, len(data), content)
        data += content
    return entries, bytes(data)


def write(prefix: Path, variables: Mapping[str, np.ndarray], **options: int) -> Path:
    """Write a checkpoint and return the path of its index."""
    entries, data = index_and_data(variables)
    return write_parts(prefix, table(entries, **options), data)


def write_parts(prefix: Path, index: bytes, data: bytes) -> Path:
    """Write an index and its data file, and return the path of the index."""
    data_file(prefix).write_bytes(data)
    path = prefix.with_name(f"{prefix.name}.index")
    path.write_bytes(index)
    return path


def data_file(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.data-00000-of-00001")


LAYERS = [f"conv{number}" for number in range(1, 5)]
BRANCHES = [f"{layer}_{path}" for path in ("S", "T") for layer in ("conv5", "conv6")]
HEAD = ("conv7", "conv8", "conv9", "conv10", "deconv1", "deconv2")


def dis_variables(state_dict: Mapping[str, torch.Tensor], heads: str) -> dict[str, np.ndarray]:
    """Return the tensors of a DIS network by their names in a checkpoint, with those that training adds."""
    own = [f"{layer}_{path}" for path in (("S", "T") if heads == "two" else ("ST",)) for layer in HEAD]
    scopes = dict.fromkeys(LAYERS + BRANCHES, "jointDis" if heads == "two" else "spatiotemporal/jointDis")
    scopes |= dict.fromkeys(own, "jointDis" if heads == "two" else "spatiotemporal")
    variables = {}
    for layer, scope in scopes.items():
        for field, variable in VARIABLES.items():
            values = state_dict[own_name(f"{layer}.{field}")].numpy()
            values = values.transpose(2, 3, 1, 0) if values.ndim == 4 else values
            name = f"{scope}/{layer}/{variable}"
            variables[name] = values
            if "moving" not in name:
                variables |= {f"{name}/Adam": np.zeros_like(values), f"{name}/Adam_1": np.ones_like(values)}
    assert sum("Adam" not in name for name in variables) == (100 if heads == "two" else 70)
    steps = {"global_step": np.int64(3000), "beta1_power": np.float32(0.5), "beta2_power": np.float32(0.9)}
    return variables | {name: np.asarray(value) for name, value in steps.items()}
