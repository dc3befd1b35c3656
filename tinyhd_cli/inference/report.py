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

from .. import __version__
from ..errors import UsageError
from ..files import written_whole
from ..video.overlay import OverlayStyle, Painter, area_colour, outline, resized
from ..video.reader import Frame, Image, VideoInfo, VideoReader
from ..video.scenes import SceneDetector
from ..video.source import InputOptions
from .areas import Area, AreaStatistics
from .model import Model
from .predict import Progress, saliency_of
from .scaling import RunningScale, stretch
from .statistics import MapStatistics, describe
from .windows import Map

if TYPE_CHECKING:
    from matplotlib.axes import Axes

THUMBNAIL_WIDTH = 320
"""Pixels across a picture of the page."""

FILMSTRIP = 12
"""Pictures in the filmstrip."""

MOST_SCENES = 40
"""Scenes with a picture of their own; of later ones only the times are kept, so that memory does not grow."""

MOST_STRETCHED = Fraction(8)
"""Width of a pixel through its height, or the reverse, above which a file is not believed."""

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
    centres: list[tuple[float, float]] = field(default_factory=list)
    shares: list[tuple[float, ...]] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)
    stills: Filmstrip = field(default_factory=lambda: Filmstrip())
    attention: NDArray[np.float64] | None = None
    damaged: int = 0
    """Packets and frames that could not be decoded."""

    @property
    def end_s(self) -> float:
        """When the last frame ends."""
        return self.scenes[-1].end_s if self.scenes else 0.0

    @property
    def middle(self) -> Image:
        """A frame for the heat map over the whole clip."""
        return self.stills.at(self.end_s / 2).image


@dataclass
class Still:
    """A small frame, as it is and with attention drawn on it."""

    time_s: float
    image: Image
    painted: Image


class Filmstrip:
    """Collects stills that are even in time, in bounded memory and whatever length the video claims to have."""

    def __init__(self) -> None:
        self._stills: list[Still] = []
        self._step_s = 0.0

    def wants(self, time_s: float) -> bool:
        """Whether a frame at this time, later than those before, is of use."""
        return not self._stills or self._step_s == 0 or time_s // self._step_s > self._stills[-1].time_s // self._step_s

    def add(self, still: Still) -> None:
        """Take a still; of too many, those are kept that come first in intervals of equal length."""
        self._stills.append(still)
        if len(self._stills) > 4 * FILMSTRIP:
            self._step_s = max(2 * self._step_s, still.time_s / (2 * FILMSTRIP))
            candidates, self._stills = self._stills, []
            for candidate in candidates:
                if self.wants(candidate.time_s):
                    self._stills.append(candidate)

    def at(self, time_s: float) -> Still:
        """The still that is shown at a time: the last before it."""
        return next((still for still in reversed(self._stills) if still.time_s <= time_s), self._stills[0])

    def chosen(self, end_s: float) -> list[Still]:
        """Those shown in the middle of ``FILMSTRIP`` equal parts of the video, each once."""
        stills = [self.at((number + 0.5) * end_s / FILMSTRIP) for number in range(FILMSTRIP)]
        return list({still.time_s: still for still in stills}.values())


def check_page(output: Path) -> None:
    """``UsageError`` if a page cannot have this name."""
    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--output {output}: the page's name must end in .html")
    if output.is_dir():
        raise UsageError(f"--output {output}: is a folder")


def report_file(
    video: Path,
    model: Model,
    output: Path,
    areas: tuple[Area, ...] = (),
    threshold: float = 0.1,
    progress: Progress | None = None,
    source: InputOptions | None = None,
) -> Collected:
    """Write a page about a video: one HTML file that needs nothing else.

    ``source`` is what the video does not say of itself.

    Raises:
        InputError: the video cannot be read; nothing is written.
        OutputError: the page cannot be written.
        UsageError: the output's name does not end in .html.
    """
    check_page(output)
    statistics = AreaStatistics(areas, threshold)
    with VideoReader(video, source) as reader:
        for area in areas:
            area.check(reader.info.width, reader.info.height)
        collected = Collected(reader.info)
        collector = Collector(collected, statistics)
        with contextlib.closing(saliency_of(reader, model)) as pairs:
            for frame, saliency in pairs:
                collector.add(frame, saliency)
                if progress:
                    progress(frame.index + 1, max(reader.frames or 0, frame.index + 1))
        collected.damaged = reader.damaged
    page = render(collected, statistics, model)
    with written_whole(output) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="xmlcharrefreplace")
    return collected


