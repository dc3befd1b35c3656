"""Name the output files of each video."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..atomic_files import file_name
from ..errors import OutputError, UsageError
from ..video.encoders import check_container
from ..video.source import IMAGE_SUFFIXES, STDIN, is_read_once
from .inputs import Input
from .options import LONGEST_NAME, VIDEO_SUFFIXES, flag

DEFAULT_OUTPUT = {"overlay": "{name}_overlay.mp4"}
"""What ``predict`` writes if nothing is asked for."""

PLACEHOLDER = re.compile(r"\{(name|folder|suffix)\}")
"""Placeholder in an output's name for a part of the video's path, see :func:`fill`."""

MAP_NAME = re.compile(r"\d{4,}\.png")
"""Matches the names of the files in a folder of maps."""

FileKey = tuple[int, int]
"""Device and inode: equal for all names of a file."""


@dataclass(frozen=True)
class Job:
    """One video and its output files, by kind."""

    video: Path
    outputs: Mapping[str, Path]

    @property
    def name(self) -> str:
        """Name of the video in messages."""
        return self.video.name or self.video.resolve().name


@dataclass
class Plan:
    """The jobs of a command."""

    jobs: list[Job] = field(default_factory=list)
    errors: dict[str, OutputError] = field(default_factory=dict)
    """An error for each video whose outputs cannot be named."""
    left_out: list[Path] = field(default_factory=list)
    """Files that were found but are outputs of this command."""
    pictures: list[Path] = field(default_factory=list)
    """Folders whose images are ignored, because they also contain videos."""


def make_plan(found: Sequence[Input], wanted: Mapping[str, str], out_dir: Path | None) -> Plan:
    """Name the outputs of each video, and ignore files that are outputs of an earlier run.

    Args:
        found: the inputs.
        wanted: kind of output to its name, see :func:`fill`.
        out_dir: folder for all outputs. The video's name is then prepended to names without a placeholder.

    Raises:
        UsageError: a name is invalid, an output would overwrite an input, or two videos would write the same file.
    """
    result = Plan()
    vary = {kind for kind, name in wanted.items() if out_dir is not None or PLACEHOLDER.search(name)}

    def jobs_of(items: Sequence[Input]) -> list[Job]:
        return [
            Job(item.path, {kind: fill(name, item.path, out_dir) for kind, name in wanted.items()}) for item in items
        ]

    for folder in dict.fromkeys(item.beside for item in found if item.beside is not None):
        # An earlier run may have written videos into its folder of images.
        jobs = jobs_of([Input(folder, named=True), *(item for item in found if item.beside == folder)])
        earlier = EarlierOutputs(jobs, vary)
        if all(job in earlier for job in jobs[1:]):
            found = [Input(folder, named=True), *found]
        else:
            result.pictures.append(folder)
    jobs = jobs_of(found)
    earlier = EarlierOutputs(jobs, vary)
    for item, job in zip(found, jobs, strict=True):
        if not item.named and job in earlier:
            result.left_out.append(job.video)
        elif error := too_long(job, vary):
            result.errors[str(job.video)] = error
        else:
            result.jobs.append(job)
    check_folder(result.jobs, wanted, vary)
    check_overwriting(result.jobs)
    check_distinct(result.jobs, wanted)
    return result


class EarlierOutputs:
    """The output files of jobs that already exist.

    Args:
        jobs: all jobs, including those of files that turn out to be outputs.
        vary: kinds of outputs with a different name for each video.
    """

    def __init__(self, jobs: Sequence[Job], vary: set[str]) -> None:
        self._vary = vary
        self._writers: defaultdict[FileKey | None, set[Path]] = defaultdict(set)
        for job in jobs:
            for path in job.outputs.values():
                self._writers[file_key(path)].add(job.video)
        self._writers.pop(None, None)

    def __contains__(self, job: Job) -> bool:
        """Return whether the video of a job is an output of another video."""
        key = file_key(job.video)
        in_place = any(file_key(path) == key for kind, path in job.outputs.items() if kind in self._vary)
        if in_place and job.video.suffix.lower() in {*VIDEO_SUFFIXES, *IMAGE_SUFFIXES}:
            return False  # '{name}.mp4' in the folder of the videos: it may be an original
        writers = set(self._writers.get(key, ()))
        if MAP_NAME.fullmatch(job.video.name):
            writers |= self._writers.get(file_key(job.video.parent), set())
        return bool(writers - {job.video})


def file_key(path: Path) -> FileKey | None:
    """Return a key that is the same for all names of a file; None if the file does not exist."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def too_long(job: Job, vary: set[str]) -> OutputError | None:
    """Return an error if the name of a video's output is longer than file systems allow; else None."""
    for kind, path in job.outputs.items():
        if kind in vary and (size := len(os.fsencode(path.name))) > LONGEST_NAME:
            advice = f"give a shorter name ({flag(kind)} FILE)"
            return OutputError(
                f"{job.video}: the output's name has {size} bytes, the limit is {LONGEST_NAME}; {advice}"
            )
    return None


