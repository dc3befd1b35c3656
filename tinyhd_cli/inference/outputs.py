"""Write predictions to files. A file gets its final name when it is complete; incomplete files are removed."""

from __future__ import annotations

import contextlib
import csv
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import cv2
import numpy as np

from .. import figures
from ..atomic_files import cannot_write, make_parent, publish, remove, temporary_path
from ..untrusted import csv_cell, json_text
from ..video.overlay import FramePainter, Painter, area_color, draw_outline, to_gray_image
from ..video.reader import Frame, VideoInfo
from ..video.source import images_in
from ..video.writer import PipeWriter, VideoWriter
from .areas import AreaStatistics
from .map_spool import MapSpool
from .normalization import FixedScale, Normalize, Scale, make_scale
from .options import STDOUT, Outputs, PredictOptions
from .statistics import MapStatistics, describe
from .windows import Map

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class RunContext:
    """The facts about one run that its outputs share."""

    info: VideoInfo
    outputs: Outputs
    options: PredictOptions
    areas: AreaStatistics
    metadata: dict[str, Any]
    """The JSON summary, except for statistics. It must be complete when the outputs are closed."""
    whole_video: FixedScale | None = None
    """The scale for all frames; required for ``normalize="video"``."""

    def scale(self, default: Normalize) -> Scale:
        """Return a new scale with the chosen normalization; ``default`` applies if none is chosen."""
        return make_scale(self.options.normalize or default, self.whole_video)


class Sink(Protocol):
    """A destination of predictions."""

    def write(self, frame: Frame, saliency: Map) -> None:
        """Write one frame's raw map ``(H, W)``."""

    def close(self) -> None:
        """Complete the output and give it its final name."""

    def abort(self) -> None:
        """Remove all temporary files; has no effect after :meth:`close`."""


def open_sinks(stack: contextlib.ExitStack, run: RunContext) -> list[Sink]:
    """Open the requested outputs. When the stack is left, outputs that have not been closed are removed."""
    sinks = []
    for kind, path in run.outputs.requested():
        sink = open_sink(kind, path, run)
        stack.callback(sink.abort)
        sinks.append(sink)
    return sinks


def open_sink(kind: str, path: Path, run: RunContext) -> Sink:
    """Open one output; ``kind`` is a field of :class:`Outputs`."""
    match kind:
        case "overlay":
            return OverlaySink(path, run)
        case "maps" if run.outputs.maps_are_video:
            return MapVideoSink(path, run)
        case "maps":
            return MapFolderSink(path, run.scale("frame"), map_names(run.info.path))
        case "npz":
            return NpzSink(path)
        case "csv":
            return CsvSink(path, run.info, run.areas)
        case "json":
            return JsonSink(path, run.metadata, run.areas)
        case "aoi_plot":
            return AreaPlotSink(path, run.areas)
        case _:
            raise ValueError(f"unknown kind of output: {kind!r}")


class OverlaySink:
    """A video of the frames with the maps drawn on them."""

    def __init__(self, path: Path, run: RunContext) -> None:
        info, options = run.info, run.options
        self._scale = run.scale("running")
        self._areas = run.areas
        self._painter = Painter(options.style)
        self._frame_painter = FramePainter(options.style, info.as_sdr.color)
        size = self._painter.size(info.width, info.height)
        self._writer: VideoWriter | PipeWriter
        if path == STDOUT:
            self._writer = PipeWriter(info, size)
        else:
            self._writer = VideoWriter(path, info, size, options.encoder, audio=options.audio)

    def write(self, frame: Frame, saliency: Map) -> None:
        scaled = self._scale(saliency, frame.time_s)
        # Outlines and labels are drawn in RGB, and a pipe writer takes RGB only.
        if isinstance(self._writer, VideoWriter) and not self._areas.areas:
            self._writer.write(self._frame_painter.paint(frame, scaled), frame)
            return
        painted = self._painter.paint(frame.rgb(), scaled)
        shares = self._areas.shares(frame, saliency)
        for number, area in enumerate(self._areas.areas):
            corners = area.at(frame.time_s, frame.info.width, frame.info.height)
            share = shares[area.name]
            text = f"{area.name} {share:.0%}" if share >= 0.1 else f"{area.name} {share:.1%}"
            draw_outline(painted, corners, text, number, frame.info.width)
        self._writer.write(painted, frame)

    def close(self) -> None:
        self._writer.close()

    def abort(self) -> None:
        self._writer.abort()


