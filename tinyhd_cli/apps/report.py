"""Write an HTML report about one video: where people look, when, and how concentrated their attention is."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..atomic_files import atomic_write, is_special
from ..callbacks import OnProgress
from ..errors import UsageError
from ..inference.areas import Area, AreaStatistics
from ..inference.model import Model
from ..inference.normalization import HIGH, LOW, stretch
from ..inference.predict import saliency_of
from ..inference.tasks import require_task
from ..inference.windows import Map
from ..untrusted import printable
from ..version import __version__
from ..video.options import OverlayStyle
from ..video.overlay import Painter, area_color, draw_outline
from ..video.reader import Image, VideoInfo, VideoReader
from ..wording import damage, plural
from .options import ReportOptions
from .report_data import ReportCollector, ReportData, Scene, pixel_aspect
from .report_plots import clock, plot_areas, plot_over_time, plot_path

FILMSTRIP = 12
"""Number of images in the filmstrip."""


def check_page(output: Path) -> None:
    """Raise ``UsageError`` if a report cannot have this name."""
    if output.suffix.lower() not in (".html", ".htm") and not is_special(output):
        raise UsageError(f"--output {output}: the report's name must end in .html")
    if output.is_dir():
        raise UsageError(f"--output {output}: is a folder")


def check_model(model: Model) -> None:
    """Raise ``UsageError`` for a model of objects, which a report does not describe."""
    require_task(model.spec, "fixation", "report")


def report_file(
    video: Path,
    model: Model,
    output: Path,
    options: ReportOptions | None = None,
    progress: OnProgress | None = None,
) -> ReportData:
    """Write a report about a video: one HTML file without external files.

    Args:
        video: the source.
        model: predicts where people look.
        output: the file to write.
        options: areas of interest, and facts about the input; None: the defaults.
        progress: called after each frame.

    Raises:
        InputError: the video cannot be read; nothing is written.
        OutputError: the report cannot be written.
        UsageError: the output's name does not end in .html, or the model finds objects.
    """
    options = options or ReportOptions()
    check_page(output)
    check_model(model)
    statistics = AreaStatistics(options.areas, options.area_threshold)
    with VideoReader(video, options.input) as reader:
        for area in options.areas:
            area.check(reader.info.width, reader.info.height)
        data = ReportData(reader.info)
        collector = ReportCollector(data, statistics)
        with contextlib.closing(saliency_of(reader, model)) as pairs:
            for frame, saliency in pairs:
                collector.add(frame, saliency)
                if progress:
                    progress(frame.index + 1, max(reader.frame_count or 0, frame.index + 1))
        data.damaged = reader.damaged
    page = render(data, statistics, model)
    with atomic_write(output) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="xmlcharrefreplace")
    return data


def render(data: ReportData, areas: AreaStatistics, model: Model) -> str:
    """Return the report's HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    info, end_s, has_motion = data.info, data.end_s, data.has_motion
    painter = Painter(OverlayStyle(threshold=0.02))
    assert data.attention is not None
    environment = Environment(loader=PackageLoader("tinyhd_cli.apps", "."), autoescape=True, undefined=StrictUndefined)
    heat_map = painter.paint(data.middle, scaled_robustly(data.attention))
    frames = len(data.times_s)
    return environment.get_template("report.html").render(
        title=printable(info.path.name),
        facts={name: fact for name, fact in describe_run(data, model).items() if fact},
        has_motion=has_motion,
        tall=info.height > info.width * pixel_aspect(info),
        strip=filmstrip(data, areas.areas) if has_motion else [],
        heat_map=as_jpeg(heat_map if has_motion else with_areas(heat_map, areas.areas, data, 0.0)),
        over_time=plot_over_time(data) if has_motion else "",
        path=plot_path(data) if has_motion else "",
        block_frames=model.spec.maps if frames > model.spec.maps else 1,
        areas=area_rows(areas, end_s),
        area_plot=plot_areas(data, areas.areas) if areas.areas and has_motion else "",
        scenes=[scene_row(number, scene, info, painter) for number, scene in enumerate(data.scenes, start=1)],
        focus=describe_focus(float(np.mean(data.spreads)), info),
    )


