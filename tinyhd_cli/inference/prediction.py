"""The maps of a video in Python: an iterator, which is also a table, and a player with a curve in notebooks."""

from __future__ import annotations

import base64
import contextlib
import csv
import io
import os
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import figures
from ..errors import TinyhdError, UsageError
from ..notebook import progress_bar
from ..storage import path_of
from ..video.images import is_static_image
from ..video.reader import VideoReader
from ..video.source import is_read_once
from .model import Model, load_model
from .options import Outputs
from .predict import predict_file, saliency_of
from .windows import Map

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

MAX_PLAYER_S = 60.0
"""Maximum duration of a video that is played in a notebook, in seconds: the notebook contains the player's file."""

MAX_PLAYER_BYTES = 12_000_000
"""Maximum size of that file."""

CURVES = {"spread": "spread, % of diagonal", "area": "object, % of frame"}
"""The column of the table that is drawn over time, with the label of its axis; that of attention, that of objects."""


@dataclass(frozen=True)
class Overview:
    """The content of a prediction in a notebook."""

    table: str
    """As in the CSV file of ``predict``."""
    overlay: bytes
    """The file with the drawn maps; empty if the video is too long."""
    width: int
    height: int


class Prediction(Iterator[tuple[float, Map]]):
    """The maps of a video, predicted while they are iterated over.

    Yields, for each frame, its time in seconds and its map, float32 ``(H, W)`` of the network's input size. Maps are
    raw network output in 0..1, whose range depends on the weights.

    :meth:`to_dataframe` and the view in a notebook do not depend on the iteration: they predict the whole video once
    more, and keep the result.

    Args:
        video: a file that FFmpeg reads.
        model: see :func:`predict`.
        device: see :func:`predict`.
        progress: whether to show progress bars; None: only in notebooks.
    """

    def __init__(
        self,
        video: str | os.PathLike[str],
        model: Model | str | os.PathLike[str] | None = None,
        device: str = "auto",
        progress: bool | None = None,
    ) -> None:
        self.video = path_of(video)
        """The video."""
        self._model, self._device, self._progress = model, device, progress
        self._pairs: Generator[tuple[float, Map]] | None = None
        self._overview: Overview | None = None

    @property
    def model(self) -> Model:
        """The model, loaded on first use."""
        if not isinstance(self._model, Model):
            self._model = load_model(self._model, self._device)
        return self._model

    def __next__(self) -> tuple[float, Map]:
        """Return the time and the map of the next frame."""
        if self._pairs is None:
            self._pairs = self._predict()
        return next(self._pairs)

    def close(self) -> None:
        """Stop predicting and close the video, if not all frames are wanted."""
        if self._pairs is not None:
            self._pairs.close()

    def _predict(self) -> Generator[tuple[float, Map]]:
        with contextlib.ExitStack() as stack:
            model = self.model
            reader = stack.enter_context(VideoReader(self.video))
            pairs = stack.enter_context(contextlib.closing(saliency_of(reader, model)))
            report = stack.enter_context(progress_bar(self.video.name, self._progress))
            for done, (frame, saliency) in enumerate(pairs, start=1):
                yield frame.time_s, saliency
                if report:
                    report(done, reader.frame_count)

    def to_dataframe(self) -> DataFrame:
        """Return the statistics as a table of pandas: one row per frame, with the columns of ``predict --csv``.

        Raises:
            UsageError: pandas is not installed, or the video is a pipe.
            InputError: the video cannot be read.
            WeightsError: the model's weights cannot be loaded.
        """
        try:
            import pandas
        except ImportError:
            raise UsageError("to_dataframe() needs pandas; install it with: pip install pandas") from None
        return pandas.read_csv(io.StringIO(self._view(player=False).table))

    def _repr_html_(self) -> str:
        """Return a player of the overlay and a curve over time, for notebooks; an error as one line."""
        try:
            view = self._view(player=True)
            return as_html(f"{self.video.name}: {self.model.name}", view, is_static_image(self.video))
        except TinyhdError as error:
            return f"<p>{escape(str(error))}</p>"

    def _view(self, player: bool) -> Overview:
        """Return the content of the view, with the file for a player on request, if the video is short."""
        if is_read_once(self.video):
            raise UsageError(f"{self.video}: is a pipe, which can be read only once; iterate over it")
        with VideoReader(self.video) as reader:
            info = reader.info
            short = (info.frame_count or 0) <= MAX_PLAYER_S * info.rate
        player = player and short
        if self._overview is None or (player and not self._overview.overlay):
            with tempfile.TemporaryDirectory() as folder, progress_bar(self.video.name, self._progress) as report:
                table = Path(folder, "frames.csv")
                overlay = Path(folder, "overlay.png" if is_static_image(self.video) else "overlay.mp4")
                predict_file(self.video, self.model, Outputs(overlay if player else None, csv=table), None, report)
                content = overlay.read_bytes() if player else b""
                self._overview = Overview(table.read_text(encoding="utf-8"), content, info.width, info.height)
        return self._overview


