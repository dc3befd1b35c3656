"""Findings of a check, and their words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

MAX_RUNS = 5
"""Maximum number of runs of consecutive frames in one finding."""

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class Finding:
    """A fault or an oddity of a dataset."""

    video: str
    """Name of the video; empty for a finding about the whole dataset."""
    message: str
    fault: bool = True
    """Whether the finding is a fault, not just an oddity."""

    def __str__(self) -> str:
        return f"{self.video}: {self.message}" if self.video else self.message


def describe_numbers(numbers: Sequence[int]) -> str:
    """Return ascending frame numbers as text, with ranges for runs: ``3, 7-12, ...``."""
    parts = [str(first) if first == last else f"{first}-{last}" for first, last in runs(numbers)]
    return ", ".join(parts[:MAX_RUNS]) + (f", ... ({len(numbers)} in all)" if len(parts) > MAX_RUNS else "")


def runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last number of each run of consecutive numbers."""
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last


def describe_sizes(sizes: Iterable[Size]) -> str:
    """Return sizes as text."""
    return " and ".join(f"{width} x {height}" for width, height in sorted(sizes))
