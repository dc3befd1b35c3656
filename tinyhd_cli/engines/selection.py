"""Select the fastest engine that works on this machine and agrees with PyTorch."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from ..errors import UsageError, did_you_mean, one_line
from . import engine_cache
from .base import ENGINES, PACKAGES, PRECISIONS, Engine, EngineUnavailable, FramesEngine, HierarchyEngine, StillEngine
from .builders import BUILDERS, FRAMES_BUILDERS, GRAPH_BUILDERS, build_still, has_frames_form, over_frames
from .kernels import available_isas, fingerprint
from .loaded import LOWERINGS, LoadedNetwork
from .self_test import LIMITS, frames_mismatch, mismatch, still_mismatch

log = logging.getLogger("tinyhd")

AnyEngine = TypeVar("AnyEngine", Engine, FramesEngine, StillEngine, HierarchyEngine)


@dataclass(frozen=True)
class EngineOptions:
    """Engine and precision to use."""

    engine: str = "auto"
    """``torch``, ``fused``, ``openvino``, ``onnx``; ``auto``: the fastest that works and passes the self-test."""
    precision: str = "auto"
    """``float32``, ``bf16``, ``int8``; ``auto``: bf16 if the maps are only displayed and the CPU supports it."""

    def __post_init__(self) -> None:
        for flag, value, known in (("engine", self.engine, ENGINES), ("precision", self.precision, PRECISIONS)):
            if value not in ("auto", *known):
                raise UsageError(f"--{flag} {value!r} is unknown: {did_you_mean(value, ('auto', *known))}")
        if self.engine == "onnx" and self.precision in ("bf16", "int8"):
            raise UsageError(f"--precision {self.precision}: ONNX Runtime supports only float32; try --engine openvino")

    def attempts(self, exact: bool, lowered: bool) -> list[tuple[str, str]]:
        """Return pairs of engine and precision in the order in which they are tried, before PyTorch.

        Args:
            exact: whether the values of the maps matter.
            lowered: whether the network has a hand-written lowering. Without one, ``auto`` tries only OpenVINO: the
                kernels do not support the network, and converting it to ONNX takes longer than most predictions.
        """
        if self.engine != "auto":
            engines = [self.engine]
        elif lowered:
            engines = [engine for engine in ENGINES if engine != "fused" or available_isas()]
        else:
            engines = ["openvino"]
        if self.precision == "auto":
            precisions = ["float32"] if exact else ["bf16", "float32"]
        else:
            precisions = list(dict.fromkeys([self.precision, "float32"]))
        pairs = [(engine, precision) for precision in precisions for engine in engines if engine != "torch"]
        return [pair for pair in pairs if pair[0] != "onnx" or pair[1] == "float32"]


def choose(network: LoadedNetwork, options: EngineOptions, *, exact: bool) -> Engine:
    """Return the engine for a network; PyTorch if no other can be used, with the reasons in one line of the log.

    Args:
        network: the network; on GPUs, PyTorch is used.
        options: the engine and precision to use.
        exact: whether the values of the maps matter, not only their appearance.
    """
    bf16 = options.precision == "bf16" or (options.precision == "auto" and not exact)
    if network.device != "cpu" or options.engine == "torch":
        if not network.device.startswith("cuda") and options.precision in ("bf16", "int8"):
            raise UsageError(
                f"--precision {options.precision}: PyTorch supports only float32 on this device; try --engine openvino"
            )
        from .torch import device_precision

        return network.in_torch(device_precision(bf16, network.device))
    attempts = options.attempts(exact, network.spec.family in LOWERINGS)
    return (
        first_usable(attempts, options, lambda name, precision: usable(name, precision, network)) or network.in_torch()
    )


def first_usable(
    attempts: Sequence[tuple[str, str]], options: EngineOptions, make: Callable[[str, str], AnyEngine]
) -> AnyEngine | None:
    """Return the first engine that can be used, None if PyTorch must be; the log gets the reasons in one line.

    Args:
        attempts: pairs of engine and precision.
        options: the engine and precision that were requested.
        make: builds an engine; it may raise any error.
    """
    reasons: dict[str, list[str]] = {}
    for name, precision in attempts:
        try:
            engine = make(name, precision)
        except EngineUnavailable as error:
            # A CPU without bf16 is reported only if bf16 was requested.
            if precision != "bf16" or options.precision == "bf16":
                reasons.setdefault(str(error), []).append(name)
            continue
        except Exception as error:  # an engine may raise anything; the next one is tried
            log.debug("engine %s", name, exc_info=True)
            reasons.setdefault(why(error), []).append(name)
            continue
        if reasons:
            log.warning("%s; using %s in %s", listed(reasons), engine.name, engine.precision)
        return engine
    log.warning("%s; using PyTorch, which is several times slower", listed(reasons))
    return None


def listed(reasons: Mapping[str, list[str]]) -> str:
    """Return the reasons why engines are not used, in one line."""
    return "; ".join(f"{', '.join(dict.fromkeys(names))}: {reason}" for reason, names in reasons.items())


def usable(name: str, precision: str, network: LoadedNetwork) -> Engine:
    """Return an engine whose maps agree with PyTorch's.

    Raises:
        EngineUnavailable: it is not installed, does not support the network, or its maps differ.
    """
    verdicts = verdict_file(name, precision, network)
    return tested(
        lambda: BUILDERS[name](network, precision),
        lambda made: mismatch(made, network.expected, network.spec, LIMITS[precision]),
        verdicts,
    )


def verdict_file(name: str, precision: str, network: LoadedNetwork, *facts: object) -> Path | None:
    """Return the cache file of a self-test's result; ``EngineUnavailable`` if the engine's package is not installed."""
    package = PACKAGES[name]
    version = installed(package)
    if not version:
        raise EngineUnavailable(f"not installed (pip install {package})")
    if name == "fused":
        version += fingerprint()
    key = name, precision, version, installed("torch"), network.sha256, network.spec.input_size
    return engine_cache.verdict_file(*key, *facts)


def installed(package: str) -> str:
    """Return the installed version of a package; empty if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def tested(make: Callable[[], AnyEngine], differs: Callable[[AnyEngine], str], verdicts: Path | None) -> AnyEngine:
    """Return a new engine, or raise ``EngineUnavailable`` if its self-test fails.

    Args:
        make: builds the engine.
        differs: runs the self-test; returns how the maps differ, an empty text if they agree.
        verdicts: cache file of the result, if any.
    """
    first = verdicts is not None and not verdicts.is_file()
    with engine_cache.compilation_lock() if first else contextlib.nullcontext():
        engine = make()
        verdict = engine_cache.read_verdict(verdicts, engine.graph)
        if verdict is None:
            verdict = differs(engine)
            engine_cache.write_verdict(verdicts, engine.graph, verdict)
    if verdict:
        raise EngineUnavailable(verdict)
    return engine


