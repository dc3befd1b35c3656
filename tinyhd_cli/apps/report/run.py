"""Write an HTML report about one video or image: where people look, when, and how concentrated their attention is."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ...atomic_files import atomic_write, is_special
from ...callbacks import OnProgress
from ...errors import UsageError
from ...inference.areas import AreaStatistics
from ...inference.model import Model
from ...inference.predict import saliency_of
from ...inference.tasks import require_task
from ...video.reader import VideoReader
from ..options import ReportOptions
from .data import ReportCollector, ReportData
from .page import render


def check_page(output: Path, flag: str = "--output") -> None:
    """Raise ``UsageError`` if a page cannot have this name, which is the value of the option ``flag``."""
    if output.suffix.lower() not in (".html", ".htm") and not is_special(output):
        raise UsageError(f"{flag} {output}: the page's name must end in .html")
    if output.is_dir():
        raise UsageError(f"{flag} {output}: is a folder")


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
    """Write a report about a video or an image: one HTML file without external files.

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
    with VideoReader(video, options.input) as reader:
        for area in options.areas:
            area.check(reader.info.width, reader.info.height)
        data = ReportData(reader.info, AreaStatistics(options.areas, options.area_threshold))
        collector = ReportCollector(data)
        with contextlib.closing(saliency_of(reader, model)) as pairs:
            for frame, saliency in pairs:
                collector.add(frame, saliency)
                if progress:
                    progress(frame.index + 1, max(reader.frame_count or 0, frame.index + 1))
        data.damaged = reader.damaged
    page = render(data, model)
    with atomic_write(output) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="xmlcharrefreplace")
    return data
