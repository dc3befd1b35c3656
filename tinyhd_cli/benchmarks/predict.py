"""Benchmark ``tinyhd predict``: time and peak memory for clips of several lengths."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ..errors import TinyhdError, UsageError


@dataclass(frozen=True)
class PredictRun:
    """The measurements of one run of ``tinyhd predict --overlay`` in a separate process."""

    clip_s: float
    """Length of the clip in seconds."""
    frames: int
    seconds: float
    """Wall-clock time from the start of the process to its end."""
    peak_mb: float
    """Peak memory of the process, in 10^6 bytes."""


def predict_runs(
    lengths_s: Sequence[float], size: tuple[int, int], rate: int, options: Sequence[str]
) -> list[PredictRun]:
    """Predict clips of several lengths, to measure how time and memory depend on the length.

    Args:
        lengths_s: length of each clip in seconds. The clips are generated and deleted afterward.
        size: width and height of the clips in pixels.
        rate: frames per second of the clips.
        options: further options of ``tinyhd predict``.

    Raises:
        UsageError: the operating system does not report the peak memory of a process.
        TinyhdError: a run failed.
    """
    if not hasattr(os, "wait4"):
        raise UsageError("tinyhd benchmark predict needs Linux or macOS, which report the peak memory of a process")
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for length_s in lengths_s:
            clip = Path(folder) / "clip.mp4"
            frames = max(1, round(length_s * rate))
            make_clip(clip, frames, size, rate)
            seconds, peak_mb = measure([str(clip), "--overlay", str(Path(folder) / "overlay.mp4"), *options])
            runs.append(PredictRun(length_s, frames, seconds, peak_mb))
    return runs


def measure(arguments: list[str]) -> tuple[float, float]:
    """Run ``tinyhd predict`` with these arguments; return its seconds and its peak memory in 10^6 bytes."""
    command = [sys.executable, "-m", "tinyhd_cli", "predict", "--quiet", *arguments]
    started = time.monotonic()
    process = subprocess.Popen(command)
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise TinyhdError(f"tinyhd predict ended with exit code {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes per unit of ru_maxrss
    return time.monotonic() - started, usage.ru_maxrss * unit / 1e6


def make_clip(path: Path, frames: int, size: tuple[int, int], rate: int) -> None:
    """Write a clip of a moving color texture with detail at several scales."""
    import av
    import cv2
    import numpy as np
    from av.video.stream import VideoStream

    width, height = size
    rng = np.random.default_rng(0)
    texture = np.zeros((height, width, 3))
    for cell in (4, 16, 64):
        coarse = rng.random((height // cell + 2, width // cell + 2, 3))
        texture += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    image = np.clip(texture / 3 * 255, 0, 255).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "crf": "28"})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.roll(image, 2 * number, axis=1), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
