"""Networks without a hand-written lowering, converted by PyTorch's and OpenVINO's own exporters."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import io
import itertools
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import one_line
from ..models import ModelSpec
from ..untrusted import printable
from .base import EngineUnavailable
from .graph import Shape

NOISY = ("torch.onnx", "torch.export", "torch.fx.experimental.symbolic_shapes", "onnxscript", "onnx_ir")
"""Loggers of the exporters. They report missing optional packages, and networks that they cannot convert."""


@contextlib.contextmanager
def conversion(target: str) -> Iterator[None]:
    """Suppress what the exporters print and log, and raise ``EngineUnavailable`` with one line for any of their errors.

    After an error, OpenVINO leaves the root logger with its own level, filter and handler; they are restored.
    """
    root = logging.getLogger()
    loggers = [root, *(logging.getLogger(name) for name in NOISY)]
    levels = [logger.level for logger in loggers]
    filters, handlers = root.filters.copy(), root.handlers.copy()
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers[1:]:
            logger.setLevel(logging.ERROR)
        try:
            yield
        except Exception as error:  # the exporters and OpenVINO raise many kinds of errors
            raise EngineUnavailable(f"the network cannot be converted to {target}: {reason(error)}") from error
        finally:
            root.filters, root.handlers = filters, handlers
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def reason(error: BaseException) -> str:
    """Return what an exporter reports, in one line: the operations that it does not support, or the first error."""
    if unsupported := re.findall(r"^-- (\S+) with a message", str(error), re.MULTILINE):
        return f"unsupported operation {', '.join(dict.fromkeys(unsupported))}"
    while error.__cause__ is not None:
        error = error.__cause__
    return printable(one_line(error))


def digest_of(network: nn.Module, spec: ModelSpec) -> str:
    """Return the SHA-256 of a network: its spec, its tensors, its modules, and the source files that define them.

    A new version of a plugin may compute something else from the same tensors. Tensors that the state dict lacks, such
    as those of a pretrained part, and settings that the text of a module lacks, such as the number of heads, count.
    """
    found = hashlib.sha256(f"{sorted(spec.to_dict().items())}\n{network}\n{torch.__version__}".encode())
    for path in source_files(network):
        found.update(path.read_bytes())
    for name, module in network.named_modules():
        found.update(f"{name}{settings_of(module)}".encode())
    for name, tensor in itertools.chain(network.named_parameters(), network.named_buffers()):
        found.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        found.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def settings_of(module: nn.Module) -> list[tuple[str, object]]:
    """Return the attributes of a module that are numbers, texts, or tuples or lists of them."""

    def is_plain(value: object) -> bool:
        if isinstance(value, tuple | list):
            return all(map(is_plain, value))
        return value is None or isinstance(value, bool | int | float | str)

    return sorted((name, value) for name, value in vars(module).items() if name[0] != "_" and is_plain(value))


def source_files(network: nn.Module) -> list[Path]:
    """Return the files that define the classes of a network's modules, except PyTorch's."""
    files = set()
    for kind in {type(module) for module in network.modules()}:
        with contextlib.suppress(TypeError, OSError):  # a class without a file, e.g. of an interactive session
            if kind.__module__.partition(".")[0] != "torch":
                files.add(Path(inspect.getfile(kind)))
    return sorted(path for path in files if path.is_file())


def example(shape: tuple[int, ...], batch: int = 1) -> tuple[torch.Tensor]:
    """Return the arguments of an example call with ``batch`` clips or frames of ``shape``."""
    return (torch.zeros(batch, *shape),)


def has_linear_layers(network: nn.Module) -> bool:
    """Return whether int8 is available for a network: only its linear layers are quantized."""
    return any(isinstance(module, nn.Linear) for module in network.modules())


def to_openvino(network: nn.Module, shape: tuple[int, ...], batch: int = 1, *, int8: bool = False) -> Any:
    """Return a network as an OpenVINO model: input ``clip`` ``(1, 3, T, H, W)``, output ``saliency``.

    Args:
        network: on the CPU, in evaluation mode.
        shape: of a clip, ``(3, T, H, W)``; for a network that takes many frames, of a frame, ``(3, H, W)``.
        batch: number of clips or frames.
        int8: whether to quantize the linear layers, see :func:`.openvino.quantize_linear`.

    Raises:
        EngineUnavailable: it cannot be converted.
    """
    import openvino as ov

    from .openvino import quantize_linear

    with conversion("OpenVINO"), torch.no_grad():
        program = torch.export.export(network, example(shape, batch))
        model = ov.convert_model(program, input=[ov.PartialShape([batch, *shape])])
        if int8:
            quantize_linear(model)
    model.inputs[0].set_names({"clip"})
    model.outputs[0].set_names({"saliency"})
    return model


class WithHierarchy(nn.Module):
    """A network whose outputs are the saliency and, if it has them, the intermediate maps of one kind.

    Args:
        network: the network.
        key: name of the maps, see ``Family.hierarchy``.
    """

    def __init__(self, network: nn.Module, key: str) -> None:
        super().__init__()
        self.network, self.key = network, key

    def forward(self, clip: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the saliency ``(N, T, H, W)`` and the maps ``(N, K, T1, H, W)`` of clips."""
        saliency, maps = self.network(clip, intermediate=True)
        return (saliency, maps[self.key]) if self.key in maps else (saliency,)


def to_onnx(network: nn.Module, shape: Shape, metadata: Mapping[str, str] | None = None) -> Any:
    """Return a network as an ONNX model; arguments, input, output and errors are those of :func:`to_openvino`."""
    from onnx import helper

    from .onnx import IR_VERSION, OPSET

    with conversion("ONNX"), torch.no_grad():
        program = torch.onnx.export(
            network,
            example(shape),
            dynamo=True,
            input_names=["clip"],
            output_names=["saliency"],
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    model.ir_version = IR_VERSION
    helper.set_model_props(model, dict(metadata or {}))
    return model