def describe_run(data: ReportData, model: Model) -> dict[str, str]:
    """Return the facts about the video and the model; those that do not apply are empty."""
    info, size = data.info, f"{data.info.width} x {data.info.height}"
    length = f"{float(info.rate):g} frames per second, {clock(data.end_s)}, {plural(len(data.times_s), 'frame')}"
    return {
        "File": printable(info.path.name),
        "Video": f"{size}, {length}" if data.has_motion else f"{size}, a single frame",
        "Model": f"{model.name} ({model.spec.name}), weights {model.sha256[:12]}, on {model.device}",
        "Damaged": f"skipped {damage(data.damaged)}" if data.damaged else "",
        "Created by": f"tinyhd {__version__}. Attention is predicted by a neural network; it is not a measurement.",
    }


def filmstrip(data: ReportData, areas: Sequence[Area]) -> list[tuple[str, str]]:
    """Return the times and JPEGs of frames evenly spread over time, with their maps and the areas of interest."""
    painter = Painter(OverlayStyle())
    strip = []
    for sample in data.samples.select(FILMSTRIP, data.end_s):
        image = with_areas(painter.paint(sample.image, sample.saliency), areas, data, sample.time_s)
        strip.append((clock(sample.time_s), as_jpeg(image)))
    return strip


def with_areas(image: Image, areas: Sequence[Area], data: ReportData, time_s: float) -> Image:
    """Draw the areas of interest on a thumbnail and return it."""
    width, height = data.info.width, data.info.height
    for number, area in enumerate(areas):
        corners = area.at(time_s, width, height) * (image.shape[1] / width, image.shape[0] / height)
        draw_outline(image, corners, area.name, number, image.shape[1])
    return image


def scaled_robustly(values: NDArray[np.float64]) -> Map:
    """Scale a map to 0 to 1 by its robust limits."""
    low, high = np.quantile(values, (LOW, HIGH))
    return stretch(values.astype(np.float32), float(low), float(high))


def describe_focus(spread: float, info: VideoInfo) -> str:
    """Describe the concentration of the attention, in words and as a fraction of the frame's diagonal."""
    fraction = spread / float(np.hypot(info.width, info.height))
    word = "concentrated" if fraction < 0.12 else "moderately spread" if fraction < 0.19 else "spread out"
    return f"{word} (spread: {fraction:.0%} of the diagonal)"


def scene_row(number: int, scene: Scene, info: VideoInfo, painter: Painter) -> dict[str, Any]:
    """Return the values that the report shows for a scene."""
    image = ""
    if scene.image is not None and scene.attention is not None:
        image = as_jpeg(painter.paint(scene.image, scaled_robustly(scene.attention)))
    focus = describe_focus(scene.spread / max(1, scene.frames), info)
    position = peak_position(scene.attention) if scene.attention is not None else ""
    times = f"{clock(scene.start_s)} to {clock(scene.end_s)}"
    return {"number": number, "times": times, "image": image, "focus": focus, "position": position}


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
        share, most, attended = (result[key] or 0.0 for key in ("share", "most", "time_s"))
        first = result["first_s"]
        rows.append(
            {
                "name": name,
                "color": "#{:02x}{:02x}{:02x}".format(*area_color(number)),
                "share": f"{share:.1%}",
                "size": f"{result['size'] or 0.0:.1%}",
                "most": f"{most:.1%} at {clock(result['most_at_s'] or 0.0)}",
                "first": "never" if first is None else clock(first),
                "time": f"{attended:.1f} s ({attended / end_s if end_s else 0:.0%})",
            }
        )
    return rows


def as_jpeg(image: Image) -> str:
    """Return an image as a data URL that contains a JPEG."""
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 82])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
