"""Run networks in OpenVINO, the fastest engine on x86 CPUs, in float32, bf16 or int8."""

from __future__ import annotations

import functools
import io
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from . import graph
from .engine_cache import read_graph, write_graph
from .graph import Array, Node, aligned

log = logging.getLogger("tinyhd")

HINTS = {"float32": "f32", "bf16": "bf16", "int8": "f32"}
"""OpenVINO's precision hint for the operations that are not quantized, by precision."""

QUANTIZED_GROUP, MAX_QUANTIZED_GROUP = 32, 256
"""Number of channels that share a scale when the inputs of linear layers are quantized: a multiple of the first
number, not more than the second. With 384 channels, THTD-Net takes as long as with 96."""


@functools.cache
def core() -> ov.Core:
    """Return the ``ov.Core`` of this process.

    It is never destroyed. Every ``ov.Core`` installs an alternate signal stack, and destroying one of two leaves a
    dangling pointer, so that the next signal would crash the process.
    """
    return ov.Core()


def has_bf16() -> bool:
    """Return whether this CPU multiplies bf16 natively."""
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def to_openvino(result: Node, more: Sequence[Node] = (), *, int8: bool = False) -> ov.Model:
    """Convert a graph to OpenVINO.

    Args:
        result: the graph's output.
        more: nodes of the graph that become outputs, too, after the saliency.
        int8: whether to quantize the convolutions whose input is a ReLU6.

    Returns:
        A model with the input ``clip`` ``(1, 3, 16, H, W)`` and the output ``saliency`` ``(1, T, H, W)``.
    """
    translated = translate([result, *more], int8)
    saliency = ops.squeeze(translated[result], ops.constant(np.array([1])))
    saliency.output(0).set_names({"saliency"})
    return ov.Model([saliency, *(translated[node] for node in more)], parameters(translated), "tinyhd")


def middle_to_openvino(outputs: Sequence[Node], *, int8: bool = False) -> ov.Model:
    """Convert the operations that some nodes depend on to OpenVINO, with these nodes as outputs ``(1, T, H, W, C)``.

    Channels-last is OpenVINO's internal layout; transposing to any other costs more than the convolutions.
    """
    translated = translate(outputs, int8)
    last = ops.constant(np.array([0, 2, 3, 4, 1]))
    return ov.Model([ops.transpose(translated[node], last) for node in outputs], parameters(translated), "tinyhd")


def translate(results: Sequence[Node], int8: bool) -> dict[Node, Any]:
    """Return the OpenVINO operations by node, for all nodes that some results depend on."""
    translated: dict[Node, Any] = {}
    for result in results:
        for node in graph.operations(result):
            if node not in translated:
                translated[node] = operation(node, [translated[source] for source in node.inputs], int8)
    return translated


def parameters(translated: dict[Node, Any]) -> list[Any]:
    """Return the OpenVINO parameters of the input nodes."""
    return [translated[node] for node in translated if isinstance(node, graph.Input)]


def operation(node: Node, inputs: Sequence[Any], int8: bool) -> Any:
    """Return the OpenVINO operation of a node, given those of its inputs."""
    match node:
        case graph.Input():
            clip = ops.parameter([1, *node.shape], np.float32, "clip")
            clip.output(0).set_names({"clip"})
            return clip
        case graph.Conv():
            # After ReLU6 the range is 0..6, so int8 needs no calibration.
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
        case graph.Mix():
            return mixed(inputs[0], node.weight)
        case graph.Relu6():
            return ops.clamp(inputs[0], 0.0, 6.0)
        case graph.Sigmoid():
            return ops.sigmoid(inputs[0])
        case graph.Add():
            return ops.add(*inputs)
        case graph.Concat():
            return ops.concat(list(inputs), 1)
        case graph.Scale():
            y = ops.multiply(inputs[0], scalar(node.factor))
            return ops.add(y, scalar(node.offset)) if node.offset else y
    raise TypeError(f"unknown operation: {type(node).__name__}")


def scalar(value: float) -> Any:
    """Return a constant that broadcasts over all dimensions."""
    return ops.constant(np.full((1, 1, 1, 1, 1), value, np.float32))


