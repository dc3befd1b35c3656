"""The files that ``gaze`` writes. Loads neither NumPy nor FFmpeg."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from ...atomic_files import atomic_write, destination, is_special
from ...errors import UsageError
from ...fields import OUTPUTS, option
from ...inference.options import STDOUT
from ...untrusted import json_text
from .results import GazeResult

SUFFIXES = {"json": ".json", "csv": ".csv", "plot": ".png"}
"""Suffixes of the outputs that have only one."""


@dataclass(frozen=True)
class GazeOutputs:
    """The outputs; None for those that are not requested. Raises ``UsageError`` for names that do not suit."""

    out: Path | None = option(
        None,
        OUTPUTS,
        "DIR",
        "Fixation maps and density maps of every frame, as a dataset for `tinyhd evaluate --dataset folder` and `tinyhd"
        " train`.",
        kind=Path,
    )
    overlay: Path | None = option(
        None,
        OUTPUTS,
        "FILE",
        "Video of the gaze (points, trails, density) next to the prediction of the model.",
        short="-o",
        kind=Path,
    )
    plot: Path | None = option(
        None, OUTPUTS, "FILE", "Agreement over time and of each observer, as PNG.", kind=Path
    )
    json: Path | None = option(None, OUTPUTS, "FILE", "All results; - for standard output.", kind=Path)
    csv: Path | None = option(None, OUTPUTS, "FILE", "One row per observer; - for standard output.", kind=Path)

    def __post_init__(self) -> None:
        for kind, path in self.requested():
            if path == STDOUT:
                if kind not in ("json", "csv"):
                    raise UsageError(f"--{kind} -: only --json and --csv can go to standard output")
                continue
            destination(path)  # raises an error for an invalid path
            suffix = SUFFIXES.get(kind)
            if suffix and path.suffix.lower() != suffix and not is_special(path):
                raise UsageError(f"--{kind} {path}: the file's name must end in {suffix}")
            if kind == "out" and path.exists() and not path.is_dir():
                raise UsageError(f"--out {path}: exists and is not a folder")
            if kind != "out" and path.is_dir():
                raise UsageError(f"--{kind} {path}: is a folder; give the name of a file")
        if self.overlay is not None:
            from ...video.encoders import check_container

            check_container(self.overlay)
        places = [os.path.realpath(path) for _, path in self.requested()]
        if len(set(places)) < len(places):
            raise UsageError(f"two outputs have the same name: {', '.join(str(path) for _, path in self.requested())}")

    def requested(self) -> list[tuple[str, Path]]:
        """Return the option and the path of every requested output."""
        pairs = [(item.name, getattr(self, item.name)) for item in fields(self)]
        return [(name, path) for name, path in pairs if path is not None]

    def check_inputs(self, inputs: Sequence[Path]) -> None:
        """Raise ``UsageError`` if an output is an input."""
        sources = {os.path.realpath(source) for source in inputs}
        for kind, path in self.requested():
            if os.path.realpath(path) in sources:
                raise UsageError(f"--{kind} {path}: is an input; write to another file")


def write_results(result: GazeResult, outputs: GazeOutputs) -> None:
    """Write the plot, the JSON and the CSV.

    Raises:
        OutputError: one of them cannot be written.
    """
    if outputs.plot is not None:
        from .plot import plot_gaze

        plot_gaze(result, outputs.plot)
    texts = ((outputs.json, lambda: json_text(result.to_dict())), (outputs.csv, result.to_csv))
    for path, text in texts:
        if path == STDOUT:
            print(text(), end="")
        elif path is not None:
            with atomic_write(path) as temporary:
                temporary.write_text(text(), encoding="utf-8", errors="backslashreplace")
