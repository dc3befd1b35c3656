"""Read the recordings of several observers; a problem with one does not stop the others."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import InputError, one_line
from ..untrusted import printable
from .collect import Key
from .finish import Rejected, finish
from .formats import read_contents
from .options import RecordingOptions
from .recording import OnProblem, Problem, Recording
from .text import FAULTS, SUFFIXES, bare_name, read_head

MAX_NAME = 100
"""Longest name of an observer in characters."""

GAZE_FILES = ("gaze", "gaze_positions")
"""Names of gaze in the exports of Pupil Labs, in a folder for each recording."""

GENERIC = frozenset({*GAZE_FILES, "fixations"})
"""Names of files that do not name an observer."""


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
        paths: files with one or several observers each, or folders of them.
        options: facts about the files.
        on_problem: called with each problem; what it concerns is left out or used, as it says.
    """
    options = options or RecordingOptions()
    names: dict[str, Path] = {}
    files = list(expand(paths, on_problem))
    titles = file_titles(files)
    for path in files:
        try:
            head = read_head(path)
            layout, contents = read_contents(head, options)
        except (InputError, *FAULTS) as error:
            on_problem(Problem(path, None, describe(error, path), lost=True))
            continue
        if not contents:
            on_problem(Problem(path, None, "has no rows", lost=True))
        keys = list(contents)
        for key in keys:
            observer = observer_name(titles[path], key, keys)
            parts = contents.pop(key)
            if observer in names and layout.shared_names:
                observer = printable(f"{observer} {titles[path]}")[:MAX_NAME]
            if observer in names:
                message = f"the observer is also in {names[observer]}; rename one of them"
                on_problem(Problem(path, observer, message, lost=True))
                continue
            try:
                done = finish(path, observer, parts, layout, options)
            except (Rejected, *FAULTS) as error:
                on_problem(Problem(path, observer, describe(error, path), lost=True))
                continue
            names[observer] = path
            for warning in done.warnings:
                on_problem(Problem(path, observer, warning, lost=False))
            yield done.recording


def describe(error: Exception, path: Path) -> str:
    """Return the line about an error of reading a file."""
    if isinstance(error, FAULTS):
        return f"is damaged: {one_line(error)}; export it again"
    return one_line(error).removeprefix(f"{path}: ")


def expand(paths: Sequence[Path], on_problem: OnProblem) -> Iterator[Path]:
    """Yield files, and the recordings in folders; fixations beside their gaze are read with it."""
    given = set(paths)
    for path in paths:
        if path.is_dir():
            found = [file for folder, _, names in sorted(os.walk(path)) for file in recordings_of(Path(folder), names)]
            if not found:
                on_problem(Problem(path, None, f"has no recordings ({', '.join(SUFFIXES)})", lost=True))
            yield from found
        elif path.name != "fixations.csv" or not any(path.with_name(f"{name}.csv") in given for name in GAZE_FILES):
            yield path


def recordings_of(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the recordings among the files of a folder: of Pupil Labs the gaze, of BIDS the eye tracking."""
    listed = sorted(name for name in names if not name.startswith(".") and name.lower().endswith(SUFFIXES))
    visible = [name for name in listed if (folder / name).is_file()]
    gaze = [name for name in visible if bare_name(name) in GAZE_FILES]
    tracked = [name for name in visible if "_physio." in name or "_eyetrack." in name]
    return [folder / name for name in gaze or tracked or visible]


def observer_name(title: str, key: Key, keys: Sequence[Key]) -> str:
    """Return the name of an observer by the columns of the file, or by the file's title."""
    if not any(key):
        return printable(title)[:MAX_NAME]
    several = sum(other[0] == key[0] for other in keys) > 1
    return printable(" ".join(part for part in (key if several else key[:1]) if part))[:MAX_NAME]


def file_titles(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the name of each file without its suffixes, or of its folder where names are alike or say nothing.

    Files that are named alike in all folders, such as ``anna/gaze.csv`` and ``ben/gaze.csv``, are named by the first
    folders above them that differ.
    """
    parts = {path: (bare_name(path.name), *reversed(path.absolute().parts[:-1])) for path in paths}
    groups: dict[str, list[Path]] = {}
    for path, names in parts.items():
        groups.setdefault(names[0], []).append(path)
    titles: dict[Path, str] = {}
    for name, members in groups.items():
        first = 1 if name.lower() in GENERIC else 0
        depth = min(len(parts[path]) for path in members)
        distinct = (level for level in range(first, depth) if len({parts[p][level] for p in members}) == len(members))
        level = next(distinct, first)
        titles |= {path: parts[path][level] or name for path in members}
    return titles
