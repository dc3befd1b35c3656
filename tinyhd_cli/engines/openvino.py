"""OpenVINO: the fastest engine on processors of the x86 family, in float32, bf16 and int8."""

from __future__ import annotations

import functools
import io
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from . import graph
from .engine_cache import keep_graph, read_graph
from .graph import Array, Node, aligned

log = logging.getLogger("tinyhd")

HINTS = {"float32": "f32", "bf16": "bf16", "int8": "f32"}
"""What OpenVINO calls the precision of what is not in 8 bits."""


@functools.cache
def core() -> ov.Core:
    """OpenVINO's entry, the same one until the process ends.

    Each new one gives the thread another stack for signals, and of two that overlap the first to go leaves the thread
    with one that is no longer there: the next signal ends the process.
    """
    return ov.Core()


def has_bf16() -> bool:
    """Whether this processor multiplies bf16 natively."""
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def to_openvino(result: Node, *, int8: bool = False) -> ov.Model:
    """The graph as OpenVINO has it: input ``clip`` ``(1, 3, 16, H, W)``, output ``saliency`` ``(1, T, H, W)``."""
    made = translated([result], int8)
    saliency = ops.squeeze(made[result], ops.constant(np.array([1])))
    saliency.output(0).set_names({"saliency"})
    return ov.Model([saliency], clips(made), "tinyhd")


def prefix_to_openvino(outputs: Sequence[Node], *, int8: bool = False) -> ov.Model:
    """The beginning of a graph: its outputs are some nodes of it, ``(1, T, H, W, C)``.

    In this order OpenVINO keeps them anyway; any other costs it more time than the convolutions before.
    """
    made = translated(outputs, int8)
    last = ops.constant(np.array([0, 2, 3, 4, 1]))
    return ov.Model([ops.transpose(made[node], last) for node in outputs], clips(made), "tinyhd")


def translated(results: Sequence[Node], int8: bool) -> dict[Node, Any]:
    """OpenVINO's operations for all that some results need."""
    made: dict[Node, Any] = {}
    for result in results:
        for node in graph.operations(result):
            if node not in made:
                made[node] = operation(node, [made[one] for one in node.inputs], int8)
    return made


def clips(made: dict[Node, Any]) -> list[Any]:
    """The inputs among them."""
    return [made[node] for node in made if isinstance(node, graph.Input)]


def operation(node: Node, inputs: Sequence[Any], int8: bool) -> Any:
    """One operation."""
    match node:
        case graph.Input():
            clip = ops.parameter([1, *node.shape], np.float32, "clip")
            clip.output(0).set_names({"clip"})
            return clip
        case graph.Conv():
            # ReLU6 leaves 0..6: the range that 8 bits have to cover is known without calibration.
            return convolution(node, inputs[0], int8 and isinstance(node.inputs[0], graph.Relu6))
        case graph.PixelShuffle():
            return ops.convolution_backprop_data(inputs[0], ops.constant(node.weight), [1, 2, 2])
        case graph.Interpolate():
            sizes, axes = np.array(node.shape[1:]), np.array([2, 3, 4])
            return ops.interpolate(
                *(inputs[0], ops.constant(sizes), "linear_onnx", "sizes"),
                coordinate_transformation_mode="align_corners",
                axes=ops.constant(axes),
            )
        case graph.Relu6():
            return ops.clamp(inputs[0], 0.0, 6.0)
        case graph.Sigmoid():
            return ops.sigmoid(inputs[0])
        case graph.Add():
            return ops.add(*inputs)
        case graph.Concat():
            return ops.concat(list(inputs), 1)
        case graph.Scale():
            y = ops.multiply(inputs[0], number(node.factor))
            return ops.add(y, number(node.offset)) if node.offset else y
    raise TypeError(f"no such operation: {type(node).__name__}")


def number(value: float) -> Any:
    """A constant."""
    return ops.constant(np.full((1, 1, 1, 1, 1), value, np.float32))


