"""``tinyhd export``: a network as a file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import OK
from .options import ModelName, Quiet, WeightsFile
from .predict import load
from .terminal import loading, say


def export(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The file: .onnx, or .xml for OpenVINO.")],
    format: Annotated[str, typer.Option("--format", metavar="onnx|openvino", help="The kind of file.")] = "onnx",
    model: ModelName = None,
    weights: WeightsFile = None,
    quiet: Quiet = False,
) -> int:
    """Write a network for other programs, as ONNX or for OpenVINO; its answers are compared with PyTorch's.

    tinyhd export --model tinyhd-m-quarter --out tinyhd.onnx
    """
    loading.start(quiet)
    from ..engines.export import export as write

    loaded = load(model, weights, "cpu", "torch", "float32")
    loading.show("writing and comparing")
    files = write(loaded, format, out)
    if not quiet:
        height, width = loaded.input_size
        written = ", ".join(f"{file} ({file.stat().st_size / 1e6:.1f} MB)" for file in files)
        say(f"{loaded.config.name}: clip (1, 3, 16, {height}, {width}) -> saliency, as PyTorch answers -> {written}")
    return OK
