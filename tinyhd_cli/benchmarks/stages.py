"""What each stage of predicting an overlay costs alone, and all of them at the same time."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from ..inference.model import Model
from ..inference.normalization import make_scale
from ..inference.options import Outputs, PredictOptions
from ..inference.predict import predict_file, prepare
from ..models.spec import CLIP_FRAMES
from ..system import available_cores
from ..video.overlay import FramePainter
from ..video.reader import Frame, VideoReader
from ..video.writer import VideoWriter

MAX_FRAMES = 5 * CLIP_FRAMES
"""Frames that are kept in memory for one stage after the other."""


@dataclass(frozen=True)
class Stage:
    """A part of the work, done alone."""

    name: str
    ms: float
    """Milliseconds a frame."""
    processor_ms: float
    """Of all processor cores together, a frame."""


@dataclass(frozen=True)
class StageTimes:
    """A video's stages, and the whole."""

    video: str
    frames: int
    engine: str
    precision: str
    cores: int
    stages: list[Stage]
    frames_per_s: float
    """Of all stages at the same time, from opening the video to closing the overlay."""
    bound: float
    """Seconds of that through those that the stages' processor time takes on all cores: 1 is perfect."""
    binding: str
    """The stage with the most processor time."""


class Clock:
    """Measures stages one after the other."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []

    @contextmanager
    def stage(self, name: str, frames: Sized) -> Iterator[None]:
        """Time the block, per frame in ``frames`` when the block ends."""
        wall, processor = time.perf_counter(), time.process_time()
        yield
        spent = time.perf_counter() - wall, time.process_time() - processor
        self.stages.append(Stage(name, *(1e3 * seconds / max(1, len(frames)) for seconds in spent)))


def stage_times(video: Path, model: Model) -> StageTimes:
    """Time the stages of ``predict --overlay`` on the first frames of a video, then the whole of it.

    Raises:
        InputError: the video cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "overlay.mp4"
        stages = alone(video, model, target)
        started = time.perf_counter()
        summary = predict_file(video, model, Outputs(overlay=target))
        seconds = time.perf_counter() - started
    needed_s = sum(stage.processor_ms for stage in stages) / 1e3 * summary.frames / available_cores()
    return StageTimes(
        video=video.name,
        frames=summary.frames,
        engine=model.engine.name,
        precision=model.engine.precision,
        cores=available_cores(),
        stages=stages,
        frames_per_s=summary.frames / seconds,
        bound=seconds / needed_s,
        binding=max(stages, key=lambda stage: stage.processor_ms).name,
    )


def alone(video: Path, model: Model, target: Path) -> list[Stage]:
    """Time one stage after the other."""
    clock = Clock()
    with VideoReader(video) as reader:
        info = reader.info
        frames: list[Frame] = []
        with clock.stage("decode", frames):
            frames += islice(reader, MAX_FRAMES)
    with clock.stage("scale", frames):
        prepared = [pixels for _, pixels in prepare(frames, model)]
    payloads = list(range(len(frames)))
    model.infer(np.stack([prepared[0]] * CLIP_FRAMES, axis=1))  # the first one takes its memory
    with clock.stage("network", frames):
        maps = [saliency for _, saliency in model.maps(zip(payloads, prepared, strict=True))]
    scale, style = make_scale("running"), PredictOptions().style
    painter = FramePainter(style, info.color)
    with clock.stage("draw", frames):
        drawn = [
            painter.paint(frame, scale(saliency, frame.time_s)) for frame, saliency in zip(frames, maps, strict=True)
        ]
    with clock.stage("encode", frames), VideoWriter(target, info, (info.width, info.height)) as writer:
        for image, frame in zip(drawn, frames, strict=True):
            writer.write(image, frame)
    return clock.stages
