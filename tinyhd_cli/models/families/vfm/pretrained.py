"""Read a backbone: the model of transformers, with the weights of its files.

Transformers gets the fields of its class and the tensors, not the folder, because a folder can ask it for more: to
download and run the code of an implementation of attention, or to read other files than those of the digest.
"""

from __future__ import annotations

import contextlib
import pickle
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from ....errors import WeightsError, one_line
from ...spec import shown
from .files import Backbone

PICKLED = ".bin"
"""Suffix of PyTorch's own files."""

FITTING = "use the config.json of these weights"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the messages and progress bars of transformers while the block runs."""
    from transformers.utils import logging as module

    logging = cast("Any", module)  # without type annotations
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def is_meta() -> bool:
    """Return whether modules are built without values at present."""
    return torch.get_default_device().type == "meta"


def pretrained(backbone: Backbone, side: int) -> nn.Module:
    """Return the model of transformers with its weights; without values on the meta device.

    Args:
        backbone: its files.
        side: height and width of the clips, in pixels.

    Raises:
        WeightsError: the files are missing or damaged, or their tensors are not those of the configuration.
    """
    import transformers

    adapter = backbone.facts.adapter
    kind = getattr(transformers, adapter.model)
    arguments = dict(adapter.arguments)
    tensors = {} if is_meta() else read_tensors(backbone)
    with quiet():
        try:
            config = configuration(kind, backbone.facts.config)
            if adapter.free:
                setattr(config, adapter.side, side)
            with torch.device("meta"):
                without_values = cast("nn.Module", kind(config, **arguments))
            if is_meta():
                return without_values
            check_shapes(backbone, without_values, tensors)  # transformers would allocate any size
            model, report = kind.from_pretrained(
                None,
                config=config,
                state_dict=tensors,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # checked above
                output_loading_info=True,
                key_mapping={f"^{re.escape(adapter.prefix)}": ""} if adapter.prefix else None,
                **arguments,
            )
        except WeightsError:
            raise
        except Exception as error:  # transformers raises many kinds of errors for invalid configurations
            reason = one_line(error).rstrip(": ")
            raise WeightsError(
                f"{backbone.files.subject}: {adapter.title} cannot be built from config.json: {reason}"
            ) from error
    check(backbone, model, report)
    return cast("nn.Module", model)


def configuration(kind: Any, values: Mapping[str, Any]) -> Any:
    """Return the configuration of a class of transformers, from the fields of its own.

    The fields of all classes, which are left out, could name an implementation of attention whose code would be
    downloaded and run, a quantization, or other files with weights.
    """
    own = kind.config_class.__annotations__
    config = kind.config_class(**{name: value for name, value in values.items() if name in own})
    config._attn_implementation = "sdpa" if kind._supports_sdpa else "eager"
    return config


def read_tensors(backbone: Backbone) -> dict[str, Tensor]:
    """Return the tensors of a backbone's files; ``WeightsError`` if one is damaged or contains code."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    subject = backbone.files.subject
    tensors: dict[str, Tensor] = {}
    for path in backbone.checked():
        try:
            if path.suffix == PICKLED:
                found = torch.load(path, map_location="cpu", weights_only=True)
                if not all(isinstance(value, Tensor) for value in found.values()):
                    raise pickle.UnpicklingError
            else:
                # A copy: the file is mapped into memory, and could be replaced.
                found = {name: tensor.clone() for name, tensor in load_file(path).items()}
        except pickle.UnpicklingError as error:
            problem = "contains more than tensors, or is damaged; use model.safetensors"
            raise WeightsError(f"{subject}: {path.name} {problem}") from error
        except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, AttributeError, LookupError) as error:
            raise WeightsError(f"{subject}: {path} is damaged ({one_line(error)}); {backbone.files.repair}") from error
        tensors |= found
    return tensors


def check_shapes(backbone: Backbone, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Raise ``WeightsError`` for a tensor of a file whose shape is not that of the model's tensor of the same name."""
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for name, tensor in tensors.items():
        shape = expected.get(own_name(backbone, model, name))
        if shape not in (None, tuple(tensor.shape)):
            shapes = f"has the shape {shown(list(tensor.shape))}, but config.json implies {shown(list(shape))}"
            raise WeightsError(f"{backbone.files.subject}: '{name}' {shapes}; {FITTING}")


def own_name(backbone: Backbone, model: nn.Module, name: str) -> str:
    """Return the name of a tensor without the prefix of the model in weights of a larger one."""
    prefix = f"{cast('Any', model).base_model_prefix}."
    return name.removeprefix(backbone.facts.adapter.prefix).removeprefix(prefix)


def check(backbone: Backbone, model: nn.Module, report: Mapping[str, Any]) -> None:
    """Raise ``WeightsError`` unless all tensors of a model, and no others of its modules, were in its files.

    Args:
        backbone: its files.
        model: as transformers loaded it.
        report: of transformers.
    """
    subject, adapter = backbone.files.subject, backbone.facts.adapter
    absent = {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}
    if missing := sorted(absent):
        more = f" and {len(missing) - 1} more tensors" if len(missing) > 1 else ""
        advice = f"use a complete {adapter.title} that save_pretrained wrote"
        raise WeightsError(f"{subject}: its weights lack '{missing[0]}'{more}; {advice}")
    parts = (adapter.encoder,) if adapter.encoder else tuple(name for name, _ in model.named_children())
    for name in sorted(report["unexpected_keys"]):
        if own_name(backbone, model, name).partition(".")[0] in parts:  # others are those of heads, as a classifier
            place = "for which config.json has no place (fewer layers?)"
            raise WeightsError(f"{subject}: its weights contain '{name}', {place}; {FITTING}")