def check_folder(jobs: Sequence[Job], wanted: Mapping[str, str], vary: set[str]) -> None:
    """Raise ``UsageError`` if the outputs of several videos have the same name."""
    for kind, name in wanted.items():
        if len(jobs) > 1 and kind not in vary:
            ways = "use --out-dir DIR, or {name} in the file's name"
            raise UsageError(f"{flag(kind)} {name}: {len(jobs)} videos would be written to one file; {ways}")


def check_overwriting(jobs: Sequence[Job]) -> None:
    """Raise ``UsageError`` if an output would overwrite an input."""
    inputs = {file_key(job.video) for job in jobs if job.video != STDIN} - {None}
    for job in jobs:
        for kind, path in job.outputs.items():
            if file_key(path) in inputs and path != STDIN:
                if len(jobs) == 1:
                    raise UsageError(f"{flag(kind)} {path}: is the input itself; write to another file")
                advice = "remove it from the inputs, or write to another folder (--out-dir DIR)"
                raise UsageError(f"{flag(kind)} {path}: is one of the inputs; {advice}")


def check_distinct(jobs: Sequence[Job], wanted: Mapping[str, str]) -> None:
    """Raise ``UsageError`` if two videos would write the same file."""
    owners: dict[Path, Job] = {}
    for job in jobs:
        for kind, path in job.outputs.items():
            other = owners.setdefault(spelling(path), job)
            if other is not job:
                both = f"{other.video} and {job.video} would both be written to {path}"
                raise UsageError(f"{both}: {telling_apart(other.video, job.video, kind, wanted[kind])}")


def telling_apart(one: Path, other: Path, kind: str, template: str) -> str:
    """Return advice for giving the outputs of two videos different names."""
    part = "{suffix}" if one.parent.resolve() == other.parent.resolve() else "{folder}"
    if part in template:
        return "give them different names"
    if "{name}" not in template:
        template = str(Path(template).with_name(f"{{name}}_{Path(template).name}"))
    return f"for different names use {flag(kind)} '{template.replace('{name}', f'{part}_{{name}}')}'"


def spelling(path: Path) -> Path:
    """Return the same path for all spellings of a name that the file system treats as equal."""
    path = path.absolute()
    return Path(unicodedata.normalize("NFC", str(path)).casefold()) if ignores_case(path.parent) else path


def ignores_case(folder: Path) -> bool:
    """Return whether the file system of a folder ignores case; the folder need not exist."""
    while file_key(folder) is None and folder != folder.parent:
        folder = folder.parent
    other = folder.with_name(folder.name.swapcase()) if folder.name else folder
    return other != folder and other.exists() and other.samefile(folder)


def check_two_passes(video: Path, output: Path) -> None:
    """``UsageError`` unless a video can be read twice and written, as another file, in a container that is known."""
    check_container(output)
    if output.resolve() == video.resolve():
        raise UsageError(f"--output {output}: is the input itself")
    if is_read_once(video):
        raise UsageError(f"{video}: the video must be read twice, which is not possible with a pipe; give a file")


def fill(template: str, video: Path, out_dir: Path | None) -> Path:
    """Return an output's path for one video.

    Args:
        template: a path in which ``{name}`` is replaced by the video's name without suffix, ``{folder}`` by the name
            of its folder, and ``{suffix}`` by its suffix without the dot.
        video: the input.
        out_dir: see :func:`make_plan`.
    """
    if not Path(template).name and (out_dir is not None or not template):
        raise UsageError(f"{template!r} is no name for an output")
    if len(os.fsencode(PLACEHOLDER.sub("", Path(template).name))) > LONGEST_NAME:
        raise UsageError(f"{template}: the output's name is too long; the limit is {LONGEST_NAME} bytes")
    if out_dir is not None and not PLACEHOLDER.search(template):
        template = str(Path(template).with_name("{name}_" + Path(template).name))
    parts = parts_of(video)
    path = Path(PLACEHOLDER.sub(lambda match: file_name(parts[match[1]]), template))
    return path if out_dir is None else out_dir / path


def parts_of(video: Path) -> dict[str, str]:
    """Return the values of the placeholders. No value leads to another folder, whatever the video's name."""
    if video == STDIN:
        return {"name": "stdin", "folder": "stdin", "suffix": "stdin"}
    video = video.resolve() if video.is_dir() else video.parent.resolve() / video.name
    name = video.name if video.is_dir() or not video.stem.strip(".") else video.stem
    return {"name": name, "folder": video.parent.name or "root", "suffix": video.suffix.lstrip(".") or "none"}