class MapVideoSink:
    """A grayscale video of the maps, in the size of the source, without audio."""

    def __init__(self, path: Path, run: RunContext) -> None:
        info = run.info
        self._scale = run.scale("running")
        self._writer = VideoWriter(path, info, (info.width, info.height), run.options.encoder, audio=False)

    def write(self, frame: Frame, saliency: Map) -> None:
        gray = to_gray_image(self._scale(saliency, frame.time_s), frame.info.width, frame.info.height)
        self._writer.write(np.repeat(gray[..., np.newaxis], 3, axis=2), frame)

    def close(self) -> None:
        self._writer.close()

    def abort(self) -> None:
        self._writer.abort()


def map_names(video: Path) -> dict[Path, str]:
    """Return the file name of each image's map, for a folder of images. Empty for videos, whose maps are numbered.

    A map has the name of its image, so that it matches the same frame of a dataset however the frames are numbered.
    The name includes the image's suffix if several images have the same stem.
    """
    images = images_in(video) if video.is_dir() else []
    stems = Counter(image.stem.casefold() for image in images)
    return {image: f"{image.name if stems[image.stem.casefold()] > 1 else image.stem}.png" for image in images}


class MapFolderSink:
    """One 8-bit grayscale PNG per frame, in the size of the source.

    Maps are named after their images, or 0001.png and so on if the source is a video. They are collected in a hidden
    folder next to the output folder. Maps of an earlier run are replaced; other files are kept.

    Args:
        path: the output folder.
        scale: scales the maps for display.
        names: see :func:`map_names`.
    """

    def __init__(self, path: Path, scale: Scale, names: Mapping[Path, str]) -> None:
        self.path = path
        self._scale = scale
        self._names = names
        self._count = 0
        self._partial = temporary_path(path)
        make_parent(path)
        try:
            self._partial.mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(path, error) from error

    def write(self, frame: Frame, saliency: Map) -> None:
        gray = to_gray_image(self._scale(saliency, frame.time_s), frame.info.width, frame.info.height)
        _, png = cv2.imencode(".png", gray)
        self._count = frame.index + 1
        name = (self._names.get(frame.path) if frame.path else None) or f"{self._count:04d}.png"
        try:
            (self._partial / name).write_bytes(png.tobytes())
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def close(self) -> None:
        try:
            publish(self._partial, self.path)
            # The maps of a longer earlier run continue the numbering without a gap; other files are the user's.
            number = self._count + 1
            while not self._names and (left_over := self.path / f"{number:04d}.png").is_file():
                left_over.unlink()
                number += 1
        except OSError as error:
            raise cannot_write(self.path, error) from error
        finally:
            self.abort()

    def abort(self) -> None:
        remove(self._partial)


class NpzSink:
    """Raw ``saliency``, float32 ``(frames, H, W)``, and ``time_s``, float64 ``(frames,)``.

    For a folder of images, also ``image``: the file names of the images.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._times: list[float] = []
        self._images: list[str] = []
        self._spool = MapSpool(path)
        self._partial = temporary_path(path)

    def write(self, frame: Frame, saliency: Map) -> None:
        self._times.append(frame.time_s)
        if frame.path is not None:
            self._images.append(frame.path.name)
        self._spool.append(saliency)

    def close(self) -> None:
        """Write the archive map by map; ``numpy.savez`` would need all maps in memory."""
        header = {"descr": "<f4", "fortran_order": False, "shape": (self._spool.count, *self._spool.shape)}
        try:
            with zipfile.ZipFile(self._partial, "w", zipfile.ZIP_STORED) as archive:
                with archive.open("saliency.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, header)
                    for saliency in self._spool:
                        member.write(saliency.tobytes())
                with archive.open("time_s.npy", "w") as member:
                    np.lib.format.write_array(member, np.asarray(self._times, np.float64))
                if self._images:
                    with archive.open("image.npy", "w") as member:
                        np.lib.format.write_array(member, np.asarray(self._images))
            publish(self._partial, self.path)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        finally:
            self.abort()

    def abort(self) -> None:
        self._spool.discard()
        remove(self._partial)


class TextSink:
    """Base class of the CSV and JSON outputs: a text file that has a temporary name until it is complete."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = temporary_path(path)
        make_parent(path)
        try:
            # File names that are not valid Unicode are written as backslash escapes, which are also valid JSON.
            self._file: TextIO = self._partial.open("w", encoding="utf-8", newline="", errors="backslashreplace")
        except OSError as error:
            raise cannot_write(path, error) from error

    def close(self) -> None:
        try:
            self._file.close()
            publish(self._partial, self.path)
        except OSError as error:
            self.abort()
            raise cannot_write(self.path, error) from error

    def abort(self) -> None:
        with contextlib.suppress(OSError):  # on a full disk, closing tries to write the buffer again and fails again
            self._file.close()
        remove(self._partial)