def mixed(x: Any, weight: Array) -> Any:
    """Return weighted sums of time steps, as slices: OpenVINO's Gather would copy the tensor to another layout.

    Args:
        x: the tensor.
        weight: see ``graph.Mix``.
    """
    runs: list[list[int]] = []
    for row in weight:
        used = np.flatnonzero(row).tolist()
        copied = len(used) == 1 and row[used[0]] == 1
        if copied and runs and runs[-1] and runs[-1][-1] + 1 == used[0]:
            runs[-1].append(used[0])
        else:
            runs.append(used if copied else [])
    parts, at = list[Any](), 0
    for run in runs:
        parts.append(steps(x, run[0], run[-1] + 1) if run else blended(x, weight[at]))
        at += max(1, len(run))
    return parts[0] if len(parts) == 1 else ops.concat(parts, 2)


def steps(x: Any, start: int, stop: int) -> Any:
    """Return consecutive time steps."""
    bounds = [ops.constant(np.array([value])) for value in (start, stop, 1, 2)]
    return ops.slice(x, *bounds)


def blended(x: Any, row: Array) -> Any:
    """Return one weighted sum of time steps; the first step times 0 if all weights are 0."""
    used = np.flatnonzero(row).tolist() or [0]
    parts = [ops.multiply(steps(x, step, step + 1), scalar(float(row[step]))) for step in used]
    return functools.reduce(ops.add, parts)


def convolution(node: graph.Conv, x: Any, int8: bool) -> Any:
    """Return a convolution with bias, quantized to int8 on request."""
    weight = node.weight[:, np.newaxis] if node.depthwise else node.weight  # groups are an extra dimension
    if int8:
        x = ops.fake_quantize(x, scalar(0), scalar(6), scalar(0), scalar(6), 256)
    kernel = quantized(weight) if int8 else ops.constant(weight)
    convolve = ops.group_convolution if node.depthwise else ops.convolution
    y = convolve(x, kernel, list(node.stride), list(node.padding), list(node.end_padding), [1, 1, 1])
    return ops.add(y, ops.constant(node.bias.reshape(1, -1, 1, 1, 1)))


def quantized(weight: Array) -> Any:
    """Return a weight quantized to int8, with one scale per output channel."""
    largest = np.abs(weight).max(axis=tuple(range(1, weight.ndim)), keepdims=True)
    step = np.maximum(largest, np.float32(1e-12)) / np.float32(127)
    return ops.multiply(ops.convert(ops.constant(np.round(weight / step).astype(np.int8)), np.float32), step)


def quantize_linear(model: ov.Model) -> None:
    """Quantize the linear layers of a model to int8.

    The weights have one scale per output. OpenVINO quantizes the inputs while it runs, in groups of consecutive
    channels, so no ranges have to be known. Larger groups are faster; a group that does not divide the number of
    channels is not used.
    """
    layers = [(node, node.input_value(1).get_node()) for node in model.get_ops() if node.get_type_name() == "MatMul"]
    layers = [
        (node, weight)
        for node, weight in layers
        if weight.get_type_name() == "Constant" and node.get_attributes()["transpose_b"]
    ]
    for node, weight in layers:
        node.input(1).replace_source_output(quantized(weight.get_data()).output(0))
    channels = math.gcd(*(weight.get_output_shape(0)[1] for _, weight in layers))
    groups = [size for size in range(QUANTIZED_GROUP, MAX_QUANTIZED_GROUP + 1, QUANTIZED_GROUP) if channels % size == 0]
    size = max(groups, default=QUANTIZED_GROUP)
    model.set_rt_info(str(size), ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"])


def load_or_compile(
    make: Callable[[], ov.Model], precision: str, threads: int, cache_file: Path | None = None, hint: str = "LATENCY"
) -> tuple[ov.CompiledModel, str]:
    """Read a compiled model from the cache, or compile it; see :class:`OpenVino` for the arguments.

    OpenVINO's own cache (``CACHE_DIR``) is not used, because it memory-maps its files: truncating a file that is in
    use kills the process.

    ``hint`` is OpenVINO's: ``LATENCY`` runs one input on all threads, ``THROUGHPUT`` several inputs in parallel.

    Returns:
        The compiled model, and the digest of its cache file (empty if it is not cached).
    """
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "PERFORMANCE_HINT": hint,
        "INFERENCE_NUM_THREADS": threads,
        # Pinned threads would wait for cores that the video encoder uses.
        "ENABLE_CPU_PINNING": False,
    }
    if cached := read_graph(cache_file):
        content, digest = cached
        try:
            return core().import_model(content, "CPU", settings), digest
        except RuntimeError as error:
            log.debug("%s: %s", cache_file, error)
    model = core().compile_model(make(), "CPU", settings)
    if cache_file is None:
        return model, ""
    exported = io.BytesIO()
    model.export_model(exported)
    return model, write_graph(cache_file, exported.getvalue())


