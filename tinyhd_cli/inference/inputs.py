"""Find the inputs of a command: videos, images, and folders of them."""

from __future__ import annotations

import glob
import os
import shlex
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

from .. import storage
from ..errors import InputError, UsageError
from ..video.frame_folders import is_sequence
from ..video.images import is_static_image
from ..video.options import DEFAULT_RATE, InputOptions
from ..video.source import IMAGE_SUFFIXES, STDIN, images_in
from ..wording import plural
from .options import VIDEO_SUFFIXES

Folders = Literal["video", "images", "auto"]
"""How the images of a folder are read: as the frames of one video, separately, or as their names and sizes suggest."""


@dataclass(frozen=True)
class Input:
    """An input video or image."""

    path: Path
    named: bool
    """Whether an argument is the path of this file, and not a folder or pattern that includes it."""
    beside: Path | None = None
    """The video's folder if it also contains images. If the video is an output of tinyhd, the images are the input."""
    one_of: Path | None = None
    """The folder whose images are read separately, of which this is one."""


class NoVideos(InputError):
    """A folder contains neither videos nor images."""


@dataclass
class Inputs:
    """The videos that the arguments refer to, without duplicates."""

    found: list[Input] = field(default_factory=list)
    errors: dict[str, InputError] = field(default_factory=dict)
    """Errors by argument: missing files, and folders and patterns without videos."""


def folders_as(options: InputOptions) -> Folders:
    """Return how the images of a folder are read."""
    return "video" if options.as_video else "images" if options.as_images else "auto"


def find_videos(arguments: Sequence[str], folders: Folders = "video") -> Inputs:
    """Find the inputs of a command: files, and the sorted videos of folders and glob patterns.

    A folder with images but without videos is one video, or each image is an input, as ``folders`` says. ``-`` is
    standard input.
    """
    inputs = Inputs()
    videos: dict[Path, Input] = {}
    for argument in arguments:
        try:
            found = matching(argument, folders, inputs.errors)
        except InputError as error:
            inputs.errors[storage.name_of(argument)] = error
            continue
        for item in found:
            path = normalized(item.path)
            if path not in videos or (item.named and not videos[path].named):
                videos[path] = item
    inputs.found = list(videos.values())
    return inputs


def normalized(path: Path) -> Path:
    """Return the same path for all spellings of a name. Links are kept, so that each link has its own output."""
    if storage.url_of(path) is not None:
        return path
    return path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name


def matching(argument: str, folders: Folders, errors: dict[str, InputError]) -> list[Input]:
    """Return the videos of an argument; ``InputError`` if none is found. Errors of single matches go to ``errors``."""
    if not argument:  # Path("") would be the current folder
        raise InputError("the name of an input is empty")
    if storage.is_url(argument):
        return in_store(argument, folders, errors)
    path = Path(argument)
    if path == STDIN:
        return [Input(path, named=True)]
    try:
        mode = path.stat().st_mode
    except PermissionError:
        raise InputError(f"{argument}: permission denied") from None
    except (OSError, ValueError):  # a pattern may be an invalid name
        if not glob.has_magic(argument):
            raise InputError(f"{argument}: no such file") from None
        return by_pattern(argument, folders, errors)
    return in_folder(path, folders) if stat.S_ISDIR(mode) else [Input(path, named=True)]


def in_store(url: str, folders: Folders, errors: dict[str, InputError]) -> list[Input]:
    """Return the videos of a URL: of a file, a folder or a pattern; see :func:`matching`."""
    try:
        path = storage.path_of(url)
    except UsageError as error:
        raise InputError(str(error)) from error
    if storage.exists(path):
        return in_folder(path, folders) if storage.is_folder(path) else [Input(path, named=True)]
    if not storage.is_pattern(url):
        raise InputError(f"{path}: no such file")
    return by_pattern(url, folders, errors)


def by_pattern(pattern: str, folders: Folders, errors: dict[str, InputError]) -> list[Input]:
    """Return the files that match a pattern, and the videos of matching folders that contain no other match."""
    matches = storage.matches(pattern) if storage.is_url(pattern) else local_matches(pattern)
    parents = {match.path.parent for match in matches}
    found: list[Input] = []
    without = failed = 0
    for match in matches:
        if not match.is_folder:
            found.append(Input(match.path, named=False))
        elif match.path not in parents:
            without += 1
            try:
                found += [replace(item, named=False) for item in in_folder(match.path, folders)]
            except NoVideos:
                continue
            except InputError as error:
                errors[storage.name_of(match.path)] = error
                failed += 1
    if not found and not failed:
        what = "only folders without videos or images" if without else "no file"
        raise InputError(f"{pattern}: matches {what}")
    return found


