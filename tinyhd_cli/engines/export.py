"""Networks as files for other programs."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from ..atomic_files import cannot_write, make_parent, publish, remove, temporary_path
from ..errors import OutputError, UsageError, WeightsError, did_you_mean
from ..inference.model import Model
from ..models.families.tinyhd import TinyHD
from ..models.spec import CLIP_FRAMES
from .graph import Node
from .lower_tinyhd import rewritten
from .selection import LIMITS, Engine, differs, self_test_clip
from .torch import TorchEngine

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
"""Formats, and how their files' names end."""


def export(model: Model, format: str, path: Path) -> list[Path]:
    """Write a network as a file for other programs, after it was found to give PyTorch's answers.

    Its input ``clip`` is float32 ``(1, 3, 16, H, W)``: RGB in 0..1, minus ``mean``, through ``std``, which are in
    its metadata; its output ``saliency`` is ``(1, T, H, W)``.

    Args:
        model: on the CPU.
        format: ``onnx`` or ``openvino``; the latter is two files, ``.xml`` and ``.bin``.
        path: the file; its suffix must be the format's.

    Returns:
        The files.

    Raises:
        UsageError: format or suffix are wrong, or a package is missing.
        WeightsError: the network is none that can be exported.
        OutputError: the file cannot be written, or does not give the right answers; nothing is left of it.
    """
    if format not in SUFFIXES:
        raise UsageError(f"--format {format!r} is unknown: {did_you_mean(format, SUFFIXES)}")
    if path.suffix.lower() != SUFFIXES[format]:
        raise UsageError(f"--out {path}: the file's name must end in {SUFFIXES[format]}")
    if not isinstance(model.network, TinyHD):
        raise WeightsError(f"{model.name}: holds {model.config.name}; TinyHD networks alone can be exported")
    need(*(("onnx", "onnxruntime") if format == "onnx" else ("openvino",)))
    shape = (3, CLIP_FRAMES, *model.input_size)
    make_parent(path)
    temporary = temporary_path(path)
    write: Callable[[Node, Path, dict[str, str]], Engine] = write_onnx if format == "onnx" else write_openvino
    pairs = [(temporary, path)]
    if format == "openvino":
        pairs.insert(0, (temporary.with_suffix(".bin"), path.with_suffix(".bin")))
    try:
        engine = write(rewritten(model.network, shape), temporary, about(model))
        reference = TorchEngine(model.network, model.device, "float32")
        wrong = differs(engine, reference, self_test_clip(shape), LIMITS["float32"])
        if wrong:
            raise OutputError(f"{path}: not written: its {wrong}")
        for source, target in pairs:
            publish(source, target)
    except (OSError, RuntimeError) as error:  # OpenVINO does not tell a full disk from others
        raise cannot_write(path, error if isinstance(error, OSError) else OSError(str(error))) from error
    finally:
        for source, _ in pairs:
            remove(source)
    return [target for _, target in reversed(pairs)]


def need(*packages: str) -> None:
    """``UsageError`` if a package is not installed."""
    for package in packages:
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError:
            raise UsageError(f"--format: {package} is not installed: pip install {package}") from None


def about(model: Model) -> dict[str, str]:
    """What the file says of itself."""
    mean, std = (" ".join(f"{value:g}" for value in values.ravel().tolist()) for values in (model.mean, model.std))
    return {"model": model.config.name, "weights": model.name, "sha256": model.sha256, "mean": mean, "std": std}


def write_onnx(result: Node, path: Path, about: dict[str, str]) -> Engine:
    """Write an ONNX file, and read it back."""
    from .onnx import OnnxRuntime, to_onnx

    path.write_bytes(to_onnx(result, about).SerializeToString())
    return OnnxRuntime(path.read_bytes(), threads=0)


def write_openvino(result: Node, path: Path, about: dict[str, str]) -> Engine:
    """Write OpenVINO's two files, and read them back."""
    import openvino

    from .openvino import OpenVino, core, to_openvino

    graph: Any = to_openvino(result)
    for name, value in about.items():
        graph.set_rt_info(value, ["tinyhd", name])
    # Weights in 16 bits, its default, would not give the same answers.
    openvino.save_model(graph, path, compress_to_fp16=False)
    return OpenVino(lambda: core().read_model(path), "float32", threads=0)
