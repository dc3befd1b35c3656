"""Write the outputs of a comparison: a plot, JSON, and CSV."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...atomic_files import atomic_write, is_special
from ...errors import UsageError
from ...inference.options import STDOUT
from ...untrusted import json_text
from .plot import plot_comparison
from .results import Comparison


def check_outputs(wanted: Mapping[str, Path | None], inputs: Sequence[Path]) -> dict[str, Path]:
    """Return the outputs that are wanted, by option.

    Raises:
        UsageError: an output is an input or another output, is a folder, or the plot is not a PNG file.
    """
    outputs = {kind: path for kind, path in wanted.items() if path is not None}
    for kind, path in outputs.items():
        if path == STDOUT:
            if kind == "plot" or sum(other == STDOUT for other in outputs.values()) > 1:
                raise UsageError(f"--{kind} -: only one of --json and --csv can go to standard output; give a file")
            continue
        if path.is_dir():
            raise UsageError(f"--{kind} {path}: is a folder; give the name of a file")
        if any(os.path.realpath(path) == os.path.realpath(source) for source in inputs):
            raise UsageError(f"--{kind} {path}: is an input; write to another file")
        if kind == "plot" and path.suffix.lower() != ".png" and not is_special(path):
            raise UsageError(f"--plot {path}: the plot's name must end in .png")
    places = [os.path.realpath(path) for path in outputs.values()]
    if len(set(places)) < len(places):
        raise UsageError(f"two outputs have the name {max(outputs.values(), key=list(outputs.values()).count)}")
    return outputs


def write_outputs(result: Comparison, outputs: Mapping[str, Path], order: bool) -> None:
    """Write the outputs of a comparison.

    Args:
        result: the comparison.
        outputs: path of each output, by option: ``plot``, ``json``, ``csv``.
        order: whether the plot shows the predicted order of the areas.

    Raises:
        OutputError: an output cannot be written.
    """
    if "plot" in outputs:
        plot_comparison(result, outputs["plot"], order)
    texts = {"json": lambda: json_text(result.to_dict()), "csv": result.to_csv}
    for kind, text in texts.items():
        if kind not in outputs:
            continue
        if outputs[kind] == STDOUT:
            print(text(), end="")
            continue
        with atomic_write(outputs[kind]) as temporary:
            temporary.write_text(text(), encoding="utf-8", errors="backslashreplace")
