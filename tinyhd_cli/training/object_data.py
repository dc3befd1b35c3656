"""Checks of the data of object networks: masks, and videos for pairs of frames."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..datasets import Video
from ..errors import InputError
from ..wording import list_names, plural
from .clip_cache import Stored
from .options import TrainConfig

log = logging.getLogger("tinyhd")


def labeled_count(config: TrainConfig, videos: Sequence[Video]) -> int:
    """Return the number of labeled videos; for object networks, of their frames with a mask."""
    return sum(len(video.masks) for video in videos) if config.is_object else len(videos)


def check_masks(config: TrainConfig, videos: Sequence[tuple[int, Stored]]) -> None:
    """Log which videos have no object or are too short for pairs.

    Raises:
        InputError: there is no object in any mask, or no video for pairs.
    """
    empty = [video.name for _, video in videos if video.empty and not video.still]
    if videos and all(video.empty for _, video in videos):
        raise InputError("--data: all masks are empty: no pixel of any frame is on an object")
    if empty:
        log.warning("%s without an object in any mask: %s", plural(len(empty), "video"), list_names(empty))
    if not config.pairs:
        return
    short = [video.name for _, video in videos if video.frames == 1 and not video.still]
    if short:
        log.warning("%s of one frame, not used for pairs: %s", plural(len(short), "video"), list_names(short))
    if not any(video.frames > 1 for _, video in videos):
        raise InputError("--data: contains no video of two or more frames for pairs; to train without, --pair-every 0")
