"""Read the network in original files, checkpoints of other programs, and checkpoints of tinyhd.

The tensors of a PyTorch file may be under a key (``state_dict``, ``model``, ...), and their names may start with the
names of modules that wrap the network. Both are located by a tensor that every network has: anything before its name is
the prefix of a wrapper.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from ..errors import UsageError, WeightsError
from ..models import named_spec, original_names
from ..models.registry import family, parse_options
from ..models.spec import ModelSpec
from ..untrusted import printable
from . import fields
from .foreign import refuse
from .pytorch_file import Placeholder, shapes_of, unpickle
from .tensorflow_file import check_name, read_tensors

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("tinyhd")

MAX_NESTING = 4
"""Maximum nesting of a state dict in a checkpoint."""

WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Names of PyTorch's wrapper modules (data parallelism, compilation, ...), at any position in the name of a tensor."""

EXTRA_ENDINGS = ("n_averaged", "total_ops", "total_params")
"""Last parts of the names of extra tensors from weight averaging (SWA, EMA) and profiling (thop)."""

COPY_KEYS = {"ema", "model_ema", "ema_model", "teacher", "teacher_model", "target", "average", "averaged", "swa"}
"""Keys of copies of the network, which are used only if the network itself is missing."""

MAX_NAMES = 6
"""Maximum number of keys in a message."""


# -------------------------------------------------------------------------------------------- locating the state dict


@dataclass(frozen=True)
class Found:
    """A state dict inside a checkpoint."""

    keys: tuple[str, ...]
    """Its keys in the checkpoint, followed by the prefix of its names."""
    tensors: dict[str, Any]
    """Tensors by their names in the network."""

    @property
    def is_copy(self) -> bool:
        """Whether it is a copy of the network, such as a running mean or a teacher."""
        return not COPY_KEYS.isdisjoint(part.lower() for part in self.keys)


def state_dicts(checkpoint: object) -> list[Found]:
    """Return the state dicts of known networks in a checkpoint, the preferred one first."""
    found = []
    for keys, mapping in mappings(checkpoint):
        for prefix in prefixes(mapping):
            found.append(Found((*keys, *prefix), strip_prefix(mapping, prefix)))
    return sorted(found, key=lambda one: one.is_copy)


def mappings(value: object, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Yield the dicts in a checkpoint with their keys; the usual keys of state dicts first."""
    if not isinstance(value, Mapping) or len(keys) > MAX_NESTING:
        return
    named = {key: inner for key, inner in value.items() if isinstance(key, str)}
    yield keys, named
    usual = [key for key in original_names.CHECKPOINT_KEYS if key in named]
    for key in dict.fromkeys([*usual, *named]):
        yield from mappings(named[key], (*keys, key))


def prefixes(mapping: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the prefixes of tensor names, one for each network in a dict."""
    anchors = original_names.anchors()
    endings = tuple(anchor.rpartition(".")[2] for anchor in anchors)
    found: dict[tuple[str, ...], None] = {}
    for name in mapping:
        if name.endswith(endings):
            parts = name.split(".")
            starts = [at for at in range(len(parts)) if without_wrappers(parts[at:]) in anchors]
            if starts:
                found[tuple(parts[: starts[-1]])] = None
    return list(found)


def without_wrappers(parts: list[str]) -> str:
    """Return a tensor name without the names of wrappers."""
    return ".".join(part for part in parts if part not in WRAPPERS)


def strip_prefix(mapping: Mapping[str, Any], prefix: tuple[str, ...]) -> dict[str, Any]:
    """Return the tensors whose names start with a prefix, by their names without the prefix and wrappers.

    Raises:
        WeightsError: two tensors have the same name then.
    """
    tensors: dict[str, Any] = {}
    for name, value in mapping.items():
        parts = name.split(".")
        if tuple(parts[: len(prefix)]) != prefix or parts[-1] in EXTRA_ENDINGS:
            continue
        short = without_wrappers(parts[len(prefix) :])
        if short in tensors:
            raise WeightsError(f"it contains '{printable(short)}' twice, with and without a wrapper's prefix")
        tensors[short] = value
    return tensors


def to_tensor(name: str, value: object) -> Tensor:
    """Return a value of a state dict as a tensor.

    Raises:
        WeightsError: it is not a dense real tensor with data.
    """
    import torch

    if isinstance(value, Placeholder) and type(value).__name__ == "_reconstruct":
        value = array_to_tensor(value)
    if not isinstance(value, torch.Tensor):
        raise WeightsError(f"'{printable(name)}' is not a tensor but {describe(value)}")
    ordinary = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
    if not ordinary or value.is_complex():
        raise WeightsError(f"'{printable(name)}' is not an ordinary tensor ({value.layout}, {value.dtype})")
    return value.detach()


def array_to_tensor(value: Placeholder) -> object:
    """Return the tensor of a numeric NumPy array; the placeholder itself for any other array."""
    import torch

    try:
        _, shape, dtype, fortran, content = value.state
        code, order = dtype.arguments[0], dtype.state[1]
        if code not in ("f2", "f4", "f8", "i4", "i8") or order not in "<>|=":
            return value
        numbers = np.frombuffer(content, np.dtype(f"{order}{code}")).reshape(shape, order="F" if fortran else "C")
        return torch.from_numpy(np.array(numbers, np.dtype(code)))
    except (TypeError, ValueError, AttributeError, IndexError):
        return value


# -------------------------------------------------------------------------------------------------------- descriptions


def describe(value: object) -> str:
    """Return the type and size of a value as text."""
    import torch

    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, Placeholder):
        return f"an object of type {type(value).__module__}.{type(value).__qualname__}"
    name = type(value).__name__
    return f"a {name} of {len(value)}" if isinstance(value, dict | list | tuple | set) else f"a value of type {name}"


