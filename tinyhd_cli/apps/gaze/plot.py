"""Draw the agreement of observers over time, and of each observer, with the scores of a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import figures
from ...untrusted import printable
from ..report.plots import mark_times
from .results import GazeResult, Observer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 11.0
"""Width of the plot in inches."""

DPI = 130
OBSERVERS, MODEL = "#1c7ed6", "#e8590c"
"""Colors of the observers' agreement and of the model."""

CHANCE_LINE: dict[str, Any] = {"color": "#777777", "linewidth": 1.0, "linestyle": "--"}
"""Style of the line at the NSS that is reached by chance, 0."""

MAX_NAMES = 60
"""Maximum number of observers in the plot: those that agree least and most."""

MAX_LABEL = 24
"""Maximum number of characters of a name."""


def plot_gaze(result: GazeResult, output: Path) -> None:
    """Write the plot of a study as a PNG file.

    Raises:
        OutputError: it cannot be written.
    """
    rows = ordered(result)
    height = max(3.6, 1.4 + 0.2 * len(rows))
    with figures.plain_text():
        figure = figures.new_figure(WIDTH, height)
        over_time, each = figure.subplots(1, 2, width_ratios=[3, 2])
        plot_over_time(over_time, result)
        plot_observers(each, rows, None if result.model is None else result.model.name)
        figures.save_figure(figure, output, DPI)


def ordered(result: GazeResult) -> list[tuple[Observer, float]]:
    """Return the observers with a score, and this score, the lowest first; at most ``MAX_NAMES``."""
    scored = [(one, one.others["NSS"]) for one in result.observers if one.others is not None]
    found = sorted(((one, nss) for one, nss in scored if nss is not None), key=lambda pair: pair[1])
    half = MAX_NAMES // 2
    return found if len(found) <= MAX_NAMES else [*found[:half], *found[-half:]]


def plot_over_time(axes: Axes, result: GazeResult) -> None:
    """Draw NSS over the seconds of the video."""
    times = np.array([second.time_s for second in result.curve]) + 0.5
    names = []
    for name, color, values in (
        ("other observers (ceiling)", OBSERVERS, [second.observers for second in result.curve]),
        (result.model.name if result.model else "", MODEL, [second.model for second in result.curve]),
    ):
        known = [value for value in values if value is not None]
        if len(known) == len(times) and name:
            axes.plot(times, known, color=color, linewidth=1.5, marker="." if len(times) < 40 else "")
            names.append(printable(name))
    axes.plot([0, result.duration_s], [0, 0], **CHANCE_LINE)
    names.append("chance")
    axes.set_xlim(0, max(result.duration_s, 1e-3))
    in_seconds = mark_times(axes.xaxis, result.duration_s) == "seconds"
    axes.set_xlabel("time (s)" if in_seconds else "time")
    axes.set_ylabel("NSS")
    axes.set_title("NSS of each observer's gaze, mean per second", loc="left", fontsize=10)
    axes.grid(alpha=0.25)
    if times.size:
        figures.add_legend(axes, names, fontsize=8, loc="upper right")


def plot_observers(axes: Axes, rows: list[tuple[Observer, float]], model: str | None) -> None:
    """Draw the NSS of each observer: one dot for the other observers' density, one for the model."""
    places = np.arange(len(rows))
    axes.axvline(0, zorder=0, **CHANCE_LINE)
    for place, (one, nss) in zip(places, rows, strict=True):
        other = (one.model or {}).get("NSS")
        if other is not None:
            axes.plot([nss, other], [place, place], color="#cccccc", linewidth=1.2, zorder=1)
            axes.plot([other], [place], "o", color=MODEL, markersize=4.5)
        axes.plot([nss], [place], "o", color=OBSERVERS, markersize=4.5)
    axes.set_yticks(places, [printable(one.name)[:MAX_LABEL] for one, _ in rows], fontsize=7 if len(rows) > 25 else 8)
    axes.set_ylim(-0.7, max(len(rows), 1) - 0.3)
    axes.set_xlabel("NSS")
    axes.set_title("NSS of each observer", loc="left", fontsize=10)
    axes.grid(axis="x", alpha=0.25)
