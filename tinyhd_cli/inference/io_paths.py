"""Choose the output paths of each input video."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import storage
from ..atomic_files import file_name
from ..errors import OutputError, UsageError
from ..video.encoders import check_container
from ..video.images import is_static_image
from ..video.source import IMAGE_SUFFIXES, STDIN, is_read_once
from .inputs import Input
from .options import MAX_NAME_BYTES, VIDEO_SUFFIXES, flag

DEFAULT_OUTPUT = {"overlay": "{name}_overlay.{ext}"}
"""The output of ``predict`` if none is requested."""

PLACEHOLDER = re.compile(r"\{(name|folder|suffix|ext)\}")
"""A placeholder in an output's name for a part of the video's path, see :func:`fill`."""

MAP_NAME = re.compile(r"\d{4,}\.png")
"""The names of the files in a folder of maps."""

FileKey = tuple[int, int] | str
"""Device and inode, which are equal for all names of a file; the URL of a file in a store."""


@dataclass(frozen=True)
class Job:
    """One input video, with its output files by kind."""

    video: Path
    outputs: Mapping[str, Path]

    @property
    def name(self) -> str:
        """The video's name in messages."""
        return self.video.name or self.video.resolve().name


@dataclass
class Plan:
    """The jobs of a command."""

    jobs: list[Job] = field(default_factory=list)
    errors: dict[str, OutputError] = field(default_factory=dict)
    """Errors by video: outputs whose names are too long."""
    ignored: list[Path] = field(default_factory=list)
    """Files that were found but are outputs of an earlier run of this command."""
    ignored_image_folders: list[Path] = field(default_factory=list)
    """Folders whose images are ignored because the folders also contain videos."""


def make_plan(found: Sequence[Input], templates: Mapping[str, str], out_dir: Path | None) -> Plan:
    """Choose the outputs of each video, and ignore inputs that are outputs of an earlier run.

    Args:
        found: the inputs.
        templates: the name of each kind of output, with placeholders, see :func:`fill`.
        out_dir: a folder for all outputs. If given, the video's name is prepended to names without a placeholder.

    Raises:
        UsageError: a name is invalid, an output would overwrite an input, or two videos would write the same file.
    """
    result = Plan()
    vary = {kind for kind, name in templates.items() if out_dir is not None or PLACEHOLDER.search(name)}

    def jobs_of(items: Sequence[Input]) -> list[Job]:
        return [
            Job(item.path, {kind: fill(name, item.path, out_dir) for kind, name in templates.items()}) for item in items
        ]

    for folder in dict.fromkeys(item.beside for item in found if item.beside is not None):
        # An earlier run may have written its videos into the folder of images that was its input.
        jobs = jobs_of([Input(folder, named=True), *(item for item in found if item.beside == folder)])
        earlier = EarlierOutputs(jobs, vary)
        if all(job in earlier for job in jobs[1:]):
            found = [Input(folder, named=True), *found]
        else:
            result.ignored_image_folders.append(folder)
    jobs = jobs_of(found)
    earlier = EarlierOutputs(jobs, vary)
    for item, job in zip(found, jobs, strict=True):
        if not item.named and job in earlier:
            result.ignored.append(job.video)
        elif error := too_long(job, vary):
            result.errors[storage.name_of(job.video)] = error
        else:
            result.jobs.append(job)
    check_folder(result.jobs, templates, vary, separate=any(item.one_of for item in found))
    check_overwriting(result.jobs)
    check_distinct(result.jobs, templates)
    return result


class EarlierOutputs:
    """The set of videos that are outputs of an earlier run.

    Args:
        jobs: all jobs, including those whose videos may be such outputs.
        vary: the kinds of output that have a different name for each video.
    """

    def __init__(self, jobs: Sequence[Job], vary: set[str]) -> None:
        self._vary = vary
        self._writers: defaultdict[FileKey | None, set[Path]] = defaultdict(set)
        for job in jobs:
            for path in job.outputs.values():
                self._writers[file_key(path)].add(job.video)
        self._writers.pop(None, None)

    def __contains__(self, job: Job) -> bool:
        """Return whether the video of a job is an output of another job."""
        key = file_key(job.video)
        in_place = any(file_key(path) == key for kind, path in job.outputs.items() if kind in self._vary)
        if in_place and job.video.suffix.lower() in {*VIDEO_SUFFIXES, *IMAGE_SUFFIXES}:
            return False  # e.g. '{name}.mp4' in the folder of the videos: the file may be an original
        writers = set(self._writers.get(key, ()))
        if MAP_NAME.fullmatch(job.video.name):
            writers |= self._writers.get(file_key(job.video.parent), set())
        return bool(writers - {job.video})


def file_key(path: Path) -> FileKey | None:
    """Return a key that is the same for all names of a file; None if the file is local and does not exist."""
    if (url := storage.url_of(path)) is not None:
        return url
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def too_long(job: Job, vary: set[str]) -> OutputError | None:
    """Return an error if the name of an output is longer than file systems allow; otherwise None."""
    for kind, path in job.outputs.items():
        if kind in vary and (size := len(os.fsencode(path.name))) > MAX_NAME_BYTES:
            advice = f"give a shorter name ({flag(kind)} FILE)"
            excess = f"the output's name has {size} bytes; the limit is {MAX_NAME_BYTES}"
            return OutputError(f"{job.video}: {excess}; {advice}")
    return None


