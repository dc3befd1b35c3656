"""Save lowered graphs, so that known weights run without PyTorch: importing it takes longer than a short video.

The file of a graph is a safetensors file: the tensors of the graph, its operations as JSON, and the maps that PyTorch
computed for the clip of the self-test, which engines are compared with. The file of the embedded default weights is
beside them. For other weights of families with a lowering, it is written to the cache when they are first used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic_files import atomic_write, remove
from ..errors import one_line
from ..untrusted import parse_json
from ..version import __version__
from . import engine_cache, graph
from .graph import Array, Node, Shape
from .loaded import LoadedNetwork
from .self_test import Expected

log = logging.getLogger("tinyhd")

FORMAT = 1
"""Version of the files; increase it when their content changes."""

SUFFIX = ".graph"

STEP = 4
"""Every fourth pixel of the expected maps is saved, in both directions."""

MAX_FILES = 12
"""Maximum number of files in the cache, of about 3 MB each; the oldest are removed."""

KEY, EXPECTED = "tinyhd", "expected"
"""Metadata key of the operations; name of the tensor of the expected maps."""

OPERATIONS: dict[str, type[Node]] = {
    one.__name__: one
    for one in (
        *(graph.Input, graph.Conv, graph.PixelShuffle, graph.Interpolate, graph.Mix),
        *(graph.Relu6, graph.Sigmoid, graph.Add, graph.Concat, graph.Scale),
    )
}
"""Operations by the name that files use."""


def to_bytes(result: Node, expected: Expected, sha256: str) -> bytes:
    """Return the file of a graph.

    Args:
        result: the graph's output.
        expected: PyTorch's maps of the clip of the self-test, every pixel.
        sha256: digest of the weights file.
    """
    from safetensors.numpy import save

    nodes = graph.operations(result)
    numbers = {node: number for number, node in enumerate(nodes)}
    tensors = {EXPECTED: np.ascontiguousarray(expected.maps[:, ::STEP, ::STEP])}
    operations = []
    for number, node in enumerate(nodes):
        values: dict[str, Any] = {"operation": type(node).__name__, "inputs": [numbers[one] for one in node.inputs]}
        for item in fields(node):
            value = getattr(node, item.name)
            if isinstance(node, graph.PixelShuffle) and item.name == "weight":
                continue  # fixed, see graph.shuffle
            if isinstance(value, np.ndarray):
                tensors[f"{number}.{item.name}"] = np.ascontiguousarray(value)
            elif item.name != "inputs":
                values[item.name] = value
        operations.append(values)
    facts = {
        "format": FORMAT,
        "weights": sha256,
        "digest": digest_of(result, tensors[EXPECTED], STEP),
        "step": STEP,
        "operations": operations,
    }
    return save(tensors, {KEY: json.dumps(facts)})


def from_bytes(data: bytes, sha256: str) -> tuple[Node, Expected]:
    """Return the graph in a file, and PyTorch's maps of the clip of the self-test.

    Args:
        data: content of the file.
        sha256: digest of the weights file.

    Raises:
        ValueError: the file is damaged, of another version, or of other weights.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        length = int.from_bytes(data[:8], "little")
        facts = parse_json(parse_json(data[8 : 8 + length])["__metadata__"][KEY])
        if (facts["format"], facts["weights"]) != (FORMAT, sha256):
            raise ValueError("of another version, or of other weights")
        tensors = load(data)
        nodes: list[Node] = []
        for number, values in enumerate(facts["operations"]):
            nodes.append(node_of(values, nodes, {name: tensors.get(f"{number}.{name}") for name in ("weight", "bias")}))
        if digest_of(nodes[-1], tensors[EXPECTED], facts["step"]) != facts["digest"]:
            raise ValueError("damaged")
        return nodes[-1], Expected(tensors[EXPECTED], facts["step"])
    except (SafetensorError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"damaged: {one_line(error)}") from error


def digest_of(result: Node, expected: Array, step: object) -> str:
    """Return the SHA-256 of a graph and the expected maps."""
    return hashlib.sha256(f"{engine_cache.digest_of([result])}{step!r}".encode() + expected.tobytes()).hexdigest()


def node_of(values: dict[str, Any], nodes: list[Node], tensors: dict[str, Any]) -> Node:
    """Return a node from the values of its fields.

    Args:
        values: fields of the node as JSON; its inputs are numbers of nodes.
        nodes: the nodes before it.
        tensors: its tensors by the name of the field; None for those that it does not have.
    """
    kind = OPERATIONS[values.pop("operation")]
    inputs = tuple(nodes[number] for number in values.pop("inputs"))
    if kind is graph.PixelShuffle:
        return graph.shuffle(*inputs)
    own = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    own |= {name: tensor for name, tensor in tensors.items() if tensor is not None}
    return kind(inputs=inputs, **own)


def cache_file(sha256: str) -> Path | None:
    """Return the cache file of the graph of a weights file, whether or not it exists; None without a cache."""
    directory = engine_cache.folder("lowered")
    key = hashlib.sha256(f"{sha256}\n{__version__}\n{FORMAT}".encode()).hexdigest()[:24]
    return directory / f"{key}{SUFFIX}" if directory else None


def find(sha256: str, shape: Shape, embedded: Path | None = None) -> tuple[Node, Expected] | None:
    """Return the saved graph of a weights file, and PyTorch's maps of the clip of the self-test; None without one.

    Args:
        sha256: digest of the weights file.
        shape: of a clip.
        embedded: the weights file if it is embedded; the file of its graph is beside it.
    """
    for path in (embedded.with_suffix(SUFFIX) if embedded else None, cache_file(sha256)):
        try:
            if path is not None and path.is_file():
                found = from_bytes(path.read_bytes(), sha256)
                if graph.operations(found[0])[0].shape == shape:
                    return found
        except (OSError, ValueError) as error:
            log.debug("%s: %s", path, error)
    return None


def write_beside(weights: Path, network: LoadedNetwork) -> Path:
    """Write the graph of embedded weights beside them, and return the file."""
    path = weights.with_suffix(SUFFIX)
    assert network.graph is not None
    with atomic_write(path) as temporary:
        temporary.write_bytes(to_bytes(network.graph, network.expected, network.sha256))
    return path


def save(network: LoadedNetwork) -> None:
    """Write the graph of a network to the cache if possible, and remove the oldest files."""
    if network.saved or (path := cache_file(network.sha256)) is None or network.graph is None:
        return
    if engine_cache.write(path, to_bytes(network.graph, network.expected, network.sha256)):
        with contextlib.suppress(OSError):  # another process may remove the same files
            files = sorted(path.parent.glob(f"*{SUFFIX}"), key=lambda file: file.stat().st_mtime, reverse=True)
            for old in files[MAX_FILES:]:
                remove(old)
