"""Draw a comparison: the versions side by side, the attention on each area, and of videos the attention over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import figures
from ...inference.areas import Area
from ...inference.normalization import HIGH, LOW, stretch
from ...inference.windows import Map
from ...untrusted import printable
from ...video.options import OverlayStyle
from ...video.overlay import Painter, area_color, sides_of
from ..report.plots import clock, decimation, mark_times
from .results import Comparison, Version

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

WIDTH = 12.0
"""Width of the plot in inches."""

DPI = 130

CURVES_PER_ROW = 2

MAX_BARS = 20
MAX_CURVES = 10
"""Maximum numbers of areas with bars and with curves: those with the largest differences."""

MAX_LABEL = 28
"""Maximum number of characters of a name; the middle of longer names is left out."""

COLORS = ("#7a8291", "#e8590c", "#1c7ed6", "#2f9e44", "#9c36b5", "#e6a700")
"""Colors of the versions, used in turn. The first version is gray: it is usually the present one."""


def plot_comparison(result: Comparison, output: Path, order: bool = False) -> None:
    """Write the plot of a comparison as a PNG file.

    Args:
        result: the comparison.
        output: the file.
        order: whether to show the predicted order of the areas.

    Raises:
        OutputError: it cannot be written.
    """
    areas = most_different(result, MAX_BARS)
    columns = 2 if len(result.versions) in (2, 4) else 3
    rows = -(-len(result.versions) // columns)
    are_videos = any(len(version.times_s) > 1 for version in result.versions)
    curves = most_different(result, MAX_CURVES) if are_videos else []
    heights = [
        rows * (min(5.5, WIDTH / columns * tallest(result.versions)) + 0.45),
        0.9 + len(areas) * (0.12 + 0.16 * len(result.versions)),
        2.2 * -(-len(curves) // CURVES_PER_ROW),
    ]
    with figures.plain_text():
        figure = figures.new_figure(WIDTH, sum(heights))
        count = 3 if curves else 2
        parts = figure.subfigures(count, 1, squeeze=False, height_ratios=heights[:count]).ravel()
        draw_images(parts[0], result, rows, columns, order)
        draw_bars(parts[1].subplots(), result, areas)
        if curves:
            draw_curves(parts[2], result, curves)
        figures.save_figure(figure, output, DPI)


def tallest(versions: Sequence[Version]) -> float:
    """Return the largest ratio of height and width."""
    return max(version.height / version.width for version in versions)


def color_of(result: Comparison, version: Version) -> str:
    """Return the color of a version."""
    return COLORS[result.versions.index(version) % len(COLORS)]


def shortened(name: str) -> str:
    """Return a name of at most ``MAX_LABEL`` characters."""
    half = MAX_LABEL // 2
    return name if len(name) <= MAX_LABEL else f"{name[: half - 1]}…{name[-half:]}"


def most_different(result: Comparison, count: int) -> list[str]:
    """Return ``count`` areas in their order, those with the largest differences between versions; or all."""

    def difference(area: str) -> float:
        shares = result.lead(area).shares.values()
        return max(shares) - min(shares)

    kept = set(sorted(result.areas, key=difference, reverse=True)[:count])
    return [area for area in result.areas if area in kept]


def draw_images(part: SubFigure, result: Comparison, rows: int, columns: int, order: bool) -> None:
    """Draw each version with its mean map, on one scale for all versions, and its areas."""
    low, high = common_limits(result.versions)
    painter = Painter(OverlayStyle())
    grid = part.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
        axes.set_anchor("NW")
    for axes, version in zip(grid, result.versions, strict=False):
        assert version.image is not None and version.attention is not None
        saliency = stretch(version.attention.astype(np.float32), low, high)
        axes.imshow(
            painter.paint(version.image, saliency),
            extent=(0, version.width, version.height, 0),
            aspect=float(version.image.shape[0] / version.image.shape[1] * version.width / version.height),
        )
        title = axes.set_title(
            f"{version.id}  {printable(version.path.name)}{times_of(version)}", fontsize=10, loc="left"
        )
        title.set_color(color_of(result, version))
        for area in version.areas:
            draw_area(axes, result, version, area)
        if order:
            draw_order(axes, version)


def times_of(version: Version) -> str:
    """Return the end of a video's title: what its image shows."""
    if version.kind == "image":
        return ""
    return f", frame at {clock(version.image_s)}, mean of {clock(version.duration_s)}"


def common_limits(versions: Sequence[Version]) -> tuple[float, float]:
    """Return the values that are shown as no and as most attention, the same for all versions."""
    maps: list[Map] = [version.attention.astype(np.float32) for version in versions if version.attention is not None]
    limits = np.array([np.quantile(saliency, (LOW, HIGH)) for saliency in maps])
    return float(limits[:, 0].min()), float(limits[:, 1].max())


