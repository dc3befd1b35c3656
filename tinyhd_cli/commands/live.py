"""``tinyhd live``: where people look right now."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import OK, UsageError
from ..wording import plural
from .options import AllowPlaylists, Alpha, Colormap, Device, Engine, ModelName, Precision, Quiet, WeightsFile
from .predict import load
from .terminal import loading, say

if TYPE_CHECKING:
    from ..apps.live import Show
    from ..video.reader import Frame, Image, VideoReader


def live(
    source: Annotated[
        str | None, typer.Argument(metavar="[URL|FILE]", help="A stream or a video, instead of a camera.")
    ] = None,
    camera: Annotated[int | None, typer.Option(metavar="N", help="Number of a camera, from 0.")] = None,
    overlay: Annotated[
        str | None,
        typer.Option("--overlay", "-o", metavar="FILE", help="Write to a file instead of a window; -: y4m to stdout."),
    ] = None,
    duration: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="End after so long. Default: Ctrl-C ends.")
    ] = None,
    model: ModelName = None,
    weights: WeightsFile = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "auto",
    colormap: Colormap = "turbo",
    alpha: Alpha = 0.6,
    allow_playlists: AllowPlaylists = False,
    quiet: Quiet = False,
) -> int:
    """Show where people look in what a camera, a stream or a video shows now, with the lag.

    The newest map is drawn on the newest frame. Frames that come too fast are dropped, so that the lag cannot grow:
    tinyhd live --camera 0
    """
    loading.start(quiet)
    from ..apps.live import find_source, watch
    from ..video.overlay import OverlayStyle, Painter

    found = find_source(source, camera, allow_playlists)
    painter = Painter(OverlayStyle(colormap, alpha))
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(found.open())  # one that cannot be read is said before the weights are loaded
        loaded = load(model, weights, device, engine, precision)
        show = shown_in(overlay, reader, stack)
        loading.stop()
        summary = watch(reader, found.paced, loaded, painter, show, duration)
    if not quiet:
        rate, maps = summary.shown / summary.seconds, summary.maps / summary.seconds
        say(
            f"{plural(summary.shown, 'frame')} shown ({rate:.1f} fps), {summary.dropped} dropped,"
            f" {maps:.1f} maps per second, mean lag {summary.lag_s:.2f} s"
        )
    return OK


def shown_in(overlay: str | None, reader: VideoReader, stack: contextlib.ExitStack) -> Show:
    """Where painted frames go: a window, standard output or a file, which is complete when the stack is left."""
    from ..apps.live_window import TkWindow
    from ..inference.options import STDOUT
    from ..video.encoders import check_container
    from ..video.writer import PipeWriter, VideoWriter

    if overlay is None:
        return TkWindow(reader.path.name)
    path, size = Path(overlay), (reader.info.width, reader.info.height)
    writer: VideoWriter | PipeWriter
    if path == STDOUT:
        writer = PipeWriter(reader.info, size)
    else:
        check_container(path)
        if os.path.realpath(path) == os.path.realpath(reader.path):
            raise UsageError(f"--overlay {path}: is the input itself")
        writer = VideoWriter(path, reader.info, size, audio=False)

    def finish(kind: type[BaseException] | None, *details: object) -> None:
        if kind is None:
            writer.close()
        else:
            writer.abort()

    def show(image: Image, frame: Frame) -> bool:
        writer.write(image, frame)
        return True

    stack.push(finish)
    return show
