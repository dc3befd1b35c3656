"""Estimate of the time left for several videos, from the number of frames that each file claims."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path

SETTLE_S = 2.0
"""Minimum work for an estimate: the first frames are slow, because the network starts."""

JOIN_TIMEOUT_S = 1.0
"""Join timeout of the thread that reads claims."""


class TimeLeft:
    """Estimates the time left, in proportion to frames. Use it as a context manager.

    A thread reads the number of frames that each video claims while the first videos are processed. A video without
    a claim is assumed to have the mean number of frames of the others.
    """

    def __init__(self, videos: Sequence[Path]) -> None:
        self._videos = videos
        self._claims: list[int | None] = [None] * len(videos)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read_claims, name="tinyhd-claims", daemon=True)
        self._current = 0
        self._started = time.monotonic()
        self._worked: set[int] = set()
        self._worked_s = 0.0

    def __enter__(self) -> TimeLeft:
        if len(self._videos) > 1:
            self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(JOIN_TIMEOUT_S)

    def _read_claims(self) -> None:
        for number, video in enumerate(self._videos):
            if self._ended.is_set():
                return
            with contextlib.suppress(Exception):  # processing the video reports the error
                self._claims[number] = claimed_frames(video)

    def start(self, number: int) -> None:
        """Record that processing of a video starts."""
        self._current, self._started = number, time.monotonic()

    def finish(self, number: int) -> None:
        """Record that it has finished. Not called for failed and skipped videos, which take hardly any time."""
        self._worked.add(number)
        self._worked_s += time.monotonic() - self._started

    def seconds(self, fraction: float) -> float | None:
        """Estimate the seconds left for all videos.

        Args:
            fraction: part of the current video that is done; 0 if it is unknown, as in the phases of some commands.
        """
        known = [frames for frames in self._claims if frames]
        mean = sum(known) / len(known) if known else 1.0
        sizes = [float(frames or mean) for frames in self._claims]
        spent = time.monotonic() - self._started
        before = sum(sizes[number] for number in self._worked)
        now, after = sizes[self._current], sum(sizes[self._current + 1 :])
        if fraction > 0 and self._worked_s + spent >= SETTLE_S:
            return (self._worked_s + spent) * (after + now * (1 - fraction)) / (before + now * fraction)
        if before > 0:
            return max(0.0, self._worked_s * (after + now) / before - spent)
        return None


def claimed_frames(video: Path) -> int | None:
    """Return the number of frames that a file claims; None if finding it is not cheap."""
    from ..video.options import InputOptions
    from ..video.reader import open_decoder
    from ..video.source import is_read_once

    if is_read_once(video):
        return None
    with contextlib.closing(open_decoder(video, InputOptions())) as decoder:
        frames = decoder.frame_count
    if frames is None or video.is_dir():
        return frames
    return max(0, min(frames, video.stat().st_size))  # a frame takes at least one byte
