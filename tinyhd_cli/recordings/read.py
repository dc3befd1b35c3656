"""Read the recordings of several observers; a problem with one does not stop the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import InputError
from ..untrusted import printable
from .collect import Key
from .finish import Rejected, finish
from .formats import read_contents
from .options import RecordingOptions
from .recording import OnProblem, Problem, Recording
from .text import read_head


def ignore(problem: Problem) -> None:
    """Do nothing; the default callback."""


def read_recordings(
    paths: Sequence[Path], options: RecordingOptions | None = None, on_problem: OnProblem = ignore
) -> list[Recording]:
    """Read all recordings of files; see :func:`iter_recordings`."""
    return list(iter_recordings(paths, options, on_problem))


def iter_recordings(
    paths: Sequence[Path], options: RecordingOptions | None = None, on_problem: OnProblem = ignore
) -> Iterator[Recording]:
    """Yield the recordings of files one after the other: at most one file's are in memory.

    Args:
        paths: files with one or several observers each.
        options: facts about the files.
        on_problem: called with each problem; what it concerns is left out or used, as it says.
    """
    options = options or RecordingOptions()
    names: dict[str, Path] = {}
    for path in paths:
        try:
            head = read_head(path)
            layout, contents = read_contents(head, options)
        except InputError as error:
            on_problem(Problem(path, None, str(error).removeprefix(f"{path}: "), lost=True))
            continue
        if not contents:
            on_problem(Problem(path, None, "has no rows" + for_stimulus(options), lost=True))
        for key in list(contents):
            observer = observer_name(path, key, list(contents))
            parts = contents.pop(key)
            if observer in names:
                message = f"the observer is also in {names[observer]}; rename one of them"
                on_problem(Problem(path, observer, message, lost=True))
                continue
            names[observer] = path
            try:
                done = finish(path, observer, parts, layout, options)
            except Rejected as error:
                on_problem(Problem(path, observer, str(error), lost=True))
                continue
            for warning in done.warnings:
                on_problem(Problem(path, observer, warning, lost=False))
            yield done.recording


def for_stimulus(options: RecordingOptions) -> str:
    """Return the end of a message about missing rows."""
    return f" of the stimulus {options.stimulus!r} (--stimulus)" if options.stimulus else ""


def observer_name(path: Path, key: Key, remaining: Sequence[Key]) -> str:
    """Return the name of an observer by the columns of the file, or by the file's name."""
    if not key or not any(key):
        return printable(path.name.split(".")[0])
    several = sum(other[0] == key[0] for other in remaining) > 1
    return printable(" ".join(part for part in (key if several else key[:1]) if part))
