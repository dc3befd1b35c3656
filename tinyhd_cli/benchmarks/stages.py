"""Benchmark the stages of predicting an overlay: each stage alone, then all together, beside decoding and encoding."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import av
from av.video.frame import PictureType

from ..inference.model import Model
from ..inference.normalization import make_scale
from ..inference.options import Outputs, PredictOptions
from ..inference.pipeline import Pipeline
from ..inference.predict import MIN_AHEAD, predict_file, prepare
from ..inference.windows import Map
from ..system import available_cores
from ..video.frame_painter import FramePainter
from ..video.reader import DeepImage, Frame, Image, VideoInfo, VideoReader
from ..video.writer import VideoWriter

MAX_FRAMES = 80
"""Maximum number of frames that are kept in memory to time each stage alone."""

ROUNDS = 3
"""Number of measurements of all stages together, and of decoding and encoding alone, in turns; the median counts."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Stage:
    """The times of one stage that runs alone."""

    name: str
    ms: float
    """Milliseconds per frame."""
    cpu_ms: float
    """CPU time of all cores, in milliseconds per frame."""


@dataclass(frozen=True)
class StageTimes:
    """The times of each stage of a video, and of all stages together."""

    video: str
    frames: int
    engine: str
    precision: str
    cores: int
    stages: list[Stage]
    frames_per_s: float
    """Speed of all stages together, from opening the video to closing the overlay."""
    cpu_ms: float
    """CPU time of all stages together, in milliseconds per frame."""
    copied_per_s: float
    """Frames per second of decoding and encoding alone, at the same time: the most that any network can reach."""
    copied_cpu_ms: float
    """CPU time of decoding and encoding alone, in milliseconds per frame."""
    encode_source_cpu_ms: float
    """CPU time of the stage "encode" for the frames of the source, as in decoding and encoding alone: the encoder needs
    another time for overlays."""
    overhead: float
    """Time of all stages together, relative to their CPU time divided by the number of cores: 1 is ideal."""
    bottleneck: str
    """The stage with the most CPU time."""


class StageTimer:
    """Timer of stages that run one after the other."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []

    @contextmanager
    def stage(self, name: str, frames: Sized) -> Iterator[None]:
        """Time the block and divide the time by the number of frames at its end."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        spent = time.perf_counter() - wall, time.process_time() - cpu
        self.stages.append(Stage(name, *(1e3 * seconds / max(1, len(frames)) for seconds in spent)))


def stage_times(video: Path, model: Model) -> StageTimes:
    """Time each stage of ``predict --overlay`` on the first frames of a video, then predict the whole video.

    Raises:
        InputError: the video cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "overlay.mp4"
        *stages, encode_source = time_stages(video, model, target)
        together, copying = [], []
        for _ in range(ROUNDS):
            copying.append(spent(lambda: copy(video, target))[1])
            summary, seconds = spent(lambda: predict_file(video, model, Outputs(overlay=target)))
            together.append(seconds)
    (wall, cpu), (copied_wall, copied_cpu) = medians(together), medians(copying)
    needed_s = sum(stage.cpu_ms for stage in stages) / 1e3 * summary.frames / available_cores()
    return StageTimes(
        video=video.name,
        frames=summary.frames,
        engine=model.engine.name,
        precision=model.engine.precision,
        cores=available_cores(),
        stages=stages,
        frames_per_s=summary.frames / wall,
        cpu_ms=1e3 * cpu / summary.frames,
        copied_per_s=summary.frames / copied_wall,
        copied_cpu_ms=1e3 * copied_cpu / summary.frames,
        encode_source_cpu_ms=encode_source.cpu_ms,
        overhead=wall / needed_s,
        bottleneck=max(stages, key=lambda stage: stage.cpu_ms).name,
    )


def spent(work: Callable[[], Result]) -> tuple[Result, tuple[float, float]]:
    """Return the result of some work, and the seconds of wall-clock time and of CPU time that it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, (time.perf_counter() - wall, time.process_time() - cpu)


def medians(seconds: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the median wall-clock time and the median CPU time."""
    wall, cpu = (statistics.median(column) for column in zip(*seconds, strict=True))
    return wall, cpu


def copy(video: Path, target: Path) -> None:
    """Decode a video and encode it again, as ``predict`` does, without prediction."""
    with VideoReader(video) as reader, Pipeline() as stages, writer_of(target, reader.info) as writer:
        for frame in stages.prefetch(reader, MIN_AHEAD):
            writer.write(source_image(frame, writer), frame)


def writer_of(target: Path, info: VideoInfo) -> VideoWriter:
    """Return the writer of an overlay, with the default options."""
    return VideoWriter(target, info, (info.width, info.height))


def source_image(frame: Frame, writer: VideoWriter) -> DeepImage | av.VideoFrame:
    """Return a frame without a map in the form in which overlays are written: its planes, or RGB."""
    if not frame.has_plain_planes:
        return writer.rgb_of(frame)
    frame.av_frame.pict_type = PictureType.NONE  # otherwise, the encoder would keep the source's key frames
    return frame.av_frame


def time_stages(video: Path, model: Model, target: Path) -> list[Stage]:
    """Time each stage alone, one after the other, on the first frames of a video.

    While a stage is timed, its frames are not kept, because ``predict`` reuses their memory: the page faults of new
    memory can take longer than drawing.

    Returns:
        The stages of a prediction, and then encoding without maps.
    """
    timer = StageTimer()
    with VideoReader(video) as reader:
        info = reader.info
        frames = list(islice(reader, MAX_FRAMES))
    with VideoReader(video) as reader, timer.stage("decode", frames):
        discard(islice(reader, len(frames)))
    with timer.stage("scale", frames):
        discard(prepare(frames, model))
    prepared = [pixels for _, pixels in prepare(frames, model)]
    payloads = list(range(len(frames)))
    list(model.maps([(None, prepared[0])]))  # warm-up: allocates memory, and may build an engine
    with timer.stage("network", frames):
        maps = [saliency for _, saliency in model.maps(zip(payloads, prepared, strict=True))]
    objects = model.spec.task == "object"
    painter = FramePainter(PredictOptions().style, info.color, objects)
    with timer.stage("draw", frames):
        discard(drawn(painter, frames, maps, objects))
    images = list(drawn(painter, frames, maps, objects))
    with timer.stage("encode", frames), writer_of(target, info) as writer:
        for image, frame in zip(images, frames, strict=True):
            writer.write(image, frame)
    with timer.stage("encode source", frames), writer_of(target, info) as writer:
        for frame in frames:
            writer.write(source_image(frame, writer), frame)
    return timer.stages


def drawn(
    painter: FramePainter, frames: Sequence[Frame], maps: Sequence[Map], objects: bool
) -> Iterator[Image | av.VideoFrame]:
    """Yield frames with their maps drawn on them, as in an overlay."""
    scale = make_scale("none" if objects else "running")
    for frame, saliency in zip(frames, maps, strict=True):
        yield painter.paint(frame, scale(saliency, frame.time_s))


def discard(items: Iterable[object]) -> None:
    """Compute all items, and free each before the next."""
    for item in items:
        del item
