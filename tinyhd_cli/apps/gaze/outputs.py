"""Write the results of a study: a plot, JSON, and CSV."""

from __future__ import annotations

from pathlib import Path

from ...atomic_files import atomic_write
from ...inference.options import STDOUT
from ...untrusted import json_text
from .options import GazeOutputs
from .plot import plot_gaze
from .results import GazeResult


def write_results(result: GazeResult, outputs: GazeOutputs) -> None:
    """Write the plot, the JSON and the CSV.

    Raises:
        OutputError: one of them cannot be written.
    """
    if outputs.plot is not None:
        plot_gaze(result, outputs.plot)
    if outputs.json is not None:
        write_text(outputs.json, json_text(result.to_dict()))
    if outputs.csv is not None:
        write_text(outputs.csv, result.to_csv())


def write_text(path: Path, text: str) -> None:
    """Write a text file; ``-`` is standard output."""
    if path == STDOUT:
        print(text, end="")
        return
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
