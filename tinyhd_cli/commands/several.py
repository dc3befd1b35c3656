"""Several videos, one after the other: one that fails is said, and the others are done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import OK, SOME_INPUT_FAILED, TinyhdError, one_line, unexpected
from ..wording import damage
from .terminal import ProgressDisplay, progress_display, say

if TYPE_CHECKING:
    from ..errors import InputError
    from ..inference.model import Model

log = logging.getLogger("tinyhd")

Work = Callable[[int, str, ProgressDisplay], None]
"""What is done with a video: gets its number from 0, how to call it, and where progress is shown."""


def do_each(videos: Sequence[Path], quiet: bool, work: Work) -> list[TinyhdError]:
    """Do the work on every video; returns what failed, after saying so."""
    failures: list[TinyhdError] = []
    with progress_display(quiet) as progress:
        for number, video in enumerate(videos):
            label = video.name if len(videos) == 1 else f"{video.name} ({number + 1}/{len(videos)})"
            try:
                work(number, label, progress)
            except TinyhdError as error:
                log.debug("%s", video, exc_info=True)
                say(f"tinyhd: {error}")
                failures.append(error)
            except Exception as error:  # one video must not stop the others, whatever is wrong with it
                log.debug("%s", video, exc_info=True)
                say(f"tinyhd: {video}: {unexpected(error)}")
                failures.append(TinyhdError(one_line(error)))
    return failures


def one_file_each(
    videos: Sequence[str],
    output: str,
    out_dir: Path | None,
    check: Callable[[Path], None],
    load: Callable[[], Model],
    work: Callable[[Model, Path, Path, str, ProgressDisplay], None],
    quiet: bool,
) -> int:
    """Make a file of each video.

    Args:
        videos: the inputs as they stand on the command line.
        output: the file's name, see ``jobs.named``.
        out_dir: likewise.
        check: raises ``UsageError`` for a name that cannot be right.
        load: gives the model; called if there is any video, after all names were found right.
        work: gets the model, a video, the file to write, how to call the video, and where progress is shown.
        quiet: show no progress.

    Returns:
        The exit code.
    """
    from ..inference.jobs import find_videos, outputs_of

    found, errors = find_videos(videos)
    outputs = outputs_of(found, output, out_dir)
    for path in outputs:
        check(path)
    say_missing(errors)
    failures: list[TinyhdError] = list(errors)
    if found:
        model = load()

        def one(number: int, label: str, progress: ProgressDisplay) -> None:
            work(model, found[number], outputs[number], label, progress)

        failures += do_each(found, quiet, one)
    return exit_code(failures, len(found) + len(errors))


def say_missing(errors: Sequence[InputError]) -> None:
    """Say which inputs there are not."""
    for error in errors:
        say(f"tinyhd: {error}")


def warn_of_damage(video: Path, damaged: int) -> None:
    """Say how much of a video could not be decoded, if anything."""
    if damaged:
        log.warning("%s: skipped %s", video, damage(damaged))


def exit_code(failures: Sequence[TinyhdError], total: int) -> int:
    """Of a command with so many inputs, after what failed."""
    if failures and total > 1:
        say(f"tinyhd: {len(failures)} of {total} inputs failed")
        return SOME_INPUT_FAILED
    return failures[0].exit_code if failures else OK