def local_matches(pattern: str) -> list[storage.Entry]:
    """Return the sorted files and folders on this machine that match a pattern; neither pipes nor devices."""
    found = sorted(expanded(pattern))
    return [storage.Entry(path, path.is_dir()) for path in found if path.is_dir() or path.is_file()]


def expanded(pattern: str) -> set[Path]:
    """Return all matches of a pattern. Each folder is visited once for ``**``, because links may form cycles."""
    parts = Path(pattern).parts
    if "**" not in parts:
        return {Path(match) for match in glob.glob(pattern)}
    at = parts.index("**")
    tops = expanded(str(Path(*parts[:at]))) if at else {Path()}
    found: set[Path] = set()
    seen: set[str] = set()
    for top in sorted(tops):
        for folder, below, _ in os.walk(top, followlinks=True):
            real = os.path.realpath(folder)
            below[:] = () if real in seen else sorted(name for name in below if not name.startswith("."))
            if real not in seen:
                seen.add(real)
                found |= expanded(str(Path(glob.escape(folder), *(parts[at + 1 :] or "*"))))
    return found


def in_folder(folder: Path, folders: Folders) -> list[Input]:
    """Return the videos of a folder; if it contains images but no videos, the folder or its images."""
    try:
        entries = sorted(storage.entries(folder), key=lambda entry: entry.path)
        videos = [entry.path for entry in entries if not entry.is_folder and is_video(entry.path)]
        images = images_in(folder)
        below = any(entry.is_folder and not entry.path.name.startswith(".") for entry in entries)
    except OSError as error:
        reason = "permission denied" if isinstance(error, PermissionError) else error.strerror
        raise InputError(f"{folder}: {reason}") from None
    separate = [Input(image, named=False, one_of=folder) for image in images]
    if videos:
        beside = folder if images and folders != "images" else None
        found = [Input(file, named=False, beside=beside) for file in videos]
        return found + separate if folders == "images" else found
    if images:
        frames = folders == "video" or (folders == "auto" and is_sequence(images))
        return [Input(folder, named=True)] if frames else separate
    if below and (hint := subfolders_hint(folder)):
        raise NoVideos(f"{folder}: no videos directly in this folder; {hint}")
    known = " ".join(sorted(VIDEO_SUFFIXES))
    raise NoVideos(f"{folder}: no videos or images in this folder (video suffixes: {known})")


def subfolders_hint(folder: Path) -> str:
    """Return advice for using the videos or images in the subfolders of a folder; empty if none are found."""
    if storage.url_of(folder) is not None:
        return f"for its subfolders use {shlex.quote(f'{storage.name_of(folder)}/**/*.mp4')}"
    images: Path | None = None
    for place, _, names in os.walk(folder):
        for suffix in sorted({Path(name).suffix for name in names if not name.startswith(".")}):
            if suffix.lower() in VIDEO_SUFFIXES:
                return f"for its subfolders use {shlex.quote(str(folder / '**' / f'*{suffix}'))}"
            if suffix.lower() in IMAGE_SUFFIXES:
                images = images or Path(place)
    return f"images were found in {images}: give that folder" if images else ""


def is_video(file: Path) -> bool:
    """Return whether a file found in a folder is used as an input video."""
    is_here = storage.url_of(file) is not None or file.is_file()
    return file.suffix.lower() in VIDEO_SUFFIXES and not file.name.startswith(".") and is_here


def is_image(file: Path) -> bool:
    """Return whether an input is an image, not an animation or a video."""
    return file.suffix.lower() in IMAGE_SUFFIXES and is_static_image(file)


def describe_images(found: Sequence[Input], rate: Fraction | None, folders: Folders) -> list[str]:
    """Return notes on how the folders of images among the inputs are read.

    Args:
        found: all inputs.
        rate: frames per second of a folder of images; None if the command has no option for it.
        folders: how the images of a folder are read.
    """
    notes = []
    matched = [item.path for item in found if not item.named and item.one_of is None and is_image(item.path)]
    if len(matched) > 1:
        notes.append(f"{len(matched)} images, each read separately; if they are frames of one video, give their folder")
    for folder, count in Counter(item.one_of for item in found if item.one_of is not None).items():
        other = "" if folders == "images" else "; if they are frames of one video, use --as-video"
        notes.append(f"{folder}: {plural(count, 'image')}, each read separately{other}")
    for folder in (item.path for item in found):
        if folder != STDIN and storage.is_folder(folder):
            images = images_in(folder)
            speed = f"{float(rate or DEFAULT_RATE):g} frames per second{' (see --rate)' if rate else ''}"
            note = f"{folder}: {plural(len(images), 'image')} read as one video at {speed}"
            if len(images) > 1 and folders == "auto":  # the network reads clips of several frames
                note += ", each map depending on several images; if they are unrelated, use --as-images"
            notes.append(note)
    return notes
