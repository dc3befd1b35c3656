"""Recordings of several observers with known gaze, for tests of ``gaze``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from helpers import clips

STEP_S = 0.15
"""Duration of each fixation; the next one follows at once."""


def position(observer: int, number: int) -> tuple[float, float]:
    """Return x and y of a fixation of an observer, near the disc of the clip."""
    x, y = np.random.default_rng((observer, number)).normal((24, 29), 4)
    return round(float(np.clip(x, 0, 63)), 3), round(float(np.clip(y, 0, 47)), 3)


def write_fixations(path: Path, fixations: Iterable[tuple[float, float, float, float]]) -> Path:
    """Write rows of start, end, x and y in seconds and pixels as a CSV file."""
    return write(path, "start_s,end_s,x,y", (",".join(f"{value:.6f}" for value in row) for row in fixations))


def write_samples(
    path: Path, observer: int, seconds: float, rate: int = 250, lost: float = 0.0, on_screen: bool = False
) -> Path:
    """Write the gaze of an observer as samples.

    Args:
        path: the file.
        observer: number of the observer.
        seconds: duration.
        rate: samples per second.
        lost: the last part of each fixation, which is invalid.
        on_screen: whether positions are those on a screen of 1920 x 1080 pixels that the video fills in height.
    """
    rows = []
    zoom, left = (1080 / 48, 240) if on_screen else (1, 0)
    for index in range(round(seconds * rate)):
        number, phase = divmod(index / rate / STEP_S, 1)
        x, y = position(observer, int(number))
        x, y = left + zoom * x, zoom * y
        rows.append(f"{index / rate:.4f},{x:.3f},{y:.3f},1" if phase < 1 - lost else f"{index / rate:.4f},,,0")
    return write(path, "time_s,x,y,valid", rows)


def write(path: Path, header: str, rows: Iterable[str]) -> Path:
    """Write a CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def make(folder: Path, observers: int = 4, frames: int = 12, samples: bool = False) -> tuple[Path, list[Path]]:
    """Write a clip with audio and a variable frame rate, and a recording of each observer; return their paths.

    Observers look somewhere at any time. The first one's samples are partly invalid.
    """
    folder.mkdir(parents=True, exist_ok=True)
    clip = clips.Clip(frames=frames, durations=(20, 40), audio="aac")
    video, seconds, recordings = clips.make(folder / "clip.mp4", clip), float(clip.duration), []
    for observer in range(1, observers + 1):
        path = folder / "recordings" / f"P{observer}.csv"
        if samples:
            recordings.append(write_samples(path, observer, seconds, lost=0.2 * (observer == 1)))
            continue
        starts = np.arange(0, seconds, STEP_S)
        rows = [(start, start + STEP_S, *position(observer, number)) for number, start in enumerate(starts)]
        recordings.append(write_fixations(path, rows))
    return video, recordings
