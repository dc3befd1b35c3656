"""Estimate of the time left for several videos, from the number of frames that each file claims."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from ..storage import url_of

SETTLE_S = 2.0
"""Minimum work for an estimate: the first frames are slow, because the network starts."""

JOIN_TIMEOUT_S = 1.0
"""Join timeout of the thread that reads claims."""


class Claims:
    """The numbers of frames that videos claim, read by a thread. Use it as a context manager.

    A video without a claim is assumed to have the mean number of frames of the others.
    """

    FEWEST = 2
    """Number of videos from which on their claims are needed."""

    def __init__(self, videos: Sequence[Path]) -> None:
        self._videos = videos
        self._claims: list[int | None] = [None] * len(videos)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read_claims, name="tinyhd-claims", daemon=True)

    def __enter__(self) -> Self:
        if len(self._videos) >= self.FEWEST:
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

    def sizes(self) -> list[float]:
        """Return the number of frames of each video, as far as it is known."""
        known = [frames for frames in self._claims if frames]
        mean = sum(known) / len(known) if known else 1.0
        return [float(frames or mean) for frames in self._claims]


class TimeLeft(Claims):
    """Estimates the time left for videos that are processed one after the other, in proportion to frames."""

    def __init__(self, videos: Sequence[Path]) -> None:
        super().__init__(videos)
        self._current = 0
        self._started = time.monotonic()
        self._worked: set[int] = set()
        self._worked_s = 0.0

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
        sizes = self.sizes()
        spent = time.monotonic() - self._started
        before = sum(sizes[number] for number in self._worked)
        now, after = sizes[self._current], sum(sizes[self._current + 1 :])
        if fraction > 0 and self._worked_s + spent >= SETTLE_S:
            return (self._worked_s + spent) * (after + now * (1 - fraction)) / (before + now * fraction)
        if before > 0:
            return max(0.0, self._worked_s * (after + now) / before - spent)
        return None


class Overall(Claims):
    """Progress and time left of all videos, several of which, or parts of one, are processed at the same time."""

    FEWEST = 1

    def __init__(self, videos: Sequence[Path]) -> None:
        super().__init__(videos)
        self._started = time.monotonic()
        self._fractions: dict[int, float] = {}
        self._failed: set[int] = set()

    @property
    def ended(self) -> int:
        """Number of videos that are done, skipped, or failed."""
        return len(self._failed) + sum(fraction == 1 for fraction in self._fractions.values())

    def update(self, number: int, fraction: float) -> None:
        """Record the fraction of a video that is done, less than 1 until it has ended."""
        self._fractions[number] = min(fraction, 0.999)

    def end(self, number: int, worked: bool) -> None:
        """Record the end of a video. Failed and skipped videos are not counted, which take hardly any time."""
        if worked:
            self._fractions[number] = 1.0
        else:
            self._fractions.pop(number, None)
            self._failed.add(number)

    def frames(self) -> tuple[float, float]:
        """Return the numbers of finished frames and of all frames."""
        sizes = self.sizes()
        done = sum(sizes[number] * fraction for number, fraction in list(self._fractions.items()))
        return done, sum(size for number, size in enumerate(sizes) if number not in self._failed)

    def seconds(self) -> float | None:
        """Estimate the seconds left for all videos."""
        spent = time.monotonic() - self._started
        done, total = self.frames()
        return spent * (total - done) / done if done > 0 and spent >= SETTLE_S else None


def claimed_frames(video: Path) -> int | None:
    """Return the number of frames that a file claims; None if finding it is not cheap."""
    from ..video.options import InputOptions
    from ..video.reader import open_decoder
    from ..video.source import is_read_once

    if is_read_once(video) or url_of(video) is not None:
        return None
    with contextlib.closing(open_decoder(video, InputOptions())) as decoder:
        frames = decoder.frame_count
    if frames is None or video.is_dir():
        return frames
    return max(0, min(frames, video.stat().st_size))  # a frame takes at least one byte
