"""``tinyhd export``: export a network for other programs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ..errors import OK
from ..fields import Adjust
from ..inference.model_options import ModelOptions
from .model_options import load
from .option_fields import with_options
from .options import Quiet
from .terminal import file_size, loading, say


@with_options
def export(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="File to write: .onnx, or .xml for OpenVINO.")
    ],
    format: Annotated[str, typer.Option("--format", metavar="onnx|openvino", help="Format of the file.")] = "onnx",
    *,
    model: Annotated[ModelOptions, Adjust(only=("model", "weights"))],
    quiet: Quiet = False,
) -> int:
    """Export a network to ONNX or OpenVINO. The output of the exported network is checked against PyTorch.

    tinyhd export --model tinyhd-m-quarter --out tinyhd.onnx
    """
    from ..engines.export import export as write

    loaded = load(replace(model, device="cpu", engine="torch", precision="float32"))
    loading.show("writing and checking")
    files = write(loaded, format, out)
    if not quiet:
        height, width = loaded.input_size
        written = ", ".join(f"{file} ({file_size(file.stat().st_size)})" for file in files)
        clip = f"(1, 3, {loaded.spec.clip_frames}, {height}, {width})"
        say(f"{loaded.spec.name}: clip {clip} -> saliency, equal to PyTorch's -> {written}")
    return OK
