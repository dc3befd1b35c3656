"""Networks without a hand-written lowering, converted by PyTorch's and OpenVINO's own exporters."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from ..models import ModelSpec
from .graph import Shape

NOISY = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")
"""Loggers of the exporters, which report missing optional packages as warnings."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress the exporters' warnings, which are about their own implementation."""
    loggers = [logging.getLogger(name) for name in NOISY]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def digest_of(network: nn.Module, spec: ModelSpec) -> str:
    """Return the SHA-256 of a network: its spec, its tensors and its modules."""
    found = hashlib.sha256(f"{sorted(spec.to_dict().items())}\n{network}".encode())
    for name, tensor in network.state_dict().items():
        found.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        found.update(tensor.detach().cpu().contiguous().numpy().data)
    return found.hexdigest()


def example(shape: Shape) -> tuple[torch.Tensor]:
    """Return the arguments of an example call for a clip of ``shape`` without its batch dimension."""
    return (torch.zeros(1, *shape),)


def to_openvino(network: nn.Module, shape: Shape) -> Any:
    """Return a network as an OpenVINO model: input ``clip`` ``(1, 3, T, H, W)``, output ``saliency``.

    Args:
        network: on the CPU, in evaluation mode.
        shape: of the clip, ``(3, T, H, W)``.
    """
    import openvino as ov

    with quiet(), torch.no_grad():
        program = torch.export.export(network, example(shape))
        model = ov.convert_model(program, input=[ov.PartialShape([1, *shape])])
    model.inputs[0].set_names({"clip"})
    model.outputs[0].set_names({"saliency"})
    return model


def to_onnx(network: nn.Module, shape: Shape, metadata: Mapping[str, str] | None = None) -> Any:
    """Return a network as an ONNX model; arguments as for :func:`to_openvino`, names likewise."""
    from onnx import helper

    from .onnx import IR_VERSION, OPSET

    with quiet(), torch.no_grad():
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
