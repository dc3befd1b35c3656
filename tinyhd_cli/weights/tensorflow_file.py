"""Read TensorFlow checkpoints (``PREFIX.index`` and ``PREFIX.data-00000-of-00001``) without TensorFlow.

The index states type, shape, position and checksum of each variable; the data files contain their values. The names are
those of tf_slim: ``SCOPE/LAYER/weights``, ``SCOPE/LAYER/BatchNorm/gamma``. Other variables, such as the slots of an
optimizer, are ignored. Nothing in the files can run code.

Source: TensorFlow's ``tensor_bundle.proto``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import WeightsError
from ..untrusted import printable
from .file import MAX_BYTES, read_bytes
from .sorted_table import DAMAGED, MAGIC, is_sound, read_fields, read_table

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".index"
DATA_FILE = r".+\.data-\d{5}-of-\d{5}"

MAX_INDEX_BYTES = 2 << 20
"""Maximum size of an index. DIS has 10 KB."""

MAX_DATA_FILES = 16
"""Maximum number of data files. Most checkpoints have one."""

MAX_TENSOR_BYTES = 16 << 20
"""Maximum size of all tensors of a network: computing their checksums takes a second. DIS has 1.4 MB."""

MAX_RANK = 8

TYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 19: "<f2"}
"""NumPy's names of TensorFlow's numeric types."""

FIELDS = {
    "weights": "weight",
    "biases": "bias",
    "BatchNorm/gamma": "norm.weight",
    "BatchNorm/beta": "norm.bias",
    "BatchNorm/moving_mean": "norm.running_mean",
    "BatchNorm/moving_variance": "norm.running_var",
}
"""Tensors of a layer: names in tf_slim, and in PyTorch."""


@dataclass
class Entry:
    """The description of a variable."""

    dtype: int = 0
    shape: tuple[int, ...] = ()
    data_file: int = 0
    offset: int = 0
    size: int = 0
    checksum: int = 0
    partitioned: bool = False


NUMBERS = {1: "dtype", 3: "data_file", 4: "offset", 5: "size", 6: "checksum"}
"""Fields of an entry by their numbers in the protocol buffer; 2 is the shape, 7 the parts of a partitioned variable."""


def is_index(path: Path) -> bool:
    """Return whether a file is the index of a TensorFlow checkpoint by its suffix."""
    return path.suffix.lower() == SUFFIX


def check_name(data: bytes, path: Path) -> None:
    """Raise ``WeightsError`` for a file of a TensorFlow checkpoint without the suffix of an index."""
    if re.fullmatch(DATA_FILE, path.name):
        index = path.name.rpartition(".data-")[0] + SUFFIX
        raise WeightsError(f"a data file of a TensorFlow checkpoint; use {printable(index)} beside it")
    if data.endswith(MAGIC):
        raise WeightsError(
            "a TensorFlow checkpoint in one file (format V1), which is not supported; save it with tf.train.Saver "
            "in format V2 (if it is an index, its name must end in .index)"
        )


# ---------------------------------------------------------------------------------------------------------- the files


def read_data_files(index: bytes, path: Path) -> tuple[bytes, ...]:
    """Return the contents of the data files of an index.

    Args:
        index: content of the index.
        path: its path. Only files beside it are read.

    Raises:
        WeightsError: the index is damaged, or a data file is missing or too large.
    """
    if len(index) > MAX_INDEX_BYTES:
        raise WeightsError(f"refused: its index is larger than {MAX_INDEX_BYTES >> 20} MiB")
    count, contents = data_file_count(read_table(index)), []
    for number in range(count):
        file = path.with_name(f"{path.stem}.data-{number:05}-of-{count:05}")
        if not file.is_file():
            raise WeightsError(f"its data file {printable(file.name)} is missing; it must be beside the index")
        contents.append(read_bytes(file))
        if sum(map(len, contents)) > MAX_BYTES:
            raise WeightsError(f"its data files are larger than {MAX_BYTES >> 30} GiB, the limit for weights files")
    return tuple(contents)


def data_file_count(entries: dict[bytes, bytes]) -> int:
    """Return the number of data files, from the header of the index; ``WeightsError`` if it is not supported."""
    count, big_endian = 0, False
    for number, value in read_fields(entries.get(b"", b"")):
        if number == 1 and isinstance(value, int):
            count = value
        elif number == 2:
            big_endian = value != 0
    if big_endian:
        raise WeightsError("its numbers are big-endian, which is not supported")
    if not 1 <= count <= MAX_DATA_FILES:
        raise WeightsError(f"{DAMAGED}: it states {count} data files; 1 to {MAX_DATA_FILES} are supported")
    return count


# --------------------------------------------------------------------------------------------------------- the tensors


def read_tensors(index: bytes, data_files: Sequence[bytes]) -> dict[str, Tensor]:
    """Return the tensors of the layers in a checkpoint, by names such as ``conv1.weight`` and ``conv1.norm.bias``.

    Kernels are in PyTorch's layout; the scopes before the name of a layer are left out.

    Raises:
        WeightsError: it is damaged, has no layers, or has two with the same name.
    """
    found: dict[str, tuple[str, Entry]] = {}
    variables = 0
    for key, value in read_table(index).items():
        name = key.decode("utf-8", "replace")
        variables += bool(key)
        if own := own_name(name):
            if own in found:
                raise WeightsError(f"it contains '{printable(own)}' twice: {shown(found[own][0])} and {shown(name)}")
            found[own] = name, read_entry(value)
    if not found:
        raise WeightsError(f"no known network: none of its {variables:,} variables belongs to a tf_slim layer")
    if sum(entry.size for _, entry in found.values()) > MAX_TENSOR_BYTES:
        raise WeightsError(f"refused: its tensors have more than {MAX_TENSOR_BYTES >> 20} MiB")
    return {own: read_tensor(name, entry, data_files) for own, (name, entry) in found.items()}


def own_name(variable: str) -> str | None:
    """Return the name of a layer's tensor without scopes; None for a variable that is not of a layer."""
    parts = variable.split("/")
    for count in (1, 2):  # a field has one or two parts
        field = FIELDS.get("/".join(parts[-count:]))
        if field and len(parts) > count and parts[-count - 1]:
            return f"{parts[-count - 1]}.{field}"
    return None


