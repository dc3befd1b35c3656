"""Records of a run: a CSV log, a plot of the loss, images of the maps, and optionally a TensorBoard log."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..atomic_files import atomic_write, cannot_write
from ..errors import UsageError
from ..figures import new_figure, save_figure

MAE, MAX_F = OBJECT_SCORES = ("MAE", "maxF")
"""Metrics of a validation of an object network, as named by ``tinyhd_cli.metrics``."""

SCORES = ("AUC-J", "CC", "NSS", "SIM", "KLDiv")
"""Metrics of a validation of other networks."""

COLUMNS = ("step", "epoch", "split", "lr", "clips_per_s", "loss")
"""Columns of ``log.csv`` before those of the terms of the loss and of the scores."""

LABEL_HEIGHT = 18
"""Height in pixels of the names above the images."""

Pixels = NDArray[np.uint8]


class RunLog:
    """The log of a run: one row per step and per validation.

    Args:
        out: Folder of the run.
        terms: Names of the terms of the loss.
        step: Number of completed steps. Later rows are removed: they belong to steps after the last checkpoint.
        tensorboard: Whether to write a TensorBoard log as well.
        scores: Names of the metrics of a validation.

    Raises:
        OutputError: The folder cannot be written.
        UsageError: TensorBoard is not installed.
    """

    def __init__(
        self,
        out: Path,
        terms: Sequence[str],
        step: int = 0,
        tensorboard: bool = False,
        scores: Sequence[str] = SCORES,
    ) -> None:
        self.out, self.path, self.terms = out, out / "log.csv", tuple(terms)
        self.rows = [row for row in self.read() if int(row["step"]) <= step] if step else []
        try:
            out.mkdir(parents=True, exist_ok=True)
            self.file = self.path.open("w", newline="", encoding="utf-8")
            self.writer = csv.DictWriter(self.file, (*COLUMNS, *terms, *scores))
            self.writer.writeheader()
            self.writer.writerows(self.rows)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self.tensorboard = open_tensorboard(out) if tensorboard else None

    def read(self) -> list[dict[str, str]]:
        """Return the rows of the log file, if it exists."""
        if not self.path.is_file():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def write(self, step: int, epoch: int, split: str, **values: float) -> None:
        """Append a row; columns without a value stay empty."""
        row = {"step": str(step), "epoch": str(epoch), "split": split}
        row |= {name: f"{value:.8g}" for name, value in values.items()}
        self.rows.append(row)
        try:
            self.writer.writerow(row)
            self.file.flush()
        except OSError as error:
            raise cannot_write(self.path, error) from error
        if self.tensorboard is not None:
            for name, value in values.items():
                self.tensorboard.add_scalar(f"{split}/{name}", value, step)

    def curve(self, constant: Mapping[str, float] | None = None) -> None:
        """Plot the loss and some of its terms over the steps as ``curve.png``.

        Args:
            constant: Divergence of the best constant map by term, drawn for comparison.
        """
        figure = new_figure(8, 4.5)
        axes = figure.subplots(1, 2)
        for axis, columns in zip(axes, (("loss",), self.plotted_terms()), strict=True):
            for column in columns:
                for split, style in (("train", {"alpha": 0.5, "linewidth": 0.7}), ("val", {"marker": "."})):
                    points = [
                        (int(row["step"]), float(row[column])) for row in self.rows if has_value(row, split, column)
                    ]
                    if points:
                        axis.plot(*zip(*points, strict=True), label=f"{split} {column}", **style)
            axis.set_xlabel("step")
            axis.set_yscale("log")
        for (term, value), line in zip((constant or {}).items(), (":", "--"), strict=False):
            axes[1].axhline(value, color="gray", linestyle=line, label=f"best constant map, {term}")
        for axis in axes:
            if axis.lines:
                axis.legend(fontsize="small")
        save_figure(figure, self.out / "curve.png", dpi=110)

    def plotted_terms(self) -> list[str]:
        """Return the terms to plot: those of the final maps, or else the first three with values."""
        found = [name for name in self.terms if any(row.get(name) for row in self.rows)]
        usual: list[str] = [name for name in found if name in ("target/final", "aux/final", "target/ground-truth")]
        return usual or found[:3]

    def close(self) -> None:
        """Close the files."""
        self.file.close()
        if self.tensorboard is not None:
            self.tensorboard.close()


def has_value(row: Mapping[str, str], split: str, column: str) -> bool:
    """Return whether a row belongs to a split and has a positive value in a column."""
    return row["split"] == split and bool(row.get(column)) and float(row[column]) > 0


def open_tensorboard(out: Path) -> Any:
    """Return a TensorBoard writer; raise ``UsageError`` if TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError("--tensorboard: TensorBoard is not installed; run pip install tensorboard") from error
    return SummaryWriter(str(out / "tensorboard"))


def colorize(values: NDArray[np.float32], limits: tuple[float, float] | None = None) -> Pixels:
    """Return a map ``(H, W)`` in colors: RGB ``(H, W, 3)``.

    Args:
        values: the map.
        limits: values of the first and the last color; None for the minimum and the maximum of the map.
    """
    low, high = limits or (float(values.min()), float(values.max()))
    gray = (np.clip((values - low) / max(high - low, 1e-12), 0, 1) * 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(gray, cv2.COLORMAP_TURBO)[..., ::-1], dtype=np.uint8)


def image_grid(rows: Sequence[Mapping[str, Pixels]]) -> Pixels:
    """Return named images side by side, one row per clip: RGB ``(h, w, 3)``."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    height, width = next(iter(rows[0].values())).shape[:2]
    header = np.full((LABEL_HEIGHT, width * len(names), 3), 255, np.uint8)
    for column, name in enumerate(names):
        cv2.putText(header, name, (column * width + 4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    blank = np.full((height, width, 3), 90, np.uint8)
    return np.vstack([header, *[np.hstack([row.get(name, blank) for name in names]) for row in rows]])


def save_image(path: Path, image: Pixels) -> None:
    """Write an RGB image as PNG; raise ``OutputError`` if it cannot be written."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", image[..., ::-1])[1].tobytes())
