"""Benchmark the stages of predicting an overlay: each stage alone, then all stages together."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from av.video.frame import PictureType

from ..inference.model import Model
from ..inference.normalization import make_scale
from ..inference.options import Outputs, PredictOptions
from ..inference.pipeline import Pipeline
from ..inference.predict import MIN_AHEAD, predict_file, prepare
from ..system import available_cores
from ..video.frame_painter import FramePainter
from ..video.reader import Frame, VideoReader
from ..video.writer import VideoWriter

MAX_FRAMES = 80
"""Maximum number of frames that are kept in memory to time each stage alone."""


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
    copied_per_s: float
    """Frames per second of decoding and encoding alone, at the same time: the most that any network can reach."""
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
        stages = time_stages(video, model, target)
        started = time.perf_counter()
        summary = predict_file(video, model, Outputs(overlay=target))
        seconds = time.perf_counter() - started
        copied_per_s = summary.frames / copy_seconds(video, target)
    needed_s = sum(stage.cpu_ms for stage in stages) / 1e3 * summary.frames / available_cores()
    return StageTimes(
        video=video.name,
        frames=summary.frames,
        engine=model.engine.name,
        precision=model.engine.precision,
        cores=available_cores(),
        stages=stages,
        frames_per_s=summary.frames / seconds,
        copied_per_s=copied_per_s,
        overhead=seconds / needed_s,
        bottleneck=max(stages, key=lambda stage: stage.cpu_ms).name,
    )


def copy_seconds(video: Path, target: Path) -> float:
    """Return the seconds for decoding a video and encoding it again, as ``predict`` does, without prediction."""
    started = time.perf_counter()
    with VideoReader(video) as reader, Pipeline() as stages:
        info = reader.info
        with VideoWriter(target, info, (info.width, info.height)) as writer:
            for frame in stages.prefetch(reader, MIN_AHEAD):
                as_stored = frame.has_plain_planes
                if as_stored:
                    frame.av_frame.pict_type = (
                        PictureType.NONE
                    )  # otherwise, the encoder would keep the source's key frames
                writer.write(frame.av_frame if as_stored else writer.rgb_of(frame), frame)
    return time.perf_counter() - started


def time_stages(video: Path, model: Model, target: Path) -> list[Stage]:
    """Time each stage alone, one after the other, on the first frames of a video."""
    timer = StageTimer()
    with VideoReader(video) as reader:
        info = reader.info
        frames: list[Frame] = []
        with timer.stage("decode", frames):
            frames += islice(reader, MAX_FRAMES)
    with timer.stage("scale", frames):
        prepared = [pixels for _, pixels in prepare(frames, model)]
    payloads = list(range(len(frames)))
    list(model.maps([(None, prepared[0])]))  # warm-up: allocates memory, and may build an engine
    with timer.stage("network", frames):
        maps = [saliency for _, saliency in model.maps(zip(payloads, prepared, strict=True))]
    objects = model.spec.task == "object"
    scale, style = make_scale("none" if objects else "running"), PredictOptions().style
    painter = FramePainter(style, info.color, objects)
    with timer.stage("draw", frames):
        drawn = [
            painter.paint(frame, scale(saliency, frame.time_s)) for frame, saliency in zip(frames, maps, strict=True)
        ]
    with timer.stage("encode", frames), VideoWriter(target, info, (info.width, info.height)) as writer:
        for image, frame in zip(drawn, frames, strict=True):
            writer.write(image, frame)
    return timer.stages
