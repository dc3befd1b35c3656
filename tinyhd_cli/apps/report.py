"""A page about one video: where its viewers look, when, and how concentrated they are."""

from __future__ import annotations

import base64
import contextlib
import io
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import figures
from ..atomic_files import atomic_write, is_special
from ..callbacks import OnProgress
from ..errors import UsageError
from ..inference.areas import Area, AreaStatistics
from ..inference.frame_samples import Still, Stills
from ..inference.model import Model
from ..inference.normalization import RunningScale, stretch
from ..inference.predict import saliency_of
from ..inference.statistics import MapStatistics, describe
from ..inference.windows import Map
from ..untrusted import printable
from ..version import __version__
from ..video.options import OverlayStyle
from ..video.overlay import Painter, area_color, draw_outline, resize_image
from ..video.reader import Frame, Image, VideoInfo, VideoReader
from ..video.scenes import SceneDetector
from ..wording import damage, plural
from .options import ReportOptions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

THUMBNAIL_WIDTH = 320
"""Pixels across a picture of the page."""

FILMSTRIP = 12
"""Pictures in the filmstrip."""

MAX_SCENES = 40
"""Scenes with a picture of their own; of later ones only the times are kept, so that memory does not grow."""

TICKS_S = (30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)
"""Possible tick intervals on the time axis of a long video."""

MAX_TICKS = 8
"""Maximum number of ticks on a time axis."""

LEGEND_ROWS = 12
"""Areas per column of a plot's legend."""

MAX_CUTS = 150
"""Maximum number of cuts drawn into a plot; more would blur into gray."""

MAX_UPSAMPLED = Fraction(8)
"""Limit on the pixel aspect ratio, or its inverse; larger values are clipped."""

SETTLE_S = 0.5
"""A scene's picture is taken so long after its cut, when the eyes have arrived."""


@dataclass
class Scene:
    """What happens between two cuts."""

    start_s: float
    end_s: float = 0.0
    frames: int = 0
    attention: NDArray[np.float64] | None = None
    """Sum of the scene's maps, each of which sums to 1."""
    picture: Image | None = None
    spread: float = 0.0
    """Sum of the maps' spreads, in pixels."""


@dataclass
class Collected:
    """What the page is made of, gathered frame by frame in bounded memory."""

    info: VideoInfo
    times_s: list[float] = field(default_factory=list)
    spreads: list[float] = field(default_factory=list)
    centers: list[tuple[float, float]] = field(default_factory=list)
    shares: list[tuple[float, ...]] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)
    stills: Stills = field(default_factory=Stills)
    attention: NDArray[np.float64] | None = None
    damaged: int = 0
    """Packets and frames that could not be decoded."""

    @property
    def end_s(self) -> float:
        """When the last frame ends."""
        return self.scenes[-1].end_s if self.scenes else 0.0

    @property
    def moves(self) -> bool:
        """Whether there is more than one frame."""
        return len(self.times_s) > 1

    @property
    def middle(self) -> Image:
        """A frame from the middle of the clip."""
        return self.stills.chosen(1, self.end_s)[0].image


def check_page(output: Path) -> None:
    """``UsageError`` if a page cannot have this name."""
    if output.suffix.lower() not in (".html", ".htm") and not is_special(output):
        raise UsageError(f"--output {output}: the page's name must end in .html")
    if output.is_dir():
        raise UsageError(f"--output {output}: is a folder")


def report_file(
    video: Path,
    model: Model,
    output: Path,
    options: ReportOptions | None = None,
    progress: OnProgress | None = None,
) -> Collected:
    """Write a report about a video: one HTML file without external files.

    Args:
        video: the source.
        model: predicts where people look.
        output: the file to write.
        options: areas of interest, and facts about the input; None: the defaults.
        progress: called with the number of frames done.

    Raises:
        InputError: the video cannot be read; nothing is written.
        OutputError: the page cannot be written.
        UsageError: the output's name does not end in .html.
    """
    options = options or ReportOptions()
    check_page(output)
    statistics = AreaStatistics(options.areas, options.area_threshold)
    with VideoReader(video, options.input) as reader:
        for area in options.areas:
            area.check(reader.info.width, reader.info.height)
        collected = Collected(reader.info)
        collector = Collector(collected, statistics)
        with contextlib.closing(saliency_of(reader, model)) as pairs:
            for frame, saliency in pairs:
                collector.add(frame, saliency)
                if progress:
                    progress(frame.index + 1, max(reader.frame_count or 0, frame.index + 1))
        collected.damaged = reader.damaged
    page = render(collected, statistics, model)
    with atomic_write(output) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="xmlcharrefreplace")
    return collected


