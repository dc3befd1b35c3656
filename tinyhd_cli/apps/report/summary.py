"""Write one page about many files: a table that the reader can sort, with links to the report of each file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ...atomic_files import atomic_write, is_special
from ...inference.model import Model
from ...storage import url_of
from ...untrusted import printable
from ...video.overlay import Painter, resize_image
from ...wording import damage, plural
from .data import ReportData, diagonal
from .page import CREATED_BY, HEAT_MAP, describe_model, fill_template
from .plots import clock
from .shots import Shot, hex_color, make_shot, outline_areas, scaled_robustly

THUMBNAIL_SIDE = 320
"""Longer side of a thumbnail in pixels, about twice its size on the page."""


@dataclass(frozen=True)
class FileSummary:
    """The row of one file in the summary."""

    path: Path
    """The video or image."""
    page: Path
    """Its report."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    frames: int
    """Number of frames."""
    length_s: float | None
    """Length of a video; None for an image."""
    scenes: int | None
    """Number of scenes of a video; None for an image."""
    spread: float
    """Mean distance of the attention from its center, as a fraction of the diagonal."""
    shares: Mapping[str, float]
    """Fraction of the attention on each area of interest, by the area's name."""
    thumbnail: Shot
    """The mean attention on the image, or on the middle frame."""
    note: str
    """Number of packets and frames that could not be decoded, as text; empty if there are none."""
    model: str
    """The model's name and the checksum of its weights."""


def summarize(data: ReportData, page: Path, model: Model) -> FileSummary:
    """Return the row of a file in the summary.

    Args:
        data: the content of its report.
        page: the file of its report.
        model: the model that predicted where people look.
    """
    info, moves = data.info, data.has_motion
    image = data.middle if moves else data.first
    scale = min(1, THUMBNAIL_SIDE / max(image.shape[:2]))
    image = resize_image(image, *(max(1, round(side * scale)) for side in image.shape[1::-1]))
    painted = Painter(HEAT_MAP).paint(image, scaled_robustly(data.mean_map))
    outlines = outline_areas(data.areas.areas, info, data.times_s[len(data.times_s) // 2], named=False)
    return FileSummary(
        path=info.path,
        page=page,
        width=info.width,
        height=info.height,
        frames=len(data.times_s),
        length_s=data.end_s if moves else None,
        scenes=len(data.scenes) if moves else None,
        spread=data.spread / diagonal(info),
        shares={name: result["share"] or 0.0 for name, result in data.areas.results().items()},
        thumbnail=make_shot(painted, outlines),
        note=f"skipped {damage(data.damaged)}" if data.damaged else "",
        model=describe_model(model),
    )


@dataclass(frozen=True)
class Column:
    """A column of numbers; the rows are the files."""

    name: str
    values: Sequence[float | None]
    """Values to sort by; None for files to which the column does not apply."""
    texts: Sequence[str]
    mean: str = ""
    """Text of the last row."""
    color: str = ""
    """Color of an area of interest; such columns have bars."""


def write_summary(files: Sequence[FileSummary], failures: Mapping[str, str], output: Path) -> None:
    """Write the page.

    Args:
        files: the files with a report, in the order of the page.
        failures: the error of each file without one, by the file's name.
        output: the HTML file to write.

    Raises:
        OutputError: it cannot be written.
    """
    page = fill_template(
        "summary.html",
        kind="summary",
        title=f"Summary of {plural(len(files) + len(failures), 'file')}",
        counts=describe_counts(files),
        names=name_files(files),
        links=[link(file.page, output) for file in files],
        files=files,
        columns=columns_of(files),
        most=max((share for file in files for share in file.shares.values()), default=0.0) or 1.0,
        failures=[(printable(name), printable(error.removeprefix(f"{name}: "))) for name, error in failures.items()],
        facts={
            "Model": ", ".join(dict.fromkeys(file.model for file in files)),
            "Created by": CREATED_BY,
        },
    )
    with atomic_write(output) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="xmlcharrefreplace")


def describe_counts(files: Sequence[FileSummary]) -> str:
    """Return the number of videos, with their length, and of images."""
    lengths = [file.length_s for file in files if file.length_s is not None]
    images = len(files) - len(lengths)
    videos = f"{plural(len(lengths), 'video')} ({clock(sum(lengths))} in total)" if lengths else ""
    return " and ".join(filter(None, [videos, plural(images, "image") if images else ""])) or "no report was written"


def name_files(files: Sequence[FileSummary]) -> list[str]:
    """Return the names of files, preceded by the names of their folders if several files have the same name."""
    count = Counter(file.path.name for file in files)
    return [
        printable(
            file.path.name if count[file.path.name] == 1 else file.path.absolute().parent.name + "/" + file.path.name
        )
        for file in files
    ]


def link(page: Path, output: Path) -> str:
    """Return the address of a report relative to the summary; empty if it has none, such as in a store."""
    if is_special(page) or is_special(output) or (url_of(page) is None) != (url_of(output) is None):
        return ""
    try:
        return quote(os.fsencode(Path(os.path.relpath(page, output.parent)).as_posix()))
    except ValueError:  # on another drive
        return page.absolute().as_uri()


def columns_of(files: Sequence[FileSummary]) -> list[Column]:
    """Return the columns after the file's name; those of time only if one of the files is a video."""
    sizes = [f"{file.width} x {file.height}" for file in files]
    columns = [Column("size", [file.width * file.height for file in files], sizes)]
    if any(file.length_s is not None for file in files):
        lengths = [file.length_s for file in files]
        columns.append(Column("length", lengths, ["image" if one is None else clock(one) for one in lengths]))
        scenes = [file.scenes for file in files]
        columns.append(Column("scenes", scenes, ["" if one is None else f"{one}" for one in scenes]))
    spreads = [file.spread for file in files]
    columns.append(Column("spread", spreads, [f"{one:.0%}" for one in spreads], mean_of(spreads, 0)))
    names = dict.fromkeys(name for file in files for name in file.shares)
    for number, name in enumerate(names):
        shares = [file.shares.get(name) for file in files]
        texts = ["" if share is None else f"{share:.1%}" for share in shares]
        columns.append(Column(printable(name), shares, texts, mean_of(shares, 1), hex_color(number)))
    return columns


def mean_of(values: Sequence[float | None], digits: int) -> str:
    """Return the mean of the known values, as a percentage."""
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.{digits}%}" if known else ""
