"""Saliency of what is happening now: the newest frames count, older ones are dropped, nothing queues up."""

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

from ..errors import InputError, UsageError
from ..inference.model import Model
from ..inference.normalization import RunningScale
from ..inference.predict import shrunk
from ..inference.windows import Map, Pixels
from ..models.spec import CLIP_FRAMES
from ..video.options import InputOptions
from ..video.overlay import Painter, draw_label
from ..video.reader import Frame, Image, VideoReader

URL_MARK, FILE_URL = "://", "file://"


@dataclass(frozen=True)
class Source:
    """Where live frames come from."""

    path: Path
    options: InputOptions
    paced: bool
    """Whether frames must be held back to their time: a file would rush by."""

    def open(self) -> VideoReader:
        """The opened source; ``InputError`` if that is impossible."""
        return VideoReader(self.path, self.options)


def find_source(what: str | None, camera: int | None, playlists: bool = False) -> Source:
    """Return the source of a command line: a camera by its number, a URL, or a file, which may be a playlist.

    Raises:
        UsageError: none or two are named.
    """
    if (what is None) == (camera is None):
        raise UsageError("name one source: --camera 0, a URL, or a file")
    if camera is not None:
        name, kind = {
            "linux": (f"/dev/video{camera}", "v4l2"),
            "darwin": (str(camera), "avfoundation"),
        }.get(sys.platform, (f"video={camera}", "dshow"))
        return Source(Path(name), InputOptions(address=name, format=kind), paced=False)
    assert what is not None
    if what.startswith(FILE_URL):
        what = url2pathname(what.removeprefix(FILE_URL))
    elif URL_MARK in what:
        return Source(Path(what.rpartition("/")[2] or "stream"), InputOptions(address=what), paced=False)
    return Source(Path(what), InputOptions(playlists=playlists), paced=True)


@dataclass(frozen=True)
class LiveFrame:
    """A frame and when it came, by the clock of ``time.monotonic``."""

    frame: Frame
    image: Image
    at_s: float


class FrameGrabber(threading.Thread):
    """Reads frames as they come and keeps the newest few.

    Attributes:
        dropped: frames that were replaced before anybody took them.
        error: what ended the reading, if it was not the end of the source.
    """

    def __init__(self, reader: VideoReader, paced: bool) -> None:
        super().__init__(daemon=True)
        self._reader, self._paced = reader, paced
        self._recent: deque[LiveFrame] = deque(maxlen=CLIP_FRAMES)
        self._changed = threading.Condition()
        self._ending = False
        self._taken = -1
        self.ended = False
        self.dropped = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._read()
        except Exception as error:  # it is told to whoever waits for frames
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
                if self._ending:
                    return
                if self._recent and self._recent[-1].frame.index > self._taken:
                    self.dropped += 1
                self._recent.append(grabbed)
                self._changed.notify_all()

    def newest(self) -> LiveFrame | None:
        """The newest frame, which nobody has taken before; waits for it. None at the end."""
        with self._changed:
            while not self.ended and not (self._recent and self._recent[-1].frame.index > self._taken):
                self._changed.wait(0.5)
            if not self._recent or self._recent[-1].frame.index <= self._taken:
                return None
            self._taken = self._recent[-1].frame.index
            return self._recent[-1]

    def clip(self) -> list[LiveFrame]:
        """The newest frames, up to as many as a network reads at once."""
        with self._changed:
            return list(self._recent)

    def stop(self) -> None:
        """End the reading after the frame that is being read."""
        with self._changed:
            self._ending = True


@dataclass(frozen=True)
class LiveMap:
    """A map and the moment that it is of."""

    saliency: Map
    at_s: float