class Collector:
    """Takes frames with their maps, one after the other."""

    def __init__(self, collected: Collected, areas: AreaStatistics) -> None:
        self._to = collected
        self._areas = areas
        self._scale = RunningScale()
        self._detector = SceneDetector()

    def add(self, frame: Frame, saliency: Map) -> None:
        """Take one frame."""
        to, info = self._to, frame.info
        image = square_pixels(frame.reduced_rgb(max(1.0, info.width / THUMBNAIL_WIDTH)), pixel_aspect(info))
        scaled = self._scale(saliency, frame.time_s)
        numbers = describe(saliency, info.width, info.height)
        to.times_s.append(frame.time_s)
        to.spreads.append(numbers.spread)
        to.centers.append((numbers.centroid_x, numbers.centroid_y))
        shares = self._areas.shares(frame, saliency)
        to.shares.append(tuple(shares.values()))
        share = saliency / max(float(saliency.sum()), 1e-12)
        to.attention = share.astype(np.float64) if to.attention is None else to.attention + share
        if self._detector.is_cut(image) or not to.scenes:
            to.scenes.append(Scene(frame.time_s))
        self._add_to_scene(to.scenes[-1], frame, image, share, numbers)
        if to.stills.wants(frame.time_s):
            to.stills.add(Still(frame.time_s, image, scaled))

    def _add_to_scene(
        self, scene: Scene, frame: Frame, image: Image, share: NDArray[np.float32], numbers: MapStatistics
    ) -> None:
        scene.end_s = frame.time_s + float(frame.duration * frame.info.time_base)
        scene.frames += 1
        scene.spread += numbers.spread
        if len(self._to.scenes) > MAX_SCENES:
            return
        scene.attention = share.astype(np.float64) if scene.attention is None else scene.attention + share
        if scene.picture is None or frame.time_s <= scene.start_s + SETTLE_S:
            scene.picture = image


def pixel_aspect(info: VideoInfo) -> Fraction:
    """Return the pixel aspect ratio of a video, within limits."""
    return min(max(info.sample_aspect_ratio, 1 / MAX_UPSAMPLED), MAX_UPSAMPLED)


def square_pixels(image: Image, aspect: Fraction) -> Image:
    """Enlarge an image, whose pixels are ``aspect`` times as wide as high, so that its pixels are square."""
    if aspect == 1:
        return image
    height, width = image.shape[:2]
    return resize_image(image, round(width * max(aspect, 1)), round(height / min(aspect, 1)))


