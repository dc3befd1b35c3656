"""From what stands on the command line to a list of videos and the outputs of each."""

from __future__ import annotations

import glob
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, UsageError
from ..video.encoders import check_container
from ..video.source import STDIN, pictures_in, read_once
from .options import VIDEO_SUFFIXES, Outputs, flag

DEFAULT_OUTPUT = {"overlay": "{name}_overlay.mp4"}
"""What ``predict`` writes if nothing is asked for."""


@dataclass(frozen=True)
class Job:
    """One video and where its predictions go."""

    video: Path
    outputs: Outputs


def find_videos(arguments: Sequence[str]) -> tuple[list[Path], list[InputError]]:
    """The videos that arguments name: files as they are, folders and glob patterns by their videos, sorted.

    A folder of pictures without videos is a video itself, and ``-`` is standard input.

    Returns:
        The videos, each once, and an error for each file that is missing and each folder or pattern without videos.
    """
    videos: dict[Path, Path] = {}
    errors = []
    for argument in arguments:
        try:
            found = matching(argument)
        except InputError as error:
            errors.append(error)
        else:
            for video in found:
                videos.setdefault(video.resolve(), video)
    return list(videos.values()), errors


def matching(argument: str) -> list[Path]:
    """The videos that one argument names; ``InputError`` if there are none."""
    path = Path(argument)
    if path == STDIN:
        return [path]
    try:
        mode = path.stat().st_mode
    except PermissionError:
        raise InputError(f"{argument}: permission denied") from None
    except (OSError, ValueError):  # a pattern can be no name at all
        if not glob.has_magic(argument):
            raise InputError(f"{argument}: no such file") from None
        found = [file for file in map(Path, sorted(glob.glob(argument, recursive=True))) if file.is_file()]
        if not found:
            raise InputError(f"{argument}: matches no file") from None
    else:
        if not stat.S_ISDIR(mode):
            return [path]
        try:
            found = [file for file in sorted(path.iterdir()) if is_video(file)]
            if not found and pictures_in(path):
                return [path]
        except PermissionError:
            raise InputError(f"{argument}: permission denied") from None
        if not found:
            raise InputError(
                f"{argument}: no videos in this folder, and no pictures (videos: {' '.join(sorted(VIDEO_SUFFIXES))})"
            )
    return found


def is_video(file: Path) -> bool:
    """Whether a file of a folder is taken for a video."""
    return file.suffix.lower() in VIDEO_SUFFIXES and not file.name.startswith(".") and file.is_file()


def plan(videos: Sequence[Path], templates: Mapping[str, str | None], out_dir: Path | None) -> list[Job]:
    """A job of prediction for each video: see :func:`named`, and ``Outputs`` for what else is checked."""
    wanted = {kind: template for kind, template in templates.items() if template is not None} or DEFAULT_OUTPUT
    paths = named(videos, wanted, out_dir)
    return [Job(video, Outputs(**outputs)) for video, outputs in zip(videos, paths, strict=True)]


def outputs_of(videos: Sequence[Path], template: str, out_dir: Path | None) -> list[Path]:
    """The file to write for each video, for commands that write one: see :func:`named`."""
    return [paths["output"] for paths in named(videos, {"output": template}, out_dir)]


def named(videos: Sequence[Path], wanted: Mapping[str, str], out_dir: Path | None) -> list[dict[str, Path]]:
    """The files to write for each video, by kind.

    Args:
        videos: the inputs.
        wanted: kind of output to its file name, in which ``{name}`` stands for the video's name without suffix.
        out_dir: folder for all outputs. A file name without ``{name}`` then gets the video's name put in front.

    Raises:
        UsageError: a name cannot be right, or two videos would write to the same file.
    """
    if out_dir is None and len(videos) > 1:
        for kind, template in wanted.items():
            if "{name}" not in template:
                ways = "--out-dir DIR, or {name} in the file's name"
                raise UsageError(f"--{flag(kind)} {template}: {len(videos)} videos need a folder, {ways}")
    paths = [{kind: fill(template, video, out_dir) for kind, template in wanted.items()} for video in videos]
    owners: dict[Path, Path] = {}
    sources = {video.resolve() for video in videos if video != STDIN}
    for video, outputs in zip(videos, paths, strict=True):
        for kind, path in outputs.items():
            if path.resolve() in sources:
                which = "the input itself" if len(videos) == 1 else "one of the inputs"
                raise UsageError(f"--{flag(kind)} {path}: is {which}")
            other = owners.setdefault(path.absolute(), video)
            if other != video:
                raise UsageError(f"{other} and {video} would both be written to {path}: give them different names")
    return paths


def check_two_passes(video: Path, output: Path) -> None:
    """``UsageError`` unless a video can be read twice and written, as another file, in a container that is known."""
    check_container(output)
    if output.resolve() == video.resolve():
        raise UsageError(f"--output {output}: is the input itself")
    if read_once(video):
        raise UsageError(f"{video}: the video is read twice, which a pipe does not allow; name a file")


def fill(template: str, video: Path, out_dir: Path | None) -> Path:
    """The output's path for one video."""
    if not Path(template).name and (out_dir is not None or not template):
        raise UsageError(f"{template!r} is no name for an output")
    if out_dir is not None and "{name}" not in template:
        template = str(Path(template).with_name("{name}_" + Path(template).name))
    name = "stdin" if video == STDIN else video.resolve().name if video.is_dir() else video.stem
    path = Path(template.replace("{name}", name))
    return path if out_dir is None else out_dir / path
