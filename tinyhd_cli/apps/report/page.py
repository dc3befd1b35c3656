"""Write the HTML of the report about one video or image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...inference.areas import AreaStatistics
from ...inference.model import Model
from ...inference.statistics import describe
from ...untrusted import printable
from ...version import __version__
from ...video.options import OverlayStyle
from ...video.overlay import Painter
from ...video.reader import VideoInfo
from ...wording import damage, plural
from .data import ReportData, Scene, diagonal
from .plots import clock, plot_areas, plot_over_time, plot_path
from .shots import Shot, contours_of, hex_color, make_shot, outline_areas, region, scaled_robustly

FILMSTRIP = 12
"""Number of images in the filmstrip."""

HEAT_MAP = OverlayStyle(threshold=0.02)

CREATED_BY = f"tinyhd {__version__}. Attention is predicted by a neural network; it is not a measurement."
"""The colors of mean maps."""


def fill_template(name: str, **values: Any) -> str:
    """Return a page made from a template of this folder; all values are escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tinyhd_cli.apps.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(version=__version__, **values)


def render(data: ReportData, model: Model) -> str:
    """Return the report's HTML. An image and a video with a single frame have a page without time."""
    values = video_values(data, model) if data.has_motion else image_values(data)
    return fill_template(
        "video.html" if data.has_motion else "image.html",
        kind="report",
        title=printable(data.info.path.name),
        facts=describe_run(data, model),
        focus=describe_focus(data.spread, data.info),
        areas=area_rows(data.areas, data.end_s),
        **values,
    )


def video_values(data: ReportData, model: Model) -> dict[str, Any]:
    """Return the values that only the page of a video shows."""
    painter = Painter(HEAT_MAP)
    maps = model.spec.maps
    return {
        "heat_map": make_shot(painter.paint(data.middle, scaled_robustly(data.mean_map))),
        "path": plot_path(data),
        "strip": filmstrip(data),
        "over_time": plot_over_time(data),
        "block_frames": maps if len(data.times_s) > maps else 1,
        "area_plot": plot_areas(data) if data.areas.areas else None,
        "scenes": [scene_row(number, scene, data.info, painter) for number, scene in enumerate(data.scenes, start=1)],
    }


def image_values(data: ReportData) -> dict[str, Any]:
    """Return the values that only the page of an image shows."""
    outlines = outline_areas(data.areas.areas, data.info, 0.0)
    heat_map = Painter(HEAT_MAP).paint(data.first, scaled_robustly(data.mean_map))
    return {
        "heat_map": make_shot(heat_map, outlines),
        "contour_map": make_shot(data.first, contours=contours_of(data.mean_map)),
        "numbers": describe_image(data),
    }


def describe_run(data: ReportData, model: Model) -> dict[str, str]:
    """Return the facts about the input and the model; those that do not apply are empty."""
    info, size = data.info, f"{data.info.width} x {data.info.height}"
    length = f"{float(info.rate):g} frames per second, {clock(data.end_s)}, {plural(len(data.times_s), 'frame')}"
    return {
        "File": printable(info.path.name),
        "Video": f"{size}, {length}" if data.has_motion else "",
        "Image": "" if data.has_motion else f"{size} pixels",
        "Model": describe_model(model),
        "Damaged": f"skipped {damage(data.damaged)}" if data.damaged else "",
        "Created by": CREATED_BY,
    }


def describe_model(model: Model) -> str:
    """Return the model's name, the checksum of its weights, and the device."""
    return f"{model.name} ({model.spec.name}), weights {model.sha256[:12]}, on {model.device}"


def describe_image(data: ReportData) -> dict[str, str]:
    """Return the position and the size of the attention in an image, as text."""
    info = data.info
    found = describe(data.mean_map.astype(np.float32), info.width, info.height)
    half, most = (region(data.mean_map, fraction)[1] for fraction in (0.5, 0.75))
    return {
        "Most salient point": f"{found.peak_x:.0f}, {found.peak_y:.0f} ({peak_position(data.mean_map)})",
        "Center of attention": f"{found.centroid_x:.0f}, {found.centroid_y:.0f}",
        "Spread": f"{data.spread:.0f} pixels, {data.spread / diagonal(info):.0%} of the diagonal",
        "50% of the attention": f"on {half:.1%} of the image",
        "75% of the attention": f"on {most:.1%} of the image",
    }


def filmstrip(data: ReportData) -> list[tuple[str, Shot]]:
    """Return the times and images of frames evenly spread over time, with their maps and the areas of interest."""
    painter = Painter(OverlayStyle())
    strip = []
    for sample in data.samples.select(FILMSTRIP, data.end_s):
        outlines = outline_areas(data.areas.areas, data.info, sample.time_s)
        strip.append((clock(sample.time_s), make_shot(painter.paint(sample.image, sample.saliency), outlines)))
    return strip


def describe_focus(spread: float, info: VideoInfo) -> str:
    """Describe the concentration of the attention, in words and as a fraction of the frame's diagonal."""
    fraction = spread / diagonal(info)
    word = "concentrated" if fraction < 0.12 else "moderately spread" if fraction < 0.19 else "spread out"
    return f"{word} (spread: {fraction:.0%} of the diagonal)"


def scene_row(number: int, scene: Scene, info: VideoInfo, painter: Painter) -> dict[str, Any]:
    """Return the values that the report shows for a scene."""
    shot = None
    if scene.image is not None and scene.attention is not None:
        shot = make_shot(painter.paint(scene.image, scaled_robustly(scene.attention)))
    focus = describe_focus(scene.spread / max(1, scene.frames), info)
    position = peak_position(scene.attention) if scene.attention is not None else ""
    times = f"{clock(scene.start_s)} to {clock(scene.end_s)}"
    return {"number": number, "times": times, "shot": shot, "focus": focus, "position": position}


def peak_position(attention: NDArray[np.float64]) -> str:
    """Return the third of the frame that contains the maximum, horizontally and vertically, in words."""
    row, column = np.unravel_index(int(np.argmax(attention)), attention.shape)
    across = ("left", "middle", "right")[int(column * 3 // attention.shape[1])]
    down = ("upper", "center", "lower")[int(row * 3 // attention.shape[0])]
    return "center" if (down, across) == ("center", "middle") else f"{down} {across}"


def area_rows(areas: AreaStatistics, end_s: float) -> list[dict[str, str]]:
    """Return the values that the report shows for each area of interest."""
    rows = []
    for number, (name, result) in enumerate(areas.results().items()):
        share, size, most, attended = (result[key] or 0.0 for key in ("share", "size", "most", "time_s"))
        first = result["first_s"]
        rows.append(
            {
                "name": name,
                "color": hex_color(number),
                "share": f"{share:.1%}",
                "size": f"{size:.1%}",
                "ratio": f"{share / size:.1f} times" if size else "",
                "most": f"{most:.1%} at {clock(result['most_at_s'] or 0.0)}",
                "first": "never" if first is None else clock(first),
                "time": f"{attended:.1f} s ({attended / end_s if end_s else 0:.0%})",
            }
        )
    return rows