class Collector:
    """Takes frames with their maps, one after the other."""

    def __init__(self, collected: Collected, areas: AreaStatistics) -> None:
        self._to = collected
        self._areas = areas
        self._scale = RunningScale()
        self._painter = Painter(OverlayStyle())
        self._detector = SceneDetector()

    def add(self, frame: Frame, saliency: Map) -> None:
        """Take one frame."""
        to, info = self._to, frame.info
        image = square_pixels(frame.reduced_rgb(max(1.0, info.width / THUMBNAIL_WIDTH)), info.sample_aspect_ratio)
        scaled = self._scale(saliency, frame.time_s)
        numbers = describe(saliency, info.width, info.height)
        to.times_s.append(frame.time_s)
        to.spreads.append(numbers.spread)
        to.centres.append((numbers.centroid_x, numbers.centroid_y))
        shares = self._areas.shares(frame, saliency)
        to.shares.append(tuple(shares.values()))
        share = saliency / max(float(saliency.sum()), 1e-12)
        to.attention = share.astype(np.float64) if to.attention is None else to.attention + share
        if self._detector.is_cut(image) or not to.scenes:
            to.scenes.append(Scene(frame.time_s))
        self._add_to_scene(to.scenes[-1], frame, image, share, numbers)
        if to.stills.wants(frame.time_s):
            painted = self._with_areas(self._painter.paint(image, scaled), frame)
            to.stills.add(Still(frame.time_s, image, painted))

    def _add_to_scene(
        self, scene: Scene, frame: Frame, image: Image, share: NDArray[np.float32], numbers: MapStatistics
    ) -> None:
        scene.end_s = frame.time_s + float(frame.duration * frame.info.time_base)
        scene.frames += 1
        scene.spread += numbers.spread
        if len(self._to.scenes) > MOST_SCENES:
            return
        scene.attention = share.astype(np.float64) if scene.attention is None else scene.attention + share
        if scene.picture is None or frame.time_s <= scene.start_s + SETTLE_S:
            scene.picture = image

    def _with_areas(self, image: Image, frame: Frame) -> Image:
        """The areas of interest on a small picture."""
        factor = np.array([image.shape[1] / frame.info.width, image.shape[0] / frame.info.height])
        for number, area in enumerate(self._areas.areas):
            corners = area.at(frame.time_s, frame.info.width, frame.info.height) * factor
            outline(image, corners, area.name, number, image.shape[1])
        return image


def square_pixels(image: Image, aspect: Fraction) -> Image:
    """An image whose pixels are ``aspect`` times as wide as high, at the aspect in which it is shown; none is lost."""
    if aspect == 1:
        return image
    height, width = image.shape[:2]
    aspect = min(max(aspect, 1 / MOST_STRETCHED), MOST_STRETCHED)
    return resized(image, round(width * max(aspect, 1)), round(height / min(aspect, 1)))