def shown(name: str) -> str:
    """Return the name of a variable as it appears in a message: escaped, quoted and not too long."""
    return f"'{printable(name)[:80]}'"


def read_entry(message: bytes) -> Entry:
    """Return the description of a variable; ``WeightsError`` if it is damaged."""
    entry = Entry()
    for number, value in read_fields(message):
        if number == 2 and isinstance(value, bytes):
            entry.shape = read_shape(value)
        elif number == 7:
            entry.partitioned = True
        elif number in NUMBERS and isinstance(value, int):
            setattr(entry, NUMBERS[number], value)
        elif number in NUMBERS:
            raise WeightsError(DAMAGED)
    return entry


def read_shape(message: bytes) -> tuple[int, ...]:
    """Return a shape; ``WeightsError`` if it is damaged."""
    dims = [value for number, value in read_fields(message) if number == 2]
    shape = []
    for dim in dims[: MAX_RANK + 1]:
        if not isinstance(dim, bytes):
            raise WeightsError(DAMAGED)
        sizes = [value for number, value in read_fields(dim) if number == 1 and isinstance(value, int)]
        shape.append(sizes[-1] if sizes else 0)
    return tuple(shape)


def read_tensor(name: str, entry: Entry, data_files: Sequence[bytes]) -> Tensor:
    """Return the values of a variable.

    Raises:
        WeightsError: they are not numbers, their size does not fit the shape or the file, or their checksum is wrong.
    """
    import torch

    if entry.partitioned:
        raise WeightsError(f"{shown(name)} is partitioned, which is not supported; save it without partitions")
    if entry.dtype not in TYPES:
        raise WeightsError(f"{shown(name)} has TensorFlow's type {entry.dtype}, which is not supported")
    dtype = np.dtype(TYPES[entry.dtype])
    if len(entry.shape) > MAX_RANK or 0 in entry.shape or entry.size != math.prod(entry.shape) * dtype.itemsize:
        shape = " x ".join(map(str, entry.shape[:MAX_RANK])) or "one number"
        raise WeightsError(f"damaged: the size of {shown(name)}, {entry.size:,} bytes, is not that of {shape}")
    if entry.data_file >= len(data_files) or entry.offset + entry.size > len(data_files[entry.data_file]):
        raise WeightsError(f"damaged: {shown(name)} is beyond the end of its data file, which may be incomplete")
    values = memoryview(data_files[entry.data_file])[entry.offset : entry.offset + entry.size]
    if not is_sound(values, entry.checksum):
        raise WeightsError(f"damaged: the checksum of {shown(name)} is wrong; copy the data file again")
    array = np.frombuffer(values, dtype).reshape(entry.shape)
    # Kernels (height, width, input, output), and (height, width, output, input) of transposed convolutions.
    array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
    return torch.from_numpy(np.array(array, dtype.newbyteorder("=")))
