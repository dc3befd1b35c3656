"""Tell a folder of frames from a folder of unrelated images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

MAX_MEASURED = 200
"""Maximum number of images of a folder whose sizes are read, evenly spaced."""

LAST_NUMBER = re.compile(r"(\d+)(?=\D*$)")
"""The last number in a file name without its suffix."""


def is_sequence(images: Sequence[Path]) -> bool:
    """Return whether images are probably the frames of a video: their names count on, and their sizes are equal.

    Args:
        images: in natural order. A single image is not a sequence.
    """
    return len(images) > 1 and counts_on(images) and have_equal_sizes(images)


def counts_on(images: Sequence[Path]) -> bool:
    """Return whether names differ only in their last number, which increases by the same step each time."""
    numbers, rest = [], set()
    for image in images:
        found = LAST_NUMBER.search(image.stem)
        if found is None:
            return False
        numbers.append(int(found[1]))
        rest.add((image.stem[: found.start()], image.stem[found.end() :], image.suffix.lower()))
    steps = {after - before for before, after in pairwise(numbers)}
    return len(rest) == len(steps) == 1 and min(steps) > 0


def have_equal_sizes(images: Sequence[Path]) -> bool:
    """Return whether all images have the same size; images that cannot be read are left out."""
    from .images import stored_size

    step = -(-len(images) // MAX_MEASURED)
    return len({stored_size(image) for image in images[::step]} - {None}) <= 1