def render(collected: Collected, areas: AreaStatistics, model: Model) -> str:
    """The page's HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    info, end_s = collected.info, collected.end_s
    painter = Painter(OverlayStyle(threshold=0.02))
    assert collected.attention is not None
    environment = Environment(
        loader=PackageLoader("tinyhd_cli.inference", "."), autoescape=True, undefined=StrictUndefined
    )
    frames = max(1, len(collected.times_s))
    facts = {
        "File": info.path.name,
        "Video": f"{info.width} x {info.height}, {float(info.rate):g} frames a second, {clock(end_s)}, {frames} frames",
        "Model": f"{model.name} ({model.config.name}), weights {model.sha256[:12]}, on {model.device}",
        "Damaged": f"{collected.damaged} packets or frames were skipped" if collected.damaged else "",
        "Made by": f"tinyhd {__version__}; a network's prediction of where people look, not a measurement",
    }
    return environment.get_template("report.html").render(
        title=info.path.name,
        facts={name: fact for name, fact in facts.items() if fact},
        strip=[(clock(still.time_s), as_jpeg(still.painted)) for still in collected.stills.chosen(end_s)],
        heat_map=as_jpeg(painter.paint(collected.middle, in_own_range(collected.attention))),
        over_time=plot_over_time(collected),
        path=plot_path(collected),
        in_blocks=model.config.frames_out,
        areas=area_rows(areas, end_s),
        area_plot=plot_areas(collected, areas.areas) if areas.areas else "",
        scenes=[scene_row(number, scene, info, painter) for number, scene in enumerate(collected.scenes, start=1)],
        focus=describe_focus(float(np.mean(collected.spreads)), info),
    )


def in_own_range(values: NDArray[np.float64]) -> Map:
    """A map scaled to 0..1 by its robust limits."""
    low, high = np.percentile(values, (5, 99.8))
    return stretch(values.astype(np.float32), float(low), float(high))


def clock(time_s: float) -> str:
    """A time as ``m:ss.t``."""
    tenths = round(time_s * 10)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"


def describe_focus(spread: float, info: VideoInfo) -> str:
    """How concentrated the attention is, in words and as a share of the picture's diagonal."""
    share = spread / float(np.hypot(info.width, info.height))
    word = "concentrated" if share < 0.12 else "moderately spread" if share < 0.19 else "spread out"
    return f"{word} ({share:.0%} of the diagonal around its centre)"


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
    down = ("upper", "centre", "lower")[int(row * 3 // attention.shape[0])]
    return "centre" if (down, across) == ("centre", "middle") else f"{down} {across}"


def area_rows(areas: AreaStatistics, end_s: float) -> list[dict[str, str]]:
    """What the page says of each area of interest."""
    rows = []
    for number, (name, found) in enumerate(areas.results().items()):
        share, most, attended = (found[key] or 0.0 for key in ("share", "most", "time_s"))
        first = found["first_s"]
        rows.append(
            {
                "name": name,
                "colour": "#{:02x}{:02x}{:02x}".format(*area_colour(number)),
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
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": "tinyhd"}):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.add_subplot())
        target = io.StringIO()
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None})
    text = target.getvalue()
    return text[text.index("<svg") :]


def thinned(count: int, most: int = 2000) -> slice:
    """Every how many of a long row of points a drawing needs."""
    return slice(None, None, max(1, count // most))


def plot_over_time(collected: Collected) -> str:
    """How concentrated the attention is over time, with the cuts."""
    diagonal = float(np.hypot(collected.info.width, collected.info.height))

    def draw(axes: Axes) -> None:
        some = thinned(len(collected.times_s))
        axes.plot(collected.times_s[some], 100 * np.array(collected.spreads[some]) / diagonal, linewidth=1.4)
        for scene in collected.scenes[1:]:
            axes.axvline(scene.start_s, color="grey", linewidth=0.7, linestyle=":")
        axes.set_xlabel("seconds (dotted: cuts)")
        axes.set_ylabel("spread, % of diagonal")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)

    return drawn(9, 2.4, draw)


def plot_path(collected: Collected) -> str:
    """The way of the centre of attention across the picture, from dark to light."""
    info = collected.info

    def draw(axes: Axes) -> None:
        some = thinned(len(collected.centres))
        x, y = np.array(collected.centres[some]).T
        axes.imshow(collected.middle, extent=(0, info.width, info.height, 0), alpha=0.45)
        axes.plot(x, y, color="black", linewidth=0.8, zorder=1)
        times = collected.times_s[some]
        dots = axes.scatter(x, y, c=times, s=8, cmap="plasma", zorder=2)
        axes.set_xlim(0, info.width)
        axes.set_ylim(info.height, 0)
        axes.set_aspect("equal")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.figure.colorbar(dots, ax=axes, label="seconds", shrink=0.8)

    return drawn(5, 3.4, draw)


def plot_areas(collected: Collected, areas: tuple[Area, ...]) -> str:
    """The share of the attention that each area gets over time."""

    def draw(axes: Axes) -> None:
        some = thinned(len(collected.times_s))
        for number, area in enumerate(areas):
            shares = [100 * row[number] for row in collected.shares[some]]
            colour = [value / 255 for value in area_colour(number)]
            axes.plot(collected.times_s[some], shares, color=colour, label=area.name, linewidth=1.4)
        axes.set_xlabel("seconds")
        axes.set_ylabel("share of attention, %")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)

    return drawn(9, 2.6, draw)
