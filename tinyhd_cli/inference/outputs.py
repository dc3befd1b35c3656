"""Write predictions to files. A file gets its final name when it is complete; incomplete files are removed."""

from __future__ import annotations

import contextlib
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .. import figures
from ..atomic_files import cannot_write, make_parent, publish, remove, temporary_path
from ..video.animation_writer import AnimationWriter
from ..video.encoders import ALPHA_CODECS
from ..video.frame_painter import FramePainter, image_painter
from ..video.image_writer import ImageSequenceWriter, ImageWriter
from ..video.object_overlay import cut_out, object_mask
from ..video.options import is_numbered
from ..video.overlay import area_color, draw_outline, to_blurred_image, to_gray_image
from ..video.reader import Frame, Image, VideoInfo
from ..video.source import images_in
from ..video.writer import PipeWriter, VideoWriter
from .areas import AreaStatistics
from .map_spool import MapSpool
from .normalization import FixedScale, Normalize, RunningScale, Scale, make_scale
from .objects import ObjectStatistics, describe_object
from .options import ANIMATIONS, STDOUT, Outputs, PredictOptions, is_an_image, is_one_image
from .statistics import MapStatistics, describe
from .tables import CsvSink, JsonSink
from .windows import Map

if TYPE_CHECKING:
    from matplotlib.figure import Figure


FrameWriter = VideoWriter | PipeWriter | ImageWriter | AnimationWriter
"""Writers of files that hold all frames."""


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
    objects: bool = False
    """Whether the maps are probabilities of objects; otherwise they show where people look."""
    photograph: bool = False
    """Whether the source is an image, not a video."""
    warmed: RunningScale | None = None
    """The running scale before the first frame that is written; None at the start of a video."""
    make_video: type[VideoWriter] = VideoWriter
    """Makes the writers of videos."""

    @property
    def maps_are_video(self) -> bool:
        """Whether the maps are written as a video or as an animated image."""
        maps = self.outputs.maps
        return self.outputs.maps_are_video and not (self.photograph and maps is not None and is_an_image(maps))

    def writer(self, path: Path, size: tuple[int, int], *, audio: bool) -> FrameWriter:
        """Return the writer of an output that is a video, an animated image or an image of ``size``."""
        if path == STDOUT:
            return PipeWriter(self.info, size)
        if self.photograph and is_one_image(path):
            return ImageWriter(path)
        if path.suffix.lower() in ANIMATIONS:
            return AnimationWriter(path, size)
        return self.make_video(path, self.info, size, self.options.encoder, audio=audio)

    def scale(self, default: Normalize) -> Scale:
        """Return a new scale with the chosen normalization; ``default`` applies if none is chosen.

        Probabilities of objects are never rescaled.
        """
        return make_scale("none" if self.objects else self.options.normalize or default, self.whole_video, self.warmed)

    def grayscale(self, default: Normalize) -> Callable[[Frame, Map], Image]:
        """Return the function that makes an image of a map, uint8 ``(h, w)``; see :meth:`scale` for ``default``."""
        scale, style, binary = self.scale(default), self.options.style, self.options.binary
        draw = to_blurred_image if self.options.blur else to_gray_image

        def to_image(frame: Frame, saliency: Map) -> Image:
            gray = draw(scale(saliency, frame.time_s), frame.info.width, frame.info.height)
            return object_mask(gray, style.object_threshold) if binary else gray

        return to_image

    def describe(self, saliency: Map, width: int, height: int) -> MapStatistics | ObjectStatistics:
        """Return the statistics of a map for a video of ``width`` x ``height`` pixels."""
        if self.objects:
            return describe_object(saliency, width, height, self.options.style.object_threshold)
        return describe(saliency, width, height)


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
        case "maps":
            return MapSink(path, run)
        case "cutout":
            return CutoutSink(path, run)
        case "npz":
            return NpzSink(path)
        case "csv":
            columns = ObjectStatistics if run.objects else MapStatistics
            return CsvSink(path, run.info, columns, run.describe, run.areas)
        case "json":
            return JsonSink(path, run.metadata, run.describe, run.areas)
        case "aoi_plot":
            return AreaPlotSink(path, run.areas)
        case _:
            raise ValueError(f"unknown kind of output: {kind!r}")