def describe_checkpoint(checkpoint: object) -> str:
    """Return a one-line description of the content of a checkpoint."""
    description = describe(checkpoint)
    if not isinstance(checkpoint, Mapping) or not checkpoint:
        return description
    description += f"; keys: {list_keys(checkpoint)}"
    for keys, mapping in mappings(checkpoint):
        if keys and keys[-1] in original_names.CHECKPOINT_KEYS and mapping:
            return f"{description}; in {printable('.'.join(keys))[:60]}: {list_keys(mapping)}"
    return description


def list_keys(mapping: Mapping[Any, Any]) -> str:
    """Return the first keys of a mapping as text."""
    names = [printable(key)[:60] for _, key in zip(range(MAX_NAMES), mapping, strict=False)]
    return ", ".join(names) + (f" and {len(mapping) - len(names)} more" if len(mapping) > len(names) else "")


# ------------------------------------------------------------------------------------------------------------ networks


@dataclass(frozen=True)
class Original:
    """The network in a file."""

    spec: ModelSpec
    state_dict: dict[str, Tensor]
    """Exactly the tensors of the network, by tinyhd's names."""
    has_tinyhd_names: bool = False
    """Whether the file itself uses tinyhd's names, which determine the fusion order."""


def read_original(data: bytes, path: Path) -> Original:
    """Return the network in a PyTorch file: an original file, a checkpoint that wraps one, or a checkpoint of tinyhd.

    Raises:
        WeightsError: it is damaged, would run code, or contains no network of an installed family.
    """
    check_name(data, path)
    checkpoint = unpickle(data)
    if is_training_checkpoint(checkpoint):
        return from_training(checkpoint)
    refuse(shapes_of(checkpoint))
    found = state_dicts(checkpoint)
    if not found:
        raise WeightsError(f"no known network: it contains {describe_checkpoint(checkpoint)}")
    if len(found) > 1:
        places = ["the top level" if not one.keys else printable(".".join(one.keys)) for one in found]
        log.warning("%s: contains several networks (%s); reading the one in %s", path, ", ".join(places), places[0])
    return recognized({name: to_tensor(name, value) for name, value in found[0].tensors.items()}, path)


def read_tensorflow(index: bytes, data_files: Sequence[bytes], path: Path) -> Original:
    """Return the network in a TensorFlow checkpoint.

    Raises:
        WeightsError: it is damaged, or contains no network of an installed family.
    """
    return recognized(read_tensors(index, data_files), path)


def recognized(tensors: dict[str, Tensor], path: Path) -> Original:
    """Return the network that tensors without prefixes belong to; ``WeightsError`` if there is none."""
    spec = original_names.recognize(tensors, path.stem)
    if original_names.is_original(tensors, spec):
        return Original(spec, original_names.convert(tensors, spec))
    original_names.check_state_dict(tensors, spec)
    return Original(spec, tensors, has_tinyhd_names=True)


def is_training_checkpoint(checkpoint: object) -> TypeGuard[Mapping[str, Any]]:
    """Return whether a checkpoint was written by tinyhd's training."""
    return isinstance(checkpoint, Mapping) and {"config", "model", "ema", "rng", "best_score"} <= checkpoint.keys()


def from_training(checkpoint: Mapping[str, Any]) -> Original:
    """Return the network of a checkpoint of tinyhd's training, with the running mean of its weights if any.

    Raises:
        WeightsError: it is damaged, or contains a single-frame network.
    """
    run, state = checkpoint["config"], checkpoint["ema"] or checkpoint["model"]
    if not isinstance(run, Mapping) or not isinstance(state, Mapping) or not isinstance(run.get("model"), str):
        raise WeightsError("a damaged training checkpoint: it does not name its network")
    if run.get("stills"):
        raise WeightsError("a checkpoint of training on single frames; use best.safetensors or last.safetensors")
    try:
        spec = spec_of_run(run)
    except (UsageError, ValueError) as error:
        raise WeightsError(f"a damaged training checkpoint: {error}") from error
    tensors = {str(name): to_tensor(str(name), value) for name, value in state.items()}
    original_names.check_state_dict(tensors, spec)
    return Original(spec, tensors, has_tinyhd_names=True)


def spec_of_run(run: Mapping[str, Any]) -> ModelSpec:
    """Return the network of a training configuration; ``UsageError`` or ``ValueError`` if it is invalid."""
    spec = named_spec(run["model"])
    order = {"decoders": run["decoders"]} if run.get("decoders") else {}  # version 0.1
    options = run.get("set") or ()
    if not isinstance(options, list | tuple):
        raise UsageError("set must be a list")
    stage, known = run.get("stage", 0), family(spec).stages
    if stage not in range(len(known) + 1):
        raise UsageError("stage must be one of the network's stages")
    of_stage = known[stage - 1].options if stage else {}
    spec = family(spec).configure(spec, {**order, **parse_options(spec, options), **of_stage})
    return spec.with_size(fields.pair(run["size"])) if run.get("size") else spec