def check_folder(jobs: Sequence[Job], templates: Mapping[str, str], vary: set[str], separate: bool) -> None:
    """Raise ``UsageError`` if the outputs of several inputs have the same name.

    Args:
        jobs: all jobs.
        templates: the name of each kind of output.
        vary: the kinds of output that have a different name for each input.
        separate: whether some inputs are images of a folder that could be the frames of one video.
    """
    for kind, name in templates.items():
        if len(jobs) > 1 and kind not in vary:
            ways = "use --out-dir DIR, or {name} in the name"
            frames = "; if the images are frames of one video, use --as-video" if separate else ""
            raise UsageError(f"{flag(kind)} {name}: {len(jobs)} inputs would be written to one file; {ways}{frames}")


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


def check_distinct(jobs: Sequence[Job], templates: Mapping[str, str]) -> None:
    """Raise ``UsageError`` if two videos would write the same file."""
    owners: dict[Path, Job] = {}
    for job in jobs:
        for kind, path in job.outputs.items():
            other = owners.setdefault(canonical(path), job)
            if other is not job:
                both = f"{other.video} and {job.video} would both be written to {path}"
                raise UsageError(f"{both}: {naming_advice(other.video, job.video, kind, templates[kind])}")


def naming_advice(one: Path, other: Path, kind: str, template: str) -> str:
    """Return advice on how to give the outputs of two videos different names."""
    if storage.url_of(one) is not None and (one.parent.name, one.name) == (other.parent.name, other.name):
        return "process them in two runs, with another --out-dir each"  # they differ in host or query
    part = "{suffix}" if one.parent.resolve() == other.parent.resolve() else "{folder}"
    if part in template:
        return "rename one of the videos"
    if "{name}" not in template:
        template = str(Path(template).with_name(f"{{name}}_{Path(template).name}"))
    return f"for different names use {flag(kind)} '{template.replace('{name}', f'{part}_{{name}}')}'"


def canonical(path: Path) -> Path:
    """Return the same path for all spellings of a path that the file system treats as equal."""
    path = path.absolute()
    if storage.url_of(path) is not None:
        return path
    return Path(unicodedata.normalize("NFC", str(path)).casefold()) if ignores_case(path.parent) else path


def ignores_case(folder: Path) -> bool:
    """Return whether the file system of a folder ignores case. The folder need not exist."""
    while file_key(folder) is None and folder != folder.parent:
        folder = folder.parent
    other = folder.with_name(folder.name.swapcase()) if folder.name else folder
    return other != folder and other.exists() and other.samefile(folder)


def check_two_passes(video: Path, output: Path) -> None:
    """Raise ``UsageError`` unless the video can be read twice and the output is another file in a known container."""
    check_container(output)
    if output.resolve() == video.resolve():
        raise UsageError(f"--output {output}: is the input itself; write to another file")
    if is_read_once(video):
        raise UsageError(f"{video}: is a pipe, but the video must be read twice; give a file")


def fill(template: str, video: Path, out_dir: Path | None) -> Path:
    """Return the path of an output for one video.

    Args:
        template: a path in which ``{name}`` is replaced by the video's name without suffix, ``{folder}`` by the name
            of the video's folder, ``{suffix}`` by the video's suffix without the dot, and ``{ext}`` by ``png`` for an
            image and ``mp4`` for a video.
        video: the input video.
        out_dir: see :func:`make_plan`.
    """
    if storage.is_url(template):
        template = str(storage.path_of(template))
    if not Path(template).name and (out_dir is not None or not template):
        raise UsageError(f"{template!r} is not a file name; give the output a name")
    if len(os.fsencode(PLACEHOLDER.sub("", Path(template).name))) > MAX_NAME_BYTES:
        raise UsageError(f"{template}: the output's name is too long; the limit is {MAX_NAME_BYTES} bytes")
    if out_dir is not None and not PLACEHOLDER.search(template):
        template = str(Path(template).with_name("{name}_" + Path(template).name))
    parts = parts_of(video)
    path = storage.path_of(PLACEHOLDER.sub(lambda match: file_name(parts[match[1]]), template))
    if out_dir is not None:
        path = storage.path_of(out_dir / path)
    if storage.url_of(path) is not None and ".." in path.parts:
        raise UsageError(f"{path}: '..' cannot be part of an address; write the address to which it leads")
    return path


def parts_of(video: Path) -> dict[str, str]:
    """Return the values of the placeholders. They never lead to another folder, whatever the video's name."""
    if video == STDIN:
        return {"name": "stdin", "folder": "stdin", "suffix": "stdin", "ext": "mp4"}
    folder = storage.is_folder(video)
    video = video.resolve() if folder else video.parent.resolve() / video.name
    name = video.name if folder or not video.stem.strip(".") else video.stem
    suffix, ext = video.suffix.lstrip(".") or "none", "png" if is_static_image(video) else "mp4"
    return {"name": name, "folder": video.parent.name or "root", "suffix": suffix, "ext": ext}