def render(collected: Collected, areas: AreaStatistics, model: Model) -> str:
    """The page's HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    info, end_s, moves = collected.info, collected.end_s, collected.moves
    painter = Painter(OverlayStyle(threshold=0.02))
    assert collected.attention is not None
    environment = Environment(loader=PackageLoader("tinyhd_cli.apps", "."), autoescape=True, undefined=StrictUndefined)
    frames, size = len(collected.times_s), f"{info.width} x {info.height}"
    video = f"{size}, {float(info.rate):g} frames per second, {clock(end_s)}, {plural(frames, 'frame')}"
    heat_map = painter.paint(collected.middle, in_own_range(collected.attention))
    facts = {
        "File": printable(info.path.name),
        "Video": video if moves else f"{size}, a single frame",
        "Model": f"{model.name} ({model.config.name}), weights {model.sha256[:12]}, on {model.device}",
        "Damaged": f"skipped {damage(collected.damaged)}" if collected.damaged else "",
        "Made by": f"tinyhd {__version__}; a network's prediction of where people look, not a measurement",
    }
    return environment.get_template("report.html").render(
        title=printable(info.path.name),
        facts={name: fact for name, fact in facts.items() if fact},
        moves=moves,
        tall=info.height > info.width * pixel_aspect(info),
        strip=filmstrip(collected, areas.areas) if moves else [],
        heat_map=as_jpeg(heat_map if moves else with_areas(heat_map, areas.areas, collected, 0.0)),
        over_time=plot_over_time(collected) if moves else "",
        path=plot_path(collected) if moves else "",
        in_blocks=model.config.frames_out if frames > model.config.frames_out else 1,
        areas=area_rows(areas, end_s),
        area_plot=plot_areas(collected, areas.areas) if areas.areas and moves else "",
        scenes=[scene_row(number, scene, info, painter) for number, scene in enumerate(collected.scenes, start=1)],
        focus=describe_focus(float(np.mean(collected.spreads)), info),
    )


def filmstrip(collected: Collected, areas: tuple[Area, ...]) -> list[tuple[str, str]]:
    """Return the time and JPEG of frames evenly spread over time, with their maps and the areas of interest."""
    painter = Painter(OverlayStyle())
    strip = []
    for still in collected.stills.chosen(FILMSTRIP, collected.end_s):
        image = with_areas(painter.paint(still.image, still.saliency), areas, collected, still.time_s)
        strip.append((clock(still.time_s), as_jpeg(image)))
    return strip


def with_areas(image: Image, areas: tuple[Area, ...], collected: Collected, time_s: float) -> Image:
    """Draw the areas of interest on a thumbnail and return it."""
    width, height = collected.info.width, collected.info.height
    for number, area in enumerate(areas):
        corners = area.at(time_s, width, height) * (image.shape[1] / width, image.shape[0] / height)
        draw_outline(image, corners, area.name, number, image.shape[1])
    return image


def in_own_range(values: NDArray[np.float64]) -> Map:
    """A map scaled to 0..1 by its robust limits."""
    low, high = np.percentile(values, (5, 99.8))
    return stretch(values.astype(np.float32), float(low), float(high))


def clock(time_s: float) -> str:
    """Return a time as ``m:ss.t``, or as ``h:mm:ss`` from one hour on."""
    tenths = round(time_s * 10)
    if tenths >= 36000:
        return f"{tenths // 36000}:{tenths // 600 % 60:02d}:{tenths // 10 % 60:02d}"
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"


def describe_focus(spread: float, info: VideoInfo) -> str:
    """How concentrated the attention is, in words and as a share of the picture's diagonal."""
    share = spread / float(np.hypot(info.width, info.height))
    word = "concentrated" if share < 0.12 else "moderately spread" if share < 0.19 else "spread out"
    return f"{word} ({share:.0%} of the diagonal around its center)"


def scene_row(number: int, scene: Scene, info: VideoInfo, painter: Painter) -> dict[str, Any]:
    """What the page says of a scene."""
    picture = ""
    if scene.picture is not None and scene.attention is not None:
        picture = as_jpeg(painter.paint(scene.picture, in_own_range(scene.attention)))
    focus = describe_focus(scene.spread / max(1, scene.frames), info)
    where = place_of(scene.attention) if scene.attention is not None else ""
    times = f"{clock(scene.start_s)} to {clock(scene.end_s)}"
    return {"number": number, "times": times, "picture": picture, "focus": focus, "where": where}


def place_of(attention: NDArray[np.float64]) -> str:
    """Where most of a scene's attention is: the peak's third of the picture, across and down."""
    row, column = np.unravel_index(int(np.argmax(attention)), attention.shape)
    across = ("left", "middle", "right")[int(column * 3 // attention.shape[1])]
    down = ("upper", "center", "lower")[int(row * 3 // attention.shape[0])]
    return "center" if (down, across) == ("center", "middle") else f"{down} {across}"


def area_rows(areas: AreaStatistics, end_s: float) -> list[dict[str, str]]:
    """What the page says of each area of interest."""
    rows = []
    for number, (name, found) in enumerate(areas.results().items()):
        share, most, attended = (found[key] or 0.0 for key in ("share", "most", "time_s"))
        first = found["first_s"]
        rows.append(
            {
                "name": name,
                "color": "#{:02x}{:02x}{:02x}".format(*area_color(number)),
                "share": f"{share:.1%}",
                "size": f"{found['size'] or 0.0:.1%}",
                "most": f"{most:.1%} at {clock(found['most_at_s'] or 0.0)}",
                "first": "never" if first is None else clock(first),
                "time": f"{attended:.1f} s ({attended / end_s if end_s else 0:.0%})",
            }
        )
    return rows


def as_jpeg(image: Image) -> str:
    """A picture as the address of an image in the page itself."""
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 82])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def drawn(width: float, height: float, draw: Any) -> str:
    """A drawing as SVG, to stand in the page."""
    with figures.plain_text({"svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": "tinyhd"}):
        figure = figures.new_figure(width, height)
        draw(figure.add_subplot())
        target = io.StringIO()
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None})
    text = target.getvalue()
    return text[text.index("<svg") :]


