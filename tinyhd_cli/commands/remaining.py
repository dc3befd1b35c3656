"""How long a command with several videos will take, estimated from the frames that they claim to have."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path

SETTLE_S = 2.0
"""No estimate is made from less work than this: the first frames wait for the network to start."""

LEAVE_S = 1.0
"""How long the end of the work waits for the thread that reads claims."""


class Remaining:
    """Estimates the time that is left, in proportion to frames. Use it as a context manager.

    A thread reads the number of frames that each video claims, while the first ones are worked on. One without a
    claim counts as the mean of the others.
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

    def __enter__(self) -> Remaining:
        if len(self._videos) > 1:
            self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(LEAVE_S)

    def _read_claims(self) -> None:
        for number, video in enumerate(self._videos):
            if self._ended.is_set():
                return
            with contextlib.suppress(Exception):  # the work itself finds out what is wrong with a video
                self._claims[number] = claim(video)

    def start(self, number: int) -> None:
        """The work on a video begins."""
        self._current, self._started = number, time.monotonic()

    def finish(self, number: int) -> None:
        """It has ended. Not called where it failed or there was nothing to do, which takes hardly any time."""
        self._worked.add(number)
        self._worked_s += time.monotonic() - self._started

    def seconds(self, share: float) -> float | None:
        """Estimate the seconds that are left for all videos.

        Args:
            share: of the current video that is done; 0 if nobody knows, as in the phases of some commands.
        """
        known = [frames for frames in self._claims if frames]
        mean = sum(known) / len(known) if known else 1.0
        sizes = [float(frames or mean) for frames in self._claims]
        spent = time.monotonic() - self._started
        before = sum(sizes[number] for number in self._worked)
        now, after = sizes[self._current], sum(sizes[self._current + 1 :])
        if share > 0 and self._worked_s + spent >= SETTLE_S:
            return (self._worked_s + spent) * (after + now * (1 - share)) / (before + now * share)
        if before > 0:
            return max(0.0, self._worked_s * (after + now) / before - spent)
        return None


def claim(video: Path) -> int | None:
    """Return the number of frames that a file claims to have; None where that is not cheap to know."""
    from ..video.reader import decoder_of
    from ..video.source import InputOptions, read_once

    if read_once(video):
        return None
    with contextlib.closing(decoder_of(video, InputOptions())) as decoder:
        frames = decoder.frames
    if frames is None or video.is_dir():
        return frames
    return max(0, min(frames, video.stat().st_size))  # a frame takes a byte at least