class Predictor(threading.Thread):
    """Predicts the newest clip over and over, as fast as the network can.

    Attributes:
        maps: how many maps were made.
    """

    def __init__(self, grabber: FrameGrabber, model: Model) -> None:
        super().__init__(daemon=True)
        self._grabber, self._model = grabber, model
        self._prepared: dict[int, Pixels] = {}
        self._ending = threading.Event()
        self.latest: LiveMap | None = None
        self.maps = 0
        self.error: Exception | None = None

    def run(self) -> None:
        last = -1
        try:
            infer = self._model.watched()
            while not self._ending.is_set() and not self._grabber.ended:
                clip = self._grabber.clip()
                if not clip or clip[-1].frame.index == last:
                    time.sleep(0.002)
                    continue
                last = clip[-1].frame.index
                self.latest = LiveMap(infer(self._pixels(clip))[-1], clip[-1].at_s)
                self.maps += 1
        except Exception as error:  # it is told to whoever shows the maps
            self.error = error

    def _pixels(self, clip: list[LiveFrame]) -> Pixels:
        """The clip as the network reads it; the first frame fills the front."""
        kept = {item.frame.index: self._prepared.get(item.frame.index) for item in clip}
        for item in clip:
            if kept[item.frame.index] is None:
                kept[item.frame.index] = self._model.prepare(shrunk(item.image))
        self._prepared = {index: pixels for index, pixels in kept.items() if pixels is not None}
        frames = list(self._prepared.values())
        return np.stack([frames[0]] * (CLIP_FRAMES - len(frames)) + frames, axis=1)

    def stop(self) -> None:
        """End after the map that is being made."""
        self._ending.set()


@dataclass
class LiveSummary:
    """What became of a live run."""

    shown: int = 0
    dropped: int = 0
    maps: int = 0
    seconds: float = 0.0
    lag_s: float = 0.0
    """Mean age of the map on a frame when it was shown."""


Show = Callable[[Image, Frame], bool]
"""Shows a painted frame; says whether to go on."""


def watch(
    reader: VideoReader,
    paced: bool,
    model: Model,
    painter: Painter,
    show: Show,
    duration_s: float | None = None,
) -> LiveSummary:
    """Paint the newest map on the newest frame, again and again, until the source ends or somebody has seen enough.

    Ctrl-C is the usual end of it, and no error.

    Args:
        reader: where frames come from.
        paced: whether they are held back to their time, as those of a file must be.
        model: the network; its newest map counts, whatever its number of outputs.
        painter: draws maps.
        show: shows painted frames.
        duration_s: end after so long; None: never.

    Raises:
        InputError: the source cannot be read.
        WeightsError: a map is not finite.
    """
    grabber = FrameGrabber(reader, paced)
    watcher = Predictor(grabber, model)
    scale = RunningScale()
    summary = LiveSummary()
    started = time.monotonic()
    interrupted = False
    grabber.start()
    watcher.start()
    try:
        while watcher.error is None and (grabbed := grabber.newest()) is not None:
            image, seen = grabbed.image, watcher.latest
            now = time.monotonic()
            if seen is not None:
                image = painter.paint(image, scale(seen.saliency, now - started))
                summary.lag_s += now - seen.at_s
                rate = watcher.maps / max(now - started, 1e-9)
                draw_label(image, f"lag {now - seen.at_s:.2f} s, {rate:.1f} maps/s", (0, image.shape[0]), (0, 0, 0))
            summary.shown += 1
            if not show(image, grabbed.frame) or (duration_s is not None and now - started >= duration_s):
                break
    except KeyboardInterrupt:
        interrupted = True
    finally:
        grabber.stop()
        watcher.stop()
        watcher.join()
        grabber.join(1)
    if watcher.error is not None and not interrupted:  # also one that came after the last frame of a short video
        raise watcher.error
    if grabber.error is not None and not interrupted:
        raise grabber.error if isinstance(grabber.error, InputError) else InputError(str(grabber.error))
    summary.dropped, summary.maps = grabber.dropped, watcher.maps
    summary.seconds = time.monotonic() - started
    summary.lag_s /= max(1, summary.shown)
    return summary
