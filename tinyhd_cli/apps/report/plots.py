"""Draw the plots of a report as SVG."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ... import figures
from ...video.overlay import area_color
from .data import ReportData, diagonal, pixel_aspect

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

TICKS_S = (30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)
"""Possible tick intervals on the time axis of a long video, in seconds."""

MAX_TICKS = 8
"""Maximum number of ticks on a time axis."""

LEGEND_ROWS = 12
"""Number of areas per column of a plot's legend."""

MAX_CUTS = 150
"""Maximum number of cuts drawn in a plot; more would merge into a gray area."""

MAX_POINTS = 2000
"""Approximate number of points of a line in a plot."""

NARROW = 0.5
"""Width of a plot for phones as a fraction of that for wide windows; text has the same size in both."""


@dataclass(frozen=True)
class Plot:
    """A plot as SVG elements, of which a page shows one: shrunk to a phone, the text of the wide one is illegible."""

    wide: str
    narrow: str


def clock(time_s: float) -> str:
    """Return a time as ``m:ss.t``, or as ``h:mm:ss`` from one hour on."""
    tenths = round(time_s * 10)
    if tenths >= 36000:
        return f"{tenths // 36000}:{tenths // 600 % 60:02d}:{tenths // 10 % 60:02d}"
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"


def plot_over_time(data: ReportData) -> Plot:
    """Plot the spread of the attention over time, with the cuts."""

    def draw(axes: Axes, narrow: bool) -> None:
        some = decimation(len(data.times_s))
        axes.plot(data.times_s[some], 100 * np.array(data.spreads[some]) / diagonal(data.info), linewidth=1.4)
        cuts = data.scenes[1:] if len(data.scenes) <= MAX_CUTS else []
        for scene in cuts:
            axes.axvline(scene.start_s, color="gray", linewidth=0.7, linestyle=":")
        axes.set_ylabel("spread, % of diagonal")
        limit_axes(axes, data, " (dotted: cuts)" if cuts else "")

    return draw_both("time", 9, 2.4, draw)


def plot_path(data: ReportData) -> Plot:
    """Plot the path of the center of attention across the frame; colors show the time."""
    info = data.info

    def draw(axes: Axes, narrow: bool) -> None:
        some = decimation(len(data.centers))
        x, y = np.array(data.centers[some]).T
        axes.imshow(data.middle, extent=(0, info.width, info.height, 0), alpha=0.45)
        axes.plot(x, y, color="black", linewidth=0.8, zorder=1)
        times = data.times_s[some]
        dots = axes.scatter(x, y, c=times, s=8, cmap="plasma", zorder=2)
        axes.set_xlim(0, info.width)
        axes.set_ylim(info.height, 0)
        axes.set_aspect(float(1 / pixel_aspect(info)))
        axes.set_xticks([])
        axes.set_yticks([])
        bar = axes.figure.colorbar(dots, ax=axes, shrink=0.8)
        bar.set_label(mark_times(bar.ax.yaxis, times[-1]))

    ratio = info.width * float(pixel_aspect(info)) / info.height
    return draw_both("path", 5, min(max(0.2 + 4 / ratio, 2), 5.5), draw)


def plot_areas(data: ReportData) -> Plot:
    """Plot the fraction of the attention on each area over time."""
    areas = data.areas.areas

    def draw(axes: Axes, narrow: bool) -> None:
        some = decimation(len(data.times_s))
        for number in range(len(areas)):
            shares = [100 * row[number] for row in data.shares[some]]
            color = [value / 255 for value in area_color(number)]
            axes.plot(data.times_s[some], shares, color=color, linewidth=1.4)
        axes.set_ylabel("fraction of attention, %")
        limit_axes(axes, data)
        if not narrow:
            names, columns = [area.name for area in areas], -(-len(areas) // LEGEND_ROWS)
            figures.add_legend(axes, names, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, ncols=columns)

    return draw_both("areas", 9, max(2.6, 0.6 + 0.22 * min(len(areas), LEGEND_ROWS)), draw)


def draw_both(name: str, width: float, height: float, draw: Callable[[Axes, bool], None]) -> Plot:
    """Return a plot for wide windows and for phones.

    Args:
        name: name of the plot on the page.
        width: inches of the wide plot.
        height: inches of both.
        draw: draws the plot, given whether it is the narrow one.
    """
    wide = figures.as_svg(f"{name}-wide", width, height, lambda axes: draw(axes, False))
    return Plot(wide, figures.as_svg(f"{name}-narrow", max(4.4, NARROW * width), height, lambda axes: draw(axes, True)))


def limit_axes(axes: Axes, data: ReportData, note: str = "") -> None:
    """Set the limits of a plot over time: x to the length of the video, y with space above the lines."""
    axes.set_xlim(data.times_s[0], data.times_s[-1])
    axes.set_ylim(0, 1.08 * max(axes.get_ylim()[1], 1e-9))
    axes.set_xlabel(mark_times(axes.xaxis, data.times_s[-1]) + note)
    axes.grid(alpha=0.25)


def mark_times(axis: Axis, end_s: float) -> str:
    """Place the ticks of a time axis, at round minutes and hours for a long video. Return the axis's title."""
    if end_s < TICKS_S[0] * MAX_TICKS / 2:
        return "seconds"
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    step_s = next((step_s for step_s in TICKS_S if end_s <= MAX_TICKS * step_s), end_s / MAX_TICKS)
    axis.set_major_locator(MultipleLocator(step_s))
    axis.set_major_formatter(FuncFormatter(lambda time_s, _: clock(time_s).removesuffix(".0")))
    return "time"


def decimation(count: int) -> slice:
    """Return a slice that reduces ``count`` points to about ``MAX_POINTS``."""
    return slice(None, None, max(1, count // MAX_POINTS))