def predict(
    video: str | os.PathLike[str],
    model: Model | str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    progress: bool | None = None,
) -> Prediction:
    """Predict the saliency of a video.

    Args:
        video: a file that FFmpeg reads.
        model: a loaded model, or the first argument of :func:`load_model`; None for the default.
        device: device of a model that is not loaded yet.
        progress: whether to show a progress bar; None: only in notebooks.

    Returns:
        An iterator over the time in seconds and the map of each frame; see :class:`Prediction`. Nothing is read before
        the first frame is requested.

    Raises:
        InputError: the video cannot be read.
        WeightsError: the model's weights cannot be loaded.
    """
    return Prediction(video, model, device, progress)


def as_html(title: str, view: Overview, image: bool) -> str:
    """Return the view of a prediction in a notebook.

    Args:
        title: first line.
        view: the content.
        image: whether the overlay is an image.
    """
    rows = list(csv.DictReader(io.StringIO(view.table)))
    style = f"display:block;width:100%;max-width:{min(view.width, 560)}px"
    source = base64.b64encode(view.overlay).decode("ascii")
    if not view.overlay:
        player = (
            f"<p>Videos of more than {MAX_PLAYER_S:.0f} s have no player here; predict_file writes the overlay.</p>"
        )
    elif len(view.overlay) > MAX_PLAYER_BYTES:
        player = "<p>The overlay is too large for a notebook; predict_file writes it to a file.</p>"
    elif image:
        player = f'<img style="{style}" alt="overlay" src="data:image/png;base64,{source}">'
    else:
        player = f'<video controls loop playsinline style="{style}" src="data:video/mp4;base64,{source}"></video>'
    curve = "" if image else curve_of(rows, float(np.hypot(view.width, view.height)))
    lines = f"{escape(title)}, {len(rows)} {'frame' if len(rows) == 1 else 'frames'}"
    return f'<div><p style="margin:4px 0">{lines}</p>{player}{curve}</div>'


def curve_of(rows: list[dict[str, str]], diagonal: float) -> str:
    """Return the main statistic over time as an SVG element.

    Args:
        rows: the table.
        diagonal: of the frame, in pixels.
    """
    column = next(name for name in CURVES if name in rows[0])
    scale = 100 / diagonal if column == "spread" else 100
    times = [float(row["time_s"]) for row in rows]
    values = [scale * float(row[column]) for row in rows]

    def draw(axes: Axes) -> None:
        axes.plot(times, values, linewidth=1.4)
        axes.set_xlim(0, max(times[-1], 1e-3))
        axes.set_xlabel("time, s")
        axes.set_title(CURVES[column], loc="left", fontsize=9)
        axes.grid(alpha=0.25)

    # On white, because notebooks with a dark theme have a dark background.
    return f'<div style="max-width:560px;background:white">{figures.as_svg("curve", 5.6, 1.7, draw)}</div>'