def frames_engine(network: LoadedNetwork, engine: Engine) -> FramesEngine | None:
    """Return the engine that runs a network on many consecutive frames at once; None if clips are run one by one.

    Args:
        network: the network.
        engine: the engine for single clips; the one for many frames has the same name and precision.
    """
    name, precision, spec = engine.name, engine.precision, network.spec
    if name not in FRAMES_BUILDERS or not has_frames_form(spec):
        return None
    try:
        form = over_frames(network.module, spec)
        if form is None:
            return None
        return tested(
            lambda: FRAMES_BUILDERS[name](form, spec, network.device, precision),
            lambda made: frames_mismatch(made, network.in_torch(), spec, LIMITS[precision]),
            None if name == "torch" else verdict_file(name, precision, network, "frames"),
        )
    except Exception as error:  # an engine may raise anything; clips are then run one by one
        log.debug("engine for many frames", exc_info=True)
        log.warning("%s: not run on many frames at once: %s; clips are run one by one, slower", spec.name, why(error))
        return None


def still_engine(network: LoadedNetwork, engine: Engine) -> StillEngine | None:
    """Return the engine that runs a network on still clips, several at a time; None if whole clips must be run.

    Args:
        network: the network.
        engine: the engine for clips; the one for still clips has the same name and precision.
    """
    name, precision, spec = engine.name, engine.precision, network.spec
    if name not in GRAPH_BUILDERS or (graph := network.graph) is None:
        return None
    try:
        return tested(
            lambda: build_still(graph, name, precision),
            lambda made: still_mismatch(made, engine, spec, LIMITS[precision]),
            verdict_file(name, precision, network, "still"),
        )
    except Exception as error:  # an engine may raise anything; whole clips are then run
        log.debug("engine for still clips", exc_info=True)
        log.warning("%s: photographs are run as clips, slower: %s", spec.name, why(error))
        return None


def why(error: Exception) -> str:
    """Return the reason why an engine cannot be used, in one line."""
    return str(error) if isinstance(error, EngineUnavailable) else f"{type(error).__name__}: {one_line(error)}"