def draw_area(axes: Axes, result: Comparison, version: Version, area: Area) -> None:
    """Draw the outline of an area with its fraction of the attention."""
    from matplotlib.collections import LineCollection

    color = np.array(area_color(result.areas.index(area.name))) / 255
    points = area.at(version.image_s, version.width, version.height)
    axes.add_collection(LineCollection(list(sides_of(points)), colors=[color], linewidths=1.6))
    share = version.results[area.name]["share"] or 0.0
    (left, top), (_, bottom) = np.clip([points.min(axis=0), points.max(axis=0)], 0, (version.width, version.height))
    room = 0.06 * version.height
    above = top > room
    is_light = float(color @ (0.3, 0.59, 0.11)) > 0.6
    axes.text(
        left,
        bottom if not above and bottom < version.height - room else top,
        f"{shortened(area.name)} {share:.1%}",
        fontsize=7.5,
        color="black" if is_light else "white",
        verticalalignment="bottom" if above else "top",
        bbox={"facecolor": color, "edgecolor": "none", "pad": 1.2},
        clip_on=True,
    )


def draw_order(axes: Axes, version: Version) -> None:
    """Draw the number of each area that is reached: at the first fixation in it, or in the middle of an area."""
    reached = {name: int(values["order"]) for name, values in version.results.items() if values["order"] is not None}
    places: dict[str, tuple[float, float]] = {}
    for area in version.areas:
        points = area.at(version.image_s, version.width, version.height)
        fixation = next((stop for stop in version.path_of_gaze if stop.area == area.name), None)
        places[area.name] = (fixation.x, fixation.y) if fixation else (points[:, 0].mean(), points[:, 1].mean())
    stops = sorted(reached, key=lambda name: reached[name])
    if not stops:
        return
    x, y = np.array([places[name] for name in stops]).T
    axes.plot(x, y, color="black", linewidth=1.2, marker="o", markersize=13, markeredgecolor="white", zorder=4)
    for name in stops:
        x_at, y_at = places[name]
        text = str(reached[name])
        look: dict[str, Any] = {
            "color": "white",
            "fontsize": 8,
            "weight": "bold",
            "ha": "center",
            "va": "center_baseline",
        }
        axes.text(x_at, y_at, text, zorder=5, **look)


def draw_bars(axes: Axes, result: Comparison, areas: Sequence[str]) -> None:
    """Draw the fraction of the attention on each area as one bar per version."""
    versions = result.versions
    height = 0.8 / len(versions)
    for number, version in enumerate(versions):
        shares = [100 * (version.results[area]["share"] or 0.0) if area in version.results else 0.0 for area in areas]
        at = np.arange(len(areas)) - 0.4 + (number + 0.5) * height
        bars = axes.barh(at, shares, height, color=color_of(result, version), label=str(number))
        has = [area in version.results for area in areas]
        texts = [f"{share:.1f} %" if there else "-" for there, share in zip(has, shares, strict=True)]
        axes.bar_label(bars, texts, padding=3, fontsize=7.5)
    axes.set_yticks(range(len(areas)), [shortened(area) for area in areas], fontsize=9)
    axes.set_ylim(len(areas) - 0.5, -0.5)
    axes.margins(x=0.08)
    left_out = len(result.areas) - len(areas)
    axes.set_xlabel("fraction of the attention, %" + (f" ({left_out} areas are not shown)" if left_out else ""))
    axes.spines[["top", "right"]].set_visible(False)
    legend = axes.legend(
        fontsize=8, frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=min(4, len(versions))
    )
    for text, version in zip(legend.get_texts(), versions, strict=True):
        text.set_text(version.label)


def draw_curves(part: SubFigure, result: Comparison, areas: Sequence[str]) -> None:
    """Draw the fraction of the attention on each area over time, with one line per video."""
    rows = -(-len(areas) // CURVES_PER_ROW)
    columns = min(CURVES_PER_ROW, len(areas))
    grid = part.subplots(rows, columns, squeeze=False).ravel()
    videos = [version for version in result.versions if len(version.times_s) > 1]
    end_s = max(version.times_s[-1] for version in videos)
    for axes in grid[len(areas) :]:
        axes.axis("off")
    for axes, area in zip(grid, areas, strict=False):
        for version in videos:
            names = [one.name for one in version.areas]
            if area not in names:
                continue
            some = decimation(len(version.times_s))
            shares = [100 * row[names.index(area)] for row in version.shares[some]]
            axes.plot(version.times_s[some], shares, color=color_of(result, version), linewidth=1.4)
        axes.axhline(100 * result.threshold, color="gray", linewidth=0.7, linestyle=":")
        axes.set_title(shortened(area), fontsize=9, loc="left")
        axes.set_xlim(0, end_s)
        axes.set_ylim(0, 1.08 * axes.get_ylim()[1])
        axes.set_xlabel(mark_times(axes.xaxis, end_s), fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
    part.supylabel("fraction of the attention, %", fontsize=8)
