"""Which program runs a network: the fastest that is here and gives the right answers."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..errors import UsageError, did_you_mean, one_line
from ..models.families.tinyhd import TinyHD
from ..models.spec import CLIP_FRAMES
from . import engine_cache
from .fused import Fused, UnsupportedGraph
from .graph import Array, Input, Node, Shape, convolve, relu6
from .kernels import available_isas, fingerprint, load
from .torch import TorchEngine, device_precision

log = logging.getLogger("tinyhd")

ENGINES = ("fused", "openvino", "onnx", "torch")
"""From the fastest to the slowest, on processors of the x86 family."""

PRECISIONS = ("float32", "bf16", "int8")

PACKAGES = {"fused": "openvino", "openvino": "openvino", "onnx": "onnxruntime"}
"""What has to be installed for an engine."""

NO_KERNELS = (
    "no kernels for this machine: they need Linux, an x86 processor with AVX2, and a C compiler at installation"
)


@dataclass(frozen=True)
class Tolerance:
    """How far an engine's maps may be from PyTorch's, both scaled to 0..1."""

    difference: float
    """Of any pixel, at most."""
    correlation: float
    """Of each map, at least."""


LIMITS = {
    # Trained networks differ by 2e-6; those without training multiply rounding errors.
    "float32": Tolerance(1e-3, 0.99999),
    # On the noise of the self_test; on videos half of it.
    "bf16": Tolerance(0.06, 0.999),
    "int8": Tolerance(1.0, 0.995),
}


class Engine(Protocol):
    """Something that runs a network."""

    name: str
    precision: str
    graph: str
    """Digest of the compiled graph in the cache; empty if it is not cached."""

    def infer(self, clip: Array) -> Array:
        """Saliency ``(T, H, W)`` of a clip ``(3, 16, H, W)``, float32 both."""
        ...


class EngineUnavailable(Exception):
    """An engine cannot be used here; says why."""


@dataclass(frozen=True)
class EngineOptions:
    """What runs the network, and how exactly."""

    engine: str = "auto"
    """``torch``, ``fused``, ``openvino``, ``onnx``; ``auto``: the fastest that is installed and agrees with PyTorch."""
    precision: str = "auto"
    """``float32``, ``bf16``, ``int8``; ``auto``: bf16 for what is only looked at, if there is any."""

    def __post_init__(self) -> None:
        for flag, value, known in (("engine", self.engine, ENGINES), ("precision", self.precision, PRECISIONS)):
            if value not in ("auto", *known):
                raise UsageError(f"--{flag} {value!r} is unknown: {did_you_mean(value, ('auto', *known))}")
        if self.engine == "onnx" and self.precision in ("bf16", "int8"):
            raise UsageError(
                f"--precision {self.precision}: ONNX Runtime is used in float32 alone; try --engine openvino"
            )

    def attempts(self, exact: bool) -> list[tuple[str, str]]:
        """Engines and precisions in the order in which they are tried, before PyTorch."""
        here = ENGINES if available_isas() else [engine for engine in ENGINES if engine != "fused"]
        engines = here if self.engine == "auto" else [self.engine]
        if self.precision == "auto":
            precisions = ["float32"] if exact else ["bf16", "float32"]
        else:
            precisions = list(dict.fromkeys([self.precision, "float32"]))
        pairs = [(engine, precision) for precision in precisions for engine in engines if engine != "torch"]
        return [pair for pair in pairs if pair[0] != "onnx" or pair[1] == "float32"]


def choose(
    network: nn.Module, size: tuple[int, int], device: torch.device, sha256: str, options: EngineOptions, *, exact: bool
) -> Engine:
    """The engine for a network; PyTorch where no other can be used, and then one line of the log says why.

    Args:
        network: in evaluation mode, folded, on its device.
        size: height and width of its input.
        device: graphics cards are PyTorch's.
        sha256: of the weights, under which verdicts are kept.
        options: what is wished for.
        exact: whether the answers are used as numbers, rather than looked at.
    """
    bf16 = options.precision == "bf16" or (options.precision == "auto" and not exact)
    if device.type != "cpu" or options.engine == "torch":
        if device.type != "cuda" and options.precision in ("bf16", "int8"):
            raise UsageError(f"--precision {options.precision}: PyTorch is used in float32 here; try --engine openvino")
        return TorchEngine(network, device, device_precision(bf16, device))
    reference = TorchEngine(network, device, "float32")
    reasons: dict[str, list[str]] = {}
    for name, precision in options.attempts(exact):
        try:
            engine = usable(name, precision, network, size, reference, sha256)
        except EngineUnavailable as error:
            # That a processor has no bf16 is worth a line only if somebody asked for it.
            if precision != "bf16" or options.precision == "bf16":
                reasons.setdefault(str(error), []).append(name)
            continue
        except Exception as error:  # whatever is wrong with an engine, there is another one
            log.debug("engine %s", name, exc_info=True)
            reasons.setdefault(f"{type(error).__name__}: {one_line(error)}", []).append(name)
            continue
        if reasons:
            log.warning("%s; using %s in %s", listed(reasons), engine.name, engine.precision)
        return engine
    if isinstance(network, TinyHD) or options.engine != "auto":
        log.warning("%s; using PyTorch, which is several times slower", listed(reasons))
    return reference


def listed(reasons: Mapping[str, list[str]]) -> str:
    """Why engines are not used, in a line."""
    return "; ".join(f"{', '.join(dict.fromkeys(names))}: {reason}" for reason, names in reasons.items())


def usable(
    name: str, precision: str, network: nn.Module, size: tuple[int, int], reference: Engine, sha256: str
) -> Engine:
    """An engine that agrees with the reference.

    Raises:
        EngineUnavailable: it is not installed, cannot do it, or gives other answers.
    """
    if not isinstance(network, TinyHD):
        raise EngineUnavailable("runs TinyHD networks alone")
    package = PACKAGES[name]
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        raise EngineUnavailable(f"not installed (pip install {package})") from None
    if name == "fused":
        version += fingerprint()
    shape = (3, CLIP_FRAMES, *size)
    verdicts = engine_cache.verdict_file(name, precision, version, torch.__version__, sha256, size)
    first = verdicts is not None and not verdicts.is_file()
    with engine_cache.compilation_lock() if first else contextlib.nullcontext():
        engine = BUILDERS[name](network, shape, precision)
        verdict = engine_cache.read_verdict(verdicts, engine.graph)
        if verdict is None:
            verdict = differs(engine, reference, self_test_clip(shape), LIMITS[precision])
            engine_cache.write_verdict(verdicts, engine.graph, verdict)
    if verdict:
        raise EngineUnavailable(verdict)
    return engine


def build_openvino(network: TinyHD, shape: Shape, precision: str) -> Engine:
    """OpenVINO with a network."""
    from .lower_tinyhd import rewritten
    from .openvino import OpenVino, has_bf16, to_openvino

    if precision == "bf16" and not has_bf16():
        raise EngineUnavailable("this processor has no bf16")
    result, threads = rewritten(network, shape), torch.get_num_threads()
    make = functools.partial(to_openvino, result, int8=precision == "int8")
    keep = engine_cache.graph_file([result], "whole", precision, threads, metadata.version("openvino"))
    return OpenVino(make, precision, threads, keep)


def build_fused(network: TinyHD, shape: Shape, precision: str) -> Engine:
    """OpenVINO up to half the resolution, our own kernels from there."""
    from .lower_tinyhd import rewritten
    from .openvino import OpenVinoPrefix, has_bf16, prefix_to_openvino

    if not available_isas():
        raise EngineUnavailable(NO_KERNELS)
    if precision == "bf16" and not has_bf16():
        raise EngineUnavailable("this processor has no bf16")
    threads = torch.get_num_threads()

    def make_prefix(outputs: list[Node]) -> OpenVinoPrefix:
        make = functools.partial(prefix_to_openvino, outputs, int8=precision == "int8")
        keep = engine_cache.graph_file(outputs, "part", precision, threads, metadata.version("openvino"))
        return OpenVinoPrefix(make, precision, threads, keep)

    try:
        return Fused(rewritten(network, shape), make_prefix, precision, threads)
    except UnsupportedGraph as error:
        raise EngineUnavailable(str(error)) from None


def build_onnx(network: TinyHD, shape: Shape, precision: str) -> Engine:
    """ONNX Runtime with a network."""
    from .lower_tinyhd import rewritten
    from .onnx import OnnxRuntime, to_onnx

    return OnnxRuntime(to_onnx(rewritten(network, shape)).SerializeToString(), torch.get_num_threads())


BUILDERS: dict[str, Callable[[TinyHD, Shape, str], Engine]] = {
    "fused": build_fused,
    "openvino": build_openvino,
    "onnx": build_onnx,
}


def self_test(name: str) -> str:
    """Whether an engine works at all: it raises what it raises. Returns what is to be said of it."""
    if name == "fused":
        if not available_isas():
            raise EngineUnavailable(NO_KERNELS)
        load(available_isas()[0])
        return f", kernels for {available_isas()[0]}"
    clip = np.ones((3, 1, 2, 2), np.float32)
    result = relu6(convolve(Input((3, 1, 2, 2)), np.ones((1, 3, 1, 1, 1), np.float32), np.zeros(1, np.float32)))
    note = ""
    engine: Engine
    if name == "openvino":
        from .openvino import OpenVino, has_bf16, to_openvino

        engine = OpenVino(functools.partial(to_openvino, result), "float32", 1)
        note = ", with bf16" if has_bf16() else ", without bf16"
    else:
        from .onnx import OnnxRuntime, to_onnx

        engine = OnnxRuntime(to_onnx(result).SerializeToString(), 1)
    if not np.allclose(engine.infer(clip), 3):
        raise EngineUnavailable("3 times 1 is not 3 there")
    return note


def differs(engine: Engine, reference: Engine, clip: Array, limits: Tolerance) -> str:
    """What is wrong with an engine's answer to a clip; empty if nothing is."""
    ours, theirs = engine.infer(clip), reference.infer(clip)
    difference, correlation = compare(ours, theirs)
    if difference <= limits.difference and correlation >= limits.correlation:
        return ""
    return f"answers differ from PyTorch's here by up to {difference:.1g} of their range (CC {correlation:.5f})"


def self_test_clip(shape: Shape) -> Array:
    """A clip ``(3, 16, H, W)`` that makes a network work: smooth noise that changes."""
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.normal(0, 1.2, (1, 3, 5, 12, 16)).astype(np.float32))
    clip: Array = F.interpolate(noise, shape[1:], mode="trilinear", align_corners=False)[0].numpy()
    return clip


def compare(ours: Array, theirs: Array) -> tuple[float, float]:
    """The largest difference of two sets of maps ``(T, H, W)``, each scaled to 0..1, and the lowest CC of a map.

    A map of one value everywhere has no CC and counts as 1 where both are that.
    """
    if ours.shape != theirs.shape or not np.isfinite(ours).all():
        return 1.0, 0.0
    scaled = [(maps - maps.min()) / max(float(np.ptp(maps)), 1e-12) for maps in (ours, theirs)]
    difference = float(np.abs(scaled[0] - scaled[1]).max())
    pairs = [(one.ravel(), other.ravel()) for one, other in zip(ours, theirs, strict=True)]
    found = [float(np.corrcoef(pair)[0, 1]) for pair in pairs if pair[0].std() > 1e-9 and pair[1].std() > 1e-9]
    return difference, min(found, default=1.0)
