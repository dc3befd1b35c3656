"""Show saliency live: the newest map on the newest frame. Frames that arrive too fast are dropped, not queued."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.request import url2pathname

import numpy as np

from ...errors import InputError, UsageError
from ...inference.model import Model
from ...inference.normalization import Scale, make_scale
from ...inference.preprocess import Pixels, reduced
from ...inference.windows import Map
from ...models import ModelSpec
from ...video.options import InputOptions
from ...video.overlay import Painter, draw_label
from ...video.reader import Frame, Image, VideoReader

URL_MARK, FILE_URL = "://", "file://"


@dataclass(frozen=True)
class Source:
    """A source of live frames: a camera, a stream or a file."""

    path: Path
    options: InputOptions
    paced: bool
    """Whether frames must be delayed until their timestamps, because a file can be read faster than it plays."""

    def open(self) -> VideoReader:
        """Open the source; ``InputError`` if that fails."""
        return VideoReader(self.path, self.options)


def find_source(location: str | None, camera: int | None, playlists: bool = False) -> Source:
    """Return the source for a URL or file, or for the number of a camera.

    Args:
        location: a URL or a file; None for a camera.
        camera: the camera's number; None for a URL or file.
        playlists: whether a file may be a playlist.

    Raises:
        UsageError: not exactly one source is given.
    """
    if (location is None) == (camera is None):
        raise UsageError("name one source: --camera 0, a URL, or a file")
    if camera is not None:
        name, kind = {
            "linux": (f"/dev/video{camera}", "v4l2"),
            "darwin": (str(camera), "avfoundation"),
        }.get(sys.platform, (f"video={camera}", "dshow"))
        return Source(Path(name), InputOptions(address=name, format=kind), paced=False)
    assert location is not None
    if location.startswith(FILE_URL):
        location = url2pathname(location.removeprefix(FILE_URL))
    elif URL_MARK in location:
        return Source(Path(location.rpartition("/")[2] or "stream"), InputOptions(address=location), paced=False)
    return Source(Path(location), InputOptions(playlists=playlists), paced=True)


@dataclass(frozen=True)
class LiveFrame:
    """A frame with the time of its arrival."""

    frame: Frame
    image: Image
    at_s: float
    """Arrival on the clock of ``time.monotonic``."""


class FrameGrabber(threading.Thread):
    """Reads frames as they arrive and keeps the newest ones.

    Attributes:
        ended: whether reading has ended, at the end of the source or with an error.
        dropped: number of frames that were replaced by newer frames before they were taken.
        error: the error that ended reading, if any.
    """

    def __init__(self, reader: VideoReader, paced: bool, clip_frames: int) -> None:
        super().__init__(daemon=True)
        self._reader, self._paced = reader, paced
        self._recent: deque[LiveFrame] = deque(maxlen=clip_frames)
        self._changed = threading.Condition()
        self._stopped = False
        self._taken = -1
        self.ended = False
        self.dropped = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._read()
        except Exception as error:  # raised later, in the main thread
            self.error = error
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def _read(self) -> None:
        started = time.monotonic()
        for frame in self._reader:
            if self._paced:
                time.sleep(max(0.0, started + frame.time_s - time.monotonic()))
            grabbed = LiveFrame(frame, frame.rgb(), time.monotonic())
            with self._changed:
                if self._stopped:
                    return
                if self._recent and self._recent[-1].frame.index > self._taken:
                    self.dropped += 1
                self._recent.append(grabbed)
                self._changed.notify_all()

    def newest(self) -> LiveFrame | None:
        """Wait for a frame that has not been taken yet and return the newest one. Return None at the end."""
        with self._changed:
            while not self.ended and not (self._recent and self._recent[-1].frame.index > self._taken):
                self._changed.wait(0.5)
            if not self._recent or self._recent[-1].frame.index <= self._taken:
                return None
            self._taken = self._recent[-1].frame.index
            return self._recent[-1]

    def clip(self) -> list[LiveFrame]:
        """Return the newest frames, at most the number of frames in a clip."""
        with self._changed:
            return list(self._recent)

    def stop(self) -> None:
        """Stop after the current frame."""
        with self._changed:
            self._stopped = True


@dataclass(frozen=True)
class LiveMap:
    """A saliency map with the arrival time of its frame."""

    saliency: Map
    at_s: float


class Predictor(threading.Thread):
    """Repeatedly predicts the newest clip, as fast as the network can.

    Attributes:
        latest: the newest map.
        maps: number of maps predicted.
        error: the error that ended prediction, if any.
    """

    def __init__(self, grabber: FrameGrabber, model: Model) -> None:
        super().__init__(daemon=True)
        self._grabber, self._model = grabber, model
        self._prepared: dict[int, Pixels] = {}
        self._stopped = threading.Event()
        self.latest: LiveMap | None = None
        self.maps = 0
        self.error: Exception | None = None

    def run(self) -> None:
        last = -1
        try:
            infer = self._model.watched()
            while not self._stopped.is_set() and not self._grabber.ended:
                clip = self._grabber.clip()
                if not clip or clip[-1].frame.index == last:
                    time.sleep(0.002)
                    continue
                last = clip[-1].frame.index
                own = clip[max(0, len(clip) - 1 - map_delay(self._model.spec))]
                self.latest = LiveMap(infer(self._pixels(clip))[-1], own.at_s)
                self.maps += 1
        except Exception as error:  # raised later, in the main thread
            self.error = error

    def _pixels(self, clip: list[LiveFrame]) -> Pixels:
        """Return the clip as network input. If frames are missing, the first frame is repeated at the front."""
        kept = {item.frame.index: self._prepared.get(item.frame.index) for item in clip}
        for item in clip:
            if kept[item.frame.index] is None:
                kept[item.frame.index] = self._model.prepare(reduced(item.frame, self._model.spec.preprocess))
        self._prepared = {index: pixels for index, pixels in kept.items() if pixels is not None}
        frames = list(self._prepared.values())
        return np.stack([frames[0]] * (self._model.spec.clip_frames - len(frames)) + frames, axis=1)

    def stop(self) -> None:
        """Stop after the current map."""
        self._stopped.set()


def map_delay(spec: ModelSpec) -> int:
    """Return the number of frames by which the newest map is late, because the network reads frames after its own."""
    return spec.lookahead if spec.windowing == "sliding" else 0


@dataclass
class LiveSummary:
    """Result of a live run."""

    shown: int = 0
    dropped: int = 0
    maps: int = 0
    seconds: float = 0.0
    lag_s: float = 0.0
    """Mean age of the map at the time when its overlay is shown."""


Show = Callable[[Image, Frame], bool]
"""Shows a painted frame and returns whether to continue."""


def show_live(
    reader: VideoReader,
    paced: bool,
    model: Model,
    painter: Painter,
    show: Show,
    duration_s: float | None = None,
) -> LiveSummary:
    """Show the newest map on the newest frame until the source, the duration or the user ends the run.

    Ctrl-C is the usual way to end a run and not an error.

    Args:
        reader: the source of the frames.
        paced: whether frames are delayed until their timestamps, which is required for files.
        model: predicts the maps; of the maps of a clip, the newest one is shown.
        painter: draws maps.
        show: shows painted frames.
        duration_s: duration of the run in seconds; None: unlimited.

    Raises:
        InputError: the source cannot be read.
        WeightsError: a map contains NaN or infinity.
    """
    grabber = FrameGrabber(reader, paced, model.spec.clip_frames)
    predictor = Predictor(grabber, model)
    summary = LiveSummary()
    started = time.monotonic()
    interrupted = False
    grabber.start()
    predictor.start()
    try:
        scale = make_scale("none" if model.spec.task == "object" else "running")
        show_frames(grabber, predictor, scale, painter, show, duration_s, summary)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        grabber.stop()
        predictor.stop()
        predictor.join()
        grabber.join(1)
    if not interrupted:
        raise_errors(predictor, grabber)
    summary.dropped, summary.maps = grabber.dropped, predictor.maps
    summary.seconds = time.monotonic() - started
    summary.lag_s /= max(1, summary.shown)
    return summary


def show_frames(
    grabber: FrameGrabber,
    predictor: Predictor,
    scale: Scale,
    painter: Painter,
    show: Show,
    duration_s: float | None,
    summary: LiveSummary,
) -> None:
    """Paint and show the newest frames until the run ends. Count them and add up the lag in ``summary``."""
    started = time.monotonic()
    while predictor.error is None and (grabbed := grabber.newest()) is not None:
        image, latest = grabbed.image, predictor.latest
        now = time.monotonic()
        if latest is not None:
            image = painter.paint(image, scale(latest.saliency, now - started))
            summary.lag_s += now - latest.at_s
            rate = predictor.maps / max(now - started, 1e-9)
            draw_label(image, f"lag {now - latest.at_s:.2f} s, {rate:.1f} maps/s", (0, image.shape[0]), (0, 0, 0))
        summary.shown += 1
        if not show(image, grabbed.frame) or (duration_s is not None and now - started >= duration_s):
            break


def raise_errors(predictor: Predictor, grabber: FrameGrabber) -> None:
    """Raise the error that ended a thread, including one that occurred after the last frame of a short video."""
    if predictor.error is not None:
        raise predictor.error
    if grabber.error is not None:
        raise grabber.error if isinstance(grabber.error, InputError) else InputError(str(grabber.error))
