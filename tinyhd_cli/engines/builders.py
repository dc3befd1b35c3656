"""Build each engine for a network: from its hand-written lowering if there is one, else from a generic export."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from ..models import Family, ModelSpec
from ..models.registry import family
from ..system import engine_threads
from . import engine_cache
from .base import Engine, EngineUnavailable, FramesEngine, StillEngine
from .fused import Fused
from .graph import Node
from .kernels import available_isas
from .loaded import LoadedNetwork, clip_shape
from .partition import UnsupportedGraph
from .self_test import NO_KERNELS
from .still import StillPool, still

if TYPE_CHECKING:
    from torch import nn

    from .openvino import OpenVino

GPU_BATCH, MIN_BATCH, MAX_BATCH = 64, 4, 32
"""Number of maps that an engine computes in one pass on many frames: on GPUs; and its limits on CPUs."""

CHANNEL_BYTES = 1 << 16
"""Maximum size of one channel of a batch at full resolution, on CPUs. With larger batches, the activations of a layer
are evicted from the cache before the next layer reads them: UVA-Net takes up to 20 % more time."""


def check_precision(precision: str, spec: ModelSpec, can_quantize: bool) -> None:
    """Raise ``EngineUnavailable`` if the CPU or the network does not support a precision.

    Args:
        precision: requested precision.
        spec: the network.
        can_quantize: whether the network can be run in int8.
    """
    from .openvino import has_bf16

    if precision == "bf16" and not has_bf16():
        raise EngineUnavailable("this CPU does not support bf16")
    if precision == "int8" and not can_quantize:
        raise EngineUnavailable(f"int8 is not available for {spec.name}")


def cache_file(digest: str, part: str, precision: str, threads: int) -> Path | None:
    """Return the cache file of a compiled graph."""
    return engine_cache.graph_file(digest, part, precision, threads, metadata.version("openvino"))


def build_openvino(network: LoadedNetwork, precision: str) -> Engine:
    """Return OpenVINO with a network."""
    threads = engine_threads()
    if network.graph is not None:
        check_precision(precision, network.spec, can_quantize=True)
        return openvino_graph(network.graph, precision, threads)
    from . import generic
    from .openvino import OpenVino

    module, spec = network.module, network.spec
    check_precision(precision, spec, generic.has_linear_layers(module))
    make = functools.partial(generic.to_openvino, module, clip_shape(spec), int8=precision == "int8")
    return OpenVino(make, precision, threads, cache_file(generic.digest_of(module, spec), "whole", precision, threads))


def openvino_graph(node: Node, precision: str, threads: int, more: Sequence[Node] = ()) -> OpenVino:
    """Return OpenVINO with a graph; ``more`` are nodes that are also outputs."""
    from .openvino import OpenVino, to_openvino

    make = functools.partial(to_openvino, node, more, int8=precision == "int8")
    cached = cache_file(engine_cache.digest_of([node, *more]), "whole", precision, threads)
    return OpenVino(make, precision, threads, cached)


def build_fused(network: LoadedNetwork, precision: str) -> Engine:
    """Return an engine that runs OpenVINO for the layers at low resolution, and tinyhd's kernels for the others."""
    if not available_isas():
        raise EngineUnavailable(NO_KERNELS)
    if network.graph is None:
        raise EngineUnavailable(f"its kernels do not support {network.spec.name}")
    check_precision(precision, network.spec, can_quantize=True)
    return fused_graph(network.graph, precision, engine_threads())


def fused_graph(node: Node, precision: str, threads: int) -> Fused:
    """Return an engine that runs OpenVINO for the layers at low resolution, tinyhd's kernels for the others."""
    from .openvino import OpenVinoMiddle, middle_to_openvino

    def middle(outputs: list[Node]) -> OpenVinoMiddle:
        make = functools.partial(middle_to_openvino, outputs, int8=precision == "int8")
        cached = cache_file(engine_cache.digest_of(outputs), "part", precision, threads)
        return OpenVinoMiddle(make, precision, threads, cached)

    try:
        return Fused(node, middle, precision, threads)
    except UnsupportedGraph as error:
        raise EngineUnavailable(str(error)) from None


GRAPH_BUILDERS: dict[str, Callable[[Node, str, int], Engine]] = {"fused": fused_graph, "openvino": openvino_graph}
"""Engines that can run any graph on a number of threads."""


def build_still(result: Node, name: str, precision: str) -> StillEngine:
    """Return an engine for still clips that runs as many of them at a time as an engine has threads.

    Args:
        result: the graph of the network.
        name: of the engine, one of ``GRAPH_BUILDERS``.
        precision: of the engine.
    """
    graph = still(result)
    return StillPool([GRAPH_BUILDERS[name](graph, precision, 1) for _ in range(engine_threads())])


def build_onnx(network: LoadedNetwork, precision: str) -> Engine:
    """Return ONNX Runtime with a network."""
    from .onnx import OnnxRuntime, to_onnx

    if network.graph is not None:
        model = to_onnx(network.graph)
    elif importlib.util.find_spec("onnxscript") is None:
        raise EngineUnavailable("onnxscript is not installed (pip install onnxscript)")
    else:
        from . import generic

        model = generic.to_onnx(network.module, clip_shape(network.spec))
    return OnnxRuntime(model.SerializeToString(), engine_threads())


BUILDERS: dict[str, Callable[[LoadedNetwork, str], Engine]] = {
    "fused": build_fused,
    "openvino": build_openvino,
    "onnx": build_onnx,
}


def has_frames_form(spec: ModelSpec) -> bool:
    """Return whether the networks of a spec's family may have a form that takes many consecutive frames."""
    return spec.windowing == "sliding" and type(family(spec)).over_frames is not Family.over_frames


def over_frames(network: nn.Module, spec: ModelSpec) -> nn.Module | None:
    """Return the form of a network that takes many consecutive frames (``Family.over_frames``); None without one."""
    found = family(spec).over_frames(network) if has_frames_form(spec) else None
    return None if found is None else found.eval()


def frames_batch(spec: ModelSpec, device: str, precision: str) -> int:
    """Return the number of maps that an engine computes in one pass on many frames."""
    if device != "cpu":
        return GPU_BATCH
    height, width = spec.input_size
    fitting = CHANNEL_BYTES // (height * width * (2 if precision == "bf16" else 4))
    return min(max(fitting, MIN_BATCH), MAX_BATCH)


def build_torch_frames(network: nn.Module, spec: ModelSpec, device: str, precision: str) -> FramesEngine:
    """Return an engine that runs a network from :func:`over_frames` in PyTorch."""
    from .torch import TorchFrames

    return TorchFrames(network, device, precision, frames_batch(spec, device, precision))


def build_openvino_frames(network: nn.Module, spec: ModelSpec, device: str, precision: str) -> FramesEngine:
    """Return an engine that runs a network from :func:`over_frames` in OpenVINO, on the CPU."""
    from . import generic
    from .openvino import OpenVinoFrames

    check_precision(precision, spec, can_quantize=False)
    batch = frames_batch(spec, device, precision)
    frames = batch + spec.clip_frames - 1
    make = functools.partial(generic.to_openvino, network, (3, *spec.input_size), frames)
    threads = engine_threads()
    cached = cache_file(generic.digest_of(network, spec), f"{frames} frames", precision, threads)
    return OpenVinoFrames(make, precision, threads, batch, cached)


FRAMES_BUILDERS: dict[str, Callable[[nn.Module, ModelSpec, str, str], FramesEngine]] = {
    "torch": build_torch_frames,
    "openvino": build_openvino_frames,
}
"""Engines that can run a network on many frames at once; the others run it clip by clip."""
