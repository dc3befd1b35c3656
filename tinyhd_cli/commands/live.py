"""``tinyhd live``: show where people look in a live video."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import OK, UsageError
from ..fields import Adjust
from ..inference.model_options import ModelOptions
from ..video.options import InputOptions, OverlayStyle
from ..wording import plural
from .model_options import load
from .option_fields import with_options
from .options import Quiet
from .terminal import loading, say

if TYPE_CHECKING:
    from ..apps.live.run import Show
    from ..video.reader import Frame, Image, VideoReader


@with_options
def live(
    source: Annotated[
        str | None, typer.Argument(metavar="[URL|FILE]", help="Stream or video, instead of a camera.")
    ] = None,
    *,
    camera: Annotated[int | None, typer.Option(metavar="N", help="Number of the camera, from 0.")] = None,
    overlay: Annotated[
        str | None,
        typer.Option("--overlay", "-o", metavar="FILE", help="Write to a file instead of a window; -: y4m to stdout."),
    ] = None,
    duration: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Stop after this time. Default: run until Ctrl-C.")
    ] = None,
    model: ModelOptions,
    style: Annotated[OverlayStyle, Adjust(only=("colormap", "alpha"))],
    options: Annotated[InputOptions, Adjust(only=("playlists",))],
    quiet: Quiet = False,
) -> int:
    """Show where people look, or the object, in the video of a camera or a stream, and the lag.

    The newest map is drawn on the newest frame. Frames that arrive too fast are dropped, so the lag stays low:
    tinyhd live --camera 0
    """
    from ..apps.live.run import find_source, map_delay, show_live
    from ..video.frame_painter import image_painter

    found = find_source(source, camera, options.playlists)
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(found.open())  # reports an unreadable source before the weights are loaded
        loaded = load(model)
        show = shown_in(overlay, reader, stack)
        painter = image_painter(style, loaded.spec.task == "object")
        loading.stop()
        if (delay := map_delay(loaded.spec)) and not quiet:
            following = "the next frame" if delay == 1 else f"the next {delay} frames"
            say(f"each map is {plural(delay, 'frame')} late: the network reads {following}, too")
        summary = show_live(reader, found.paced, loaded, painter, show, duration)
    if not quiet:
        rate, maps = summary.shown / summary.seconds, summary.maps / summary.seconds
        say(
            f"{plural(summary.shown, 'frame')} shown ({rate:.1f} fps), {summary.dropped} dropped,"
            f" {maps:.1f} maps per second, mean lag {summary.lag_s:.2f} s"
        )
    return OK


def shown_in(overlay: str | None, reader: VideoReader, stack: contextlib.ExitStack) -> Show:
    """Return the display for painted frames: a window, stdout, or a file that is complete when the stack is left."""
    from ..apps.live.window import TkWindow
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
            raise UsageError(f"--overlay {path}: is the input itself; write to another file")
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