class CsvSink(TextSink):
    """One row per frame: number from 1, time in seconds, :class:`MapStatistics`, attention of each area of interest.

    For a folder of images, also ``image``: the file name of each frame.
    """

    def __init__(self, path: Path, info: VideoInfo, areas: AreaStatistics) -> None:
        super().__init__(path)
        self._areas = areas
        self._image = ["image"] if info.path.is_dir() else []
        self._writer = csv.writer(self._file, lineterminator="\n")
        columns = [field.name for field in fields(MapStatistics)]
        self._writer.writerow(
            ["frame", "time_s", *self._image, *columns, *(csv_cell(f"aoi_{area.name}") for area in areas.areas)]
        )

    def write(self, frame: Frame, saliency: Map) -> None:
        statistics = vars(describe(saliency, frame.info.width, frame.info.height))
        shares = self._areas.shares(frame, saliency)
        row = [*statistics.values(), *shares.values()]  # not a dict: an area may have the name of a statistic
        try:
            image = [csv_cell(frame.path.name if frame.path else "") for _ in self._image]
            cells = [frame.index + 1, f"{frame.time_s:.6f}", *image, *(f"{value:.4f}" for value in row)]
            self._writer.writerow(cells)
        except OSError as error:
            raise cannot_write(self.path, error) from error


class JsonSink(TextSink):
    """A summary of the run: its metadata, the statistics averaged over all frames, the areas of interest.

    ``metadata`` is read when the output is closed.
    """

    def __init__(self, path: Path, metadata: Mapping[str, Any], areas: AreaStatistics) -> None:
        super().__init__(path)
        self._metadata = metadata
        self._areas = areas
        self._sums: dict[str, float] = {}
        self._frames = 0

    def write(self, frame: Frame, saliency: Map) -> None:
        self._frames += 1
        self._areas.shares(frame, saliency)
        for name, value in vars(describe(saliency, frame.info.width, frame.info.height)).items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def close(self) -> None:
        means = {name: round(total / max(self._frames, 1), 4) for name, total in self._sums.items()}
        areas = {"areas": self._areas.results()} if self._areas.areas else {}
        try:
            self._file.write(json_text({**self._metadata, "mean": means, **areas}))
        except OSError as error:
            self.abort()
            raise cannot_write(self.path, error) from error
        super().close()


class AreaPlotSink:
    """A PNG plot of the attention on each area of interest over time."""

    def __init__(self, path: Path, areas: AreaStatistics) -> None:
        self.path = path
        self._areas = areas
        self._times: list[float] = []
        self._shares: list[list[float]] = []
        make_parent(path)

    def write(self, frame: Frame, saliency: Map) -> None:
        self._times.append(frame.time_s)
        self._shares.append(list(self._areas.shares(frame, saliency).values()))

    def close(self) -> None:
        with figures.plain_text():
            figures.save_figure(self._draw(), self.path, dpi=120)

    def _draw(self) -> Figure:
        figure = figures.new_figure(9, 3.6)
        axes = figure.add_subplot()
        results = self._areas.results()
        for number in range(len(self._areas.areas)):
            shares = [100 * row[number] for row in self._shares]
            axes.plot(self._times, shares, color=[value / 255 for value in area_color(number)], linewidth=1.5)
        axes.set_xlabel("seconds")
        axes.set_ylabel("fraction of attention, %")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        names = [f"{area.name}, mean {results[area.name]['share'] or 0.0:.1%}" for area in self._areas.areas]
        figures.add_legend(axes, names, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return figure

    def abort(self) -> None:
        """Do nothing: the file is written only by :meth:`close`."""
