"""Write networks as files for other programs."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..atomic_files import cannot_write, make_parent, publish, remove, temporary_path
from ..errors import OutputError, UsageError, did_you_mean
from ..models import ModelSpec
from . import generic
from .base import Engine, EngineUnavailable
from .loaded import LoadedNetwork, clip_shape, lower
from .self_test import LIMITS, mismatch

if TYPE_CHECKING:
    from torch import nn

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
"""Formats, and the suffixes of their files."""

SPEC_KEY = "spec"
"""Metadata key of the network's spec as JSON; :func:`tinyhd_cli.models.from_dict` reads it."""


class Exportable(Protocol):
    """A network to export, such as :class:`tinyhd_cli.inference.model.Model`."""

    @property
    def name(self) -> str:
        """Name of the weights."""

    @property
    def spec(self) -> ModelSpec:
        """The network."""

    @property
    def network(self) -> nn.Module:
        """The network, on the CPU, in evaluation mode, with BatchNorm folded."""

    @property
    def sha256(self) -> str:
        """Digest of the weights file."""


def metadata_of(model: Exportable) -> dict[str, str]:
    """Return the metadata of an exported file."""
    steps = model.spec.preprocess
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (steps.mean, steps.std))
    return {
        "model": model.spec.name,
        "weights": model.name,
        "sha256": model.sha256,
        "mean": mean,
        "std": std,
        SPEC_KEY: json.dumps(model.spec.to_dict(), sort_keys=True),
    }


def export(model: Exportable, format: str, path: Path) -> list[Path]:
    """Write a network as a file for other programs, after comparing its maps with PyTorch's.

    The input ``clip`` is float32 ``(1, 3, T, H, W)``: RGB in 0..1, minus ``mean``, divided by ``std``. Both are in the
    metadata, together with the spec, which describes all of the preprocessing. The output ``saliency`` is
    ``(1, maps, H, W)``.

    Args:
        model: the network.
        format: ``onnx`` or ``openvino``; the latter is two files, ``.xml`` and ``.bin``.
        path: the file; its suffix must be the format's.

    Returns:
        The files.

    Raises:
        UsageError: the format or suffix is wrong, or a package is missing.
        OutputError: the network cannot be converted, the file cannot be written, or its maps are wrong. No file is
            left.
    """
    check(format, path)
    make_parent(path)
    temporary = temporary_path(path)
    pairs = [(temporary, path)]
    if format == "openvino":
        pairs.insert(0, (temporary.with_suffix(".bin"), path.with_suffix(".bin")))
    try:
        engine = (write_onnx if format == "onnx" else write_openvino)(model, temporary)
        reference = LoadedNetwork(model.spec, lambda: model.network)
        wrong = mismatch(engine, reference.expected, model.spec, LIMITS["float32"])
        if wrong:
            raise OutputError(f"{path}: not written: its {wrong}")
        for written, target in pairs:
            publish(written, target)
    except EngineUnavailable as error:
        raise OutputError(f"{path}: not written: {error}") from error
    except (OSError, RuntimeError) as error:  # OpenVINO raises RuntimeError for a full disk, too
        raise cannot_write(path, error if isinstance(error, OSError) else OSError(str(error))) from error
    finally:
        for written, _ in pairs:
            remove(written)
    return [target for _, target in reversed(pairs)]


def check(format: str, path: Path) -> None:
    """Raise ``UsageError`` if the format is unknown, the suffix does not fit it, or a package is not installed."""
    if format not in SUFFIXES:
        raise UsageError(f"--format {format!r} is unknown: {did_you_mean(format, SUFFIXES)}")
    if path.suffix.lower() != SUFFIXES[format]:
        other = next((name for name, suffix in SUFFIXES.items() if suffix == path.suffix.lower()), None)
        advice = f", or add --format {other}" if other else ""
        raise UsageError(f"--out {path}: the file's name must end in {SUFFIXES[format]}{advice}")
    for package in ("onnx", "onnxruntime") if format == "onnx" else ("openvino",):
        require(package)


def require(package: str) -> None:
    """Raise ``UsageError`` if a package is not installed."""
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        raise UsageError(f"--format: {package} is not installed: pip install {package}") from None


def write_onnx(model: Exportable, path: Path) -> Engine:
    """Write an ONNX file, and load it again."""
    from .onnx import OnnxRuntime, to_onnx

    node = lower(model.network, model.spec)
    if node is None:
        require("onnxscript")
        proto = generic.to_onnx(model.network, clip_shape(model.spec), metadata_of(model))
    else:
        proto = to_onnx(node, metadata_of(model))
    path.write_bytes(proto.SerializeToString())
    return OnnxRuntime(path.read_bytes(), threads=0)


def write_openvino(model: Exportable, path: Path) -> Engine:
    """Write OpenVINO's two files, and load them again."""
    import openvino

    from .openvino import OpenVino, core, to_openvino

    node = lower(model.network, model.spec)
    graph: Any = generic.to_openvino(model.network, clip_shape(model.spec)) if node is None else to_openvino(node)
    for name, value in metadata_of(model).items():
        graph.set_rt_info(value, ["tinyhd", name])
    # By default, OpenVINO would compress the weights to 16 bits, which changes the maps.
    openvino.save_model(graph, path, compress_to_fp16=False)
    return OpenVino(lambda: core().read_model(path), "float32", threads=0)