class OpenVino:
    """A whole network, compiled by OpenVINO.

    Args:
        make: builds the model, see :func:`to_openvino`; called only if no compiled model is cached.
        precision: ``float32``, ``bf16`` or ``int8``; for ``int8``, ``make`` must build a quantized model.
        threads: number of CPU threads; 0 for all cores.
        cache_file: cache file of the compiled model; None to compile without a cache.
    """

    name = "openvino"

    def __init__(
        self, make: Callable[[], ov.Model], precision: str, threads: int, cache_file: Path | None = None
    ) -> None:
        self.precision = precision
        model, self.graph = load_or_compile(make, precision, threads, cache_file)
        self._request = model.create_infer_request()

    def infer(self, clip: Array) -> Array:
        """Return the saliency ``(T, H, W)`` of a clip ``(3, 16, H, W)``."""
        return self.outputs(clip)[0]

    def outputs(self, clip: Array) -> list[Array]:
        """Return all outputs for a clip ``(3, 16, H, W)``, without their first dimension."""
        outputs = self._request.infer({0: clip[np.newaxis]}, share_inputs=True)
        return [outputs[number][0].copy() for number in range(len(outputs))]


class OpenVinoFrames:
    """A network, compiled by OpenVINO, that is run on many consecutive frames at once, several batches in parallel.

    Args:
        make: builds the model: frames ``(batch + clip_frames - 1, 3, H, W)`` to maps ``(batch, 1, H, W)``.
        precision, threads, cache_file: see :class:`OpenVino`.
        batch: number of maps that are computed in one pass.
    """

    name = "openvino"

    def __init__(
        self, make: Callable[[], ov.Model], precision: str, threads: int, batch: int, cache_file: Path | None = None
    ) -> None:
        self.precision = precision
        self.batch = batch
        self._model, self.graph = load_or_compile(make, precision, threads, cache_file, "THROUGHPUT")

    def stream(self, batches: Iterable[Array]) -> Iterator[Array]:
        """Yield the maps ``(batch, H, W)`` of each batch of frames, in order.

        Each call has its own inference requests: one more than run in parallel, so that the next input is ready when a
        request ends.
        """
        count = self._model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") + 1
        free = deque(self._model.create_infer_request() for _ in range(count))
        running: deque[ov.InferRequest] = deque()
        try:
            for frames in batches:
                request = free.popleft()
                request.get_input_tensor().data[:] = frames
                request.start_async()
                running.append(request)
                if not free:
                    yield finished(running[0])
                    free.append(running.popleft())
            for request in running:
                yield finished(request)
        finally:
            for request in running:  # the consumer may stop early
                request.wait()


def finished(request: ov.InferRequest) -> Array:
    """Wait for a request and return a copy of its maps ``(batch, H, W)``."""
    request.wait()
    maps: Array = request.get_output_tensor().data[:, 0].copy()
    return maps


class OpenVinoMiddle:
    """The operations at low resolution of a network, compiled by OpenVINO, for an engine that runs the rest.

    Args:
        make: builds the model, see :func:`middle_to_openvino`.
        precision, threads, cache_file: see :class:`OpenVino`.
    """

    def __init__(
        self, make: Callable[[], ov.Model], precision: str, threads: int, cache_file: Path | None = None
    ) -> None:
        model, self.graph = load_or_compile(make, precision, threads, cache_file)
        self._request = model.create_infer_request()
        self.outputs: list[Array] = []
        """The output arrays ``(T, H, W, C)``, overwritten by each call of :meth:`infer`."""
        for index, output in enumerate(model.outputs):
            values = aligned(*output.shape)
            self._request.set_output_tensor(index, ov.Tensor(values, shared_memory=True))
            self.outputs.append(values[0])

    def infer(self, clip: Array) -> None:
        """Compute the outputs for an input ``(C, T, H, W)``."""
        self._request.infer({0: clip[np.newaxis]}, share_inputs=True, share_outputs=True)