def convolution(node: graph.Conv, x: Any, int8: bool) -> Any:
    """A convolution, in 8 bits if wanted."""
    weight = node.weight[:, np.newaxis] if node.depthwise else node.weight  # groups are a dimension of their own
    if int8:
        x = ops.fake_quantize(x, number(0), number(6), number(0), number(6), 256)
    kernel = rounded(weight) if int8 else ops.constant(weight)
    convolve = ops.group_convolution if node.depthwise else ops.convolution
    y = convolve(x, kernel, list(node.stride), list(node.padding), list(node.padding), [1, 1, 1])
    return ops.add(y, ops.constant(node.bias.reshape(1, -1, 1, 1, 1)))


def rounded(weight: Array) -> Any:
    """A weight in 8 bits, with a scale for each output channel."""
    largest = np.abs(weight).max(axis=tuple(range(1, weight.ndim)), keepdims=True)
    step = np.maximum(largest, np.float32(1e-12)) / np.float32(127)
    return ops.multiply(ops.convert(ops.constant(np.round(weight / step).astype(np.int8)), np.float32), step)


def compiled(
    make: Callable[[], ov.Model], precision: str, threads: int, keep: Path | None = None
) -> tuple[ov.CompiledModel, str]:
    """Return a compiled graph and the digest of its cached form; see :class:`OpenVino`.

    OpenVINO's own cache (``CACHE_DIR``) is not used, because it memory-maps its files: truncating a file that is in
    use kills the process.
    """
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        # Pinned threads would wait for cores on which the encoder is at work.
        "ENABLE_CPU_PINNING": False,
    }
    if kept := read_graph(keep):
        content, digest = kept
        try:
            return core().import_model(content, "CPU", settings), digest
        except RuntimeError as error:
            log.debug("%s: %s", keep, error)
    model = core().compile_model(make(), "CPU", settings)
    if keep is None:
        return model, ""
    exported = io.BytesIO()
    model.export_model(exported)
    return model, keep_graph(keep, exported.getvalue())


class OpenVino:
    """A compiled graph.

    Args:
        make: builds the graph, see :func:`to_openvino`; called only if no compiled graph is cached.
        precision: ``float32``, ``bf16`` or ``int8``; ``int8`` needs a graph that was built for 8 bits.
        threads: how many processor cores to use; 0 for all.
        keep: cache file of the compiled graph; None to compile without a cache.
    """

    name = "openvino"

    def __init__(self, make: Callable[[], ov.Model], precision: str, threads: int, keep: Path | None = None) -> None:
        self.precision = precision
        model, self.graph = compiled(make, precision, threads, keep)
        self._request = model.create_infer_request()

    def infer(self, clip: Array) -> Array:
        """Saliency ``(T, H, W)`` of a clip ``(3, 16, H, W)``."""
        found = self._request.infer({0: clip[np.newaxis]}, share_inputs=True)
        saliency: Array = found[0][0].copy()
        return saliency


class OpenVinoPrefix:
    """The compiled beginning of a graph, for what goes on with its outputs.

    Args:
        make: builds the graph, see :func:`prefix_to_openvino`.
        precision, threads, keep: see :class:`OpenVino`.
    """

    def __init__(self, make: Callable[[], ov.Model], precision: str, threads: int, keep: Path | None = None) -> None:
        model, self.graph = compiled(make, precision, threads, keep)
        self._request = model.create_infer_request()
        self.outputs: list[Array] = []
        """``(T, H, W, C)`` each; always the same arrays."""
        for number, output in enumerate(model.outputs):
            values = aligned(*output.shape)
            self._request.set_output_tensor(number, ov.Tensor(values, shared_memory=True))
            self.outputs.append(values[0])

    def infer(self, clip: Array) -> None:
        """Fill the outputs with what belongs to a clip ``(3, 16, H, W)``."""
        self._request.infer({0: clip[np.newaxis]}, share_inputs=True, share_outputs=True)
