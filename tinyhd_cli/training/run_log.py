"""What a run writes down as it goes: a CSV log, a curve, pictures, and a TensorBoard log if wanted."""

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
from .options import TERMS

SCORES = ("AUC-J", "CC", "NSS", "SIM", "KLDiv")
COLUMNS = ("step", "epoch", "split", "lr", "clips_per_s", "loss", *TERMS, *SCORES)


class RunLog:
    """The log of a run: a row for each step and each validation.

    Args:
        out: folder of the run.
        step: steps done already; later rows, of a run that went on and was lost, are taken out.
        tensorboard: whether TensorBoard's log is written too.

    Raises:
        OutputError: the folder cannot be written.
        UsageError: TensorBoard is not installed.
    """

    def __init__(self, out: Path, step: int = 0, tensorboard: bool = False) -> None:
        self.out, self.path = out, out / "log.csv"
        self.rows = [row for row in self.read() if int(row["step"]) <= step] if step else []
        try:
            out.mkdir(parents=True, exist_ok=True)
            self.file = self.path.open("w", newline="", encoding="utf-8")
            self.writer = csv.DictWriter(self.file, COLUMNS)
            self.writer.writeheader()
            self.writer.writerows(self.rows)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self.board = board(out) if tensorboard else None

    def read(self) -> list[dict[str, str]]:
        """The rows that are there."""
        if not self.path.is_file():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def write(self, step: int, epoch: int, split: str, **values: float) -> None:
        """Add a row; columns that are not given stay empty."""
        row = {"step": str(step), "epoch": str(epoch), "split": split}
        row |= {name: f"{value:.8g}" for name, value in values.items()}
        self.rows.append(row)
        try:
            self.writer.writerow(row)
            self.file.flush()
        except OSError as error:
            raise cannot_write(self.path, error) from error
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(f"{split}/{name}", value, step)

    def curve(self, constant: Mapping[str, float] | None = None) -> None:
        """Draw the loss and the divergence from the teacher over the steps, as ``curve.png``.

        Args:
            constant: divergence of the best map that is the same for all clips, by term, to compare with.
        """
        figure = new_figure(8, 4.5)
        axes = figure.subplots(1, 2)
        for axis, columns in zip(axes, (("loss",), ("target/final", "aux/final", "target/ground-truth")), strict=True):
            for column in columns:
                for split, style in (("train", {"alpha": 0.5, "linewidth": 0.7}), ("val", {"marker": "."})):
                    points = [(int(row["step"]), float(row[column])) for row in self.rows if has(row, split, column)]
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

    def close(self) -> None:
        """Close the files."""
        self.file.close()
        if self.board is not None:
            self.board.close()


def has(row: Mapping[str, str], split: str, column: str) -> bool:
    """Whether a row of a split has a positive value in a column."""
    return row["split"] == split and bool(row.get(column)) and float(row[column]) > 0


def board(out: Path) -> Any:
    """TensorBoard's writer; ``UsageError`` where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError("--tensorboard: it is not installed: pip install tensorboard") from error
    return SummaryWriter(str(out / "tensorboard"))


Pixels = NDArray[np.uint8]

LABEL_HEIGHT = 18


def colored(values: NDArray[np.float32]) -> Pixels:
    """A map ``(H, W)`` in colors, from its least to its greatest value: RGB ``(H, W, 3)``."""
    low, high = float(values.min()), float(values.max())
    gray = (np.clip((values - low) / max(high - low, 1e-12), 0, 1) * 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(gray, cv2.COLORMAP_TURBO)[..., ::-1], dtype=np.uint8)


def picture(rows: Sequence[Mapping[str, Pixels]]) -> Pixels:
    """Pictures with names side by side, a row for each clip: RGB ``(h, w, 3)``."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    height, width = next(iter(rows[0].values())).shape[:2]
    head = np.full((LABEL_HEIGHT, width * len(names), 3), 255, np.uint8)
    for place, name in enumerate(names):
        cv2.putText(head, name, (place * width + 4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    blank = np.full((height, width, 3), 90, np.uint8)
    return np.vstack([head, *[np.hstack([row.get(name, blank) for name in names]) for row in rows]])


def save_picture(path: Path, image: Pixels) -> None:
    """Write an RGB picture as PNG; ``OutputError`` if it cannot be written."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", image[..., ::-1])[1].tobytes())
