"""Check the masks of a video: which frames have one, and which pixels are objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from ..errors import InputError
from .findings import Size, describe_numbers, describe_sizes
from .images import files_by_number
from .masks import MASK_SUFFIXES, load_mask
from .video import Video

REGULAR = 0.65
"""Fraction of equal intervals between the frames with a mask above which the other intervals are suspicious."""


def check_masks(video: Video, frames: Sequence[int], size: Size | None, sparse: bool) -> Iterator[tuple[str, bool]]:
    """Yield the findings about the masks of a video: a message, and whether it is a fault.

    Args:
        video: a video with masks.
        frames: numbers of the readable frames.
        size: width and height of the frames, if known.
        sparse: whether only some of the frames have a mask.
    """
    existing = {*frames, *video.images}  # an unreadable image is reported already, and is not missing
    masks = list(video.masks)
    if existing:
        yield from listing("no frame for a mask", set(masks) - existing)
    if sparse:
        message = "masks are at regular intervals, but none for a frame"
        yield from listing(message, missing_at_intervals(masks), fault=False)
    elif existing:
        yield from listing("no mask for a frame", existing.difference(masks))
    if len(video.mask_folders) > 1:
        for folder in video.mask_folders:
            there = files_by_number(folder, MASK_SUFFIXES)
            yield from listing(f"no mask of object {folder.name} for a frame", set(masks).difference(there))
    yield from check_files(video, size)


def check_files(video: Video, size: Size | None) -> Iterator[tuple[str, bool]]:
    """Yield the findings about the pixels of the masks."""
    readable, empty, full, wrong_size = [], [], [], []
    gray: dict[int, Path] = {}
    for number, files in video.masks.items():
        masks = []
        for path in files.paths:
            try:
                mask, binary = load_mask(path, files.colors)
            except InputError as error:
                yield str(error), True
                continue
            masks.append(mask)
            if not binary:
                gray.setdefault(number, path)
        sizes = {(width, height) for height, width in (mask.shape for mask in masks)}
        if masks:
            readable.append(number)
        if len(sizes) > 1:
            yield f"masks of the objects of frame {number} differ in size: {describe_sizes(sizes)}", True
        elif size and sizes and sizes != {size}:
            wrong_size.append(number)
        if masks and not any(mask.any() for mask in masks):
            empty.append(number)
        full += [number] * any(mask.all() for mask in masks)
    if gray:
        yield from listing(f"masks are not binary, such as {next(iter(gray.values()))}", gray)
    yield from listing("masks differ in size from the frames", wrong_size)
    yield from listing("masks without background", full, fault=False)
    if empty and empty == readable:
        yield "no mask has an object", True
    else:
        yield from listing("masks without an object", empty, fault=False)


def listing(message: str, numbers: Iterable[int], fault: bool = True) -> Iterator[tuple[str, bool]]:
    """Yield a finding that lists frames; none if there are no frames."""
    if ordered := sorted(numbers):
        yield f"{message}: {describe_numbers(ordered)}", fault


def missing_at_intervals(numbers: Sequence[int]) -> list[int]:
    """Return the numbers that are missing in an almost regular sequence, as 30 in 10, 20, 40, 50, ..."""
    steps = [second - first for first, second in pairwise(numbers)]
    if not steps:
        return []
    step, count = Counter(steps).most_common(1)[0]
    if count < REGULAR * len(steps):
        return []
    return [number for first, second in pairwise(numbers) for number in range(first + step, second, step)]