class ImagesSink:
    """Base of the outputs that are images of all frames.

    Attributes:
        writer: writes them.
    """

    writer: FrameWriter | ImageSequenceWriter

    def close(self) -> None:
        self.writer.close()

    def abort(self) -> None:
        self.writer.abort()


class OverlaySink(ImagesSink):
    """A video, or one image, of the frames with the maps drawn on them."""

    def __init__(self, path: Path, run: RunContext) -> None:
        info, options = run.info, run.options
        self._scale = run.scale("running")
        self._areas = run.areas
        self._painter = image_painter(options.style, run.objects)
        self.writer = run.writer(path, self._painter.size(info.width, info.height), audio=options.audio)
        self._frame_painter: FramePainter | None = None
        # Outlines and labels are drawn in RGB, and the other writers take RGB only.
        if isinstance(self.writer, VideoWriter) and not self._areas.areas:
            self._frame_painter = FramePainter(options.style, info.as_sdr.color, run.objects)

    def write(self, frame: Frame, saliency: Map) -> None:
        scaled = self._scale(saliency, frame.time_s)
        if self._frame_painter is not None and isinstance(self.writer, VideoWriter):
            self.writer.write(self._frame_painter.paint(frame, scaled), frame)
            return
        painted = self._painter.paint(frame.rgb(), scaled)
        shares = self._areas.shares(frame, saliency)
        for number, area in enumerate(self._areas.areas):
            corners = area.at(frame.time_s, frame.info.width, frame.info.height)
            share = shares[area.name]
            text = f"{area.name} {share:.0%}" if share >= 0.1 else f"{area.name} {share:.1%}"
            draw_outline(painted, corners, text, number, frame.info.width)
        self.writer.write(painted, frame)


class MapSink(ImagesSink):
    """Grayscale images of the maps in the size of the source: a video without audio, one image, or PNGs.

    PNGs are named after their images, or 0001.png and so on if the source is a video.
    """

    def __init__(self, path: Path, run: RunContext) -> None:
        info = run.info
        self._gray = run.grayscale("running" if run.maps_are_video else "frame")
        if run.maps_are_video or is_an_image(path):
            self.writer = run.writer(path, (info.width, info.height), audio=False)
        else:
            self.writer = ImageSequenceWriter(path, map_names(info.path))

    def write(self, frame: Frame, saliency: Map) -> None:
        gray = self._gray(frame, saliency)
        video = isinstance(self.writer, VideoWriter)
        self.writer.write(np.repeat(gray[..., np.newaxis], 3, axis=2) if video else gray, frame)


class CutoutSink(ImagesSink):
    """The object of each frame with transparency around it: a video with the audio, one image, or PNGs."""

    def __init__(self, path: Path, run: RunContext) -> None:
        info, options = run.info, run.options
        if path.suffix.lower() in ALPHA_CODECS:
            size = (info.width, info.height)
            self.writer = run.make_video(path, info, size, options.encoder, audio=options.audio, alpha=True)
        elif is_one_image(path) and not is_numbered(path):
            self.writer = ImageWriter(path)
        else:
            self.writer = ImageSequenceWriter(path, map_names(info.path))

    def write(self, frame: Frame, saliency: Map) -> None:
        self.writer.write(cut_out(frame.rgb(), saliency), frame)


def map_names(video: Path) -> dict[Path, str]:
    """Return the file name of each image's map, for a folder of images. Empty for videos, whose maps are numbered.

    A map has the name of its image, so that it matches the same frame of a dataset however the frames are numbered.
    The name includes the image's suffix if several images have the same stem.
    """
    images = images_in(video) if video.is_dir() else []
    stems = Counter(image.stem.casefold() for image in images)
    return {image: f"{image.name if stems[image.stem.casefold()] > 1 else image.stem}.png" for image in images}


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


class AreaPlotSink:
    """A PNG plot of the fraction in each area of interest over time."""

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
        axes.set_ylabel(f"fraction of the {self._areas.subject}, %")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        names = [f"{area.name}, mean {results[area.name]['share'] or 0.0:.1%}" for area in self._areas.areas]
        figures.add_legend(axes, names, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return figure

    def abort(self) -> None:
        """Do nothing: the file is written only by :meth:`close`."""