def mark_times(axis: Axis, end_s: float) -> str:
    """Place the ticks of a time axis, at round minutes and hours for a long video. Return the axis's title."""
    if end_s < TICKS_S[0] * MAX_TICKS / 2:
        return "seconds"
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    step_s = next((step_s for step_s in TICKS_S if end_s <= MAX_TICKS * step_s), end_s / MAX_TICKS)
    axis.set_major_locator(MultipleLocator(step_s))
    axis.set_major_formatter(FuncFormatter(lambda time_s, _: clock(time_s).removesuffix(".0")))
    return "time"


def thinned(count: int, most: int = 2000) -> slice:
    """Every how many of a long row of points a drawing needs."""
    return slice(None, None, max(1, count // most))


def plot_over_time(collected: Collected) -> str:
    """How concentrated the attention is over time, with the cuts."""
    diagonal = float(np.hypot(collected.info.width, collected.info.height))

    def draw(axes: Axes) -> None:
        some = thinned(len(collected.times_s))
        axes.plot(collected.times_s[some], 100 * np.array(collected.spreads[some]) / diagonal, linewidth=1.4)
        cuts = collected.scenes[1:] if len(collected.scenes) <= MAX_CUTS else []
        for scene in cuts:
            axes.axvline(scene.start_s, color="gray", linewidth=0.7, linestyle=":")
        axes.set_ylabel("spread, % of diagonal")
        limit_axes(axes, collected, " (dotted: cuts)" if cuts else "")

    return drawn(9, 2.4, draw)


def limit_axes(axes: Axes, collected: Collected, note: str = "") -> None:
    """Set the limits of a plot over time: x to the length of the video, y with space above the lines."""
    axes.set_xlim(collected.times_s[0], collected.times_s[-1])
    axes.set_ylim(0, 1.08 * max(axes.get_ylim()[1], 1e-9))
    axes.set_xlabel(mark_times(axes.xaxis, collected.times_s[-1]) + note)
    axes.grid(alpha=0.25)


def plot_path(collected: Collected) -> str:
    """The way of the center of attention across the picture, from dark to light."""
    info = collected.info

    def draw(axes: Axes) -> None:
        some = thinned(len(collected.centers))
        x, y = np.array(collected.centers[some]).T
        axes.imshow(collected.middle, extent=(0, info.width, info.height, 0), alpha=0.45)
        axes.plot(x, y, color="black", linewidth=0.8, zorder=1)
        times = collected.times_s[some]
        dots = axes.scatter(x, y, c=times, s=8, cmap="plasma", zorder=2)
        axes.set_xlim(0, info.width)
        axes.set_ylim(info.height, 0)
        axes.set_aspect(float(1 / pixel_aspect(info)))
        axes.set_xticks([])
        axes.set_yticks([])
        bar = axes.figure.colorbar(dots, ax=axes, shrink=0.8)
        bar.set_label(mark_times(bar.ax.yaxis, times[-1]))

    return drawn(5, 3.4, draw)


def plot_areas(collected: Collected, areas: tuple[Area, ...]) -> str:
    """The share of the attention that each area gets over time."""

    def draw(axes: Axes) -> None:
        some = thinned(len(collected.times_s))
        for number in range(len(areas)):
            shares = [100 * row[number] for row in collected.shares[some]]
            color = [value / 255 for value in area_color(number)]
            axes.plot(collected.times_s[some], shares, color=color, linewidth=1.4)
        axes.set_ylabel("share of attention, %")
        limit_axes(axes, collected)
        names, columns = [area.name for area in areas], -(-len(areas) // LEGEND_ROWS)
        figures.add_legend(axes, names, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, ncols=columns)

    return drawn(9, max(2.6, 0.6 + 0.22 * min(len(areas), LEGEND_ROWS)), draw)
